"""Stored pixels of every kind give the values that pydicom and SimpleITK give (facts: pitfalls 3, 11 and 12)."""

import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
from made.series import make_enhanced, make_series, random_values, read, refusal, rewrite, rle_frame, set_rle
from pydicom.data import get_testdata_file
from pydicom.pixels import get_decoder
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from kerasbalance.data.dicom import checks, scan_folder
from kerasbalance.data.dicom.codestream import coded_plane, unpack_rle

NATIVE = {
    "implicit": ImplicitVRLittleEndian,
    "explicit": ExplicitVRLittleEndian,
    "big endian": ExplicitVRBigEndian,
}
PACKED = {"RLE": RLELossless, "JPEG 2000": JPEG2000Lossless, "JPEG-LS": JPEGLSLossless}
DEPTHS = [(8, 8), (16, 16), (16, 12), (16, 10), (32, 32), (32, 20)]


def make(folder, *, syntax, bits, bits_stored, signed, **more):
    if syntax != RLELossless and syntax in PACKED.values() and not get_decoder(UID(syntax)).is_available:
        pytest.skip("no decoder")
    rescale = {"intercept": 0} if signed else {}
    return make_series(folder, slices=2, size=(40, 32), bits=bits, bits_stored=bits_stored, signed=signed,
                       syntax=syntax, **{**rescale, **more})  # fmt: skip


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("bits", "bits_stored"), DEPTHS)
@pytest.mark.parametrize("syntax", NATIVE)
def test_native_pixels_of_every_depth_are_read(tmp_path, syntax, bits, bits_stored, signed):
    made = make(tmp_path, syntax=NATIVE[syntax], bits=bits, bits_stored=bits_stored, signed=signed)
    if bits == 8 and syntax == "big endian":
        assert refusal(tmp_path).received == "8-bit pixels in big endian words"
    else:
        np.testing.assert_array_equal(read(tmp_path).hu, made.hu)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("bits", "bits_stored"), DEPTHS[:4])
@pytest.mark.parametrize("syntax", PACKED)
def test_packed_pixels_equal_the_raw_ones(tmp_path, syntax, bits, bits_stored, signed):
    made = make(tmp_path, syntax=PACKED[syntax], bits=bits, bits_stored=bits_stored, signed=signed)
    np.testing.assert_array_equal(read(tmp_path).hu, made.hu)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("high_bit", [11, 13, 15])
@pytest.mark.parametrize("syntax", NATIVE)
def test_stored_bits_are_taken_from_below_the_high_bit(tmp_path, syntax, high_bit, signed):
    made = make(tmp_path, syntax=NATIVE[syntax], bits=16, bits_stored=12, high_bit=high_bit, signed=signed)
    np.testing.assert_array_equal(read(tmp_path).hu, made.hu)


@pytest.mark.parametrize("signed", [False, True])
def test_garbage_around_the_stored_bits_is_dropped(tmp_path, signed):
    def edit(dataset, n):
        words = np.frombuffer(dataset.PixelData, "<u2")
        garbage = (
            np.random.default_rng(n).integers(0, 2**16, words.shape).astype("<u2") & 0b1110_0000_0000_0001
        )
        dataset.PixelData = (words | garbage).tobytes()

    made = make(
        tmp_path,
        syntax=ExplicitVRLittleEndian,
        bits=16,
        bits_stored=12,
        high_bit=12,
        signed=signed,
        edit=edit,
    )
    np.testing.assert_array_equal(read(tmp_path).hu, made.hu)


def test_garbage_above_the_high_bit_of_rle_is_dropped(tmp_path):
    def edit(dataset, n):
        words = np.frombuffer(dataset.PixelData, "<u2") | 0xF000
        dataset.PixelData = words.tobytes()
        dataset.compress(RLELossless, generate_instance_uid=False)

    made = make(tmp_path, syntax=ExplicitVRLittleEndian, bits=16, bits_stored=12, signed=False, edit=edit)
    np.testing.assert_array_equal(read(tmp_path).hu, made.hu)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits_stored", [12, 16])
@pytest.mark.parametrize(
    ("slope", "intercept"), [(1, -1024), (2, 3), (0.25, -1000), (0.7324, -1000.5), (-1.5, 700)]
)
def test_hu_equal_simpleitk_over_a_grid_of_storage_kinds(tmp_path, slope, intercept, bits_stored, signed):
    sitk = pytest.importorskip("SimpleITK")
    for syntax in (*NATIVE.values(), RLELossless, JPEGLSLossless):
        folder = tmp_path / syntax
        made = make(folder, syntax=syntax, bits=16, bits_stored=bits_stored, signed=signed, slope=slope,
                    intercept=intercept)  # fmt: skip
        theirs = [sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[0] for path in made.files]
        expected = np.clip(np.rint(np.asarray(theirs, float)), -1024, 32767)
        np.testing.assert_array_equal(read(folder).hu, expected)


