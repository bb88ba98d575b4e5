"""Kills, signals, full disks, and flipped bits: nothing that was reported as done is lost or silently wrong.

The small forms run by default; `pytest -m large` runs hundreds of kills and thousands of flips.
"""

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from store_maker import (
    digest,
    environment,
    invoke,
    key_file,
    made_pair,
    made_store,
    make_cohort,
    run_cli,
    take,
)

from kerasbalance.data.errors import DataError
from kerasbalance.data.layouts import find_cases
from kerasbalance.data.store import SliceStore, Store, verify_store

CASES = 16
SHAPE = {"slices": 4, "size": 48}
LARGE = [pytest.mark.large, pytest.mark.timeout(7200)]
DRIVER = Path(__file__).with_name("store_maker.py")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """A folder of cases with a manifest."""
    folder = tmp_path_factory.mktemp("cohort")
    make_cohort(folder, CASES, **SHAPE)
    return folder


@pytest.fixture(scope="module")
def undisturbed(cohort, tmp_path_factory):
    """Digest of the store that an undisturbed ingest makes, the seconds that its cases took, and its folder."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with driver(folder, cohort) as child:
        start = ready(child)
        reported = child.stdout.read().split("\n")
    assert (child.returncode, len(reported) - 1) == (0, CASES)
    return digest(folder), time.monotonic() - start, folder


def driver(folder, cohort, jobs=2):
    """An ingest that reports each case as done in a line of its own."""
    command = [sys.executable, str(DRIVER), str(folder), str(cohort), str(jobs)]
    return subprocess.Popen(
        command, env=environment(folder), stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def ready(child):
    assert child.stdout.readline() == "ready\n"
    return time.monotonic()


def family(pid):
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def wait_until_gone(processes, seconds=30):
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []


def assert_sound(folder, reported):
    """Every case that was reported is stored, voxel by voxel, and nothing in the store is half a case."""
    store = Store(folder / "store")
    assert verify_store(store).faults == {}
    opened = SliceStore(folder / "store")
    keys = [case.key for case in opened.cases]
    for status, key, name in reported:
        assert status in ("taken", "unchanged")
        x, y = opened.source(("liver", "spleen")).read(
            np.arange(SHAPE["slices"]) + opened.first_ref[keys.index(key)]
        )
        hu, labels = made_pair(int(name[2:5]), **SHAPE)
        np.testing.assert_array_equal(x[..., 0], hu)
        np.testing.assert_array_equal(y[..., 0], labels)


def run_and_kill(folder, cohort, after_s):
    """Start an ingest and kill it; return what it had reported and whether it was still alive."""
    with driver(folder, cohort) as child:
        ready(child)
        time.sleep(after_s)
        relatives = family(child.pid)
        child.kill()
        alive = child.wait() == -signal.SIGKILL
        reported = [line.split() for line in child.stdout.read().splitlines()]
    wait_until_gone(relatives)
    return reported, alive


@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=LARGE)])
def test_a_killed_ingest_loses_nothing_and_is_completed_by_the_next(cohort, undisturbed, tmp_path, kills):
    wanted, span, _ = undisturbed
    rng = np.random.default_rng(kills)
    hit = 0
    for trial in range(4 * kills):
        folder = tmp_path / str(trial)
        folder.mkdir()
        reported, alive = run_and_kill(folder, cohort, rng.uniform(0, span))
        hit += alive
        assert_sound(folder, reported)
        if trial % 5 == 0:
            resumed = driver(folder, cohort)
            again = [line.split()[0] for line in resumed.communicate()[0].splitlines()[1:]]
            assert again.count("unchanged") >= len(reported)
            assert digest(folder) == wanted
            assert not list(folder.rglob("*.tmp"))
        shutil.rmtree(folder)
        if hit == kills:
            return
    pytest.fail(f"only {hit} of {kills} kills hit a running ingest")


@pytest.mark.parametrize("chains", [1, pytest.param(25, marks=LARGE)])
def test_chains_of_kills_and_resumptions_end_in_the_undisturbed_store(cohort, undisturbed, tmp_path, chains):
    wanted, span, _ = undisturbed
    rng = np.random.default_rng(chains)
    for chain in range(chains):
        folder, known = tmp_path / str(chain), {}
        folder.mkdir()
        for _ in range(60):
            reported, alive = run_and_kill(folder, cohort, rng.uniform(0.1, 0.7) * span)
            known |= {key: (status, key, name) for status, key, name in reported}
            assert_sound(folder, known.values())
            if not alive:
                break
        assert len(take(folder, list(find_cases(cohort).requests))) == CASES
        assert digest(folder) == wanted
        assert not list(folder.rglob("*.tmp"))
        shutil.rmtree(folder)


def cli(folder, cohort, *more, **how):
    words = [
        "ingest",
        str(cohort),
        "--out",
        "store",
        "--key-file",
        str(key_file(folder)),
        "--jobs",
        "2",
        *more,
    ]
    command = [sys.executable, "-m", "kerasbalance.cli", *words]
    options = {
        "cwd": folder,
        "env": environment(folder),
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
    }
    return subprocess.Popen(command, text=True, start_new_session=True, **(options | how))


def index_lines(folder):
    path = folder / "store" / "index.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("number", "exit_code", "group"),
    [
        (signal.SIGTERM, 143, False),
        (signal.SIGINT, 130, True),
        pytest.param(signal.SIGTERM, 143, True, marks=pytest.mark.large),
        pytest.param(signal.SIGINT, 130, False, marks=pytest.mark.large),
    ],
)
def test_an_interrupted_ingest_says_what_is_kept(cohort, undisturbed, tmp_path, number, exit_code, group):
    child = cli(tmp_path, cohort)
    wait_for(lambda: index_lines(tmp_path) >= 2)
    relatives = family(child.pid)
    (os.killpg if group else os.kill)(child.pid, number)
    _, told = child.communicate()
    kept = re.fullmatch(r"interrupted; kept (\d+) of 16 cases; run the same command again to go on\n", told)
    assert child.returncode == exit_code
    assert kept, told
    assert 1 <= int(kept[1]) <= index_lines(tmp_path) < CASES
    wait_until_gone(relatives)
    assert verify_store(Store(tmp_path / "store")).faults == {}
    assert not list(tmp_path.rglob("*.tmp"))
    assert "refused" not in run_cli(tmp_path, "info", "store").stdout
    _, told = cli(tmp_path, cohort).communicate()
    assert (told, digest(tmp_path)) == ("", undisturbed[0])


def test_a_second_ingest_at_once_is_refused_and_the_first_completes(cohort, undisturbed, tmp_path):
    first = cli(tmp_path, cohort)
    wait_for(lambda: index_lines(tmp_path) >= 1)
    first.send_signal(signal.SIGSTOP)
    second = cli(tmp_path, cohort)
    _, told = second.communicate()
    first.send_signal(signal.SIGCONT)
    assert second.returncode == 1
    assert re.fullmatch(rf"Error: LOCKED: a store that is being written by process {first.pid} on .*\n", told)
    first.communicate()
    assert (first.returncode, digest(tmp_path)) == (0, undisturbed[0])


def test_a_reader_keeps_its_snapshot_while_an_ingest_writes(cohort, tmp_path):
    child = cli(tmp_path, cohort)
    wait_for(lambda: index_lines(tmp_path) >= 1)
    snapshots = []
    while child.poll() is None:
        opened = SliceStore(tmp_path / "store")
        source = opened.source(("liver", "spleen"))
        snapshots.append((opened, source, opened.digest, source.read(np.arange(len(opened)))))
        time.sleep(0.2)
    child.communicate()
    for opened, source, before, (x, y) in snapshots:
        assert opened.digest == before
        again = source.read(np.arange(len(opened)))
        np.testing.assert_array_equal(again[0], x)
        np.testing.assert_array_equal(again[1], y)


# Full disks


@pytest.fixture
def disk(tmp_path):
    """Mount a small file system at `tmp_path / "disk"`, of any size, as often as wanted."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options):
        again = "remount," if os.path.ismount(place) else ""
        command = ["mount", "-t", "tmpfs", "-o", again + options, "tmpfs", str(place)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("needs the right to mount a tmpfs")
        return place

    yield mount
    if os.path.ismount(place):
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize(
    "options",
    [
        "size=8400k",
        "size=64m,nr_inodes=20",
        *(pytest.param(f"size={size}k", marks=pytest.mark.large) for size in range(8340, 8620, 40)),
    ],
)
def test_a_full_disk_keeps_what_was_done_and_the_next_ingest_completes(
    cohort, undisturbed, disk, tmp_path, options
):
    place = disk(options)
    child = cli(tmp_path, cohort, "--out", str(place / "store"))
    _, told = child.communicate()
    kept = re.fullmatch(r"Error: DISK_FULL: .* free for .* MiB; expected free space on the store's disk; kept (\d+) of "
                        r"16 cases; free space .*then run the same command again\n|Error: DISK_FULL: no more space .*"
                        r"kept (\d+) of 16 cases; .*\n", told)  # fmt: skip
    assert child.returncode == 1
    assert kept, told
    store = Store(place / "store")
    assert verify_store(store).faults == {}
    assert 0 < int(kept[1] or kept[2]) <= len(store.entries()) < CASES
    disk("size=64m,nr_inodes=1000")
    _, told = cli(tmp_path, cohort, "--out", str(place / "store")).communicate()
    assert (told, SliceStore(place / "store").digest) == ("", undisturbed[0])
    assert not list(place.rglob("*.tmp"))


@pytest.mark.parametrize(
    "limit_kib", [16, *(pytest.param(n, marks=pytest.mark.large) for n in (1, 2, 8, 18, 19))]
)
def test_a_limit_on_file_sizes_is_a_full_disk(cohort, undisturbed, tmp_path, limit_kib):
    # 1 KiB: not even store.json fits beside the lock; 16 and 18 KiB: cases fit or not, the index does not.
    limit = (limit_kib * 1024, limit_kib * 1024)
    child = cli(tmp_path, cohort, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit))
    _, told = child.communicate()
    assert child.returncode == 1
    assert re.fullmatch(r"Error: DISK_FULL: .*\n", told), told
    if (tmp_path / "store" / "store.json").exists():
        assert verify_store(Store(tmp_path / "store")).faults == {}
    assert not list(tmp_path.rglob("*.tmp"))
    _, told = cli(tmp_path, cohort).communicate()
    assert (told, digest(tmp_path)) == ("", undisturbed[0])


