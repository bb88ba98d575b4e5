"""Canaries in every tag, name and path: none reaches the store, its logs, the screen, or an error."""

import base64
import hashlib
import os
import re
import shutil
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from made.cases import make_cohort
from made.commands import invoke
from made.stores import key_file
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from kerasbalance.data.phantom import write_phantom

NAME, PATIENT, TEXT = "Qwxjane^Zvkdoe", "QZX0734129", "qzxfreetext"
DATE, UID, PLACE, CODE = "19430317", "1.2.826.0.1.7734129", "zqxfolder", "QZXCODE"
WORDS = ["Qwxjane", "Zvkdoe", PATIENT, "0734129", TEXT, DATE, "7734129", PLACE, CODE, "043Y", "194303"]

TEXTS = {
    "PN": NAME,
    "DA": DATE,
    "DT": f"{DATE}120000",
    "AS": "043Y",
    "UI": f"{UID}.9",
    "CS": CODE,
} | dict.fromkeys(("LO", "SH", "LT", "ST", "UT", "UC", "UR", "AE"), TEXT)

# What a reader needs to find the image, and what must agree between CT and mask.
STRUCTURE = {
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality",
    "ImageType", "PhotometricInterpretation", "BurnedInAnnotation", "LossyImageCompression", "RescaleType",
    "SpecificCharacterSet", "SegmentationType", "SegmentsOverlap", "DimensionOrganizationType",
    "PixelPresentation", "VolumetricProperties", "ContentQualification", "SegmentationFractionalType",
    "PresentationLUTShape", "MultiEnergyCTAcquisition", "PatientID",
}  # fmt: skip


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory):
    """A tree of phantom cases, each file full of canaries; SEG, RTSTRUCT and NIfTI masks."""
    root = tmp_path_factory.mktemp("data") / PLACE
    write_phantom(root, 3, 16, 0)
    identifiers = set()
    for number, path in enumerate(sorted(root.rglob("*.dcm"))):
        dataset = pydicom.dcmread(path)
        identifiers |= identifiers_of(dataset)
        spoil(dataset, every=10 if path.parent.name == "ct" and number % 10 else 1)
        with pydicom_without_checks():
            dataset.save_as(path)
        content = path.read_bytes()
        path.write_bytes(f"{NAME}{DATE}{UID}".encode().ljust(128, b"\0")[:128] + content[128:])
    for path in root.rglob("*.nii.gz"):
        spoil_nifti(path)
    for home in sorted(root.glob("case-*")):
        home.rename(home.with_name(f"{home.name}-{NAME}-{DATE}"))
    text = (root / "cases.csv").read_text()
    (root / "cases.csv").write_text(re.sub(r"(case-\d+)", rf"\1-{NAME}-{DATE}", text))
    for name in ("phantom.csv", "phantom.json"):
        (root / name).unlink(missing_ok=True)
    return root, identifiers


def pydicom_without_checks():
    return pydicom.config.disable_value_validation()


def identifiers_of(dataset):
    """The made identifiers of a phantom file, which are nobody else's business either."""
    found = {str(e.value) for e in dataset.iterall() if e.VR == "UI" and "InstanceUID" in e.keyword}
    return {value for value in found | {str(dataset.get("PatientID", ""))} if len(value) > 4}


def spoil(dataset, *, every=1):
    """Fill every string tag of the dictionary (or every n-th, for speed), and what hides elsewhere."""
    with pydicom_without_checks():
        for tag, (vr, _, _, _, keyword) in list(DicomDictionary.items())[::every]:
            if vr in TEXTS and keyword and keyword not in STRUCTURE and tag >> 16 > 2:
                setattr(dataset, keyword, TEXTS[vr])
        dataset.ConvolutionKernel = TEXT
        dataset.PatientID = f"{PATIENT}-{dataset.PatientID}"
        dataset.ImageType = [*dataset.get("ImageType", ["ORIGINAL", "PRIMARY", "AXIAL"]), CODE]
        private = dataset.private_block(0x0077, f"{TEXT} CREATOR", create=True)
        private.add_new(1, "LO", NAME)
        private.add_new(2, "UN", f"{NAME}{DATE}".encode())
        dataset.add_new(0x60000010, "US", 8), dataset.add_new(0x60000022, "LO", NAME)
        dataset.add_new(0x60003000, "OW", f"{NAME}{PATIENT}".encode())
        item = Dataset()
        item.PatientName, item.OtherPatientIDs, item.StudyDate = NAME, PATIENT, DATE
        dataset.RequestAttributesSequence = dataset.OriginalAttributesSequence = Sequence([item])
        dataset.add_new(0xFFFCFFFC, "OB", f"{NAME}{DATE}".encode())
        dataset.file_meta.SourceApplicationEntityTitle = TEXT
        dataset.file_meta.PrivateInformationCreatorUID = f"{UID}.1"
        dataset.file_meta.PrivateInformation = NAME.encode()
        for nested in dataset.iterall():
            if nested.keyword in (
                "SegmentDescription",
                "ROIDescription",
                "ROIObservationLabel",
                "TrackingID",
            ):
                nested.value = NAME
            if nested.keyword in ("ROIInterpreter", "ContentCreatorName"):
                nested.value = NAME


