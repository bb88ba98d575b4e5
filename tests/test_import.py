"""Importing stays light: no Keras before it is needed."""

import subprocess
import sys


def loaded(code):
    """Return the top-level modules that are loaded after running `code` in a fresh process."""
    script = f"import sys\n{code}\nprint(' '.join({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_neither_keras_nor_numpy():
    assert not loaded("import kerasbalance") & {"keras", "numpy", "h5py", "pydicom", "click"}


def test_the_command_line_loads_no_keras_for_its_help():
    assert not loaded("import kerasbalance.cli.main") & {"keras", "numpy", "h5py", "pydicom", "tensorflow", "jax"}


def test_reading_ct_loads_no_keras():
    assert not loaded("import kerasbalance.data.ingest") & {"keras", "tensorflow", "jax", "torch"}