def test_a_read_only_store_is_refused_at_once_and_can_be_read(cohort, disk, tmp_path):
    place = disk("size=64m")
    cli(tmp_path, cohort, "--out", str(place / "store")).communicate()
    before = SliceStore(place / "store").digest
    disk("ro")
    start = time.monotonic()
    child = cli(tmp_path, cohort, "--out", str(place / "store"))
    _, told = child.communicate()
    assert (child.returncode, told.count("\n")) == (1, 1)
    assert told.startswith("Error: UNWRITABLE: a store that cannot be written (Read-only file system)")
    assert time.monotonic() - start < 30
    assert run_cli(tmp_path, "verify", place / "store").returncode == 0
    assert run_cli(tmp_path, "info", place / "store").returncode == 0
    assert SliceStore(place / "store").digest == before
    new = cli(tmp_path, cohort, "--out", str(place / "new"))
    assert new.communicate()[1].startswith(
        "Error: UNWRITABLE: a store folder that cannot be written (Read-only"
    )


# Damage


def regions(path):
    """Byte ranges of a case file: what each holds."""
    content = path.read_bytes()
    entry = Store(path.parents[1]).entries()[path.stem]
    start, stop = entry.image_range
    facts = content.index(b'"columns"')
    return {
        "superblock": (0, 48), "object headers": (48, 400), "facts": (facts, facts + 400), "image": (start, stop),
        "masks and tables": (stop, len(content) - 200), "seal": (len(content) - 89, len(content)),
    }  # fmt: skip


