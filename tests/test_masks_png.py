import dataclasses
import io
import struct
import zlib

import numpy as np
import PIL.Image
import pytest
from made.masks import NAMES, REAL, codes, made_grid, made_labels, made_volume, real_volume, refusal

from kerasbalance.data.ingest.organ_check import hu_spread, suspicions
from kerasbalance.data.labels import OrganRule, parse_rule
from kerasbalance.data.masks import read_mask

LIVER = (OrganRule("liver"),)
BOTH = (parse_rule("liver=1"), parse_rule("spleen=2"))


def save_stack(folder, planes, names=None):
    folder.mkdir()
    for number, plane in enumerate(planes):
        name = names[number] if names else f"image_{number + 1}"
        PIL.Image.fromarray(plane).save(folder / f"{name}.png")
    return folder


@pytest.mark.parametrize(("order", "step"), [("z-ascending", 1), ("z-descending", -1)])
def test_a_stated_order_is_followed_in_natural_name_order(tmp_path, order, step):
    volume = made_volume(made_labels((12, 20, 24)), made_grid((12, 20, 24)))
    labels = made_labels((12, 20, 24))
    folder = save_stack(tmp_path / "m", labels[::step])
    mask = read_mask(folder, volume, BOTH, png_order=order)
    np.testing.assert_array_equal(mask.labels, labels)
    assert (mask.kind, codes(mask)) == ("png", ["PNG_ORIENTATION"])


def test_file_order_pairs_the_natural_orders_of_both(tmp_path):
    volume, labels = made_volume(), made_labels()
    by_name = np.argsort([int(name.split("_")[1]) for name in NAMES])
    folder = save_stack(tmp_path / "m", labels[by_name])
    mask = read_mask(folder, volume, BOTH, png_order="file")
    np.testing.assert_array_equal(mask.labels, labels)


def test_equal_names_prove_the_order(tmp_path):
    volume, labels = made_volume(), made_labels()
    folder = save_stack(tmp_path / "m", labels, names=[name.upper() for name in NAMES])
    np.testing.assert_array_equal(read_mask(folder, volume, BOTH).labels, labels)
    assert refusal(folder, volume, BOTH, png_order="z-ascending").code == "PNG_ORDER"
    assert read_mask(folder, volume, BOTH, png_order="file").labels.any()


def test_an_unstated_order_is_refused_with_the_spread_of_either(tmp_path):
    volume = made_volume()
    folder = save_stack(tmp_path / "m", (made_labels() == 1)[::-1])
    error = refusal(folder, volume, LIVER)
    assert error.code == "PNG_ORDER"
    right, wrong = (
        hu_spread(volume.hu, (made_labels() == 1)[::step].astype(np.uint8), ("x",))[0].iqr for step in (1, -1)
    )
    assert f"{wrong:.0f} with z-ascending and {right:.0f} with z-descending" in str(error)
    assert wrong > right


def test_counts_and_sizes_must_be_the_cts(tmp_path):
    volume = made_volume()
    assert refusal(save_stack(tmp_path / "a", made_labels()[:5]), volume, BOTH).code == "PNG_COUNT"
    turned = save_stack(tmp_path / "b", made_labels().transpose(0, 2, 1))
    assert refusal(turned, volume, BOTH, png_order="z-ascending").code == "GEOMETRY"


def test_file_order_needs_a_ct_of_files(tmp_path):
    volume = made_volume()
    identity = dataclasses.replace(volume.identity, file_names=())
    folder = save_stack(tmp_path / "m", made_labels())
    error = refusal(folder, dataclasses.replace(volume, identity=identity), BOTH, png_order="file")
    assert error.code == "PNG_ORDER"


def test_an_unknown_order_is_a_value_error(tmp_path):
    with pytest.raises(ValueError, match="png_order='upwards'"):
        read_mask(tmp_path, made_volume(), BOTH, png_order="upwards")


def plain_png(values, depth, colour=0):
    """A PNG written by hand, for the bit depths that Pillow does not write."""
    rows, columns = values.shape
    bits = np.unpackbits(values.astype(np.uint8)[..., None], axis=-1)[..., 8 - depth :].reshape(rows, -1)
    lines = b"".join(b"\0" + np.packbits(line).tobytes() for line in bits)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", columns, rows, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


def encoded(image):
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def palette(plane):
    image = PIL.Image.fromarray(plane, "L").convert("P")
    image.putpalette([255, 255, 255, 200, 0, 0, 0, 0, 90])
    image.putdata(plane.ravel().tolist())
    return image


