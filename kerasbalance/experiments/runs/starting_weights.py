"""Weights that a run starts from in place of random ones: of another run, of a file, or of a VGG-16.

Nothing is executed and no model is deserialised: of a file, whoever made it, only arrays of numbers are read.
"""

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kerasbalance.data.errors import DataError
from kerasbalance.experiments.runs.folder import RunFolder, RunRecord
from kerasbalance.experiments.runs.model import build_model, load_model
from kerasbalance.experiments.runs.options import TrainOptions
from kerasbalance.experiments.runs.started import Started


@dataclass(frozen=True)
class StartingWeights:
    """Where the first weights come from.

    Args:
        path: A run's folder, or a file: `.keras` or weights as Keras saves them.
        encoder: Whether the file holds the weights of VGG-16, for the network `fcn`.
    """

    path: Path
    encoder: bool = False


def build_started(
    options: TrainOptions, plane: tuple[int, int], start: StartingWeights
) -> tuple[Any, Started]:
    """Build a run's network with weights from elsewhere where name and shape fit.

    Args:
        options: The new run's.
        plane: Rows and columns of its slices.
        start: Where the weights come from.

    Returns:
        The network, not yet compiled, and what it started from.

    Raises:
        DataError: If there is nothing to read or nothing fits (code `START`), or the other run's network is code that
            was not named (code `OWN_MODEL`).
    """
    if start.encoder:
        return _from_encoder(options, plane, start.path)
    return (_from_run if start.path.is_dir() else _from_file)(options, plane, start.path)


def _from_encoder(options: TrainOptions, plane: tuple[int, int], path: Path) -> tuple[Any, Started]:
    if options.model != "fcn":
        raise _refused(f"the network {options.model} with the weights of an encoder", "the network fcn, whose encoder "
                       "is VGG-16", "pass --model fcn, or --init-from for weights of this network")  # fmt: skip
    digest = _file_digest(path)
    try:
        model = build_model(options, plane, encoder_weights=path)
    except ValueError as error:
        raise _refused(f"a file that does not fill the encoder of fcn with {options.base_filters} filters",
                       "weights of VGG-16 without its top, and --base-filters 64", "pass --base-filters 64, and the "
                       "file vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5") from error  # fmt: skip
    left = tuple(v.path for v in _floats(model) if not v.path.startswith("block"))
    return model, Started(digest, len(_floats(model)) - len(left), left)


def _from_run(options: TrainOptions, plane: tuple[int, int], path: Path) -> tuple[Any, Started]:
    folder = RunFolder(path)
    record = RunRecord.read(folder.record_file)
    record.check_model(options.model if ":" in record.options.model else None)
    donor = load_model(record.options, plane, folder.path / "checkpoint")
    ordered = (
        record.options.model == options.model and ":" in options.model
    )  # its names may count up in a process

    def names(model: Any) -> list[str]:
        return [str(n) if ordered else v.path for n, v in enumerate(_floats(model))]

    arrays = dict(zip(names(donor), (np.asarray(v.numpy()) for v in _floats(donor)), strict=True))
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name} {array.shape} {array.dtype}".encode() + array.tobytes())
    model = build_model(options, plane)
    left = []
    for name, variable in zip(names(model), _floats(model), strict=True):
        if name in arrays and arrays[name].shape == tuple(variable.shape):
            variable.assign(arrays[name])
        else:
            left.append(variable.path)
    return model, _started(digest.hexdigest(), model, left)


def _from_file(options: TrainOptions, plane: tuple[int, int], path: Path) -> tuple[Any, Started]:
    digest = _file_digest(path)
    model = build_model(options, plane)
    first = [np.asarray(v.numpy()) for v in _floats(model)]
    for variable in _floats(model):
        variable.assign(np.full(variable.shape, np.nan))  # what is still NaN afterwards was not in the file
    by_name = {"by_name": True} if path.suffix == ".h5" and not path.name.endswith(".weights.h5") else {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # Keras warns of each layer that does not fit; they are listed below
            model.load_weights(path, skip_mismatch=True, **by_name)
    except Exception as error:  # h5py, zipfile and Keras each raise their own kinds
        raise _refused(f"a file whose weights cannot be read ({type(error).__name__})", "a .keras file or weights as "
                       "Keras saves them (.weights.h5)", "pass such a file, or a run's folder") from error  # fmt: skip
    left = []
    for variable, array in zip(_floats(model), first, strict=True):
        if np.isnan(np.asarray(variable.numpy())).any():
            variable.assign(array)
            left.append(variable.path)
    return model, _started(digest, model, left)


def _started(digest: str, model: Any, left: list[str]) -> Started:
    total = len(_floats(model))
    if len(left) == total:
        raise _refused("weights of which none has a name and a shape of the network", "weights of a network of the "
                       "same kind", "pass the --model and --base-filters that they were trained with")  # fmt: skip
    return Started(digest, total - len(left), tuple(left))


def _floats(model: Any) -> list[Any]:
    """Return the weights and moving statistics; states of random numbers are the run's own."""
    return [variable for variable in model.variables if "float" in str(variable.dtype)]


def _file_digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _refused(f"a file that cannot be read ({error.strerror})", "a run's folder or a file of weights",
                       "check the path") from None  # fmt: skip


def _refused(received: str, expected: str, advice: str) -> DataError:
    return DataError("START", received, expected, advice)