REGIONS = ["superblock", "object headers", "facts", "image", "masks and tables", "seal"]


def damage_is_told(store, path, made):
    """`verify` names the case; reading gives right voxels or a refusal."""
    found = verify_store(store)
    assert list(found.faults) == [path.stem]
    assert len(found.sound) == len(made) - 1
    opened = SliceStore(store.path)
    keys, refused = [case.key for case in opened.cases], set()
    for key, arrays in made.items():
        first = int(opened.first_ref[keys.index(key)])
        for n in range(len(arrays.image)):
            try:
                x, y = opened.source(("liver", "spleen")).read([first + n])
            except DataError:
                refused.add(key)
                continue
            np.testing.assert_array_equal(x[0, ..., 0], arrays.image[n])
            np.testing.assert_array_equal(y[0, ..., 0], arrays.mask[n])
    assert refused <= {path.stem}


def flip_bits(path, spots, check):
    whole = path.read_bytes()
    for at in spots:
        flipped = bytearray(whole)
        flipped[at // 8] ^= 1 << at % 8
        path.write_bytes(flipped)
        check()
    path.write_bytes(whole)


@pytest.mark.parametrize("region", REGIONS)
def test_a_flipped_bit_in_each_region_is_named_and_never_read(tmp_path, region):
    store, made = made_store(tmp_path, 2)
    path = store.cases / f"{sorted(made)[0]}.h5"
    low, high = regions(path)[region]
    spots = np.random.default_rng(0).integers(8 * low, 8 * high, 8).tolist()
    flip_bits(path, spots, lambda: damage_is_told(store, path, made))
    assert verify_store(store).faults == {}


@pytest.mark.parametrize("flips", [250, pytest.param(5000, marks=LARGE)])
@pytest.mark.parametrize("index", ["with the index", "without the index"])
def test_no_random_flip_is_silent(tmp_path, flips, index):
    store, made = made_store(tmp_path, 2)
    path = store.cases / f"{sorted(made)[0]}.h5"
    spots = np.random.default_rng(flips).integers(0, 8 * path.stat().st_size, flips).tolist()
    if index == "with the index":
        flip_bits(path, spots, lambda: damage_is_told(store, path, made))
        return
    store.index.unlink()

    def refused():
        assert list(verify_store(store).faults) == [path.stem]
        with pytest.raises(DataError, match="DAMAGED"):
            SliceStore(store.path)

    flip_bits(path, spots, refused)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "missing"])
