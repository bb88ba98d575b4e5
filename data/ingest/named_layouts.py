"""The layouts of public data sets that are known by the names of their files and folders."""

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from kerasbalance.data.errors import DataError, Note
from kerasbalance.data.files import natural_key
from kerasbalance.data.images.image import ENDINGS, stem
from kerasbalance.data.ingest.case import CaseRequest, join_masks
from kerasbalance.data.ingest.dataset_json import dataset_rules
from kerasbalance.data.labels import OrganRule, known_organ

Found = CaseRequest | DataError | Note
Rules = tuple[OrganRule, ...]

MAX_FOLDERS = 100_000

_CT_NAMES = frozenset({"ct", "image", "img", "imaging", "volume", "scan"})
_MASK_NAMES = re.compile(
    r"(mask|masks|seg|segs|segmentation|label|labels|labelmap)([-_].*)?|.*[-_](mask|seg|label)"
)
_BTCV = (OrganRule("spleen", (1,)), OrganRule("kidney", (2, 3)), OrganRule("liver", (6,)))
_FLARE_21 = (OrganRule("liver", (1,)), OrganRule("kidney", (2,)), OrganRule("spleen", (3,)))
_FLARE_22 = (OrganRule("liver", (1,)), OrganRule("kidney", (2, 13)), OrganRule("spleen", (3,)))
_LITS = (OrganRule("liver", (1, 2)),)
"""2 is a tumour in the liver, which belongs to it."""
_KITS = (OrganRule("kidney", (1, 2, 3)),)
"""2 is a tumour and 3 a cyst of the kidney."""


