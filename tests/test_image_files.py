"""CT and masks as NRRD and MetaImage, and the named segments of 3D Slicer."""

import numpy as np
import pytest
from made.images import write_metaimage, write_nrrd
from made.masks import SHAPE, codes, made_grid, made_labels, made_volume, reoriented, rotation

from kerasbalance.data.ct import open_ct
from kerasbalance.data.errors import DataError
from kerasbalance.data.images.ct import read_image_ct
from kerasbalance.data.images.image import read_image_header
from kerasbalance.data.labels import OrganRule
from kerasbalance.data.masks import read_mask
from kerasbalance.data.masks.empty_volume import empty_volume
from kerasbalance.data.volume.volume import AIR_HU

LIVER = (OrganRule("liver", (1,)),)
BOTH = (*LIVER, OrganRule("spleen", (2,)))
WRITERS = [write_nrrd, write_metaimage]


def refused(read, *args):
    with pytest.raises(DataError) as caught:
        read(*args)
    return str(caught.value)


def turned():
    """A CT whose axes are permuted and flipped in the file, and the right answer."""
    made = made_volume(grid=made_grid(turn=rotation((0.2, -0.1, 0.1))))
    stored, grid = reoriented(made.hu, made.grid, (1, 2, 0), (True, False, True))
    return made, np.ascontiguousarray(stored), grid.affine()


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<i4", ">f4", "<f8"])
def test_a_ct_of_any_orientation_and_type_is_read_voxel_by_voxel(tmp_path, write, dtype):
    made, stored, affine = turned()
    volume = read_image_ct(write(tmp_path / "ct", stored.astype(dtype), affine))
    np.testing.assert_array_equal(volume.hu, np.maximum(made.hu, AIR_HU))
    np.testing.assert_allclose(volume.grid.affine(), made.grid.affine(), atol=1e-9)
    assert volume.source_kind == {write_nrrd: "nrrd", write_metaimage: "metaimage"}[write]


@pytest.mark.parametrize("encoding", ["raw", "gzip", "gz", "bzip2"])
@pytest.mark.parametrize("data_file", [None, "ct.raw"])
def test_every_packing_of_nrrd_is_read_in_one_file_and_in_two(tmp_path, encoding, data_file):
    made = made_volume()
    path = write_nrrd(tmp_path / "ct.nhdr", made.hu, made.grid.affine(), encoding, data_file=data_file)
    np.testing.assert_array_equal(open_ct(tmp_path).read().hu, np.maximum(made.hu, AIR_HU))
    assert read_image_header(path).grid.shape == SHAPE


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("file", ["LOCAL", "ct.raw", "ct.zraw"])
def test_metaimage_is_read_packed_or_not_in_one_file_and_in_two(tmp_path, packed, file):
    made = made_volume()
    write_metaimage(tmp_path / "ct.mhd", made.hu, made.grid.affine(), packed, ElementDataFile=file)
    np.testing.assert_array_equal(open_ct(tmp_path).read().hu, np.maximum(made.hu, AIR_HU))


def test_bytes_before_the_voxels_are_skipped(tmp_path):
    made = made_volume()
    stored, affine = made.hu, made.grid.affine()
    paths = [
        write_nrrd(tmp_path / "a.nhdr", stored, affine, "raw", data_file="a.raw", byte_skip=-1),
        write_nrrd(tmp_path / "b.nhdr", stored, affine, "raw", data_file="b.raw", byte_skip=5),
        write_metaimage(tmp_path / "c.mhd", stored, affine, ElementDataFile="c.raw", HeaderSize=-1),
        write_metaimage(tmp_path / "d.mhd", stored, affine, ElementDataFile="d.raw", HeaderSize=5),
    ]
    for path in paths:
        raw = path.with_suffix(".raw")
        raw.write_bytes(b"12345" + raw.read_bytes())
        np.testing.assert_array_equal(read_image_ct(path).hu, np.maximum(made.hu, AIR_HU))


@pytest.mark.parametrize(
    ("space", "signs"),
    [("left-posterior-superior", (1, 1, 1)), ("RAS", (-1, -1, 1)), ("left-anterior-superior", (1, -1, 1)),
     ("right-anterior-superior", (-1, -1, 1)), ("LPS", (1, 1, 1))],
)  # fmt: skip
def test_the_space_of_an_nrrd_says_which_side_is_left(tmp_path, space, signs):
    affine = np.diag([0.8, 0.9, 2.5, 1.0])
    affine[:3, 3] = (10, 20, 30)
    path = write_nrrd(tmp_path / "ct.nrrd", made_volume().hu, affine, space=space)
    np.testing.assert_allclose(read_image_header(path).grid.affine(), np.diag([*signs, 1]) @ affine)


