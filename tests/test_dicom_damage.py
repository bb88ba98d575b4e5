"""Cut, hostile and foreign files are refused or skipped, fast and in little memory (facts: pitfalls 26, 28)."""

import os
import struct
import time
import tracemalloc
import zlib
from contextlib import contextmanager

import numpy as np
import pytest
from made.series import make_series, read, refusal, rle_frame, set_rle
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import (
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from kerasbalance.data.dicom import choose_series, read_volume, scan_folder
from kerasbalance.data.dicom.checks import RELAXATIONS
from kerasbalance.data.dicom.codestream import unpack_rle
from kerasbalance.data.errors import DataError


@contextmanager
def at_most(*, seconds, mebibytes):
    tracemalloc.start()
    begin = time.process_time()
    try:
        yield
        used, peak = time.process_time() - begin, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert used < seconds
    assert peak < mebibytes * 2**20


# Cuts


@pytest.mark.parametrize(
    "syntax",
    ["1.2.840.10008.1.2.1", ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless, JPEG2000Lossless],
)
def test_a_file_cut_at_any_byte_is_refused(tmp_path, syntax):
    made = make_series(tmp_path, slices=3, syntax=syntax)
    sizes = [path.stat().st_size for path in made.files]
    cuts = [*range(0, 1400, 41), *range(126, 134), *range(min(sizes) - 12, min(sizes))]
    for cut in cuts:
        path = made.files[cut % 3]
        whole = path.read_bytes()
        path.write_bytes(whole[:cut])
        error = refusal(tmp_path, *RELAXATIONS)
        assert error.path == path, cut
        assert error.code in ("TRUNCATED", "NO_PIXELS", "MALFORMED", "NOT_DICOM"), cut
        path.write_bytes(whole)
    np.testing.assert_array_equal(read(tmp_path).hu, made.hu)


def test_truncated_pixel_data_say_how_much_is_there(tmp_path):
    made = make_series(tmp_path)
    path = made.files[4]
    path.write_bytes(path.read_bytes()[:-500])
    assert str(refusal(tmp_path)) == (
        "TRUNCATED: file 5 of 12: 1548 bytes of pixel data; expected 2048 bytes; export or copy the file again"
    )


def test_pixel_data_that_claim_more_than_the_file_holds_are_refused(tmp_path):
    made = make_series(tmp_path, slices=3)
    data = bytearray(made.files[1].read_bytes())
    at = data.index(b"\xe0\x7f\x10\0OW\0\0") + 8
    data[at : at + 4] = struct.pack("<I", 0xFFFFFFF0)
    made.files[1].write_bytes(data)
    error = refusal(tmp_path)
    assert (error.code, error.received, error.where) == (
        "TRUNCATED",
        "2048 bytes of pixel data",
        "file 2 of 3",
    )


def test_a_file_that_shrinks_between_scanning_and_reading_is_refused(tmp_path):
    made = make_series(tmp_path, slices=3)
    series = choose_series(scan_folder(tmp_path))
    os.truncate(made.files[1], made.files[1].stat().st_size - 2)
    with pytest.raises(
        DataError, match=r"^TRUNCATED: file 2 of 3: 2046 bytes of pixel data; expected 2048 bytes; copy"
    ):
        read_volume(series)
    made.files[1].unlink()
    with pytest.raises(
        DataError, match=r"^UNREADABLE: file 2 of 3: a file that cannot be read \(no such file"
    ):
        read_volume(series)


def test_pixel_data_shorter_than_the_image_are_refused_although_the_file_goes_on(tmp_path):
    def edit(dataset, n):
        dataset.Rows = 33
        dataset.add_new(0xFFFCFFFC, "OB", b"\0" * 4096)

    make_series(tmp_path, edit=edit)
    error = refusal(tmp_path)
    assert (error.code, error.received, error.expected) == (
        "TRUNCATED",
        "2048 bytes of pixel data",
        "2112 bytes",
    )


@pytest.mark.parametrize("keyword", ["FloatPixelData", "DoubleFloatPixelData", None])
def test_an_image_without_pixel_data_is_refused(tmp_path, keyword):
    def edit(dataset, n):
        del dataset.PixelData
        if keyword:
            dataset.add_new(keyword, "OF" if keyword == "FloatPixelData" else "OD", b"\0" * 8192)

    make_series(tmp_path, edits={11: edit})
    error = refusal(tmp_path)
    assert (error.code, error.where) == ("NO_PIXELS", "file 12 of 12")


def test_files_without_preamble_or_without_any_meta_header_are_read(tmp_path):
    made = make_series(tmp_path)
    for number, path in enumerate(made.files):
        data = path.read_bytes()
        length = struct.unpack_from("<I", data, 140)[0]
        path.write_bytes(data[144 + length :] if number % 2 else data[132:])
    np.testing.assert_array_equal(read(tmp_path).hu, made.hu)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_files_without_meta_header_are_read_in_any_encoding(tmp_path, syntax):
    made = make_series(tmp_path, syntax=syntax)
    for path in made.files:
        data = path.read_bytes()
        path.write_bytes(data[144 + struct.unpack_from("<I", data, 140)[0] :])
    np.testing.assert_array_equal(read(tmp_path).hu, made.hu)


# Bombs


def deflated(path, raw):
    data = path.read_bytes()
    end = 144 + struct.unpack_from("<I", data, 140)[0]
    meta = data[132:end].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
    meta = meta.replace(b"\2\0\x10\0UI\x14\0", b"\2\0\x10\0UI\x16\0")
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = squeezer.compress(data[end:]) + b"".join(squeezer.compress(b"\0" * 2**20) for _ in range(raw))
    path.write_bytes(data[:132] + meta + packed + squeezer.flush())


@pytest.mark.parametrize("padding", [0, 8000])
def test_a_deflate_bomb_is_refused_fast_and_in_little_memory(tmp_path, padding):
    made = make_series(tmp_path, slices=2)
    if padding:  # the transfer syntax hides behind a long element
        pad = b"\2\0\1\0OB\0\0" + struct.pack("<I", padding) + b"\0" * padding
        data = made.files[0].read_bytes()
        length = struct.unpack_from("<I", data, 140)[0] + len(pad)
        made.files[0].write_bytes(data[:140] + struct.pack("<I", length) + pad + data[144:])
    deflated(made.files[0], 200)
    with at_most(seconds=1, mebibytes=8):
        error = refusal(tmp_path)
    assert str(error) == (
        "DEFLATED: file 1 of 2: a DICOM file that is deflated as a whole; expected any other transfer syntax; "
        "convert it first, e.g. with dcmconv +te"
    )


def test_jpip_deflated_files_are_refused_too(tmp_path):
    made = make_series(tmp_path, slices=1)
    data = made.files[0].read_bytes()
    data = data.replace(
        b"\2\0\x10\0UI\x14\x001.2.840.10008.1.2.1\0", b"\2\0\x10\0UI\x16\x001.2.840.10008.1.2.4.95"
    )
    made.files[0].write_bytes(data)
    assert refusal(tmp_path).code == "DEFLATED"


@pytest.mark.parametrize(
    ("changes", "received"),
    [
        ({"Rows": 65535, "Columns": 65535}, "an image of 65535 x 65535 pixels in 1 frames"),
        ({"Columns": 4097}, "an image of 32 x 4097 pixels in 1 frames"),
        ({"NumberOfFrames": "2000000"}, "an image of 32 x 32 pixels in 2000000 frames"),
        ({"Rows": 2, "Columns": 2, "NumberOfFrames": "20001"}, "an image of 2 x 2 pixels in 20001 frames"),
        (
            {"Rows": 4096, "Columns": 4096, "NumberOfFrames": "1000"},
            "an image of 4096 x 4096 pixels in 1000 frames",
        ),
    ],
)
@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", RLELossless])
def test_absurd_sizes_are_refused_before_anything_is_decoded(tmp_path, changes, received, syntax):
    def edit(dataset, n):
        for keyword, value in changes.items():
            setattr(dataset, keyword, value)

    make_series(tmp_path, slices=2, syntax=syntax, edit=edit)
    with at_most(seconds=1, mebibytes=8):
        error = refusal(tmp_path)
    assert (error.code, error.received) == ("TOO_LARGE", received)


def test_a_run_length_bomb_stops_when_the_image_is_full(tmp_path):
    bomb = rle_frame([bytes([129, 0]) * 2**20] * 2)
    with at_most(seconds=1, mebibytes=8), pytest.raises(ValueError, match="segment length"):
        unpack_rle(bomb, pixels=1024, pixel_bytes=2, slack=31)

    def edit(dataset, n):
        set_rle(dataset, rle_frame([bytes([129, 0]) * 16_000] * 2))

    make_series(tmp_path, slices=2, edit=edit)
    assert refusal(tmp_path).code == "UNDECODABLE"


def test_more_compressed_bytes_than_the_image_could_need_are_refused(tmp_path):
    def edit(dataset, n):
        dataset.PixelData = encapsulate([get_frame(dataset.PixelData, 0) + bytes(300_000)])

    make_series(tmp_path, slices=2, syntax=JPEGLSLossless, edit=edit)
    assert refusal(tmp_path).code == "UNDECODABLE"


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless])
def test_a_codestream_that_states_a_huge_image_never_reaches_a_decoder(tmp_path, syntax, monkeypatch):
    def edit(dataset, n):
        data = bytearray(dataset.PixelData)
        if syntax == JPEG2000Lossless:
            at = data.index(b"\xff\x4f\xff\x51") + 8
            data[at : at + 8] = struct.pack(">II", 60_000, 60_000)
        else:
            at = data.index(b"\xff\xf7") + 5
            data[at : at + 4] = struct.pack(">HH", 60_000, 60_000)
        dataset.PixelData = bytes(data)

    make_series(tmp_path, slices=2, syntax=syntax, edit=edit)
    monkeypatch.setattr("kerasbalance.data.dicom.pixels.get_decoder", None)
    assert str(refusal(tmp_path)) == (
        "UNDECODABLE: file 1 of 2: compressed pixels that cannot be decoded (ValueError); "
        "expected an image of 32 x 32 pixels; export the file again"
    )


