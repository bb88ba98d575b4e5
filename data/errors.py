"""Refusals of input, and remarks on input that is accepted.

A message never contains a path, a name or an identifier from a header: a file is named by its number in name
order ("file 12 of 78"), and `DataError.path` carries the path for callers that were asked to show it.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Note:
    """A remark that is kept with a case: something was tolerated, mended or looks suspicious.

    Args:
        code: A short upper-case word that a program may test for, e.g. `"GAP"`.
        text: One sentence for a person, free of paths and identifiers.
        loud: Whether `ingest` and `info` show it even where notes are only counted.
    """

    code: str
    text: str
    loud: bool = False


class DataError(ValueError):
    """Input that is refused: what was received, what was expected, what to do.

    Args:
        code: A short upper-case word that a program may test for, e.g. `"BAD_RESCALE"`.
        received: What was found, with values and shapes but no identifiers.
        expected: What would have been right.
        advice: What the user can do next.
        path: The file or folder it is about; kept out of the message.
        where: How the message names that file, e.g. `"file 12 of 78"`.
    """

    def __init__(
        self,
        code: str,
        received: str,
        expected: str,
        advice: str,
        *,
        path: Path | str | None = None,
        where: str | None = None,
    ) -> None:
        self.code = code
        self.received = received
        self.expected = expected
        self.advice = advice
        self.path = None if path is None else Path(path)
        self.where = where
        super().__init__(self.message())

    def message(self, *, show_path: bool = False) -> str:
        """Return the one-line message, with the path in it only when asked for."""
        place = str(self.path) if show_path and self.path is not None else self.where
        subject = f"{place}: " if place else ""
        return f"{self.code}: {subject}{self.received}; expected {self.expected}; {self.advice}"

    def at(self, *, where: str | None = None, path: Path | str | None = None) -> "DataError":
        """Return this error with a place added, for callers that know more of it than who raised it.

        Args:
            where: The wider place, put before the place that is known: `"case 3 of 12"` makes
                `"case 3 of 12, file 2 of 78"` of `"file 2 of 78"`.
            path: The path that counts where none is known yet.
        """
        places = [place for place in (where, self.where) if place]
        return type(self)(
            self.code,
            self.received,
            self.expected,
            self.advice,
            path=path if self.path is None else self.path,
            where=", ".join(places) or None,
        )

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle with all parts, so that a worker process can hand the error to its parent."""
        return _rebuild, (self.code, self.received, self.expected, self.advice, self.path, self.where)


def _rebuild(
    code: str, received: str, expected: str, advice: str, path: Path | None, where: str | None
) -> DataError:
    return DataError(code, received, expected, advice, path=path, where=where)
