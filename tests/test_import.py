"""Importing stays light: no Keras before it is needed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest


def run(code):
    """Run code in a fresh interpreter and return the modules loaded at its end."""
    code += "\nimport sys; print(*sorted(sys.modules))"
    options = {"capture_output": True, "text": True, "env": {"PYTHONPATH": ":".join(sys.path)}}
    done = subprocess.run([sys.executable, "-c", code], **options)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_importing_the_package_loads_neither_keras_nor_numpy():
    loaded = run("import kerasbalance")
    assert not loaded & {"keras", "numpy", "tensorflow", "jax", "torch"}


def test_the_command_line_loads_no_keras_for_its_help():
    assert not run("import kerasbalance.cli.main") & {
        "keras",
        "numpy",
        "h5py",
        "pydicom",
        "tensorflow",
        "jax",
    }


def test_reading_ct_loads_no_keras():
    assert not run("import kerasbalance.data.ingest.ingest") & {"keras", "tensorflow", "jax", "torch"}


@pytest.mark.parametrize(
    "name", ["HardSliceSampler", "MiningResult", "Index", "ArraySource", "lowest", "mine_on_top"]
)
def test_what_works_on_numbers_needs_numpy_only(name):
    loaded = run(f"import kerasbalance; kerasbalance.{name}")
    assert not loaded & {"keras", "h5py", "pydicom", "highdicom", "nibabel", "skimage", "click", "scipy"}


def test_the_sampler_works_without_keras_data_readers_or_click():
    blocked = "keras", "h5py", "pydicom", "highdicom", "nibabel", "skimage", "click", "scipy"
    run(
        f"import sys; sys.modules.update(dict.fromkeys({blocked!r}))\n"
        "import kerasbalance as kb\n"
        "sampler = kb.HardSliceSampler([0], [1, 2], kb.below(0.5))\n"
        "assert sampler.update([0.1, 0.9]).hard.tolist() == [True, False]"
    )


def test_keras_finds_what_a_saved_model_holds_once_both_are_imported():
    run(
        "import keras, kerasbalance\n"
        "for name in 'HUWindow', 'DiceLoss', 'DiceScore', 'PolyDecay':\n"
        "    assert keras.saving.get_registered_object(f'kerasbalance>{name}') is not None"
    )


def test_every_public_name_can_be_had_and_is_listed():
    import kerasbalance as kb

    assert all(hasattr(kb, name) for name in kb.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = kb.nothing


def test_dir_shows_the_public_names_and_the_version_only():
    import kerasbalance as kb

    assert dir(kb) == sorted([*kb.__all__, "__version__"])
    assert not {"importlib", "Any", "TYPE_CHECKING", "annotations"} & set(dir(kb))


@pytest.mark.parametrize(
    "name", ["Rule", "Sampler", "Source", "CaseMetrics", "SurfaceMetrics", "OrganSummary", "PairedDifference"]
)
def test_what_users_implement_or_receive_can_be_imported(name):
    import kerasbalance as kb

    assert isinstance(getattr(kb, name), type)


def test_type_checkers_see_the_names_that_are_loaded_at_run_time():
    import kerasbalance as kb

    tree = ast.parse(Path(kb.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    assert {alias.asname: node.module for node in imports for alias in node.names} == kb._MODULE_OF


def test_the_version_is_that_of_the_installed_package():
    from importlib import metadata

    import kerasbalance as kb

    assert kb.__version__ == metadata.version("kerasbalance")


def test_a_checkout_that_is_not_installed_has_an_unknown_version(monkeypatch):
    from importlib import metadata

    import kerasbalance as kb

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    monkeypatch.delattr(kb, "__version__", raising=False)
    assert kb.__version__ == "unknown"
    monkeypatch.delattr(kb, "__version__")


def test_importing_the_package_does_not_look_for_its_version():
    assert "importlib.metadata" not in run("import kerasbalance")


def test_no_module_bears_the_name_of_a_public_function():
    import kerasbalance as kb

    modules = {path.stem for path in Path(kb.__file__).parent.iterdir()}
    assert modules & set(kb.__all__) <= {"losses", "models"}