def test_an_nrrd_in_metres_is_read_in_millimetres(tmp_path):
    affine = np.diag([0.0008, 0.0009, 0.0025, 1.0])
    path = write_nrrd(tmp_path / "ct.nrrd", made_volume().hu, affine, space_units='"m" "m" "m"')
    assert read_image_header(path).grid.spacing_mm == pytest.approx((2.5, 0.9, 0.8))


@pytest.mark.parametrize("write", WRITERS)
def test_an_identity_matrix_is_told_as_a_placeholder(tmp_path, write):
    (note,) = read_image_ct(write(tmp_path / "ct", made_volume().hu, np.eye(4))).notes
    assert (note.code, note.loud) == ("PLACEHOLDER", True)


def test_a_metaimage_without_a_matrix_is_told_as_a_placeholder(tmp_path):
    path = write_metaimage(tmp_path / "ct.mha", made_volume().hu, made_grid().affine(), TransformMatrix=None)
    (note,) = read_image_ct(path).notes
    assert note.code == "PLACEHOLDER"
    assert "no TransformMatrix" in note.text


@pytest.mark.parametrize(
    ("write", "changes", "message"),
    [
        (write_nrrd, {"space": None}, "NO_GEOMETRY: a NRRD file that does not state the directions"),
        (write_nrrd, {"space": "scanner-xyz"}, "NO_GEOMETRY: a NRRD file that does not state the directions"),
        (write_nrrd, {"space_directions": "(1,0,0) (0,1,0)"}, "NO_GEOMETRY: a NRRD file that does not"),
        (write_nrrd, {"space_origin": None}, "NO_GEOMETRY: a NRRD file that does not state the place"),
        (write_nrrd, {"space_units": '"mm" "m" "mm"'}, "NO_GEOMETRY: a NRRD file with several units"),
        (write_nrrd, {"space_origin": "(0,0,nan)"}, "NO_GEOMETRY: a NRRD affine that is not finite"),
        (write_nrrd, {"space_directions": "(1,0,0) (1,0,0) (0,0,1)"}, "NO_GEOMETRY: .* axes are not independent"),
        (write_nrrd, {"encoding": "hex"}, "MALFORMED: NRRD with voxels that are stored as text; expected one"),
        (write_nrrd, {"line_skip": 2}, "MALFORMED: NRRD with lines to skip"),
        (write_nrrd, {"byte_skip": -1}, "MALFORMED: NRRD with -1 bytes to skip"),
        (write_nrrd, {"type": "block"}, "NOT_NUMBERS: NRRD voxels of type that is not a number"),
        (write_nrrd, {"type": None}, "MALFORMED: a NRRD header without type"),
        (write_nrrd, {"endian": None}, "MALFORMED: a NRRD header that does not state the order"),
        (write_nrrd, {"sizes": "48 40"}, "NOT_3D: a NRRD image of shape"),
        (write_nrrd, {"sizes": "48 40 -6"}, "NOT_3D: a NRRD image of shape"),
        (write_nrrd, {"sizes": "99999 99999 99999"}, "TOO_LARGE: a NRRD header that declares 999,9"),
        (write_nrrd, {"sizes": "many"}, "MALFORMED: the header of an image file that cannot be read"),
        (write_metaimage, {"ElementType": "MET_STRING"}, "NOT_NUMBERS: MetaImage voxels"),
        (write_metaimage, {"ElementNumberOfChannels": 3}, "NOT_NUMBERS: MetaImage voxels"),
        (write_metaimage, {"BinaryData": "False"}, "MALFORMED: MetaImage with voxels that are stored as text"),
        (write_metaimage, {"DimSize": "48 40 2 3"}, "NOT_3D: a MetaImage image of shape"),
        (write_metaimage, {"DimSize": "99999 99999 99999"}, "TOO_LARGE: a MetaImage header that declares 999,9"),
        (write_metaimage, {"DimSize": None}, "MALFORMED: a MetaImage header without dimsize"),
        (write_metaimage, {"Offset": "1 2"}, "NO_GEOMETRY: a MetaImage matrix, offset or spacing"),
        (write_metaimage, {"ElementSpacing": "0 1 1"}, "NO_GEOMETRY: voxel steps of"),
        (write_metaimage, {"HeaderSize": -7}, "MALFORMED: MetaImage with a header of -7 bytes"),
        (write_metaimage, {"ElementToIntensityFunctionSlope": 2}, "MALFORMED: MetaImage with values that a func"),
    ],
)  # fmt: skip
def test_a_header_that_cannot_be_used_is_refused_in_words(tmp_path, write, changes, message):
    path = write(tmp_path / "ct", made_volume().hu, made_grid().affine(), **changes)
    with pytest.raises(DataError, match=message):
        read_image_ct(path)