def test_a_damaged_case_is_named_by_verify_with_exit_1_and_mended_by_ingest(
    cohort, undisturbed, tmp_path, damage
):
    home = shutil.copytree(undisturbed[2], tmp_path / "home")
    path = sorted((home / "store" / "cases").iterdir())[3]
    content = path.read_bytes()
    {
        "flip": lambda: path.write_bytes(content[:-500] + b"x" + content[-499:]),
        "cut": lambda: os.truncate(path, len(content) // 2),
        "empty": lambda: os.truncate(path, 0),
        "missing": path.unlink,
    }[damage]()
    verified = invoke(home, "verify", "store")
    assert verified.exit_code == 1
    assert verified.stdout.startswith(f"damaged  DAMAGED: case {path.stem[:8]}: ")
    assert verified.stdout.endswith("15 cases sound, 1 damaged\n")
    mended = invoke(home, "ingest", cohort, "--out", "store", "--key-file", key_file(home))
    assert mended.stdout.splitlines()[-1] == "15 unchanged, 1 mended"
    assert digest(home) == undisturbed[0]


# Circumstances that must not matter


def test_no_clock_time_zone_or_umask_matters(cohort, undisturbed, tmp_path):
    data = shutil.copytree(cohort, tmp_path / "data")
    for path in data.iterdir():
        os.utime(path, (0, 0))
    home = {"HOME": str(tmp_path / "nobody"), "LANG": "C", "LC_ALL": "C"}
    how = environment(tmp_path) | {"TZ": "Pacific/Kiritimati"} | home
    _, told = cli(tmp_path, data, env=how, preexec_fn=lambda: os.umask(0)).communicate()
    assert (told, digest(tmp_path)) == ("", undisturbed[0])
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "store").rglob("*")}
    assert modes == {0o700, 0o600}


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
    import gzip

    head = declared_nifti(path, (1024, 1024, size // 2**21))
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(head)
        for _ in range(64):  # cut short: refused before it is unpacked, so the end does not matter
            file.write(bytes(2**20))


def declared_nifti(path, shape):
    import nibabel

    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape(shape)
    header.set_sform(np.eye(4), 1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    content = header.binaryblock + bytes(4)
    path.write_bytes(content)
    return content


def dicom(path, syntax, rows, columns, frames, pixels):
    import pydicom
    from pydicom.dataset import Dataset, FileMetaDataset

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
    from pydicom.encaps import encapsulate
    from pydicom.uid import RLELossless

    runs = b"\x81\x00" * (rows * columns // 128 if rows <= 8000 and frames == 1 else 100)
    head = np.array([2, 64, 64 + len(runs), *[0] * 13], "<u4").tobytes()
    dicom(path, RLELossless, rows, columns, frames, encapsulate([head + runs + runs]))


def deflated_bomb(path):
    import zlib

    from pydicom.uid import DeflatedExplicitVRLittleEndian

    dicom(path, DeflatedExplicitVRLittleEndian, 512, 512, 1, bytes(512 * 512 * 2))
    content = path.read_bytes()
    start = content.index(b"DICM") + 4
    length = int.from_bytes(content[start + 8 : start + 12], "little")
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = b"".join(packer.compress(bytes(2**24)) for _ in range(64)) + packer.flush()
    path.write_bytes(content[: start + 12 + length] + body)


def test_whatever_lies_in_a_folder_nothing_hangs(cohort, tmp_path):
    import socket

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
