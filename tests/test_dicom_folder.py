"""What else lies in a folder is skipped, counted or refused, and nothing that a header says gets out."""

import os
import socket
import struct

import numpy as np
import pydicom
import pytest
from made.series import PATIENT, make_enhanced, make_series, read, refusal, set_text
from pydicom.uid import RLELossless

from kerasbalance.data import files as files_module
from kerasbalance.data.dicom import scan_folder
from kerasbalance.data.errors import DataError
from kerasbalance.data.files import list_files, natural_key


def test_junk_beside_a_series_is_skipped_and_counted(tmp_path):
    made = make_series(tmp_path)
    for name in ("notes.txt", "Thumbs.db", "._IM0003.dcm", "empty", "picture.png", "a.nii.gz"):
        (tmp_path / name).write_bytes(os.urandom(500) if name != "empty" else b"")
    np.testing.assert_array_equal(read(tmp_path).hu, made.hu)
    scan = scan_folder(tmp_path)
    assert [note.text for note in scan.notes] == ["6 files that are no DICOM skipped"]
    assert len(scan.not_dicom) == 6


@pytest.mark.parametrize("name", ["IM0012.dcm", "other.DCM", "x.ima"])
@pytest.mark.parametrize("content", [b"", b"\0" * 5000, b"text"])
def test_a_damaged_file_named_like_the_images_is_refused(tmp_path, name, content):
    made = make_series(tmp_path)
    (tmp_path / name).write_bytes(content)
    error = refusal(tmp_path)
    assert (error.code, error.path) == ("NOT_DICOM", tmp_path / name)
    assert error.received == "a file named like the images beside it that is no DICOM"
    (tmp_path / name).unlink()
    np.testing.assert_array_equal(read(tmp_path).hu, made.hu)


def test_a_malformed_file_spoils_the_series_beside_it_and_no_other(tmp_path):
    make_series(tmp_path / "a")
    good = make_series(tmp_path / "b", series="1.2.826.0.7")
    (tmp_path / "a" / "bad").write_bytes(b"\0" * 128 + b"DICM" + os.urandom(64))
    scan = scan_folder(tmp_path)
    assert len(scan.errors) == 1
    assert [bool(series.problems) for series in scan.series] == [True, False]
    np.testing.assert_array_equal(read(tmp_path, number=2).hu, good.hu)


def test_what_is_no_plain_file_is_never_opened(tmp_path, monkeypatch):
    made = make_series(tmp_path / "real")
    os.mkfifo(tmp_path / "real" / "fifo.dcm")
    (tmp_path / "real" / "link.dcm").symlink_to(made.files[0])
    (tmp_path / "real" / "dangling.dcm").symlink_to("nowhere")
    (tmp_path / "real" / "loop").symlink_to(tmp_path)
    (tmp_path / "real" / "folder.dcm").mkdir()
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    server = socket.socket(socket.AF_UNIX)
    server.bind("real/socket.dcm")
    server.close()
    np.testing.assert_array_equal(read(tmp_path).hu, made.hu)
    assert [note.text for note in scan_folder(tmp_path).notes] == ["5 links, pipes or devices skipped"]


@pytest.mark.parametrize(
    "name", [b"new\nline", b"\xff\xfe\x80", b"x" * 251, "²".encode(), b"0" * 200, b"-rf", b"%s{}"]
)
def test_odd_file_names_are_only_ever_names(tmp_path, name):
    made = make_series(tmp_path)
    os.rename(made.files[3], os.path.join(os.fsencode(tmp_path), name + b".dcm"[: 255 - len(name)]))
    np.testing.assert_array_equal(read(tmp_path).hu, made.hu)


def test_names_sort_as_people_count_and_equal_ones_stay_apart():
    names = ["image_10", "image_2", "Image_1", "a", "²", "１"]
    assert sorted(names, key=natural_key)[:4] == ["a", "Image_1", "image_2", "image_10"]
    assert natural_key("a01") == natural_key("A1")