@pytest.mark.parametrize("name", ["../ct.raw", "/etc/hostname", "link.raw", "sub/../../ct.raw"])
def test_a_header_leads_to_no_file_outside_of_its_folder(tmp_path, name):
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "ct.raw").write_bytes(made_volume().hu.tobytes())
    (home / "link.raw").symlink_to(tmp_path / "ct.raw")
    stored, affine = made_volume().hu, made_grid().affine()
    nrrd = write_nrrd(home / "ct.nrrd", stored, affine, "raw")
    nrrd.write_bytes(nrrd.read_bytes().replace(b"space:", f"data file: {name}\nspace:".encode()))
    meta = write_metaimage(home / "ct.mha", stored, affine)
    meta.write_bytes(meta.read_bytes().replace(b"= LOCAL", f"= {name}".encode()))
    for path in (nrrd, meta):
        assert "that names a file in another folder; expected a file beside the header; put" in refused(
            read_image_ct, path
        )


@pytest.mark.parametrize(
    ("name", "message"),
    [("LIST", "voxels in several files"), ("ct%03d.raw 1 6 1", "voxels in several files"),
     ("gone.raw", "UNREADABLE: a NRRD header whose file of voxels is not beside it; expected both files; copy")],
)  # fmt: skip
def test_voxels_in_several_files_or_in_a_missing_one_are_refused(tmp_path, name, message):
    path = write_nrrd(tmp_path / "ct.nhdr", made_volume().hu, made_grid().affine(), "raw")
    path.write_bytes(path.read_bytes().replace(b"space:", f"data file: {name}\nspace:".encode()))
    assert message in refused(read_image_ct, path)


@pytest.mark.parametrize("write", WRITERS)
def test_files_cut_anywhere_are_refused_in_words(tmp_path, write):
    packing = {"encoding": "gzip"} if write is write_nrrd else {"packed": True}
    stored, affine = made_volume().hu, made_grid().affine()
    random = np.random.default_rng(0)
    for options in ({} if write is write_metaimage else {"encoding": "raw"}, packing):
        whole = write(tmp_path / "ct", stored, affine, **options).read_bytes()
        for length in random.integers(0, len(whole) - 1, 60):
            (tmp_path / "cut").write_bytes(whole[:length])
            assert refused(read_image_ct, tmp_path / "cut").partition(":")[0] in ("MALFORMED", "NO_GEOMETRY")
        flipped = bytearray(whole)
        flipped[-30] ^= 0xFF
        (tmp_path / "cut").write_bytes(flipped)
        if options == packing:  # the checksum tells
            assert refused(read_image_ct, tmp_path / "cut").startswith("MALFORMED")


@pytest.mark.parametrize("write", WRITERS)
def test_random_header_bytes_never_raise_anything_else(tmp_path, write):
    whole = write(tmp_path / "ct", made_volume().hu, made_grid().affine()).read_bytes()
    random, read = np.random.default_rng(0), 0
    for _ in range(200):
        content = bytearray(whole)
        for place in random.integers(0, 330, 2):
            content[place] = random.integers(0, 256)
        (tmp_path / "f").write_bytes(content)
        try:
            read += read_image_ct(tmp_path / "f").hu.size > 0
        except DataError as error:
            read += not error.code
    assert read > 5


def test_packed_bombs_and_endless_headers_are_refused_before_they_take_memory(tmp_path):
    few = np.zeros((1, 1, 1), np.int16)
    affine = made_grid().affine()
    bomb = write_nrrd(tmp_path / "a.nrrd", few, affine, "gzip", sizes="1024 1024 100")
    assert refused(read_image_ct, bomb).startswith("TOO_LARGE")
    bomb = write_metaimage(tmp_path / "b.mha", few, affine, True, DimSize="1024 1024 100")
    assert refused(read_image_ct, bomb).startswith("TOO_LARGE")
    longer = write_nrrd(tmp_path / "c.nrrd", np.zeros((40, 256, 256), np.int16), affine, sizes="2 2 2")
    assert refused(read_image_ct, longer).startswith("TOO_LARGE: a file much longer")
    (tmp_path / "d.nrrd").write_bytes(b"NRRD0004\n" + b"a" * 2**21)
    assert "a header of more than 1,048,576 bytes" in refused(read_image_ct, tmp_path / "d.nrrd")


