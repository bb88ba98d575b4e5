"""How a store says that a case is not what was stored."""

from pathlib import Path

from kerasbalance.data.errors import DataError


def damaged(received: str, *, where: str | None = None, path: Path | None = None) -> DataError:
    """Make the error for a case that is not what was stored (code `DAMAGED`)."""
    return DataError("DAMAGED", received, "the case as it was ingested",
                     "run kerasbalance verify, then ingest the source again", where=where, path=path)  # fmt: skip


def unsafe(what: str) -> DataError:
    """Make the error for a file that kerasbalance cannot have written (code `UNSAFE`)."""
    return DataError("UNSAFE", f"an HDF5 file with {what}", "a case that kerasbalance wrote",
                     "remove it from the store's cases folder")  # fmt: skip
