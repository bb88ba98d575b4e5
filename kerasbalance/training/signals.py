"""Lets a running step end before SIGTERM or Ctrl-C takes effect."""

import signal
import threading
from types import FrameType
from typing import Any

CAUGHT = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Notes signals while the `with` block runs; a second one takes effect at once.

    Python handles signals in the main thread only; in another one nothing is caught. A signal that the process
    ignores, as SIGINT under `nohup` or in the background, stays ignored.

    Args:
        active: False catches nothing.
    """

    def __init__(self, active: bool) -> None:
        self.received: int | None = None
        self._active = active and threading.current_thread() is threading.main_thread()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        if self._active:
            heeded = [number for number in CAUGHT if signal.getsignal(number) is not signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._note) for number in heeded}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = number