@pytest.mark.parametrize("write", WRITERS)
def test_a_label_map_is_read_as_a_mask_and_has_a_grid_of_its_own(tmp_path, write):
    labels = made_labels()
    path = write(tmp_path / "mask", labels, made_grid().affine())
    mask = read_mask(path, made_volume(), BOTH)
    np.testing.assert_array_equal(mask.labels, labels)
    assert mask.kind == {write_nrrd: "nrrd", write_metaimage: "metaimage"}[write]
    assert empty_volume(path, path).hu.shape == SHAPE


def test_a_folder_of_one_image_file_for_each_organ_may_mix_the_forms(tmp_path):
    labels, affine = made_labels(), made_grid().affine()
    write_nrrd(tmp_path / "liver.nrrd", (labels == 1).astype(np.uint8), affine)
    write_metaimage(
        tmp_path / "spleen.mhd", (labels == 2).astype(np.uint8), affine, ElementDataFile="spleen.raw"
    )
    mask = read_mask(tmp_path, made_volume(), (OrganRule("liver"), OrganRule("spleen")))
    np.testing.assert_array_equal(mask.labels, labels)


def slicer(path, stored, segments, affine=None):
    """Write a `.seg.nrrd`; a segment is (name, value, layer, terminology)."""
    values = {}
    for number, (name, value, layer, term) in enumerate(segments):
        values |= {f"Segment{number}_ID": f"Segment_{number}", f"Segment{number}_Name": name}
        values |= {f"Segment{number}_LabelValue": value} if value is not None else {}
        values |= {f"Segment{number}_Layer": layer} if layer is not None else {}
        values[f"Segment{number}_Tags"] = (
            f"Segmentation.Status:completed|TerminologyEntry:List~{term}~^^~~^^~^^|"
        )
    return write_nrrd(path, stored, made_grid().affine() if affine is None else affine, values=values)


ANY, TISSUE = "SCT^123037004^Anatomical Structure", "SCT^85756007^Tissue~SCT^85756007^Tissue"
SPLEEN = f"{ANY}~SCT^78961009^Spleen"


def test_segments_of_3d_slicer_are_known_by_code_and_by_name(tmp_path):
    path = slicer(tmp_path / "a.seg.nrrd", made_labels() * 3, [("Leber", 3, 0, TISSUE), ("x", 6, 0, SPLEEN)])
    mask = read_mask(path, made_volume())
    assert mask.organs == ("liver", "spleen")
    np.testing.assert_array_equal(mask.labels, made_labels())


def test_segments_in_two_layers_may_overlap_and_the_first_named_keeps_the_voxels(tmp_path):
    liver, spleen = made_labels() == 1, made_labels() == 2
    spleen = spleen | np.roll(liver, 3, axis=2)
    layers = np.stack([liver, spleen], axis=-1).astype(np.uint8)
    path = slicer(tmp_path / "a.seg.nrrd", layers, [("Liver", 1, 0, TISSUE), ("Tumör 7", 1, 1, TISSUE)])
    mask = read_mask(path, made_volume(), (OrganRule("liver"), OrganRule("tumour", ("tumör 7",))))
    np.testing.assert_array_equal(mask.labels, np.where(liver, 1, np.where(spleen, 2, 0)))
    assert codes(mask) == ["OVERLAP"]
    assert (
        f"{np.count_nonzero(liver & spleen):,} voxels belong to both liver and tumour" in mask.notes[0].text
    )


def test_older_segments_without_layer_and_value_have_a_layer_each(tmp_path):
    layers = np.stack([made_labels() == 2, made_labels() == 1], axis=-1).astype(np.uint8)
    path = slicer(
        tmp_path / "a.seg.nrrd", layers, [("Spleen", None, None, TISSUE), ("Liver", None, None, TISSUE)]
    )
    mask = read_mask(path, made_volume(), (OrganRule("liver"), OrganRule("spleen")))
    np.testing.assert_array_equal(mask.labels, made_labels())


