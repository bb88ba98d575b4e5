"""Which files count as DICOM, and that reading them is silent and bounded."""

import logging
import time
import warnings

import pydicom
import pytest
from made.series import make_series
from pydicom.uid import DeflatedExplicitVRLittleEndian

from kerasbalance.data.dicom.guard import (
    DEFLATED,
    SEGMENTATIONS,
    STRUCTURE_SET,
    is_dicom,
    lenient_pydicom,
    read_tags,
    read_up_to,
)
from kerasbalance.data.errors import DataError


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (bytes(128) + b"DICM", True),
        (b"\x08\x00\x05\x00CS\x0a\x00ISO_IR", True),
        (b"\x00\x08\x00\x05CS\x00\x0aISO_IR", True),
        (b"\x08\x00\x05\x00\x0a\x00\x00\x00ISO_", True),
        (b"\x08\x00\x00\x00\x00\x00\x00\x80\x05\x00\x00\x00", False),
        (b"\x08\x00\x05\x00CS", False),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR", False),
        (b"", False),
    ],
)
def test_dicom_is_told_by_its_prefix_or_its_first_element(head, expected):
    assert is_dicom(head) is expected


def test_the_classes_are_those_of_the_standard():
    names = [pydicom.uid.UID(uid).name for uid in (SEGMENTATIONS[0], STRUCTURE_SET)]
    assert names == ["Segmentation Storage", "RT Structure Set Storage"]
    assert DeflatedExplicitVRLittleEndian == DEFLATED


def test_pydicom_is_silent_inside_and_as_before_outside(caplog):
    mode, level = pydicom.config.settings.reading_validation_mode, logging.getLogger("pydicom").level
    with lenient_pydicom(), warnings.catch_warnings(record=True) as seen:
        logging.getLogger("pydicom").critical("DOE^JANE")
        assert pydicom.config.settings.reading_validation_mode == pydicom.config.IGNORE
    assert (caplog.records, seen) == ([], [])
    assert pydicom.config.settings.reading_validation_mode == mode
    assert logging.getLogger("pydicom").level == level


def test_attributes_are_read_without_the_pixels(tmp_path):
    (file, *_) = make_series(tmp_path, slices=4).files
    assert read_tags(file, ["Rows", "PixelData"]).Rows == 32
    assert "PixelData" not in read_tags(file, ["PixelData"])


def test_what_lies_behind_the_last_wanted_attribute_is_not_parsed(tmp_path):
    (file, *_) = make_series(tmp_path, slices=4).files
    content = file.read_bytes()
    end = content.index(b"\x28\x00\x02\x00")  # SamplesPerPixel, the first of its group
    file.write_bytes(content[:end] + b"\x28\x00\x02\x00US\xff\xffnonsense")
    dataset = read_up_to(file, "FrameOfReferenceUID")
    assert (dataset.Modality, dataset.FrameOfReferenceUID) == ("CT", "1.2.826.0.1.3")
    assert "SamplesPerPixel" not in dataset


def test_finding_what_a_segmentation_of_many_frames_refers_to_costs_no_frame(tmp_path):
    frames = [pydicom.Dataset() for _ in range(3000)]
    for number, frame in enumerate(frames):
        position = pydicom.Dataset()
        position.ImagePositionPatient = [0, 0, number]
        frame.PlanePositionSequence = [position]
    (file, *_) = make_series(tmp_path, slices=4).files
    dataset = pydicom.dcmread(file)
    dataset.PerFrameFunctionalGroupsSequence = frames
    dataset.save_as(file)
    start = time.process_time()
    assert "PerFrameFunctionalGroupsSequence" not in read_up_to(file, "StructureSetROISequence")
    short = time.process_time() - start
    list(pydicom.dcmread(file).iterall())
    assert short < (time.process_time() - start) / 10


def test_a_deflated_file_is_refused_before_it_is_inflated(tmp_path):
    (file, *_) = make_series(tmp_path, slices=4).files
    dataset = pydicom.dcmread(file)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(file)
    with pytest.raises(
        DataError, match="DEFLATED: a DICOM file that is deflated as a whole; expected any other"
    ):
        read_tags(file, ["Rows"])
    with pytest.raises(DataError, match="DEFLATED"):
        read_up_to(file, "Rows")
