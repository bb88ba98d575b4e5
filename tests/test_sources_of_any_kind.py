"""Volumes, signals, tables, several inputs, files and single samples are read, or refused with the remedy."""

import keras
import numpy as np
import pytest

import kerasbalance as kb
from kerasbalance.testing import check_source

RNG = np.random.default_rng(0)
NO_FLIPS = np.zeros(3, np.uint8)
REFS = np.array([4, 0, 4])


def numbers(*shape, dtype="float32"):
    return RNG.integers(0, 100, shape).astype(dtype)


ARRAYS = {
    "volumes": (numbers(6, 3, 4, 5, 1), numbers(6, 3, 4, 5, dtype="uint8")),
    "signals": (numbers(6, 50, 2), numbers(6, dtype="int64")),
    "table": (numbers(6, 9), numbers(6, 2)),
    "images and classes": (numbers(6, 8, 8, 3, dtype="uint8"), numbers(6, 1, dtype="int32")),
    "images and points": (numbers(6, 8, 8, 3), numbers(6, 2)),
    "dicts": ({"image": numbers(6, 8, 8, 1), "age": numbers(6)}, {"class": numbers(6), "mask": numbers(6, 8, 8)}),
    "tuples": ((numbers(6, 4), numbers(6, 5)), (numbers(6), numbers(6))),
    "weights": (numbers(6, 8, 8, 1), numbers(6, 8, 8, dtype="uint8"), numbers(6)),
    "no targets": (numbers(6, 4),),
}  # fmt: skip
MIRRORED = {"images and classes", "weights"}


@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_of_any_rank_keep_the_contract(kind):
    source = kb.ArraySource(*ARRAYS[kind])
    check_source(source)
    batch = source.read(REFS, NO_FLIPS)
    for read, array in zip(keras.tree.flatten(batch), keras.tree.flatten(ARRAYS[kind]), strict=True):
        np.testing.assert_array_equal(read, array[[4, 0, 4]])
    assert source.can_flip == (kind in MIRRORED)


@pytest.mark.parametrize("kind", ARRAYS)
def test_single_samples_keep_the_contract(kind):
    samples = [keras.tree.map_structure(lambda array: array[row], ARRAYS[kind]) for row in range(6)]  # noqa: B023
    source = kb.DatasetSource(samples)
    check_source(source)
    wanted = kb.ArraySource(*ARRAYS[kind]).read(REFS, NO_FLIPS)
    for read, array in zip(
        keras.tree.flatten(source.read(REFS, NO_FLIPS)), keras.tree.flatten(wanted), strict=True
    ):
        assert read.dtype == array.dtype
        np.testing.assert_array_equal(read, array)


def test_a_label_stays_when_its_image_is_mirrored():
    x, y = ARRAYS["images and classes"]
    images, labels = kb.ArraySource(x, y).read(np.array([1, 2]), np.array([1, 2], np.uint8))
    np.testing.assert_array_equal(images[0], x[1, :, ::-1])
    np.testing.assert_array_equal(images[1], x[2, ::-1])
    np.testing.assert_array_equal(labels, y[[1, 2]])


def test_a_mask_of_weights_is_mirrored_with_its_image():
    x, y = numbers(2, 4, 4, 1), numbers(2, 4, 4, dtype="uint8")
    _, _, weights = kb.ArraySource(x, y, x[..., 0]).read(np.array([1]), np.array([1], np.uint8))
    np.testing.assert_array_equal(weights[0], x[1, :, ::-1, 0])


@pytest.mark.parametrize("kind", ["volumes", "signals", "images and points"])
def test_a_flip_of_what_is_no_image_is_refused_before_the_training(kind):
    source = kb.ArraySource(*ARRAYS[kind])
    sampler = kb.HardSliceSampler(range(3), range(3, 6), kb.lowest(0.5), base_flips=("none", "horizontal"))
    with pytest.raises(
        ValueError, match=r"flips of samples that are not images; expected .*; leave out flips"
    ):
        kb.IndexedDataset(source, sampler, batch_size=2)