def test_a_series_that_decodes_to_very_many_times_its_bytes_is_refused(tmp_path):
    def edit(dataset, n):
        dataset.Rows = dataset.Columns = 4096
        set_rle(dataset, bytes(64))

    make_series(tmp_path, slices=9, edit=edit)
    with at_most(seconds=1, mebibytes=8):
        error = refusal(tmp_path)
    assert (error.code, error.received) == ("TOO_LARGE", "a series of 150994944 voxels in 576 bytes")


@pytest.mark.parametrize("explicit_length", [False, True])
@pytest.mark.parametrize("place", ["private", "PerFrameFunctionalGroupsSequence"])
def test_sequences_nested_without_end_are_refused(tmp_path, place, explicit_length):
    made = make_series(tmp_path, slices=1, syntax=ImplicitVRLittleEndian)
    tag = struct.pack("<HH", 0x0009, 0x1010) if place == "private" else struct.pack("<HH", 0x5200, 0x9230)
    if explicit_length:
        nested = b""
        for _ in range(3000):
            nested = b"\xfe\xff\x00\xe0" + struct.pack("<I", len(nested)) + nested
            nested = tag + struct.pack("<I", len(nested)) + nested
    else:
        nested = (tag + b"\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff") * 100_000
    data = made.files[0].read_bytes()
    at = data.index(b"\x10\0\x20\0") if place == "private" else data.index(b"\xe0\x7f\x10\0")
    made.files[0].write_bytes(data[:at] + nested + data[at:])
    with at_most(seconds=5, mebibytes=100):
        code = code_or_volume(tmp_path)
    assert code in ("MALFORMED", "TOO_LARGE", "BAD_RESCALE", "read")


