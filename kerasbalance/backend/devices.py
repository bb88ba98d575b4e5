"""Several devices in one process: which there are, over how many a batch is spread, and its shares.

JAX has `keras.distribution`, TensorFlow `MirroredStrategy`; on torch, Keras 3.15 trains on one device. The user may set
either as Keras' guides say; `several_devices` does so for the command line.
"""

import contextlib
import resource
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from kerasbalance.errors import explain

ALL = "all"


def device_names() -> list[str]:
    """Return the devices that this process may train on, such as `["gpu:0", "gpu:1"]` or `["cpu:0"]`."""
    backend = keras.config.backend()
    if backend == "jax":
        return [str(name) for name in keras.distribution.list_devices()]
    if backend == "tensorflow":
        import tensorflow as tf

        found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return [":".join(device.name.lower().split(":")[-2:]) for device in found]
    import torch

    if torch.cuda.is_available():
        return [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return ["mps:0" if torch.backends.mps.is_available() else "cpu:0"]


def describe(names: Sequence[str]) -> str:
    """Return devices in words, such as "2 devices (gpu:0, gpu:1; NVIDIA A100)"."""
    count = f"{len(names)} devices" if len(names) > 1 else "1 device"
    kind = _kind(names[0])
    return f"{count} ({', '.join(names)}{f'; {kind}' if kind else ''})"


def _kind(name: str) -> str:
    """Return what the maker calls a GPU; empty for another device."""
    kind, _, number = name.partition(":")
    if kind not in ("gpu", "cuda", "tpu"):
        return ""
    if keras.config.backend() == "jax":
        import jax

        return str(jax.devices(kind)[int(number)].device_kind)
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        details = tf.config.experimental.get_device_details(
            tf.config.list_physical_devices("GPU")[int(number)]
        )
        return str(details.get("device_name", ""))
    import torch

    return str(torch.cuda.get_device_name(int(number)))


@contextlib.contextmanager
def several_devices(asked: int | str) -> Iterator[tuple[str, ...]]:
    """Let models that are built in the block be trained on several devices at once.

    Args:
        asked: The number of devices, or "all". With 1, nothing changes.

    Yields:
        The names of the devices that are used.

    Raises:
        ValueError: If there are not so many, or with more than one on torch.
    """
    names = device_names()
    number = len(names) if asked == ALL else int(asked)
    if not 1 <= number <= len(names):
        raise ValueError(
            explain(
                f"devices={number}",
                f"a number from 1 to {len(names)}, which {keras.config.backend()} sees ({', '.join(names)})",
                "pass a smaller number, or let the program see more devices",
            )
        )
    if number == 1:
        yield tuple(names[:1])
        return
    with _distribution(names[:number]):
        yield tuple(names[:number])


def _distribution(names: list[str]) -> Any:
    backend = keras.config.backend()
    if backend == "jax":
        return keras.distribution.DataParallel(devices=names, auto_shard_dataset=False).scope()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.distribute.MirroredStrategy(names).scope()
    raise ValueError(
        explain(
            f"devices={len(names)} with the backend torch",
            "1: Keras 3.15 has no training on several devices with torch",
            "pass 1, or train on jax or tensorflow",
        )
    )


def replicas(model: Any = None) -> int:
    """Return over how many devices each batch is spread.

    Args:
        model: The model in question; TensorFlow's models remember where they were built. None asks for a model that
            would be built now.
    """
    if keras.config.backend() == "tensorflow":
        return int(_strategy(model).num_replicas_in_sync)
    distribution = _data_parallel()
    if distribution is None:
        return 1
    mesh = distribution.device_mesh
    return int(mesh.shape[list(mesh.axis_names).index(distribution.batch_dim_name)])


def shared_size(batch_size: int, model: Any) -> int:
    """Return the smallest batch of at least so many samples that a model's devices share equally."""
    shares = replicas(model)
    return -(-batch_size // shares) * shares


def scope_of(model: Any) -> Any:
    """Return a context in which variables that belong to a model are made where its own are."""
    if keras.config.backend() == "tensorflow" and replicas(model) > 1:
        return _strategy(model).scope()
    return contextlib.nullcontext()


def spread(arrays: Any, model: Any) -> Any:
    """Give each device its share of a batch, where there are several.

    Args:
        arrays: Arrays `(batch, ...)` in any structure; `replicas` divides the batch. Of several processes, each passes
            its own rows.
        model: The model that will be called.

    Returns:
        What `predict_on_batch` takes.
    """
    if replicas(model) == 1:
        return arrays
    if keras.config.backend() == "tensorflow":
        return _shares_on_tensorflow(arrays, _strategy(model))
    import jax

    distribution = keras.distribution.distribution()

    def shared(array: Any) -> Any:
        return jax.make_array_from_process_local_data(
            distribution.get_data_layout(array.shape).backend_layout, array
        )

    return keras.tree.map_structure(shared, arrays)


def gathered(tensor: Any) -> Any:
    """Bring what the devices computed together, in the compiled graph, so that each process can read all of it."""
    distribution = _data_parallel()
    if distribution is None:
        return tensor
    layout = keras.distribution.TensorLayout([None] * len(tensor.shape), distribution.device_mesh)
    return keras.distribution.distribute_tensor(tensor, layout)


def shares_batches() -> bool:
    """Return whether a batch of several processes is the shares of all of them together."""
    distribution = _data_parallel()
    return distribution is not None and not distribution.auto_shard_dataset


def in_replica() -> bool:
    """Return whether the caller is one of several replicas of a step, each of which sees its share of the batch only.

    JAX has no replicas: its step sees the whole batch, wherever the parts of it lie.
    """
    if keras.config.backend() != "tensorflow":
        return False
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return context is not None and context.num_replicas_in_sync > 1


def sum_over_replicas(tensor: Any) -> Any:
    """Return the sum of a tensor over all replicas of the step, with its gradient; the tensor itself on one device.

    Call it once in a loss: replicas do not compute the gradients of several sums in one order, and would mix them up.
    """
    if not in_replica():
        return tensor
    import tensorflow as tf

    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tensor)


def host_value(variable: Any) -> NDArray[Any]:
    """Return the value of a variable, which may be mirrored on several devices, as an array."""
    value = variable.value
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        if isinstance(value, tf.distribute.DistributedValues):
            return np.asarray(value.numpy())
    return np.asarray(ops.convert_to_numpy(value))


def peak_memory() -> int:
    """Return the most bytes that a GPU has held so far, of the fullest one; without a GPU, this process's largest size.

    Linux counts the size of a process in KiB, macOS in bytes.
    """
    kinds = [name.partition(":")[0] for name in device_names()]
    if kinds[0] in ("cpu", "mps"):
        unit = 1 if sys.platform == "darwin" else 1024
        return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit
    if keras.config.backend() == "jax":
        import jax

        return max(
            int((device.memory_stats() or {}).get("peak_bytes_in_use", 0)) for device in jax.local_devices()
        )
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        found = [tf.config.experimental.get_memory_info(f"GPU:{number}") for number in range(len(kinds))]
        return max(int(info["peak"]) for info in found)
    import torch

    return max(int(torch.cuda.max_memory_allocated(number)) for number in range(len(kinds)))


def _data_parallel() -> Any:
    if keras.config.backend() != "jax":
        return None
    distribution = keras.distribution.distribution()
    return distribution if distribution is not None and distribution.batch_dim_name else None


def _strategy(model: Any) -> Any:
    import tensorflow as tf

    return tf.distribute.get_strategy() if model is None else model.distribute_strategy


def _shares_on_tensorflow(arrays: Any, strategy: Any) -> Any:
    """Cut a batch; what is not cut, every replica would compute as a whole."""
    import tensorflow as tf

    number = strategy.num_replicas_in_sync

    def share(context: Any) -> Any:
        def cut(array: Any) -> Any:
            size = len(array) // number
            begin = context.replica_id_in_sync_group * size
            return tf.convert_to_tensor(array[begin : begin + size])

        return keras.tree.map_structure(cut, arrays)

    return strategy.experimental_distribute_values_from_function(share)
