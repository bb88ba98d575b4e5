"""What a store says of a case without its pixels: one record, kept in the case and in the index."""

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kerasbalance.data.errors import Note
from kerasbalance.data.volume.shaping import Shaping

FORMAT_VERSION = 1

MAX_SIZE = 2**20
"""No case has more slices, rows or columns; a received store may state any number."""
KEY = "[0-9a-f]{32}"
"""The form of a key, as a regular expression."""


@dataclass(frozen=True)
class CaseFacts:
    """One case of a store.

    Args:
        key: The case's name: a keyed hash of its series.
        patient: Keyed hash of its patient; equal for all cases that must stay on one side of a split.
        patient_spelling: Keyed hash of the patient's identifier as written, to tell spellings apart.
        slices: Number of slices.
        rows: Pixels along y.
        columns: Pixels along x.
        spacing_mm: Between slices (None for a single one), rows and columns.
        organs: The organs that are annotated; label value i + 1 in the mask is `organs[i]`.
        positive_slices: Per organ, the slices with at least one pixel of it; counted by `build_case`, as are the
            digests and the checksum below.
        organ_hu: Per organ, lower quartile, median and upper quartile in HU; empty for an organ without pixels.
        hu_percentiles: The 0.5, 50 and 99.5 percentile of all voxels.
        source_kind: "dicom", "nifti", "nrrd" or "metaimage".
        mask_kind: The kind of file the mask came from.
        tags: Technical facts by DICOM keyword.
        notes: Remarks that were made at ingest.
        source_digest: SHA-256 of the source files' pixels and geometry and of the options that shaped the case.
        reader_version: Version of kerasbalance that read it.
        crop: Pixels that `--crop` left of each side, None where nothing was cut.
        resize: Pixels that `--resize` made of each side, None where nothing was resampled.
        resampled_mm: Pixel size that `--spacing` made, None where nothing was resampled to one.
        ct_plane: Rows and columns that the CT had before the slices were shaped; None where the mask is not kept on
            that grid too.
        ct_pixel_mm: Spacing of its rows and columns; None with `ct_plane`.
        has_uids: Whether the original UIDs are stored (`--keep-uids`).
        image_digest: SHA-256 of spacing and checksums of the stored images: equal images, equal digest.
        label_digest: SHA-256 of organs and checksums of the stored masks.
        tables_crc32: CRC-32 of the per-slice tables (checksums, depths, positive pixels).
    """

    key: str
    patient: str
    patient_spelling: str
    slices: int
    rows: int
    columns: int
    spacing_mm: tuple[float | None, float, float]
    organs: tuple[str, ...]
    organ_hu: tuple[tuple[float, ...], ...]
    hu_percentiles: tuple[float, ...]
    source_kind: str
    mask_kind: str
    tags: dict[str, str]
    notes: tuple[Note, ...]
    source_digest: str
    reader_version: str
    crop: int | None = None
    resize: int | None = None
    resampled_mm: float | None = None
    ct_plane: tuple[int, int] | None = None
    ct_pixel_mm: tuple[float, float] | None = None
    has_uids: bool = False
    positive_slices: tuple[int, ...] = ()
    image_digest: str = ""
    label_digest: str = ""
    tables_crc32: int = 0

    @property
    def shaping(self) -> Shaping:
        """What the ingest did to the slices."""
        return Shaping(self.crop, self.resize, self.resampled_mm)

    @property
    def is_judged_on_ct(self) -> bool:
        """Whether the store holds the reference on the CT's own grid."""
        return self.ct_plane is not None or self.shaping == Shaping()

    @property
    def warnings(self) -> tuple[Note, ...]:
        """The notes that a user should read."""
        return tuple(note for note in self.notes if note.loud)


@dataclass(frozen=True)
class Entry:
    """A line of the index: a case and the file that holds it.

    Args:
        facts: The case.
        size: Bytes of the file.
        sha256: Of the whole file, hex.
        image_range: First and past-the-last byte of the image chunks; equal where they do not lie together.
        metadata_sha256: Of the bytes outside `image_range`, hex.
    """

    facts: CaseFacts
    size: int
    sha256: str
    image_range: tuple[int, int]
    metadata_sha256: str

    @property
    def file_name(self) -> str:
        """Name of the case's file below `cases/`."""
        return f"{self.facts.key}.h5"


def dump_facts(facts: CaseFacts) -> str:
    """Return the facts as one line of JSON that always has the same form."""
    return json.dumps(dataclasses.asdict(facts), sort_keys=True, separators=(",", ":"), allow_nan=False)


def load_facts(text: str) -> CaseFacts:
    """Read what `dump_facts` wrote.

    Raises:
        ValueError, TypeError, KeyError: If the text is not of that form.
    """
    return facts_from(json.loads(text))


def facts_from(fields: dict[str, Any]) -> CaseFacts:
    """Return the facts from what JSON gives.

    Raises:
        ValueError, TypeError, KeyError: If a field is missing, unknown or of another form.
    """
    fields = dict(fields)
    for name in ("spacing_mm", "organs", "positive_slices", "hu_percentiles"):
        fields[name] = tuple(fields[name])
    fields["organ_hu"] = tuple(tuple(item) for item in fields["organ_hu"])
    fields["notes"] = tuple(Note(**note) for note in fields["notes"])
    for name in ("ct_plane", "ct_pixel_mm"):
        if fields.get(name) is not None:
            fields[name] = tuple(fields[name])
    facts = CaseFacts(**fields)
    _check(facts)
    return facts


def _check(facts: CaseFacts) -> None:
    """Raise a ValueError for facts that no ingest writes, before anything is allocated or named after them."""
    sizes = (facts.slices, facts.rows, facts.columns, *(facts.ct_plane or ()))
    if not re.fullmatch(KEY, facts.key) or not all(
        type(size) is int and 1 <= size <= MAX_SIZE for size in sizes
    ):
        raise ValueError("key or sizes")
    if len(facts.organ_hu) != len(facts.organs) or len(facts.positive_slices) not in (0, len(facts.organs)):
        raise ValueError("organs")
    if facts.ct_plane is not None and (len(facts.ct_plane) != 2 or len(facts.ct_pixel_mm or ()) != 2):
        raise ValueError("ct_plane")


def spelled_twice(facts: Sequence[CaseFacts]) -> int:
    """Return how many patients bear identifiers of more than one spelling."""
    spellings = {(case.patient, case.patient_spelling) for case in facts}
    return sum(count > 1 for count in Counter(patient for patient, _ in spellings).values())