def spoil_nifti(path):
    image = nibabel.load(path, mmap=False)
    header = image.header
    header["descrip"], header["aux_file"], header["db_name"] = NAME, TEXT, PATIENT
    header["intent_name"] = CODE
    header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", f"{NAME} {DATE} {UID}".encode()))
    nibabel.save(nibabel.Nifti1Image(np.array(image.dataobj), image.affine, header), path)


def forms(word):
    """How a word may be written so that somebody could read it again."""
    raw = [word.encode(code) for code in ("utf-8", "utf-16-le", "utf-16-be")]
    found = [form for text in raw for form in (text, text.hex().encode(), text.hex().upper().encode())]
    for text in raw[:1]:
        for shift in range(3):
            encoded = base64.b64encode(bytes(shift) + text)
            found.append(encoded[4 if shift else 0 : len(encoded) - 4])
        found += [
            hashlib.new(name, text).hexdigest().encode() for name in ("md5", "sha1", "sha256", "sha512")
        ]
        found.append(text[::-1])
    return {form for form in found if len(form) > 3}


def streams(content):
    """The bytes, and whatever in them unpacks as a zlib stream."""
    yield content
    for match in re.finditer(rb"\x78[\x01\x5e\x9c\xda]", content):
        try:
            yield zlib.decompressobj().decompress(content[match.start() :], 2**22)
        except zlib.error:
            continue


def hits(words, folder=None, *texts):
    """The canaries that are found in a folder (names and bytes) and in texts."""
    contents = [text.encode("utf-8", "surrogateescape") for text in texts]
    for path in folder.rglob("*") if folder else ():
        contents.append(os.fsencode(path.relative_to(folder)))
        if path.is_file():
            contents += list(streams(path.read_bytes()))
    wanted = {form: word for word in words for form in forms(word)}
    told = b"\n".join(contents).lower()
    return sorted({word for form, word in wanted.items() if form.lower() in told})


def test_the_search_finds_canaries_in_every_disguise(tmp_path):
    (tmp_path / "a").write_bytes(b"xx" + zlib.compress(f"{NAME} ".encode() * 9))
    (tmp_path / "b").write_bytes(PATIENT.encode("utf-16-le"))
    (tmp_path / TEXT).mkdir()
    encoded = base64.b64encode(b"x" + CODE.encode() + b"yz").decode()
    assert hits([PLACE, *WORDS], tmp_path, DATE.encode().hex(), encoded) == sorted(
        ["Qwxjane", "Zvkdoe", PATIENT, "0734129", TEXT, DATE, CODE, "194303"]
    )


LOOKS = (["inspect", "--json"], ["info", "--json"], ["verify"], ["verify", "--json"])


def everything(home, source, *more, looks=()):
    """Run the commands that read `source`; return what the ingest answered, and all that was printed."""
    store, key = home / "store", key_file(home)
    ingest = ["ingest", source, "--out", store, "--key-file", key, *more]
    commands = [["inspect", source, *more], ingest, ["info", store]]
    for command, *options in looks:
        commands.append([command, source if command == "inspect" else store, *options])
    done = [invoke(home, *command) for command in commands]
    texts = [text for run in done for text in (run.stdout, run.stderr)]
    assert not any("INTERNAL" in text for text in texts)
    return done[1], texts


def home_of(tmp_path):
    home = tmp_path / f"{PLACE}-{NAME}"
    home.mkdir()
    return home