def test_a_number_names_the_value_of_a_segment_or_its_place_where_values_repeat(tmp_path):
    path = slicer(tmp_path / "a.seg.nrrd", made_labels() * 3, [("a", 3, 0, TISSUE), ("b", 6, 0, TISSUE)])
    assert np.array_equal(
        read_mask(path, made_volume(), (OrganRule("liver", (6,)),)).labels, made_labels() == 2
    )
    layers = np.stack([made_labels() == 2, made_labels() == 1], axis=-1).astype(np.uint8)
    path = slicer(tmp_path / "b.seg.nrrd", layers, [("a", 1, 0, TISSUE), ("b", 1, 1, TISSUE)])
    assert np.array_equal(
        read_mask(path, made_volume(), (OrganRule("liver", (2,)),)).labels, made_labels() == 1
    )


def test_a_cropped_segmentation_is_placed_where_it_lies(tmp_path):
    labels = np.ascontiguousarray(made_labels()[1:5, 4:39, 6:44])
    affine = made_grid().affine()
    affine[:3, 3] += affine[:3, :3] @ (6, 4, 1)
    path = slicer(
        tmp_path / "a.seg.nrrd", labels, [("liver", 1, 0, TISSUE), ("spleen", 2, 0, TISSUE)], affine
    )
    np.testing.assert_array_equal(read_mask(path, made_volume()).labels, made_labels())


def test_an_unknown_segment_is_listed_and_the_advice_works(tmp_path):
    path = slicer(
        tmp_path / "a.seg.nrrd", made_labels(), [("Jane Doe", 1, 0, TISSUE), ("aorta", 2, 0, TISSUE)]
    )
    message = refused(read_mask, path, made_volume(), (OrganRule("liver"),))
    assert "a mask with segment 1, segment 2 (aorta)" in message
    assert "e.g. --label liver=1" in message
    assert np.array_equal(read_mask(path, made_volume(), LIVER).labels, made_labels() == 1)


def test_several_segmentations_in_a_folder_are_one_mask(tmp_path):
    for value, organ in ((1, "liver"), (2, "spleen")):
        slicer(
            tmp_path / f"{value}.seg.nrrd", (made_labels() == value).astype(np.uint8), [(organ, 1, 0, TISSUE)]
        )
    np.testing.assert_array_equal(read_mask(tmp_path, made_volume()).labels, made_labels())
    write_nrrd(tmp_path / "3.nrrd", made_labels(), made_grid().affine())
    assert "a folder with 2 of 3 image files with named segments" in refused(
        read_mask, tmp_path, made_volume()
    )


def test_layers_are_no_ct_and_no_label_map_and_a_segmentation_is_no_ct(tmp_path):
    layers = np.stack([made_volume().hu] * 2, axis=-1)
    path = write_nrrd(tmp_path / "t.nrrd", layers, made_grid().affine())
    assert refused(read_image_ct, path).startswith("NOT_3D: a NRRD image of shape (2, 48, 40, 6)")
    path = slicer(tmp_path / "a.seg.nrrd", made_labels(), [("liver", 1, 0, TISSUE)])
    assert "NOT_CT: a segmentation of 3D Slicer; expected a CT; name it with --mask" in refused(
        read_image_ct, path
    )
    path = slicer(tmp_path / "b.seg.nrrd", made_labels(), [("liver", 1, 7, TISSUE)])
    assert "1 layers and a segment in another one" in refused(read_image_ct, path)


def oracle_image(sitk, labels=False):
    made, stored, affine = turned()
    image = sitk.GetImageFromArray(stored)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    return made, image


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("ending", [".nrrd", ".nhdr", ".mha", ".mhd", ".nii", ".nii.gz"])
def test_every_form_that_simpleitk_writes_gives_one_volume(tmp_path, ending, packed):
    sitk = pytest.importorskip("SimpleITK")
    made, image = oracle_image(sitk)
    sitk.WriteImage(image, str(tmp_path / f"ct{ending}"), useCompression=packed)
    volume = open_ct(tmp_path).read()
    np.testing.assert_array_equal(volume.hu, np.maximum(made.hu, AIR_HU))
    np.testing.assert_allclose(volume.grid.affine(), made.grid.affine(), atol=1e-4)
    assert volume.notes == ()


@pytest.mark.parametrize("write", WRITERS)
def test_simpleitk_reads_what_is_written_here_in_the_same_place(tmp_path, write):
    sitk = pytest.importorskip("SimpleITK")
    _, stored, affine = turned()
    path = write(tmp_path / ("ct.nrrd" if write is write_nrrd else "ct.mha"), stored, affine)
    theirs = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(theirs), stored)
    ours = read_image_header(path).grid.affine()
    np.testing.assert_allclose(theirs.TransformIndexToPhysicalPoint((3, 5, 7)), (ours @ (3, 5, 7, 1))[:3])
