"""A DICOM server takes a predicted SEG and gives it back equal; opt in with `pytest -m orthanc`.

Needs the program Orthanc on the PATH (Debian's package `orthanc`); it runs on the loopback interface only.
"""

import io
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

import highdicom
import numpy as np
import pydicom
import pytest
from test_export import predicted, series_of, write

pytestmark = pytest.mark.orthanc


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(server, path, content=None):
    with urllib.request.urlopen(f"{server}{path}", data=content, timeout=30) as answer:
        return answer.read()


@pytest.fixture
def server(tmp_path):
    """An empty Orthanc on a free port of the loopback interface."""
    program = shutil.which("Orthanc")
    if program is None:
        pytest.skip("Orthanc is not installed")
    port = free_port()
    settings = {
        "StorageDirectory": str(tmp_path / "orthanc"), "IndexDirectory": str(tmp_path / "orthanc"),
        "HttpPort": port, "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
        "DicomServerEnabled": False, "Plugins": [],
    }  # fmt: skip
    (tmp_path / "orthanc.json").write_text(json.dumps(settings))
    child = subprocess.Popen(
        [program, tmp_path / "orthanc.json"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                ask(address, "/system")
                break
            except (urllib.error.URLError, ConnectionError):
                assert child.poll() is None, "Orthanc ended"
                time.sleep(0.1)
        yield address
    finally:
        child.terminate()
        child.wait()


def test_an_orthanc_server_takes_a_seg_beside_its_series_and_gives_it_back_equal(server, tmp_path):
    made, series, volume = series_of(tmp_path / "ct")
    write(tmp_path / "seg.dcm", series, volume)
    for path in made.files:
        assert json.loads(ask(server, "/instances", path.read_bytes()))["Status"] == "Success"
    stored = json.loads(ask(server, "/instances", (tmp_path / "seg.dcm").read_bytes()))
    assert stored["Status"] == "Success"
    # Both belong to one patient and one study; the SEG is a series of its own.
    assert len(json.loads(ask(server, "/patients"))) == len(json.loads(ask(server, "/studies"))) == 1
    assert len(json.loads(ask(server, "/series"))) == 2
    back = highdicom.seg.segread(io.BytesIO(ask(server, f"/instances/{stored['ID']}/file")))
    uids = [str(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID) for file in made.files]
    labels = back.get_pixels_by_source_instance(
        uids, combine_segments=True, assert_missing_frames_are_empty=True
    )
    assert sorted(np.bincount(labels.ravel(), minlength=3)) == sorted(
        np.bincount(predicted(volume.hu).ravel(), minlength=3)
    )
