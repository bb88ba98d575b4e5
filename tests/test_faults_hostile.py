"""Bombs, pipes and strange names in a folder: that case is refused, the others are taken."""

import gzip
import os
import shutil
import socket
import threading
import time
import zlib
from pathlib import Path

import nibabel
import numpy as np
import psutil
import pydicom
from made.ingests import cli, family
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless


class PeakMemory(threading.Thread):
    """Watches the resident memory of the largest process of a family, in bytes."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.peak = pid, 0
        self.start()

    def run(self):
        while relatives := family(self.pid):
            for process in relatives:
                try:
                    self.peak = max(self.peak, process.memory_info().rss)
                except psutil.NoSuchProcess:
                    continue
            time.sleep(0.02)


def test_bombs_cost_one_case_each_and_little_memory(cohort, tmp_path):
    bombs = {
        "gzip bomb": lambda path: gzip_bomb(path, 4 * 2**30),
        "declared size": lambda path: declared_nifti(path, (32000, 32000, 4)),
        "deflated DICOM": deflated_bomb,
        "RLE bomb": lambda path: rle_bomb(path, 65535, 65535, 1),
        "frames": lambda path: rle_bomb(path, 512, 512, 2_000_000),
        "long RLE": lambda path: rle_bomb(path, 8000, 8000, 1),
    }
    rows = ["ct,mask,labels"]
    for n, make in enumerate(bombs.values()):
        make(tmp_path / f"bomb{n}")
        rows.append(f"bomb{n},{cohort}/mask000.nii,liver=1")
    rows += [f"{cohort}/ct000.nii,{cohort}/mask000.nii,liver=1;spleen=2"]
    rows += [f"{cohort}/ct001.nii,bomb0,liver=1"]
    (tmp_path / "cases.csv").write_text("\n".join(rows))
    child = cli(tmp_path, tmp_path)
    watched = PeakMemory(child.pid)
    told, errors = child.communicate()
    assert (child.returncode, errors) == (3, "")
    assert told.endswith("7 refused, 1 taken\n")
    assert "INTERNAL" not in told
    assert watched.peak < 1.5 * 2**30


def gzip_bomb(path, size):
    head = declared_nifti(path, (1024, 1024, size // 2**21))
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(head)
        for _ in range(64):  # cut short: refused before it is unpacked, so the end does not matter
            file.write(bytes(2**20))


def declared_nifti(path, shape):
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape(shape)
    header.set_sform(np.eye(4), 1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    content = header.binaryblock + bytes(4)
    path.write_bytes(content)
    return content


def dicom(path, syntax, rows, columns, frames, pixels):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3.1"
    dataset.SeriesInstanceUID, dataset.StudyInstanceUID, dataset.Modality = "1.2.3", "1.2", "CT"
    dataset.Rows, dataset.Columns, dataset.NumberOfFrames = rows, columns, frames
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation, dataset.SamplesPerPixel = 15, 0, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing = [1, 1]
    dataset.PixelData = pixels
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = syntax == pydicom.uid.RLELossless
    dataset.save_as(path, enforce_file_format=True)


def rle_bomb(path, rows, columns, frames):
    runs = b"\x81\x00" * (rows * columns // 128 if rows <= 8000 and frames == 1 else 100)
    head = np.array([2, 64, 64 + len(runs), *[0] * 13], "<u4").tobytes()
    dicom(path, RLELossless, rows, columns, frames, encapsulate([head + runs + runs]))


def deflated_bomb(path):
    dicom(path, DeflatedExplicitVRLittleEndian, 512, 512, 1, bytes(512 * 512 * 2))
    content = path.read_bytes()
    start = content.index(b"DICM") + 4
    length = int.from_bytes(content[start + 8 : start + 12], "little")
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = b"".join(packer.compress(bytes(2**24)) for _ in range(64)) + packer.flush()
    path.write_bytes(content[: start + 12 + length] + body)


def test_whatever_lies_in_a_folder_nothing_hangs(cohort, tmp_path):
    data = shutil.copytree(cohort, tmp_path / "data")
    (data / "cases.csv").unlink()
    (data / "imagesTr").mkdir(), (data / "labelsTr").mkdir()
    shutil.copy(data / "ct000.nii", data / "imagesTr" / "a_0000.nii")
    shutil.copy(data / "mask000.nii", data / "labelsTr" / "a.nii")
    strange = [os.fsencode(data / "labelsTr") + b"/" + name for name in
               (b"x\n.nii", b"\xff\xfe.nii", b"n" * 251 + b".nii", b"-rf.nii", b"%s{}.nii")]  # fmt: skip
    for place in strange:
        shutil.copy(data / "mask001.nii", os.fsdecode(place))
    os.mkfifo(data / "labelsTr" / "pipe.nii"), os.mkfifo(data / "imagesTr" / "pipe_0000.nii")
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(data / "labelsTr")
        listener.bind("socket.nii")
        os.chdir(Path(__file__).parent)
    (data / "labelsTr" / "loop.nii").symlink_to("loop.nii")
    (data / "labelsTr" / "gone.nii").symlink_to("/nowhere")
    (data / "labelsTr" / "device.nii").symlink_to("/dev/zero")
    (data / "labelsTr" / "folder.nii").mkdir()
    child = cli(tmp_path, data, "--label", "liver=1", "--label", "spleen=2")
    told, errors = child.communicate(timeout=100)
    assert (child.returncode, errors) == (3, "")
    assert told.endswith(", 1 taken\n") or "1 taken, " in told
    assert "INTERNAL" not in told