def code_or_volume(folder):
    try:
        read(folder, "single")
    except DataError as error:
        return error.code
    return "read"


@pytest.mark.parametrize("place", ["file", "groups", "shared", "table"])
def test_a_header_of_five_million_elements_is_refused_in_seconds(tmp_path, place):
    made = make_series(tmp_path, slices=1, syntax=ImplicitVRLittleEndian)
    data = made.files[0].read_bytes()
    many = struct.pack("<HHI", 0x0009, 0x1010, 0) * 5_000_000
    if place == "file":
        at = data.index(b"\x10\0\x20\0")
    else:
        group, element = {"groups": (0x5200, 0x9230), "shared": (0x5200, 0x9229), "table": (0x0028, 0x3000)}[
            place
        ]
        item = b"\xfe\xff\x00\xe0" + struct.pack("<I", len(many))
        many = struct.pack("<HHI", group, element, len(many) + 8) + item + many
        at = data.index(b"\xe0\x7f\x10\0")
    made.files[0].write_bytes(data[:at] + many + data[at:])
    begin = time.process_time()
    code = code_or_volume(tmp_path)
    assert time.process_time() - begin < 5
    # The shared groups are of no interest in a classic file.
    assert code in (("read",) if place == "shared" else ("TOO_LARGE", "MALFORMED"))


