"""Made CT volumes and mask files for the tests of the mask readers."""

from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from kerasbalance.data.errors import DataError
from kerasbalance.data.masks import read_mask
from kerasbalance.data.volume.geometry import Grid, to_canonical
from kerasbalance.data.volume.volume import Identity, Volume
from made.cases import LPS_TO_RAS

REAL = Path(__file__).parents[2] / "../shared/real"
SHAPE = (6, 40, 48)
FRAME = "1.2.826.0.1.3680043.10.1"
NAMES = ("file_7", "file_10", "file_1", "file_2", "file_9", "file_3")


def made_grid(shape=SHAPE, *, spacing=(3.0, 1.5, 1.0), turn=None, origin=(-20.0, -30.0, 100.0)):
    """A canonical grid; `turn` is a 3 x 3 rotation of its axes."""
    turn = np.eye(3) if turn is None else turn
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(spacing[::-1])
    affine[:3, 3] = origin
    return Grid.from_affine(shape, affine)


def made_labels(shape=SHAPE):
    """uint8: 1 and 2 in boxes that no flip, permutation or shift maps onto themselves."""
    labels = np.zeros(shape, np.uint8)
    slices, rows, columns = shape
    labels[1 : slices - 2, rows // 8 : rows // 2, columns // 6 : columns // 2 + 3] = 1
    labels[2 : slices - 1, rows // 2 + 2 : rows - 3, columns // 2 : columns - 9] = 2
    return labels


def made_volume(labels=None, grid=None):
    """Air around, tissue of 60 HU where there is a label, fat elsewhere."""
    labels = made_labels() if labels is None else labels
    grid = made_grid(labels.shape) if grid is None else grid
    hu = np.full(labels.shape, -100, np.int16)
    hu[:, :3] = hu[:, -3:] = -1000
    hu[labels > 0] = 60
    noise = np.random.default_rng(0).normal(0, 8, labels.shape)
    identity = Identity(frame_of_reference_uid=FRAME, file_names=NAMES[: labels.shape[0]])
    return Volume(np.maximum(hu + noise, -1024).astype(np.int16), grid, "dicom", identity, {})


def save_nifti(path, labels, grid, *, dtype=None):
    """Write `(slices, rows, columns)` with the grid's affine."""
    image = nibabel.Nifti1Image(labels.transpose(2, 1, 0), LPS_TO_RAS @ grid.affine(), dtype=dtype)
    nibabel.save(image, path)
    return path


def source_images(grid):
    """Headers of CT images on a grid, as highdicom wants them."""
    return [_source_image(grid, number) for number in range(grid.shape[0])]


def _source_image(grid, number):
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, f"{FRAME}.{number + 1}"
    image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = "1.2.3", "1.2.4", FRAME
    image.PatientID, image.PatientName = "P1", "Canary^Jane"
    for keyword in ("PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate", "StudyTime"):
        setattr(image, keyword, "")
    image.ReferringPhysicianName = image.Manufacturer = ""
    image.Modality, image.InstanceNumber, image.SeriesNumber = "CT", number + 1, 1
    image.Rows, image.Columns = grid.shape[1:]
    set_plane(image, grid, number)
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit, image.PixelRepresentation, image.SamplesPerPixel = 15, 0, 1
    image.PhotometricInterpretation = "MONOCHROME2"
    return image


def set_plane(image, grid, number):
    """Write position, orientation and spacing of one slice."""
    _, row, column = grid.spacing_mm
    cosines = [*(grid.column_step_mm / column), *(grid.row_step_mm / row)]
    image.ImagePositionPatient = [f"{v:.10g}" for v in grid.positions_mm[number]]
    image.ImageOrientationPatient = [f"{v:.10g}" for v in cosines]
    image.PixelSpacing = [f"{row:.10g}", f"{column:.10g}"]
    image.SliceThickness = 5


def made_seg(channels, grid, *, kind="BINARY", names=("Liver", "Spleen"), codes=None, **options):
    """A DICOM SEG by highdicom from `(slices, rows, columns, segments)`, or label values for LABELMAP."""
    codes = codes or [{"Liver": "10200004", "Spleen": "78961009"}.get(name, "123037004") for name in names]
    concept = highdicom.sr.CodedConcept
    described = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=concept("123037004", "SCT", "Anatomical Structure"),
            segmented_property_type=concept(code, "SCT", "Structure"),
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, (name, code) in enumerate(zip(names, codes, strict=True), 1)
    ]
    return highdicom.seg.Segmentation(
        source_images=source_images(grid),
        pixel_array=channels,
        segmentation_type=kind,
        segment_descriptions=described,
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="none",
        manufacturer_model_name="none",
        software_versions="0",
        device_serial_number="0",
        **options,
    )


def save(dataset, path):
    """Write a data set that has a file meta."""
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return path


def made_rtstruct(rois, *, frame=FRAME):
    """An RTSTRUCT from `{name: [points (n, 3), ...]}`; without references where `frame` is None."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = RTStructureSetStorage, generate_uid()
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = RTStructureSetStorage, meta.MediaStorageSOPInstanceUID
    dataset.Modality, dataset.PatientName = "RTSTRUCT", "Canary^Jane"
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    for number, (name, contours) in enumerate(rois.items(), 1):
        item, roi = Dataset(), Dataset()
        item.ROINumber, item.ROIName, roi.ReferencedROINumber = number, name, number
        if frame is not None:
            item.ReferencedFrameOfReferenceUID = frame
        roi.ContourSequence = [_contour(points) for points in contours]
        dataset.StructureSetROISequence.append(item)
        dataset.ROIContourSequence.append(roi)
    return dataset


def _contour(points):
    contour = Dataset()
    contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
    contour.ContourData = [f"{v:.6f}" for v in np.ravel(points)]
    return contour


def contour_points(grid, number, pixels):
    """Patient positions `(n, 3)` of `(row, column)` points on a slice."""
    pixels = np.asarray(pixels, float)
    return grid.positions_mm[number] + pixels[:, :1] * grid.row_step_mm + pixels[:, 1:] * grid.column_step_mm


def reoriented(labels, grid, order, flips):
    """The same voxels at the same places with array axes `(slice, row, column)` permuted and flipped."""
    affine = grid.affine()
    columns = [affine[:3, 2 - axis] for axis in order]
    origin = affine[:3, 3].copy()
    labels = labels.transpose(order)
    for axis, flip in enumerate(flips):
        if flip:
            origin += columns[axis] * (labels.shape[axis] - 1)
            columns[axis] = -columns[axis]
            labels = np.flip(labels, axis)
    turned = np.eye(4)
    turned[:3, :3] = np.stack(columns[::-1], axis=1)
    turned[:3, 3] = origin
    return labels, Grid.from_affine(labels.shape, turned)


def rotation(angles):
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = [i for i in range(3) if i != axis]
        step = np.eye(3)
        step[a, a] = step[b, b] = np.cos(angle)
        step[a, b], step[b, a] = -np.sin(angle), np.sin(angle)
        turn = turn @ step
    return turn


def codes(mask):
    return [note.code for note in mask.notes]


def refusal(path, volume, rules, **options):
    with pytest.raises(DataError) as caught:
        read_mask(path, volume, rules, **options)
    assert str(path) not in str(caught.value)
    assert "canary" not in str(caught.value).lower()
    return caught.value


def real_volume(folder):
    sitk = pytest.importorskip("SimpleITK")
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    reader = sitk.ImageSeriesReader()
    names = reader.GetGDCMSeriesFileNames(str(folder))
    reader.SetFileNames(names)
    image = reader.Execute()
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    matrix[:3, 3] = image.GetOrigin()
    hu = sitk.GetArrayFromImage(image)
    hu, grid = to_canonical(hu, Grid.from_affine(hu.shape, matrix))
    identity = Identity(file_names=tuple(name.rpartition("/")[2] for name in names))
    return Volume(np.clip(hu, -1024, 32767).astype(np.int16), grid, "dicom", identity, {})