FORMATS = {
    "grey 8": lambda p: encoded(PIL.Image.fromarray(p)),
    "grey 16": lambda p: encoded(PIL.Image.fromarray(p.astype(np.uint16))),
    "grey 2": lambda p: plain_png(p, 2),
    "grey 4": lambda p: plain_png(p, 4),
    "palette": lambda p: encoded(palette(p)),
    "equal channels": lambda p: encoded(PIL.Image.fromarray(np.stack([p] * 3, axis=-1))),
    "opaque": lambda p: encoded(PIL.Image.fromarray(np.stack([p] * 3 + [p * 0 + 255], axis=-1))),
    "grey and opaque": lambda p: encoded(PIL.Image.fromarray(np.stack([p, p * 0 + 255], axis=-1))),
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated", "ignore:.*putdata|getdata")
def test_every_kind_of_grey_png_gives_the_same_labels(tmp_path, name):
    volume = made_volume()
    for number, plane in enumerate(made_labels()):
        (tmp_path / f"{number}.png").write_bytes(FORMATS[name](plane))
    mask = read_mask(tmp_path, volume, BOTH, png_order="z-ascending")
    np.testing.assert_array_equal(mask.labels, made_labels())


def test_a_1_bit_png_is_0_and_1(tmp_path):
    volume = made_volume()
    folder = save_stack(tmp_path / "m", made_labels() == 1)
    mask = read_mask(folder, volume, LIVER, png_order="z-ascending")
    np.testing.assert_array_equal(mask.labels, made_labels() == 1)
    assert codes(mask) == ["PNG_ORIENTATION"]


def test_colours_and_transparency_are_refused(tmp_path):
    volume = made_volume()
    plane = made_labels()[2] * 100
    for name, layers in {"rgb": [plane, plane, plane * 0], "alpha": [plane, plane, plane, plane]}.items():
        folder = save_stack(tmp_path / name, [np.stack(layers, axis=-1)] * 6)
        error = refusal(folder, volume, LIVER, png_order="z-ascending")
        assert error.code == "PNG_COLOUR"
        assert error.where == "file 1 of 6"


def test_damaged_files_and_bombs_are_refused(tmp_path):
    volume = made_volume()
    good = encoded(PIL.Image.fromarray(made_labels()[2]))
    huge = plain_png(np.zeros((40, 48)), 8).replace(
        struct.pack(">II", 48, 40), struct.pack(">II", 2**30, 2**30)
    )
    for bad, code in ((good[:60], "MALFORMED"), (good[:20], "MALFORMED"), (huge, "GEOMETRY")):
        for number in range(6):
            (tmp_path / f"{number}.png").write_bytes(bad if number == 4 else good)
        assert refusal(tmp_path, volume, BOTH, png_order="z-ascending").code == code


def test_a_folder_of_two_kinds_is_refused(tmp_path):
    folder = save_stack(tmp_path / "m", made_labels())
    (folder / "a.nii").write_bytes(b"\0" * 344 + b"n+1\0" + b"\0" * 8)
    assert refusal(folder, made_volume(), BOTH, png_order="file").code == "AMBIGUOUS"


def test_a_folder_without_masks_is_refused(tmp_path):
    (tmp_path / "readme.txt").write_text("nothing here")
    assert refusal(tmp_path, made_volume(), BOTH).code == "MASK_KIND"
    assert refusal(tmp_path / "readme.txt", made_volume(), BOTH).code == "MASK_KIND"


@pytest.mark.skipif(not REAL.is_dir(), reason="shared/real is not there: no real PNG masks to read")
def test_the_order_of_chaos_masks_is_told_by_the_hu_inside():
    volume = real_volume(REAL / "chaos/DICOM_anon")
    masks = {
        o: read_mask(REAL / "chaos/Ground", volume, LIVER, png_order=o) for o in ("z-descending", "file")
    }
    np.testing.assert_array_equal(masks["z-descending"].labels, masks["file"].labels)
    (right,) = hu_spread(volume.hu, masks["file"].labels, ("liver",))
    assert (right.voxels, 17 <= right.iqr <= 55) == (1_342_595, True)
    assert suspicions((right,)) == ()
    for axis in range(3):
        flipped = hu_spread(volume.hu, np.flip(masks["file"].labels, axis), ("liver",))
        assert flipped[0].iqr >= 60
        assert [note.loud for note in suspicions(flipped)] == [True]
    error = refusal(REAL / "chaos/Ground", volume, LIVER)
    assert "94 with z-ascending and 36 with z-descending" in str(error)
