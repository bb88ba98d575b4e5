"""A CT volume in memory, as the readers hand it on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.errors import Note
from kerasbalance.data.volume.geometry import Grid

MAX_SIDE = 4096
"""Pixels along one side of a slice."""

MAX_VOXELS = 2**30
"""Voxels of one volume: 2 GiB of int16, e.g. 1,024 slices of 1024 x 1024."""

AIR_HU = -1024
"""What padding outside the field of view becomes, and the lowest value that is kept."""


@dataclass(frozen=True)
class Identity:
    """The identifiers of a series, for keys and for matching masks. They stay in memory and are never stored.

    Args:
        patient_id: PatientID with blanks stripped, "" where it is missing.
        study_uid: StudyInstanceUID, "" where it is missing.
        series_uid: SeriesInstanceUID, "" where it is missing.
        frame_of_reference_uid: FrameOfReferenceUID, "" where it is missing.
        instance_uids: SOPInstanceUID of each slice in the order of the volume; empty where there are none.
        file_names: The file name of each slice in the order of the volume; empty for a single file.
    """

    patient_id: str = ""
    study_uid: str = ""
    series_uid: str = ""
    frame_of_reference_uid: str = ""
    instance_uids: tuple[str, ...] = ()
    file_names: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Volume:
    """One CT series in Hounsfield units, canonical orientation (see `geometry`).

    Args:
        hu: int16 `(slices, rows, columns)`, never below `AIR_HU`.
        grid: Where its voxels lie.
        source_kind: `"dicom"`, `"nifti"`, `"nrrd"` or `"metaimage"`.
        identity: The identifiers of the series, which are never stored.
        tags: Technical facts that may be stored (transfer syntax, modality, ...), by DICOM keyword.
        notes: What was tolerated or mended.
    """

    hu: NDArray[np.int16]
    grid: Grid
    source_kind: str
    identity: Identity
    tags: dict[str, str]
    notes: tuple[Note, ...] = ()