def test_an_element_that_claims_four_gigabytes_costs_nothing(tmp_path):
    made = make_series(tmp_path, slices=1, syntax=ImplicitVRLittleEndian)
    data = made.files[0].read_bytes()
    at = data.index(b"\x10\0\x20\0")
    made.files[0].write_bytes(data[: at + 4] + b"\xf0\xff\xff\xff" + data[at + 8 :])
    with at_most(seconds=1, mebibytes=8):
        assert refusal(tmp_path).code in ("NO_PIXELS", "TOO_LARGE", "MALFORMED")


ITEM = struct.pack("<HH", 0xFFFE, 0xE000)


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("BAD_PIXELS", lambda p: b"\xfe\xff\x0d\xe0" + p[4:]),
        ("BAD_PIXELS", lambda p: ITEM + struct.pack("<I", 3) + b"\0\0\0" + p[8:]),
        ("BAD_PIXELS", lambda p: ITEM + struct.pack("<I", 4000) + b"\0" * 4000 + p[8:]),
        ("BAD_PIXELS", lambda p: p[:12] + b"\xff\xff\xff\xff" + p[16:]),
        ("BAD_PIXELS", lambda p: p[:8] + p[-8:]),
        ("TRUNCATED", lambda p: p[:12] + b"\xff\xff\xff\x7f" + p[16:]),
        ("TRUNCATED", lambda p: p[:-8]),
        ("TOO_LARGE", lambda p: p[:8] + (ITEM + b"\0\0\0\0") * 2000 + p[-8:]),
        ("UNDECODABLE", lambda p: p[:8] + ITEM + b"\0\0\0\0" + p[-8:]),
    ],
)
def test_encapsulated_pixels_with_bad_items_are_refused(tmp_path, code, change):
    made = make_series(tmp_path, slices=1, syntax=RLELossless)
    data = made.files[0].read_bytes()
    start = data.index(b"\xe0\x7f\x10\0") + 12
    pixels = ITEM + b"\0\0\0\0" + data[start + 12 :]  # without the offset in the table
    made.files[0].write_bytes(data[:start] + pixels)
    assert len(read(tmp_path, "single").hu) == 1
    made.files[0].write_bytes(data[:start] + change(pixels))
    assert refusal(tmp_path, "single").code == code


def test_a_compressed_piece_cut_short_says_how_much_is_there(tmp_path):
    made = make_series(tmp_path, slices=1, syntax=RLELossless)
    data = made.files[0].read_bytes()
    length = struct.unpack_from("<I", data, data.rindex(ITEM) + 4)[0]
    made.files[0].write_bytes(data[: -8 - 100])
    assert refusal(tmp_path).received == f"{length - 100} of {length} bytes of compressed pixel data"
