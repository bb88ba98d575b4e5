"""Dicts and tuples of arrays, without Keras: sources are made before a backend is chosen."""

from collections.abc import Callable
from typing import Any


def mapped(function: Callable[[Any], Any], part: Any) -> Any:
    """Return a structure of dicts and tuples in which every leaf is replaced by the function's value for it.

    Example:
        >>> mapped(len, {"a": "xy", "b": ("", "z")})
        {'a': 2, 'b': (0, 1)}
    """
    if isinstance(part, dict):
        return {key: mapped(function, part[key]) for key in part}
    if isinstance(part, (tuple, list)):
        return tuple(mapped(function, item) for item in part)
    return function(part)


def leaves(part: Any) -> list[Any]:
    """Return the leaves of a structure of dicts and tuples; dicts in the order of their sorted keys.

    Example:
        >>> leaves({"b": ("", "z"), "a": "xy"})
        ['xy', '', 'z']
    """
    if isinstance(part, dict):
        return [leaf for key in sorted(part) for leaf in leaves(part[key])]
    if isinstance(part, (tuple, list)):
        return [leaf for item in part for leaf in leaves(item)]
    return [part]
