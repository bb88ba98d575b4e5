"""Augmentation: image and mask move together, values change as said, and a batch stays a function of its numbers."""

import numpy as np
import pytest
from made.training import arrays, same, segmenter, variables
from scipy import ndimage

import kerasbalance as kb

pytest.importorskip("cv2", reason="opencv-python-headless (extra augment) is not installed")

SHARES = (
    "geometry_share",
    "contrast_share",
    "noise_share",
    "blur_share",
    "low_resolution_share",
    "gamma_share",
)
OFF = dict.fromkeys(SHARES, 0.0)


def only(share, **options):
    return kb.Augmentation(**{**OFF, share: 1.0}, **options)


@pytest.fixture
def batch():
    """Smooth HU of int16 around an L, which no turn or mirror maps onto itself, and the L as mask."""
    mask = np.zeros((4, 64, 64, 1), np.uint8)
    mask[:, 20:44, 20:28] = 1
    mask[:, 36:44, 28:44] = 1
    hu = np.where(mask == 1, 100, -100) + np.random.default_rng(0).normal(0, 5, mask.shape)
    return hu.astype(np.int16), mask


def test_without_shares_nothing_changes(batch):
    x, y = batch
    new_x, new_y = kb.Augmentation(**OFF)(x, y, np.random.default_rng(0))
    np.testing.assert_array_equal(new_x, x)
    np.testing.assert_array_equal(new_y, y)
    assert new_x is not x


def test_image_and_mask_move_together_and_the_input_is_left_as_it_is(batch):
    x, y = batch
    before = x.copy(), y.copy()
    new_x, new_y = only("geometry_share")(x, y, np.random.default_rng(1))
    assert not np.array_equal(new_y, y)
    inside = ndimage.binary_erosion(new_y[..., 0] == 1, structure=np.ones((1, 3, 3)))
    outside = ndimage.binary_dilation(new_y[..., 0] == 1, structure=np.ones((1, 5, 5)))
    assert new_x[inside].min() > 50
    assert new_x[~outside & (new_x[..., 0] > -900)[...]].max() < -50
    assert (x == before[0]).all()
    assert (y == before[1]).all()


def test_a_turn_is_that_of_scipy(batch):
    x, y = batch
    rng = np.random.default_rng(7)
    new_x, _ = only("geometry_share", scale=(1.0, 1.0), shift=0.0)(x[:1], y[:1], rng)
    again = np.random.default_rng(7)
    again.random()
    angle = again.uniform(-15.0, 15.0)
    theirs = ndimage.rotate(x[0, ..., 0].astype(float), angle, reshape=False, order=1, cval=-1024)
    middle = slice(16, 48)
    difference = np.abs(new_x[0, middle, middle, 0] - theirs[middle, middle])
    assert np.median(difference) <= 1
    assert np.quantile(difference, 0.99) < 12  # OpenCV places samples on 1/32 pixel


def test_what_comes_into_view_is_air_and_background(batch):
    x, y = batch
    new_x, new_y = only("geometry_share", scale=(0.5, 0.5), rotate_deg=0.0, shift=0.0)(
        x, y + 1, np.random.default_rng(0)
    )
    assert (new_x[:, 0, 0] == -1024).all()
    assert (new_y[:, 0, 0] == 0).all()


@pytest.mark.parametrize("share", SHARES[1:])
def test_intensity_changes_the_image_only(batch, share):
    x, y = batch
    new_x, new_y = only(share)(x, y, np.random.default_rng(0))
    assert new_x.dtype == np.int16
    assert not np.array_equal(new_x, x)
    np.testing.assert_array_equal(new_y, y)


def test_contrast_scales_and_shifts(batch):
    x, y = batch
    new_x, _ = only("contrast_share", contrast=(1.1, 1.1), brightness=0.0)(x, y, np.random.default_rng(0))
    np.testing.assert_array_equal(new_x, np.rint(x * np.float32(1.1)).astype(np.int16))


def test_gamma_keeps_what_lies_outside_the_window():
    x = np.array([-1000, -150, 50, 250, 900], np.int16).reshape(1, 1, 5, 1)
    new_x, _ = only("gamma_share", gamma=(2.0, 2.0))(
        x, np.zeros((1, 1, 5), np.uint8), np.random.default_rng(0)
    )
    assert new_x.ravel().tolist() == [-1000, -150, -50, 250, 900]  # 50 HU is the middle: 0.5 squared is 0.25


def test_noise_has_the_spread_that_was_asked_for(batch):
    x = np.zeros((16, 64, 64, 1), np.float32)
    new_x, _ = only("noise_share", noise=10.0)(x, np.zeros(x.shape[:3], np.uint8), np.random.default_rng(0))
    assert 4 < new_x.std(axis=(1, 2, 3)).mean() < 6.5  # uniform from 0 to 10
    assert abs(new_x.mean()) < 0.1


def test_values_stay_inside_their_type():
    x = np.full((1, 8, 8, 1), 32_700, np.int16)
    new_x, _ = only("contrast_share", contrast=(1.1, 1.1))(
        x, np.zeros((1, 8, 8), np.uint8), np.random.default_rng(0)
    )
    assert (new_x == 32_767).all()


def dataset(read_ahead):
    x, y = arrays(30, 16)
    source = kb.ArraySource((x * 100).astype(np.int16), y)
    return kb.IndexedDataset(
        source, kb.Index(np.arange(30)), batch_size=4, steps_per_epoch=5, seed=3, read_ahead=read_ahead,
        augment=kb.Augmentation(),
    )  # fmt: skip


def test_a_batch_is_the_same_in_any_order_and_with_any_read_ahead():
    first, second = dataset(0), dataset(4)
    expected = [first.batch(i) for i in range(6)]
    for i in (5, 0, 3, 3, 1):
        for mine, theirs in zip(second.batch(i), expected[i], strict=True):
            np.testing.assert_array_equal(mine, theirs)
    assert not np.array_equal(
        expected[0][0], first.source.read(np.array(first.refs(0)), np.zeros(4, np.uint8))[0]
    )


def test_a_run_that_is_augmented_resumes_bit_by_bit(tmp_path):
    def trained(iterations, **how):
        model = segmenter(16)
        kb.fit(model, dataset(2), iterations, verbose=0, **how)
        return variables(model)

    whole = trained(7)
    trained(4, run_dir=tmp_path)
    assert same(trained(7, run_dir=tmp_path, resume=True), whole)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise_share": 1.5}, r"received noise_share=1.5; expected a share from 0 to 1; pass 0"),
        ({"scale": (1.2, 0.8)}, r"received scale=\(1.2, 0.8\); expected two numbers above 0"),
        ({"window": (250.0, -150.0)}, r"received window=\(250.0, -150.0\); expected the lower end first"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        kb.Augmentation(**options)


def test_data_that_are_no_images_are_refused():
    with pytest.raises(ValueError, match=r"received arrays of shape \(4, 10\) and \(4,\); expected images"):
        kb.Augmentation()(np.zeros((4, 10)), np.zeros(4), np.random.default_rng(0))
