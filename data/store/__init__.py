"""The slice store: sealed cases on disk, and slices for training."""

from kerasbalance.data.store.facts import CaseFacts, Entry
from kerasbalance.data.store.keys import Pseudonyms
from kerasbalance.data.store.rejections import Rejection, read_rejections, record_rejections
from kerasbalance.data.store.slices import SliceStore
from kerasbalance.data.store.source import StoreSource
from kerasbalance.data.store.store import Store
from kerasbalance.data.store.verify import Verification, verify_store
from kerasbalance.data.store.writer import Writer

__all__ = [
    "CaseFacts",
    "Entry",
    "Pseudonyms",
    "Rejection",
    "SliceStore",
    "Store",
    "StoreSource",
    "Verification",
    "Writer",
    "read_rejections",
    "record_rejections",
    "verify_store",
]