def test_channels_first_images_are_not_mirrored_along_a_wrong_axis():
    assert not kb.ArraySource(numbers(2, 3, 8, 8), numbers(2, dtype="int64")).can_flip


def test_files_are_read_row_by_row(tmp_path):
    h5py = pytest.importorskip("h5py")
    x, y = ARRAYS["signals"]
    np.save(tmp_path / "x.npy", x)
    with h5py.File(tmp_path / "d.h5", "w") as file:
        for source in (
            kb.ArraySource(np.load(tmp_path / "x.npy", mmap_mode="r"), y),
            kb.ArraySource(file.create_dataset("x", data=x), file.create_dataset("y", data=y)),
        ):
            check_source(source)
            np.testing.assert_array_equal(source.read(REFS, NO_FLIPS)[0], x[REFS])
    assert isinstance(kb.ArraySource(np.load(tmp_path / "x.npy", mmap_mode="r"), y).x, np.memmap)


def test_arrays_of_zarr_are_read_row_by_row(tmp_path):
    zarr = pytest.importorskip("zarr")
    x, y = ARRAYS["signals"]
    stored = zarr.create_array(str(tmp_path / "x.zarr"), data=x, chunks=(1, *x.shape[1:]))
    source = kb.ArraySource(stored, y)
    assert source.x is stored
    np.testing.assert_array_equal(source.read(REFS, NO_FLIPS)[0], x[REFS])
    check_source(source)


def test_a_torch_dataset_is_a_source():
    torch = pytest.importorskip("torch")
    x, y = numbers(6, 3, 8, 8), numbers(6, dtype="int64")
    dataset = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
    source = kb.DatasetSource(dataset, unpack=lambda item: (item[0].permute(1, 2, 0), item[1]))
    check_source(source)
    images, classes = source.read(np.array([5, 1]), np.array([1, 0], np.uint8))
    np.testing.assert_array_equal(images[0], np.moveaxis(x[5], 0, -1)[:, ::-1])
    np.testing.assert_array_equal(classes, y[[5, 1]])


def test_tensors_and_lists_of_numbers_are_arrays():
    source = kb.ArraySource(keras.ops.convert_to_tensor(numbers(6, 4)), [0, 1, 0, 1, 0, 1])
    assert isinstance(source.x, np.ndarray)
    np.testing.assert_array_equal(source.read(REFS, NO_FLIPS)[1], [0, 0, 0])


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ((numbers(6, 4), numbers(5)), r"arrays of shapes \(6, 4\), \(5,\); expected the same number of samples"),
        ((np.array(["a", "b"]),), r"an array of shape \(2,\) and type <U1; expected numbers .*; convert it with"),
        ((np.float32(1),), r"an array of shape \(\) and type float32; .*, or wrap single samples in DatasetSource"),
        ((numbers(6, 4), None, numbers(6)), "sample_weight without y; expected targets .*; pass y too"),
    ],
)  # fmt: skip
def test_arrays_that_are_no_samples_are_refused(arrays, text):
    with pytest.raises(ValueError, match=text):
        kb.ArraySource(*arrays)


@pytest.mark.parametrize(
    ("samples", "text"),
    [
        ([], "a dataset of length 0; expected at least one sample; pass a dataset that holds data"),
        ([{"image": 1}], 'a sample of type dict with 1 parts; .*; pass unpack, for instance unpack=lambda item'),
        ([(1, None)], "a sample of type tuple with 2 parts; expected .* none of them None; pass unpack"),
        ([("a", 1)], "a sample that holds <U1; expected arrays, tensors or numbers; convert text"),
    ],
)  # fmt: skip
def test_items_that_are_no_samples_are_refused(samples, text):
    with pytest.raises(ValueError, match=text):
        kb.DatasetSource(samples)


