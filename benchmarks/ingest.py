"""DICOM into the store against plain pydicom reading, SimpleITK and dcm2niix."""

import copy
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pydicom
from measure import Row, Ways, peer, take_turns
from pydicom.data import get_testdata_file
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from kerasbalance.data.ct import open_ct
from kerasbalance.data.ingest.case import CaseOptions, CaseRequest, open_case, read_opened
from kerasbalance.data.labels import parse_rule
from kerasbalance.data.store import Pseudonyms, Store
from kerasbalance.data.store.files import write_aside
from kerasbalance.data.store.sealed_case import build_case


def write_series(folder: Path, slices: int, size: int) -> None:
    """Write an uncompressed CT series of noise and a disc, with a scanner's header from pydicom's wheel."""
    scanned = pydicom.dcmread(get_testdata_file("CT_small.dcm"), stop_before_pixels=True)
    scanned.decode()
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] - size / 2
    body = np.where(np.hypot(y, x) < 0.4 * size, 1064, 24)
    uids = [generate_uid(entropy_srcs=[str(n)]) for n in range(slices + 3)]
    for number in range(slices):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, uids[number]
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image = FileDataset(None, copy.deepcopy(scanned), file_meta=meta, preamble=b"\0" * 128)
        image.SOPClassUID, image.SOPInstanceUID, image.Modality = CTImageStorage, uids[number], "CT"
        image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = uids[slices:]
        image.PatientID, image.InstanceNumber = "benchmark", number + 1
        image.ImagePositionPatient, image.ImageOrientationPatient = [0, 0, 2.0 * number], [1, 0, 0, 0, 1, 0]
        image.PixelSpacing, image.Rows, image.Columns = [0.7, 0.7], size, size
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 0
        image.RescaleSlope, image.RescaleIntercept = 1, -1024
        noise = rng.integers(-20, 20, (size, size))
        image.PixelData = (body + noise).astype("<u2").tobytes()
        image.save_as(folder / f"{number:04d}.dcm")


def write_mask(path: Path, slices: int, size: int) -> None:
    """Write a NIfTI mask of a disc on the middle half of the slices."""
    import nibabel

    y, x = np.mgrid[:size, :size] - size / 2
    mask = np.zeros((slices, size, size), np.uint8)
    mask[slices // 4 : 3 * slices // 4] = np.hypot(y, x) < 0.2 * size
    image = nibabel.Nifti1Image(mask.transpose(2, 1, 0), np.diag([-0.7, -0.7, 2.0, 1.0]))
    nibabel.save(image, path)


def run(slices: int = 100, size: int = 512, repeats: int = 7) -> list[Row]:
    """Return the figures."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "ct").mkdir()
        write_series(root / "ct", slices, size)
        write_mask(root / "mask.nii", slices, size)
        ways = _ways(root)
        spent = take_turns(ways, repeats)
        compressed = _compressed(root, slices, size, repeats)
    plain = spent.pop("pydicom")
    unit = f"CPU seconds / plain pydicom reading ({1e3 * plain / slices:.2f} ms a slice)"
    aims = {"whole case into the store (mask, checksums, sync)": "<= 1.5"}
    rows = [
        Row(seconds / plain, f"ingest: {way}, {slices} x {size} x {size}", unit, aims.get(way, ""))
        for way, seconds in spent.items()
    ]
    return rows + compressed


def _ways(root: Path) -> Ways:
    store = Store.create(root / "store", Pseudonyms.load(root / "key"))
    ways: Ways = {
        "pydicom": lambda: _plain(root / "ct"),
        "headers, checks and HU": lambda: open_ct(root / "ct").read(),
        "whole case into the store (mask, checksums, sync)": lambda: _whole(root, store),
    }
    with peer("SimpleITK"):
        import SimpleITK

        ways["SimpleITK to memory"] = lambda: _simpleitk(root / "ct", SimpleITK)
    with peer("dicom2nifti"):
        import dicom2nifti

        ways["dicom2nifti to .nii"] = lambda: dicom2nifti.dicom_series_to_nifti(
            root / "ct", root / "peer.nii", reorient_nifti=False
        )
    if shutil.which("dcm2niix"):
        ways["dcm2niix to .nii"] = lambda: _dcm2niix(root)
    else:
        print("left out, not installed: dcm2niix")
    return ways


def _compressed(root: Path, slices: int, size: int, repeats: int) -> list[Row]:
    """Read series of compressed syntaxes, each against plain pydicom reading of the same files."""
    rows = []
    for name, syntax, package in (
        ("RLE", RLELossless, "pydicom"),
        ("JPEG 2000", JPEG2000Lossless, "openjpeg"),
        ("JPEG-LS", JPEGLSLossless, "jpeg_ls"),
    ):
        folder = root / name.replace(" ", "-")
        folder.mkdir()
        try:
            for path in sorted((root / "ct").iterdir())[: max(2, slices // 5)]:
                image = pydicom.dcmread(path)
                image.compress(syntax)
                image.save_as(folder / path.name)
        except (RuntimeError, NotImplementedError, ValueError):
            print(f"left out, no encoder installed: {name} ({package})")
            continue
        spent = take_turns(
            {
                "ours": lambda folder=folder: open_ct(folder).read(),
                "plain": lambda folder=folder: _plain(folder),
            },
            max(1, repeats // 2),
        )
        rows.append(Row(spent["ours"] / spent["plain"], f"ingest: headers, checks and HU, {name}, {size} px",
                        "CPU seconds / plain pydicom reading"))  # fmt: skip
    return rows


def _plain(folder: Path) -> np.ndarray:
    files = [pydicom.dcmread(path) for path in folder.iterdir()]
    files.sort(key=lambda file: file.ImagePositionPatient[2])
    return np.stack(
        [f.pixel_array * np.float32(f.RescaleSlope) + np.float32(f.RescaleIntercept) for f in files]
    )


def _request(root: Path) -> CaseRequest:
    return CaseRequest(root / "ct", root / "mask.nii", (parse_rule("liver"),))


def _whole(root: Path, store: Store) -> None:
    request, options = _request(root), CaseOptions()
    facts, arrays = read_opened(open_case(request, options), Pseudonyms.load(root / "key"))
    _, content = build_case(facts, arrays)
    write_aside(store.aside, content).unlink()


def _simpleitk(folder: Path, sitk: object) -> np.ndarray:
    reader = sitk.ImageSeriesReader()
    reader.SetNumberOfWorkUnits(1)
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return sitk.GetArrayFromImage(reader.Execute())


def _dcm2niix(root: Path) -> None:
    out = root / "nii"
    out.mkdir(exist_ok=True)
    subprocess.run(
        ["dcm2niix", "-z", "n", "-w", "1", "-o", out, root / "ct"], check=True, capture_output=True
    )
