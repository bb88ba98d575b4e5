"""Damaged files are refused or read as pydicom reads them, whatever the damage; nothing else comes out (F18)."""

import time

import numpy as np
import pydicom
import pytest
from made.series import make_enhanced, make_series
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from kerasbalance.data.dicom import choose_series, read_volume, scan_folder
from kerasbalance.data.dicom.checks import RELAXATIONS
from kerasbalance.data.errors import DataError

KINDS = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless, "enhanced")
HEADER = 1600
NOTED = {"LEFT_OUT", "DUPLICATE", "NOT_DICOM"}


def damaged(whole, rng):
    """Return the bytes of a file after one accident."""
    data = bytearray(whole)
    accident = rng.integers(6)
    at = int(rng.integers(min(HEADER, len(data) - 8)))
    if accident == 0:
        return data[: rng.integers(len(data))]
    if accident == 1:
        for place in rng.integers(min(HEADER, len(data)), size=rng.integers(1, 9)):
            data[place] = rng.integers(256)
    elif accident == 2:
        data[at] ^= 1 << int(rng.integers(8))
    elif accident == 3:
        data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
    elif accident == 4:
        length = int(rng.integers(1, 600))
        data[at : at + length] = b"\0" * len(data[at : at + length])
    else:
        del data[at : at + int(rng.integers(1, 9))]
    return data


def as_pydicom_reads(path):
    """Return one file's HU by way of pydicom alone, or None where it cannot or sees more than one frame."""
    settings = pydicom.config.settings
    before = settings.reading_validation_mode
    settings.reading_validation_mode = pydicom.config.IGNORE
    try:
        dataset = pydicom.dcmread(path, force=True)
        if "TransferSyntaxUID" not in dataset.file_meta:
            implicit, little = dataset.original_encoding
            syntax = (
                ImplicitVRLittleEndian
                if implicit
                else ExplicitVRLittleEndian
                if little
                else ExplicitVRBigEndian
            )
            dataset.file_meta.TransferSyntaxUID = syntax
        for keyword, value in (("PhotometricInterpretation", "MONOCHROME2"), ("SamplesPerPixel", 1)):
            if not dataset.get(keyword):
                setattr(dataset, keyword, value)
        raw = dataset.pixel_array
        hu = np.clip(
            np.rint(raw * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)), -1024, 32767
        )
        return hu if hu.ndim == 2 else None
    except Exception:
        return None
    finally:
        settings.reading_validation_mode = before


def check_accepted(made, victim, scan, volume):
    names = [path.name for path in made.files]
    found = volume.identity.file_names
    for name, hu in zip(found, volume.hu, strict=True):
        if name != names[victim]:
            np.testing.assert_array_equal(hu, made.hu[names.index(name)])
            continue
        theirs = as_pydicom_reads(made.files[victim])
        assert theirs is None or np.array_equal(hu, theirs)
        assert theirs is not None or np.array_equal(hu, made.hu[victim])
    assert set(names) - set(found) <= {names[victim]}
    codes = {note.code for note in (*scan.notes, *volume.notes)}
    assert names[victim] in found or codes & NOTED


def survives(made, victim):
    """Read a series with a damaged file; whether it was accepted. Any exception but DataError is a failure."""
    try:
        scan = scan_folder(made.folder, frozenset(RELAXATIONS))
        volume = read_volume(choose_series(scan))
    except DataError:
        return False
    if len(made.files) > 1:
        check_accepted(made, victim, scan, volume)
    return True


def fuzz(folder, cases, seed):
    rng = np.random.default_rng(seed)
    outcomes = {"refused": 0, "read": 0}
    made = {
        kind: make_enhanced(folder / kind, order=(2, 0, 1), size=16)
        if kind == "enhanced"
        else make_series(folder / kind, slices=4, size=16, syntax=kind, name="IM{}.dcm")
        for kind in KINDS
    }
    for case in range(cases):
        series = made[KINDS[case % len(KINDS)]]
        victim = int(rng.integers(len(series.files)))
        whole = series.files[victim].read_bytes()
        series.files[victim].write_bytes(damaged(whole, rng))
        begin = time.process_time()
        outcomes["read" if survives(series, victim) else "refused"] += 1
        assert time.process_time() - begin < 5, case
        series.files[victim].write_bytes(whole)
    return outcomes


@pytest.mark.filterwarnings("ignore:::pydicom")
def test_300_accidents_end_in_a_refusal_or_in_what_pydicom_reads(tmp_path):
    outcomes = fuzz(tmp_path, 300, seed=0)
    assert outcomes["refused"] > 100
    assert outcomes["read"] > 30


@pytest.mark.large
@pytest.mark.filterwarnings("ignore:::pydicom")
@pytest.mark.parametrize("seed", range(1, 6))
def test_5000_accidents_end_in_a_refusal_or_in_what_pydicom_reads(tmp_path, seed, request):
    if "large" not in request.config.getoption("markexpr"):
        pytest.skip("the long form: pass -m large")
    fuzz(tmp_path, 1000, seed)
