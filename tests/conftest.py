"""What every test needs before a backend is imported."""

import atexit
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile

import hypothesis
import pytest

# Without a word from the user: the first backend that is installed, as the command line does it.
if "KERAS_BACKEND" not in os.environ:
    installed = [name for name in ("tensorflow", "jax", "torch") if importlib.util.find_spec(name)]
    if installed:
        os.environ["KERAS_BACKEND"] = installed[0]

# A suite that was started in the background ignores SIGINT, and so would all that it starts; as in a terminal:
signal.signal(signal.SIGINT, signal.default_int_handler)

# Seconds say nothing on a shared machine.
hypothesis.settings.register_profile(
    "shared", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("shared")

# The tests build the same small models again and again; JAX would compile each of them anew, for minutes.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    compiled = tempfile.mkdtemp(prefix="kerasbalance-tests-")
    atexit.register(shutil.rmtree, compiled, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = compiled
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"


# Files that read, write or judge without a model, or that look at what stands around a training whose own tests run on
# every backend (study, report, full disk, benchmarks); one backend's run of them says all.
WITHOUT_BACKEND = (
    "test_benchmarks", "test_full_disk", "test_report", "test_study.py",
    "test_advice", "test_allocator", "test_codes", "test_compare",
    "test_ct", "test_dataset_json", "test_dicom_", "test_export", "test_faults",
    "test_geometry",
    "test_image_files", "test_ingest", "test_isolate", "test_labels", "test_layouts", "test_learning_curve",
    "test_manifest", "test_masks_",
    "test_nifti",
    "test_organ_check", "test_packaging", "test_paired", "test_phantom", "test_plausibility", "test_power",
    "test_privacy",
    "test_real_ct", "test_shaping", "test_splits", "test_stated_grid", "test_store", "test_study_curve", "test_surface",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.name.startswith(WITHOUT_BACKEND):
            item.add_marker(pytest.mark.without_backend)


@pytest.fixture(scope="session")
def cohort(tmp_path_factory):
    """A folder of small cases with a manifest."""
    from made.ingests import make_small_cohort

    return make_small_cohort(tmp_path_factory.mktemp("cohort"))


@pytest.fixture(scope="session")
def undisturbed(cohort, tmp_path_factory):
    """Digest of the store that an undisturbed ingest makes, the seconds that its cases took, and its folder."""
    from made.ingests import run_undisturbed

    return run_undisturbed(tmp_path_factory.mktemp("undisturbed"), cohort)


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
