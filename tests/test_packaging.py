"""The package as it is shipped: every folder listed, imports pointing down, a wheel that works on its own."""

import ast
import configparser
import graphlib
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"kerasbalance": "kerasbalance", "cli": "kerasbalance.cli", "data": "kerasbalance.data"}
LAYERS = ["kerasbalance", "kerasbalance.data", "kerasbalance.experiments", "kerasbalance.cli"]


def setup_cfg():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def modules():
    """Yield (dotted package, path) of every module of the three folders, following no link."""
    for folder, package in FOLDERS.items():
        for top, folders, names in os.walk(ROOT / folder):
            folders[:] = [f for f in folders if f != "__pycache__" and not (Path(top) / f).is_symlink()]
            inner = Path(top).relative_to(ROOT / folder).parts
            for name in names:
                if name.endswith(".py"):
                    yield ".".join([package, *inner]), Path(top) / name


def layer_of(module):
    return max((layer for layer in LAYERS if f"{module}.".startswith(f"{layer}.")), key=len, default=None)


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module


def test_setup_cfg_lists_every_package():
    listed = setup_cfg()["options"]["packages"].split()
    assert sorted(listed) == sorted({package for package, _ in modules()})


def test_package_dir_maps_every_listed_package_outside_the_core():
    lines = setup_cfg()["options"]["package_dir"].strip().splitlines()
    mapped = {name.strip(): folder.strip() for name, folder in (line.split("=") for line in lines)}
    for package in setup_cfg()["options"]["packages"].split():
        nearest = max((name for name in mapped if f"{package}.".startswith(f"{name}.")), key=len)
        folder = mapped[nearest] + package.removeprefix(nearest).replace(".", "/")
        assert (ROOT / folder / "__init__.py").is_file(), package


def test_imports_point_down_only():
    for package, path in modules():
        own = LAYERS.index(layer_of(package))
        above = [name for name in imported(path) if (layer := layer_of(name)) and LAYERS.index(layer) > own]
        assert not above, f"{path.relative_to(ROOT)} imports {above}"


def needed(path, known):
    """Return the modules among `known` that a module imports, also inside functions, but not for type checkers only."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {
                name if (name := f"{node.module}.{alias.name}") in known else node.module
                for alias in node.names
            }
    return found & known


def test_no_modules_import_each_other_in_a_circle():
    paths = {
        package if path.stem == "__init__" else f"{package}.{path.stem}": path for package, path in modules()
    }
    graph = {name: needed(path, set(paths)) - {name} for name, path in paths.items()}
    assert len(graph) > 150
    graphlib.TopologicalSorter(graph).prepare()  # raises a CycleError that names the circle


def test_the_core_imports_keras_and_numpy_only_at_module_level():
    allowed = {"keras", "kerasbalance", "numpy", *sys.stdlib_module_names}
    for package, path in modules():
        if layer_of(package) != "kerasbalance":
            continue
        tree = ast.parse(path.read_text())
        top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module for node in top if isinstance(node, ast.ImportFrom)}
        foreign = {name.split(".")[0] for name in names} - allowed
        assert not foreign, f"{path.relative_to(ROOT)} imports {foreign}"


def test_nothing_imports_the_folders_under_their_bare_names():
    for _, path in modules():
        assert not {name.split(".")[0] for name in imported(path)} & {"cli", "data"}, path


def test_every_module_that_a_test_imports_at_its_head_can_be_found():
    for path in [*Path(__file__).parent.glob("*.py"), *Path(__file__).parent.glob("made/*.py")]:
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            missing = [name for name in names if importlib.util.find_spec(name) is None]
            assert not missing, f"{path.name} imports {missing}"


def build(call, target):
    """Run one call of the build backend on a copy of the checkout, so that it leaves nothing behind."""
    code = f"from setuptools import build_meta; print(build_meta.{call}({str(target)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=target.parent / "copy", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return target / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    pytest.importorskip("setuptools")
    base = tmp_path_factory.mktemp("packaging")
    ignore = shutil.ignore_patterns(
        ".git", "__pycache__", "*.egg-info", "build", "dist", ".venv*", ".mypy_cache"
    )
    shutil.copytree(ROOT, base / "copy", symlinks=True, ignore=ignore)
    (base / "out").mkdir()
    return base / "out"


@pytest.fixture(scope="module")
def wheel(copy):
    return build("build_wheel", copy)


def test_the_wheel_holds_every_module_and_nothing_else(wheel):
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {f"{package.replace('.', '/')}/{path.name}" for package, path in modules()}
    assert packed == expected | {"kerasbalance/py.typed", "kerasbalance/data/FORMAT.md"}


def test_the_unpacked_wheel_runs_outside_the_checkout(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    code = "import kerasbalance.data.ingest.ingest as m; print(m.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == str(tmp_path / "site/kerasbalance/data/ingest/ingest.py"), done.stderr


def test_the_sdist_builds_the_same_wheel(copy, wheel, tmp_path):
    sdist = build("build_sdist", copy)
    shutil.unpack_archive(sdist, tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    (tmp_path / "again").mkdir()
    code = f"from setuptools import build_meta; print(build_meta.build_wheel({str(tmp_path / 'again')!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (again,) = (tmp_path / "again").iterdir()
    assert zipfile.ZipFile(again).namelist() == zipfile.ZipFile(wheel).namelist()