def homes(root: Path) -> list[Path]:
    """Return a folder and all folders below it in natural order, without following links."""
    found: list[Path] = []
    waiting = [root] if os.path.isdir(root) else []
    while waiting and len(found) < MAX_FOLDERS:
        found.append(waiting.pop(0))
        with os.scandir(found[-1]) as entries:
            inner = [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
        waiting += sorted(inner, key=lambda path: natural_key(path.name))
    return sorted(found, key=lambda path: natural_key(str(path)))


def images(folder: Path) -> list[Path]:
    """Return the image files directly in a folder, in natural order."""
    files = [p for p in folder.iterdir() if p.name.lower().endswith(ENDINGS) and not p.name.startswith(".")]
    return sorted(files, key=lambda path: natural_key(path.name))


def _two_folders(
    folder: Path, image_name: str, label_name: str, rules: Callable[[str], Rules]
) -> list[Found]:
    """Pair the files of a folder of images and a folder of labels by their names."""
    left, right = folder / image_name, folder / label_name
    if not os.path.isdir(left) or not os.path.isdir(right):
        return []
    stated, notes = dataset_rules(folder / "dataset.json")
    found: list[Found] = [*notes]
    used: set[Path] = set()
    for mask in images(right):
        bases = dict.fromkeys([stem(mask), re.sub("^label", "img", stem(mask))])
        names = [f"{base}{end}{suffix}" for base in bases for end in ("_0000", "") for suffix in ENDINGS]
        candidates = [left / name for name in names]
        image = next((path for path in candidates if os.path.isfile(path)), candidates[0])
        used.add(image)
        found.append(CaseRequest(image, mask, stated or rules(stem(mask))))
    bare = len([path for path in images(left) if path not in used])
    if bare and used:
        found.append(Note("NO_MASK", f"{bare} images of {image_name} without a mask were left out"))
    return found


def _nnunet(folder: Path) -> list[Found]:
    pairs = (("imagesTr", "labelsTr"), ("imagesVa", "labelsVa"), ("imagesTs", "labelsTs"))
    return [found for pair in pairs for found in _two_folders(folder, *pair, lambda name: ())]


def _btcv(folder: Path) -> list[Found]:
    return _two_folders(folder, "img", "label", lambda name: _BTCV if re.fullmatch(r"label\d+", name) else ())


def _flare(folder: Path) -> list[Found]:
    found = _two_folders(folder, "TrainingImg", "TrainingMask", lambda name: _FLARE_21)
    return found + _two_folders(folder, "images", "labels", _flare_22)


def _flare_22(name: str) -> Rules:
    return _FLARE_22 if name.upper().startswith("FLARE22") else ()


def _ircadb(folder: Path) -> list[Found]:
    ct, masks = folder / "PATIENT_DICOM", folder / "MASKS_DICOM"
    if not os.path.isdir(ct) or not os.path.isdir(masks):
        return []
    return [CaseRequest(ct, masks, (OrganRule("liver"),))]


def _chaos(folder: Path) -> list[Found]:
    ct, masks = folder / "DICOM_anon", folder / "Ground"
    if not os.path.isdir(ct) or not os.path.isdir(masks):
        return []
    # The organisers pair the n-th image with the n-th mask, both in the order of their file names.
    return [CaseRequest(ct, masks, (OrganRule("liver"),), png_order="file")]


def _totalsegmentator(folder: Path) -> list[Found]:
    ct, masks = folder / "ct.nii.gz", folder / "segmentations"
    if not os.path.isfile(ct) or not os.path.isdir(masks):
        return []
    kidneys = OrganRule("kidney", ("kidney_left", "kidney_right"))
    return [
        CaseRequest(ct, masks, (OrganRule("liver", ("liver",)), kidneys, OrganRule("spleen", ("spleen",))))
    ]


def _kits(folder: Path) -> list[Found]:
    for suffix in ENDINGS:
        ct, mask = folder / f"imaging{suffix}", folder / f"segmentation{suffix}"
        if os.path.isfile(mask) and (os.path.isfile(ct) or re.fullmatch(r"case_\d+", folder.name)):
            return [CaseRequest(ct, mask, _KITS)]
    return []


def _beside_ct(folder: Path) -> list[Found]:
    """Pair the only file that is named like a CT with the masks beside it."""
    cts = [path for path in images(folder) if stem(path).lower() in _CT_NAMES]
    return masks_beside(cts[0], folder, "") if len(cts) == 1 else []


def masks_beside(ct: Path, folder: Path, series_uid: str) -> list[Found]:
    """Return one case of a CT and the files of a folder that are named like masks or organs."""
    case: CaseRequest | None = None
    for path in images(folder):
        organ = known_organ(stem(path))
        if path == ct or not (organ or _is_segmentation(path) or _MASK_NAMES.fullmatch(stem(path).lower())):
            continue
        rules = (OrganRule(organ),) if organ else ()
        request = CaseRequest(ct, path, rules, series_uid=series_uid)
        case = join_masks(case, request) if case else request
    return [case] if case else []


def _is_segmentation(path: Path) -> bool:
    return path.name.lower().endswith(".seg.nrrd")


def _slicer(folder: Path) -> list[Found]:
    """Pair the files that 3D Slicer names after their CT."""
    masks = [path for path in images(folder) if _is_segmentation(path) or stem(path).endswith("-label")]
    cts = {stem(path): path for path in images(folder) if path not in masks}
    pairs = [(cts.get(stem(mask).removesuffix("-label")), mask) for mask in masks]
    return [CaseRequest(ct, mask) for ct, mask in pairs if ct]


def _lits(folders: Iterable[Path]) -> list[Found]:
    """Pair `volume-N` and `segmentation-N`, which may lie in different folders."""
    volumes: dict[str, list[Path]] = {}
    masks: list[tuple[str, Path]] = []
    for path in (path for folder in folders for path in images(folder)):
        match = re.fullmatch(r"(volume|segmentation)-(\d+)", stem(path))
        if match and match[1] == "volume":
            volumes.setdefault(match[2], []).append(path)
        elif match:
            masks.append((match[2], path))
    found: list[Found] = []
    for number, mask in masks:
        near = [path for path in volumes.get(number, []) if path.parent == mask.parent]
        candidates = near or volumes.get(number, [])
        if len(candidates) == 1:
            found.append(CaseRequest(candidates[0], mask, _LITS))
        else:
            found.append(DataError("UNMATCHED", f"a segmentation with {len(candidates)} volumes of its number",
                                   "one volume", "name CT and mask with --mask or in a --manifest",
                                   path=mask))  # fmt: skip
    return found


_BY_FOLDER: dict[str, Callable[[Path], list[Found]]] = {
    "nnU-Net or Decathlon (imagesTr, labelsTr)": _nnunet,
    "3D-IRCADb (PATIENT_DICOM, MASKS_DICOM)": _ircadb,
    "CHAOS (DICOM_anon, Ground)": _chaos,
    "TotalSegmentator (ct.nii.gz, segmentations)": _totalsegmentator,
    "KiTS (imaging, segmentation)": _kits,
    "BTCV (img, label)": _btcv,
    "FLARE (TrainingImg, TrainingMask or images, labels)": _flare,
    "a CT file with its masks beside it": _beside_ct,
    "3D Slicer (NAME.nrrd, NAME.seg.nrrd or NAME-label.nrrd)": _slicer,
}
_LITS_NAME = "LiTS (volume-N, segmentation-N)"
NAMES = (*_BY_FOLDER, _LITS_NAME)


def find_named_cases(root: Path) -> dict[str, list[Found]]:
    """Return what each layout finds at or below a folder; a CT belongs to the first layout that names it."""
    folders, taken = homes(root), set[Path]()
    result: dict[str, list[Found]] = {}
    for name, found in (
        (name, [f for home in folders for f in find(home)]) for name, find in _BY_FOLDER.items()
    ):
        result[name] = [f for f in found if not isinstance(f, CaseRequest) or f.ct not in taken]
        taken |= {f.ct for f in found if isinstance(f, CaseRequest)}
    result[_LITS_NAME] = _lits(folders)
    return {name: found for name, found in result.items() if found}
