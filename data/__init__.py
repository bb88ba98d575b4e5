"""CT in, slices out: DICOM and NIfTI readers, mask readers, the slice store and a phantom.

Example:
    >>> from kerasbalance.data import SliceStore                 # doctest: +SKIP
    >>> store = SliceStore("store")                              # doctest: +SKIP
    >>> x, y = store.source("liver").read(store.refs("liver"))   # doctest: +SKIP
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kerasbalance.data.errors import DataError, Note
    from kerasbalance.data.ingest.case import CaseOptions, CaseRequest
    from kerasbalance.data.ingest.layouts import find_cases, read_manifest
    from kerasbalance.data.labels import OrganRule, parse_rule
    from kerasbalance.data.store import CaseFacts, Pseudonyms, SliceStore, Store, StoreSource, verify_store
    from kerasbalance.data.volume.volume import Volume

_MODULE_OF = {
    "CaseFacts": "store",
    "CaseOptions": "ingest.case",
    "CaseRequest": "ingest.case",
    "DataError": "errors",
    "Note": "errors",
    "OrganRule": "labels",
    "Pseudonyms": "store",
    "SliceStore": "store",
    "Store": "store",
    "StoreSource": "store",
    "Volume": "volume.volume",
    "find_cases": "ingest.layouts",
    "parse_rule": "labels",
    "read_manifest": "ingest.layouts",
    "verify_store": "store",
}

__all__ = [
    "CaseFacts",
    "CaseOptions",
    "CaseRequest",
    "DataError",
    "Note",
    "OrganRule",
    "Pseudonyms",
    "SliceStore",
    "Store",
    "StoreSource",
    "Volume",
    "find_cases",
    "parse_rule",
    "read_manifest",
    "verify_store",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"kerasbalance.data.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value
