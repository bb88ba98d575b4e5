"""The choice of one series among those of a folder, and the refusals of folders without one."""

from collections import Counter
from collections.abc import Sequence

from kerasbalance.data.dicom.header import MODALITIES
from kerasbalance.data.dicom.series import Scan, Series, describe, difference
from kerasbalance.data.errors import DataError

_LISTED = 5
"""Series that a message lists one by one."""


def choose_series(scan: Scan, number: int | None = None) -> Series:
    """Return the one readable series of a scan, or the one with the given number.

    Raises:
        DataError: If there is none, there are several and no number was given, or the chosen one has a problem.
    """
    if number is not None:
        chosen = [series for series in scan.series if series.number == number]
        if not chosen:
            raise _error(scan, "NO_SERIES", f"series number {number}", f"1 to {len(scan.series)}",
                         "see kerasbalance inspect")  # fmt: skip
    else:
        chosen = list(scan.series)
    if not chosen:
        raise scan.errors[0] if scan.errors else _nothing(scan)
    if len(chosen) > 1 and len(_uids(chosen)) == 1 and all(len(series.slices) == 1 for series in chosen):
        raise chosen[0].problems[0]
    if len(chosen) > 1:
        listed = "; ".join(f"{s.number}: {describe(s)}" for s in chosen[:_LISTED])
        listed += f"; and {len(chosen) - _LISTED} more" if len(chosen) > _LISTED else ""
        raise _error(scan, "SEVERAL_SERIES", f"{len(chosen)} CT series ({listed}) that differ in "
                     f"{difference(chosen)}", "one",
                     "name the folder of one, or with --mask its number: --series NUMBER")  # fmt: skip
    if chosen[0].problems:
        raise chosen[0].problems[0]
    return chosen[0]


def _uids(several: Sequence[Series]) -> set[str]:
    return {series.slices[0].header.series_uid for series in several}


def _nothing(scan: Scan) -> DataError:
    kinds = Counter(header.modality if header.modality in MODALITIES else "unknown" for header in scan.others)
    found = [f"{count} of modality {kind}" for kind, count in sorted(kinds.items())]
    found += [note.text for note in scan.notes if note.code == "LEFT_OUT"]
    if found:
        return _error(scan, "NOT_CT", f"DICOM files but no CT image ({', '.join(found)})", "a CT series",
                      "name the folder of the CT series")  # fmt: skip
    return _error(
        scan,
        "NO_SERIES",
        "no DICOM image and no image file (NIfTI, NRRD, MetaImage)",
        "a CT",
        "name the folder or file of the CT",
    )


def _error(scan: Scan, code: str, received: str, expected: str, advice: str) -> DataError:
    return DataError(code, received, expected, advice, path=scan.root)