def test_each_slices_rescale_gives_what_simpleitk_gives_slice_by_slice(tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    made = make_series(
        tmp_path, slope=np.linspace(0.5, 3, 12).round(3), intercept=np.linspace(-1100, 0, 12).round(2)
    )
    theirs = [sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[0] for path in made.files]
    np.testing.assert_array_equal(read(tmp_path).hu, np.clip(np.rint(theirs), -1024, 32767))


@pytest.mark.parametrize("name", ["693_J2KI.dcm", "CT_small.dcm", "J2K_pixelrep_mismatch.dcm"])
def test_shipped_ct_files_give_the_values_of_pydicom(name):
    path = get_testdata_file(name, download=False)
    dataset = pydicom.dcmread(path)
    expected = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    if "PixelPaddingValue" in dataset:
        expected[dataset.pixel_array == dataset.PixelPaddingValue] = -1024
    hu = read(Path(path), "single").hu[0]
    # One of the files lies with its feet first, so it is turned.
    assert any(
        np.array_equal(hu, turned.clip(-1024)) for turned in (expected, expected[:, ::-1], expected[::-1])
    )


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("BitsAllocated", 12), ("BitsAllocated", 0), ("BitsAllocated", 64), ("BitsStored", 17), ("BitsStored", 0),
        ("HighBit", 3), ("HighBit", 16), ("PixelRepresentation", 2), ("PixelRepresentation", None),
        ("PhotometricInterpretation", "MONOCHROME3"), ("Rows", 0), ("Columns", None), ("Rows", 24), ("Columns", 33),
    ],
)  # fmt: skip
def test_impossible_pixel_attributes_are_refused(tmp_path, attribute, value):
    def edit(dataset, n):
        del dataset[attribute]
        if value is not None:
            setattr(dataset, attribute, value)

    make_series(tmp_path, edit=edit)
    error = refusal(tmp_path)
    assert error.code in ("BAD_PIXELS", "NO_PIXELS", "TRUNCATED")
    assert error.where == "file 1 of 12"


def test_a_shifted_high_bit_is_obeyed_in_rle_and_refused_in_other_compressed_pixels(tmp_path):
    made = make(tmp_path / "rle", syntax=RLELossless, bits=16, bits_stored=12, high_bit=15, signed=True)
    np.testing.assert_array_equal(read(tmp_path / "rle").hu, made.hu)
    make(tmp_path / "jls", syntax=JPEGLSLossless, bits=16, bits_stored=12, signed=False,
         edit=lambda d, n: setattr(d, "HighBit", 15))  # fmt: skip
    assert refusal(tmp_path / "jls").received == "compressed pixels with a shifted HighBit"


# Decoders


def test_a_missing_decoder_is_told_before_any_work_with_the_line_that_mends_it(tmp_path, monkeypatch):
    class Missing:
        is_available = False

    made = make_series(tmp_path, slices=3, syntax=JPEGLSLossless)
    monkeypatch.setattr(checks, "get_decoder", lambda syntax: Missing())
    with made.files[2].open("r+b") as file:
        file.truncate(made.files[2].stat().st_size - 100)
    problems = [str(error) for error in scan_folder(tmp_path).series[0].problems]
    assert problems[0] == (
        "NO_DECODER: file 1 of 3: the transfer syntax JPEG-LS Lossless Image Compression and no decoder for it; "
        "expected an installed decoder; pip install python-gdcm pylibjpeg pylibjpeg-openjpeg"
    )
    assert problems[1].startswith("TRUNCATED: file 3 of 3: ")


@pytest.mark.parametrize(
    "syntax", ["1.2.840.10008.1.2.4.100", "1.2.840.113619.5.2", "1.2.840.10008.1.2.4.DOE", "x"]
)
def test_an_unsupported_syntax_is_refused_and_an_unknown_one_is_not_quoted(tmp_path, syntax):
    made = make_series(tmp_path, slices=2)
    for path in made.files:
        data = path.read_bytes()
        old, new = (text.encode() + b"\0" * (len(text) % 2) for text in ("1.2.840.10008.1.2.1", syntax))
        at = data.index(b"\2\0\x10\0UI")
        data = data[: at + 6] + len(new).to_bytes(2, "little") + new + data[at + 8 + len(old) :]
        path.write_bytes(data)
    error = refusal(tmp_path)
    assert error.code == "UNSUPPORTED_SYNTAX"
    assert error.advice == "convert the series, e.g. with dcmdjpeg"
    assert "1.2" not in error.received
    assert "syntax x" not in error.received


def test_frames_in_several_pieces_are_put_together(tmp_path):
    from pydicom.encaps import encapsulate, get_frame

    def split(dataset):
        frames = [get_frame(dataset.PixelData, n, number_of_frames=5) for n in range(5)]
        dataset.PixelData = encapsulate(frames, fragments_per_frame=3, has_bot=True)

    made = make_enhanced(tmp_path / "many", order=(3, 1, 0, 4, 2), syntax=JPEGLSLossless, edit=split)
    np.testing.assert_array_equal(read(tmp_path / "many").hu, made.hu)

    def split_one(dataset, n):
        dataset.PixelData = encapsulate(
            [get_frame(dataset.PixelData, 0)], fragments_per_frame=4, has_bot=n == 1
        )

    one = make_series(tmp_path / "one", slices=3, syntax=JPEG2000Lossless, edit=split_one)
    np.testing.assert_array_equal(read(tmp_path / "one").hu, one.hu)