def test_no_canary_of_a_taken_case_is_told_or_stored(spoilt, tmp_path):
    source, identifiers = spoilt
    home = home_of(tmp_path)
    ingest, texts = everything(home, source, looks=LOOKS)
    assert ingest.stdout.endswith("3 taken\n"), ingest.output
    assert hits([*WORDS, *identifiers], home / "store", *texts) == []


def test_no_canary_of_a_tree_without_a_manifest_is_told_or_stored(spoilt, tmp_path):
    source, identifiers = spoilt
    home = home_of(tmp_path)
    tree = shutil.copytree(source, home / "tree", ignore=lambda *_: ["cases.csv"])
    lost = tree / f"{NAME}-lost"
    lost.mkdir()
    seg = next(tree.rglob("seg.dcm"))
    dataset = pydicom.dcmread(seg)
    with pydicom_without_checks():
        for item in dataset.iterall():
            if item.keyword in ("SeriesInstanceUID", "FrameOfReferenceUID"):
                item.value = f"{UID}.77"
        dataset.save_as(lost / "seg.dcm")
    ingest, texts = everything(home, tree, looks=LOOKS)
    assert "UNMATCHED" in ingest.stdout
    assert ingest.exit_code == 3
    assert hits([*WORDS, *identifiers], home / "store", *texts) == []


def edit_all(folder, change):
    for n, path in enumerate(sorted(folder.iterdir())):
        dataset = pydicom.dcmread(path)
        with pydicom_without_checks():
            if change(dataset, n) is False:
                path.unlink()
            else:
                dataset.save_as(path)


REFUSALS = {
    "a gap": lambda ct: edit_all(ct, lambda dataset, n: n % 4 > 0),
    "no slope": lambda ct: edit_all(ct, lambda dataset, n: delattr(dataset, "RescaleSlope")),
    "another modality": lambda ct: edit_all(ct, lambda d, n: setattr(d, "Modality", CODE)),
    "another class": lambda ct: edit_all(ct, lambda d, n: setattr(d, "SOPClassUID", f"{UID}.3")),
    "another photometry": lambda ct: edit_all(ct, lambda d, n: setattr(d, "PhotometricInterpretation", CODE)),
    "burned-in text": lambda ct: edit_all(ct, lambda d, n: setattr(d, "BurnedInAnnotation", "YES")),
    "an unknown syntax": lambda ct: edit_all(
        ct, lambda d, n: setattr(d.file_meta, "TransferSyntaxUID", f"{UID}.2")
    ),
    "text for numbers": lambda ct: edit_all(ct, spell_rows),
    "two patients": lambda ct: edit_all(ct, lambda d, n: setattr(d, "PatientID", f"{PATIENT}{n % 2}")),
    "another kernel": lambda ct: edit_all(ct, lambda d, n: setattr(d, "ConvolutionKernel", f"{TEXT}{n % 2}")),
    "cut files": lambda ct: [os.truncate(path, 5000) for path in ct.iterdir()],
    "text files": lambda ct: [path.write_text(NAME) for path in ct.iterdir()],
    "one text file": lambda ct: (ct / f"{NAME}.dcm").write_bytes(b"\0" * 128 + b"DICM" + NAME.encode() * 50),
    "a broken link": lambda ct: (shutil.rmtree(ct), ct.symlink_to(f"/{NAME}")),
    "nothing": shutil.rmtree,
}


def spell_rows(dataset, n):
    dataset[0x00280010] = pydicom.DataElement(0x00280010, "LO", NAME)
    dataset.ImagePositionPatient = None
    dataset.add_new(0x00200032, "LO", f"{NAME}\\{DATE}\\{TEXT}")
    dataset.add_new(0x00281053, "LO", NAME)


@pytest.mark.parametrize("fault", REFUSALS)
def test_no_canary_of_a_refused_ct_is_told_or_stored(spoilt, tmp_path, fault):
    source, identifiers = spoilt
    home = home_of(tmp_path)
    case = shutil.copytree(next(source.glob("case-000*")), home / "data" / f"{NAME}")
    REFUSALS[fault](case / "ct")
    ingest, texts = everything(home, case / "ct", "--mask", case / "seg.dcm", "--label", "liver")
    assert ingest.exit_code == 1, ingest.output
    assert hits([*WORDS, *identifiers], home / "store", *texts) == []