@pytest.mark.parametrize(
    ("other", "text"),
    [
        ((np.zeros(3), 1), r"sample 1 of float64 \(3,\), int64 \(\); expected float64 \(4,\), int64 \(\), as in"),
        ((np.zeros(1), 1), r"sample 1 of float64 \(1,\).*; bring all samples to one shape and type in the dataset"),
        ((np.zeros(4), 0.5), r"sample 1 of float64 \(4,\), float64 \(\)"),
        ((np.zeros(4), 1, 1), r"sample 1 of float64 \(4,\), int64 \(\), int64 \(\)"),
    ],
)  # fmt: skip
def test_a_sample_that_differs_from_the_first_is_refused(other, text):
    source = kb.DatasetSource([(np.zeros(4), 1), other])
    with pytest.raises(ValueError, match=text):
        source.read(np.array([0, 1]), np.zeros(2, np.uint8))


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, i):
        return np.zeros((4, 2)), np.zeros(4)


@pytest.mark.parametrize("dataset", [Batches(), iter([1, 2]), {1, 2}])
def test_a_dataset_that_has_no_single_samples_is_refused(dataset):
    with pytest.raises(
        TypeError, match=r"expected single samples, by len\(dataset\) and dataset\[i\]; pass the"
    ):
        kb.DatasetSource(dataset)


def classifier(inputs):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(4, activation="relu"), keras.layers.Dense(3, activation="softmax")]
    model = keras.Sequential([keras.Input(inputs), keras.layers.Flatten(), *layers])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def test_a_plain_fit_and_our_fit_train_on_weighted_signals():
    x, y = numbers(6, 10, 2) / 100, np.arange(6) % 3
    weights = np.array([0, 0, 0, 1, 1, 1], "float32")
    dataset = kb.IndexedDataset(kb.ArraySource(x, y, weights), kb.Index(range(6)), batch_size=6)
    assert len(dataset) == 1
    wanted = classifier((10, 2))
    wanted.fit(x[3:], y[3:], epochs=3, batch_size=3, shuffle=False, verbose=0)
    for train in (
        lambda m: m.fit(dataset, epochs=3, shuffle=False, verbose=0),
        lambda m: kb.fit(m, dataset, 3, verbose=0),
    ):
        model = classifier((10, 2))
        train(model)
        # The mean is over 6 samples, of which 3 weigh 0: half the step, so only the direction is compared.
        moved = [a - b for a, b in zip(model.get_weights(), classifier((10, 2)).get_weights(), strict=True)]
        right = [a - b for a, b in zip(wanted.get_weights(), classifier((10, 2)).get_weights(), strict=True)]
        flat, other = (np.concatenate([part.ravel() for part in parts]) for parts in (moved, right))
        assert flat @ other / np.linalg.norm(flat) / np.linalg.norm(other) > 0.99


def test_our_fit_resumes_exactly_with_several_inputs_outputs_and_weights(tmp_path):
    inputs = {"a": keras.Input((4,), name="a"), "b": keras.Input((5,), name="b")}

    def make():
        keras.utils.set_random_seed(3)
        joined = keras.layers.Dropout(0.3)(keras.layers.Concatenate()([inputs["a"], inputs["b"]]))
        outputs = {"c": keras.layers.Dense(3, name="c")(joined), "r": keras.layers.Dense(1, name="r")(joined)}
        model = keras.Model(inputs, outputs)
        losses = {"c": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "r": "mse"}
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), losses, metrics={"r": ["mae"]})
        return model

    rng = np.random.default_rng(0)
    x = {"a": rng.normal(size=(12, 4)).astype("float32"), "b": rng.normal(size=(12, 5)).astype("float32")}
    y = {"c": np.arange(12) % 3, "r": rng.normal(size=(12, 1)).astype("float32")}
    source = kb.ArraySource(x, y)
    dataset = lambda: kb.IndexedDataset(source, kb.Index(range(12)), batch_size=4, steps_per_epoch=5)  # noqa: E731
    whole = make()
    history = kb.fit(whole, dataset(), 12, verbose=0).history
    kb.fit(make(), dataset(), 7, verbose=0, run_dir=tmp_path)
    resumed = make()
    again = kb.fit(resumed, dataset(), 12, verbose=0, run_dir=tmp_path, resume=True).history
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert again["r_loss"][-1] == history["r_loss"][-1]