@pytest.mark.parametrize("has_table", [False, True])
@pytest.mark.parametrize("frames", [4, 6])
def test_another_number_of_compressed_frames_than_stated_is_refused(tmp_path, frames, has_table):
    from pydicom.encaps import encapsulate, get_frame

    def edit(dataset):
        data = [get_frame(dataset.PixelData, n % 5, number_of_frames=5) for n in range(frames)]
        dataset.PixelData = encapsulate(data, has_bot=has_table)

    make_enhanced(tmp_path, syntax=RLELossless, edit=edit)
    assert refusal(tmp_path).code == "BAD_PIXELS"


@pytest.mark.parametrize("swap", ["raw named compressed", "compressed named raw"])
def test_pixels_unlike_their_transfer_syntax_are_refused(tmp_path, swap):
    made = make_series(
        tmp_path, slices=2, syntax=RLELossless if swap == "compressed named raw" else ExplicitVRLittleEndian
    )
    old, new = (b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0")
    if swap == "compressed named raw":
        old, new = new, old
    for path in made.files:
        path.write_bytes(path.read_bytes().replace(old, new))
    assert refusal(tmp_path).code == "BAD_PIXELS"


@pytest.mark.parametrize("syntax", PACKED)
def test_compressed_frames_of_another_size_than_stated_are_refused(tmp_path, syntax):
    made = make_series(tmp_path, slices=2, size=(40, 32), syntax=PACKED[syntax])
    for path in made.files:
        rewrite(path, lambda d: setattr(d, "Rows", 30))
    assert refusal(tmp_path).code in ("UNDECODABLE", "BAD_PIXELS")


@pytest.mark.parametrize("syntax", PACKED)
def test_damaged_compressed_frames_are_refused(tmp_path, syntax):
    made = make_series(tmp_path, slices=2, size=(40, 32), syntax=PACKED[syntax])
    data = bytearray(made.files[1].read_bytes())
    start = data.rindex(b"\xfe\xff\x00\xe0") + 8
    data[start : start + 16] = b"\x07" * 16
    made.files[1].write_bytes(data)
    error = refusal(tmp_path)
    assert (error.code, error.where) == ("UNDECODABLE", "file 2 of 2")


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, "1.2.840.10008.1.2.4.50"])
def test_a_codestream_states_its_size(tmp_path, syntax):
    from pydicom.encaps import get_frame

    if syntax == "1.2.840.10008.1.2.4.50":
        image = pytest.importorskip("PIL.Image")
        buffer = io.BytesIO()
        image.fromarray(np.zeros((40, 32), np.uint8)).save(buffer, "JPEG")
        frame = buffer.getvalue()
    else:
        made = make_series(tmp_path, slices=1, size=(40, 32), syntax=syntax)
        frame = get_frame(pydicom.dcmread(made.files[0]).PixelData, 0)
    assert coded_plane(frame) == (40, 32)
    assert all(coded_plane(frame[:cut]) in (None, (40, 32)) for cut in range(len(frame)))


SEGMENT = bytes([2, 9, 8, 7, 255, 6, 128, 0, 5, 0])  # 9 8 7, twice 6, nothing, 5, padding


def test_run_lengths_are_unpacked_as_the_standard_says():
    values = unpack_rle(rle_frame([SEGMENT, SEGMENT]), pixels=6, pixel_bytes=2, slack=0)
    assert values.tolist() == [0x0909, 0x0808, 0x0707, 0x0606, 0x0606, 0x0505]


@pytest.mark.parametrize(
    ("segments", "pixels", "slack"),
    [
        ([SEGMENT], 6, 0),
        ([SEGMENT] * 3, 6, 0),
        ([SEGMENT] * 2, 7, 0),
        ([SEGMENT] * 2, 4, 1),
        ([SEGMENT, b""], 6, 0),
    ],
)
def test_run_lengths_of_the_wrong_length_are_refused(segments, pixels, slack):
    with pytest.raises(ValueError, match="segment"):
        unpack_rle(rle_frame(segments), pixels=pixels, pixel_bytes=2, slack=slack)


def test_rle_by_hand_is_read(tmp_path):
    stored = np.repeat(random_values((2, 4, 1), 16, signed=False, seed=3), 4, axis=2)

    def edit(dataset, n):
        rows = stored[n, :, 0]
        segments = [b"".join(bytes([253, value]) for value in part) for part in (rows >> 8, rows & 255)]
        set_rle(dataset, rle_frame(segments))

    made = make_series(tmp_path, slices=2, size=4, stored=stored, edit=edit)
    np.testing.assert_array_equal(read(tmp_path).hu, made.hu)
