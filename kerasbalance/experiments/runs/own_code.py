"""Code of the user's own by name, `package.module:function`: the one place that imports it."""

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from kerasbalance.data.errors import DataError

if TYPE_CHECKING:
    from kerasbalance.experiments.runs.train import Run


def import_function(name: str) -> Callable[..., Any]:
    """Import a function; modules in the current folder are found too, after those that are installed.

    Only a name that the user has typed may come here, never one that a folder holds.

    Args:
        name: "package.module:function".

    Raises:
        Exception: Whatever the import raises.
    """
    module, _, function = name.partition(":")
    with _current_folder_last():
        found = getattr(importlib.import_module(module), function)
    if not callable(found):
        raise TypeError(f"{name} cannot be called")
    return found  # type: ignore[no-any-return]  # of the user's own


@contextlib.contextmanager
def _current_folder_last() -> Iterator[None]:
    before = list(sys.path)
    sys.path.append(os.getcwd())
    try:
        yield
    finally:
        sys.path[:] = before


def find_callbacks(names: Sequence[str]) -> tuple[Callable[["Run"], Any], ...]:
    """Import the functions that make a run's callbacks.

    Args:
        names: As the user gave them.

    Raises:
        DataError: If one cannot be imported (code `CALLBACK`).
    """
    return tuple(_refused(name, import_function, name) for name in names)


def make_callbacks(names: Sequence[str], run: "Run") -> list[Any]:
    """Call each function with the run and return the Keras callbacks.

    Args:
        names: As the user gave them.
        run: The run that is about to begin or to go on; docs/tracking.md says what a function may use of it.

    Raises:
        DataError: If one cannot be imported, fails or returns no callback (code `CALLBACK`).
    """
    import keras

    made = []
    for name, function in zip(names, find_callbacks(names), strict=True):
        callback = _refused(name, function, run)
        if not isinstance(callback, keras.callbacks.Callback):
            raise DataError("CALLBACK", f"{name}, which returned an object of type {type(callback).__name__}",
                            "a Keras callback", "let the function return a keras.callbacks.Callback")  # fmt: skip
        made.append(callback)
    return made


def _refused(name: str, call: Callable[[Any], Any], argument: Any) -> Any:
    try:
        return call(argument)
    except Exception as error:
        raise DataError("CALLBACK", f"the callback {name}, which fails with {type(error).__name__}",
                        "an importable function that takes a run and returns a Keras callback",
                        "check the name and what the function needs; see --debug") from error  # fmt: skip
