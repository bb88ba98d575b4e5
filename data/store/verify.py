"""Does every case still hold what was ingested? Hash it all and name what does not."""

from collections.abc import Callable
from dataclasses import dataclass

from kerasbalance.data.errors import DataError
from kerasbalance.data.store.damage import damaged
from kerasbalance.data.store.facts import Entry
from kerasbalance.data.store.store import Store


@dataclass(frozen=True)
class Verification:
    """What `verify_store` found.

    Args:
        sound: Keys of the cases whose every byte is as it was written.
        faults: By key, what is wrong with the others.
    """

    sound: tuple[str, ...]
    faults: dict[str, DataError]


def verify_store(store: Store, progress: Callable[[str], None] = lambda key: None) -> Verification:
    """Hash every case's file and compare; also read each through HDF5 by its own checksums.

    Args:
        store: The store; it is only read.
        progress: Called with each key when its case has been looked at.

    Returns:
        The sound cases and the faults; an empty store has neither.
    """
    entries, faults = store.survey()
    sound = []
    for key, entry in entries.items():
        try:
            check_stored(store, entry)
            sound.append(key)
        except DataError as error:
            faults[key] = error
        progress(key)
    return Verification(tuple(sound), dict(sorted(faults.items())))


def check_stored(store: Store, entry: Entry) -> None:
    """Check one case's file against its index entry.

    Raises:
        DataError: If it is missing, cannot be read, or a byte differs (code `DAMAGED`).
    """
    key = entry.facts.key
    if store.read_entry(key) != entry:
        raise damaged("a whole case file, but not the one that the index names", where=f"case {key[:8]}")