MASKS = {
    "names of people": lambda path: rename_segments(path, NAME),
    "a foreign frame": lambda path: edit_all_uids(path, f"{UID}.8"),
    "a cut file": lambda path: os.truncate(path, path.stat().st_size // 2),
    "text": lambda path: path.write_text(NAME * 50),
    "nothing": lambda path: path.unlink(),
}


def rename_segments(path, name):
    dataset = pydicom.dcmread(path)
    with pydicom_without_checks():
        for item in dataset.iterall():
            if item.keyword in ("SegmentLabel", "ROIName", "CodeMeaning"):
                item.value = name
            if item.keyword == "CodeValue":
                item.value = CODE
        dataset.save_as(path)


def edit_all_uids(path, uid):
    dataset = pydicom.dcmread(path)
    with pydicom_without_checks():
        for item in dataset.iterall():
            if item.VR == "UI" and item.keyword not in ("SOPClassUID", "ReferencedSOPClassUID"):
                item.value = uid
        dataset.save_as(path)


@pytest.mark.parametrize("fault", MASKS)
@pytest.mark.parametrize("kind", ["seg.dcm", "rtstruct.dcm"])
def test_no_canary_of_a_refused_mask_is_told_or_stored(spoilt, tmp_path, kind, fault):
    source, identifiers = spoilt
    home = home_of(tmp_path)
    mask = next(source.rglob(kind))
    case = shutil.copytree(mask.parent, home / "data")
    (case / kind).rename(case / f"{NAME}.dcm")
    MASKS[fault](case / f"{NAME}.dcm")
    # A name that the user asks for may be quoted back, so the canary is not what is asked for.
    ingest, texts = everything(home, case / "ct", "--mask", case / f"{NAME}.dcm", "--label", "liver=nobody")
    assert ingest.exit_code == 1, ingest.output
    assert hits([*WORDS, *identifiers], home / "store", *texts) == []


@pytest.fixture(scope="module")
def spoilt_niftis(tmp_path_factory):
    folder = tmp_path_factory.mktemp("niftis") / PLACE
    make_cohort(folder, 2)
    for path in sorted(folder.glob("*.nii")):
        spoil_nifti(path)
        path.rename(path.with_name(f"{NAME}-{path.name}"))
    text = (folder / "cases.csv").read_text()
    text = re.sub(r"(ct\d+|mask\d+)", rf"{NAME}-\1", text).replace(",P", f",{PATIENT}-")
    (folder / "cases.csv").write_text(text)
    return folder


def test_no_canary_of_a_nifti_is_told_or_stored(spoilt_niftis, tmp_path):
    home = home_of(tmp_path)
    ingest, texts = everything(home, spoilt_niftis, looks=LOOKS)
    assert ingest.stdout.endswith("2 taken\n")
    (folder := home / "refused").mkdir()
    for path in spoilt_niftis.iterdir():
        content = path.read_bytes()
        (folder / path.name).write_bytes(content[: len(content) // 2] if path.suffix == ".nii" else content)
    ingest, more = everything(home, folder, looks=LOOKS)
    assert ingest.exit_code == 1
    texts += more
    assert hits(WORDS, home / "store", *texts) == []


def test_paths_that_are_asked_for_appear_on_the_terminal_only(spoilt_niftis, tmp_path):
    home = home_of(tmp_path)
    words = ["ingest", spoilt_niftis, "--out", home / "store", "--key-file", key_file(home), "--show-paths"]
    done = [
        invoke(home, *words),
        invoke(home, "info", home / "store", "--key-file", key_file(home), "--show-paths"),
    ]
    for run in done:
        assert str(spoilt_niftis) in run.stdout
        without_paths = re.sub(rf"{re.escape(str(spoilt_niftis))}\S*", "", run.stdout)
        assert hits(WORDS, None, without_paths, run.stderr) == []
    assert hits(WORDS, home / "store") == []
    links = Path(home / "keys" / "links.jsonl")
    assert (PLACE in links.read_text(), links.stat().st_mode & 0o777) == (True, 0o600)


def test_original_uids_are_stored_only_when_asked(spoilt, tmp_path):
    source, identifiers = spoilt
    home = home_of(tmp_path)
    words = ["ingest", source, "--out", home / "store", "--key-file", key_file(home)]
    assert invoke(home, *words, "--keep-uids").exit_code == 0
    stored = hits(identifiers, home / "store")
    assert any(uid.count(".") > 3 for uid in stored)
    assert hits(WORDS, home / "store") == []