def test_files_are_numbered_alike_whatever_order_the_system_lists_them_in(tmp_path, monkeypatch):
    for name in ("a1", "A1", "a01", "b/1", "b/A", "b/a"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    walk = files_module._walk
    first = [file.path for file in list_files(tmp_path)[0]]
    monkeypatch.setattr(files_module, "_walk", lambda root: (walk(root)[0][::-1], 0))
    assert [file.path for file in list_files(tmp_path)[0]] == first


@pytest.mark.parametrize("what", ["missing", "dangling", "name"])
def test_a_source_that_is_not_there_is_refused(tmp_path, what):
    (tmp_path / "dangling").symlink_to("nowhere")
    path = tmp_path / ("a\0b" if what == "name" else what)
    with pytest.raises(
        DataError, match=r"^UNREADABLE: a source that cannot be read \(.*\); expected an existing"
    ):
        scan_folder(path)


def test_a_file_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    made = make_series(tmp_path)
    real = type(tmp_path).open

    def forbidden(path, *args, **more):
        if path.name == "IM0005.dcm":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **more)

    monkeypatch.setattr(type(tmp_path), "open", forbidden)
    error = refusal(tmp_path)
    assert str(error) == (
        "UNREADABLE: file 6 of 12: a file that cannot be read (permission denied); expected a readable file; "
        "check its permissions"
    )
    assert error.path == made.files[5]


def test_a_folder_with_too_many_files_is_refused(tmp_path, monkeypatch):
    make_series(tmp_path)
    monkeypatch.setattr(files_module, "MAX_FILES", 11)
    assert str(refusal(tmp_path)).startswith(
        "TOO_MANY_FILES: more than 11 files; expected the folder of one data set"
    )


def test_too_many_orientations_under_one_uid_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("kerasbalance.data.dicom.scan.MAX_STACKS", 4)

    def edit(dataset, n):
        c, s = np.cos(n / 50), np.sin(n / 50)
        dataset.ImageOrientationPatient = [f"{v:.6f}" for v in (c, s, 0, -s, c, 0)]

    make_series(tmp_path, slices=6, edit=edit)
    error = refusal(tmp_path)
    assert error.received == "more than 4 orientations in one series"


@pytest.mark.parametrize("where", ["folder", "junk only"])
def test_a_folder_without_dicom_is_refused(tmp_path, where):
    if where == "junk only":
        (tmp_path / "readme.txt").write_text("nothing")
        (tmp_path / "numbers").write_bytes(struct.pack("<4I", 8, 2**31, 5, 1))
    assert str(refusal(tmp_path)) == (
        "NO_SERIES: no DICOM image and no image file (NIfTI, NRRD, MetaImage); expected a CT; "
        "name the folder or file of the CT"
    )


# Silence


TEXTS = (
    "SpecificCharacterSet", "PatientID", "ImageType", "ConvolutionKernel", "RescaleType", "BurnedInAnnotation",
    "InstanceNumber", "AcquisitionNumber", "FrameOfReferenceUID", "LossyImageCompression",
)  # fmt: skip


def test_nothing_that_a_header_says_is_printed_logged_or_warned(tmp_path, caplog, capfd, recwarn):
    canary = "CANARY^DOE"

    def edit(dataset, n):
        for keyword in TEXTS:
            set_text(dataset, keyword, canary)
        if n == 2:
            set_text(dataset, "RescaleSlope", canary)
        if n == 3:
            set_text(dataset, "BitsAllocated", canary)

    caplog.set_level("DEBUG")
    make_series(tmp_path, name="CANARY{:02d}", edit=edit)
    caplog.clear()
    recwarn.clear()
    capfd.readouterr()
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    out, err = capfd.readouterr()
    said = [*(record.getMessage() for record in caplog.records), out, err, str(caught.value)]
    said += [str(warning.message) for warning in recwarn]
    assert not [text for text in said if "CANARY" in text or PATIENT in text]
    assert caught.value.__suppress_context__


def test_pydicom_is_left_as_it_was(tmp_path):
    import logging
    import warnings

    settings, logger = pydicom.config.settings, logging.getLogger("pydicom")
    before = settings.reading_validation_mode, logger.level, list(warnings.filters)
    make_enhanced(tmp_path, syntax=RLELossless)
    read(tmp_path)
    assert (settings.reading_validation_mode, logger.level, list(warnings.filters)) == before
