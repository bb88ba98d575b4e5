"""Values that JSON and arrays can hold: numbers, text, arrays, and lists, tuples, sets and dicts of them."""

import collections
import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerasbalance.training.checkpoint import Arrays

PLAIN = (bool, int, float, str, type(None))
_DEEPEST = 16
_LARGE_BYTES = 2**26
"""A larger array is taken for data: it has changed only if it is another object."""
_GROUPS = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}


@dataclass(frozen=True, eq=False)
class Saved:
    """A value taken apart.

    Args:
        tree: What JSON holds; an array stands in it by its number.
        arrays: The arrays, by number.
        digest: Equal for equal values.
    """

    tree: Any
    arrays: Arrays
    digest: str


def take_apart(value: Any) -> Saved | None:
    """Return the value in parts, or None if it holds an object that cannot be saved."""
    arrays: Arrays = {}
    try:
        tree = _tree(value, arrays, 0)
    except _CannotBeSaved:
        return None
    hashed = hashlib.blake2b(json.dumps(tree).encode(), digest_size=16)
    for array in arrays.values():
        large = array.nbytes > _LARGE_BYTES
        hashed.update(str(id(array)).encode() if large else np.ascontiguousarray(array).tobytes())
        hashed.update(f"{array.dtype}{array.shape}".encode())
    return Saved(tree, arrays, hashed.hexdigest())


def put_together(tree: Any, arrays: Arrays) -> Any:
    """Return a fresh value from its parts."""
    if isinstance(tree, PLAIN):
        return tree
    ((kind, content),) = tree.items()
    if kind == "array":
        return arrays[content].copy()
    if kind == "dict":
        return {put_together(key, arrays): put_together(item, arrays) for key, item in content}
    if kind == "deque":
        return collections.deque((put_together(item, arrays) for item in content[1]), content[0])
    return _GROUPS[kind](put_together(item, arrays) for item in content)


class _CannotBeSaved(Exception):  # never leaves this module
    pass


def _tree(value: Any, arrays: Arrays, depth: int) -> Any:
    value = value.item() if isinstance(value, np.generic) and value.dtype.kind in "biufU" else value
    if type(value) in PLAIN:
        return value
    if depth > _DEEPEST:
        raise _CannotBeSaved
    if type(value) is np.ndarray and value.dtype.kind in "biufcUS":
        arrays[str(len(arrays))] = value
        return {"array": str(len(arrays) - 1)}
    if type(value) in (dict, collections.OrderedDict, collections.Counter):
        return {"dict": [[_tree(part, arrays, depth + 1) for part in pair] for pair in value.items()]}
    items = sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value
    if type(value) is collections.deque:
        return {"deque": [value.maxlen, [_tree(item, arrays, depth + 1) for item in items]]}
    for kind, group in _GROUPS.items():
        if type(value) is group:
            return {kind: [_tree(item, arrays, depth + 1) for item in items]}
    raise _CannotBeSaved
