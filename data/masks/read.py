"""Reading a reference mask of any kind onto the grid of its CT."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kerasbalance.data.dicom.guard import (
    DICOMDIR,
    SEGMENTATIONS,
    STRUCTURE_SET,
    lenient_pydicom,
)
from kerasbalance.data.errors import DataError, Note
from kerasbalance.data.files import Listing, list_folder
from kerasbalance.data.images.image import read_image_header, stem
from kerasbalance.data.labels import OrganRule, check_rules, known_organ
from kerasbalance.data.masks.image_masks import label_map_of, mask_from_segments, read_mask_image
from kerasbalance.data.masks.kinds import kind_of
from kerasbalance.data.masks.label_map import LabelMap, mask_from_label_map, mask_from_parts
from kerasbalance.data.masks.mask import Mask, Request
from kerasbalance.data.masks.merging import merge_masks
from kerasbalance.data.masks.png import ORDERS, load_png
from kerasbalance.data.masks.rtstruct import read_rtstruct
from kerasbalance.data.masks.segmentation import read_segmentation
from kerasbalance.data.masks.series import load_series
from kerasbalance.data.volume.stated_grid import StatedGrid
from kerasbalance.data.volume.volume import Volume

MASK_FORMS = "a mask as NIfTI, NRRD, MetaImage, DICOM SEG, RTSTRUCT, DICOM image series or PNG stack"


@dataclass(frozen=True)
class MaskSource:
    """One mask of a CT, as the user names it.

    Args:
        path: File or folder.
        rules: Which of its values mean which organ; empty to recognise known names.
        png_order: How a PNG stack is ordered, see `read_mask`.
    """

    path: Path
    rules: tuple[OrganRule, ...] = ()
    png_order: str | None = None


def read_masks(
    sources: Sequence[MaskSource],
    volume: Volume,
    *,
    resample: bool = False,
    allow: frozenset[str] = frozenset(),
    grid: StatedGrid | None = None,
) -> Mask:
    """Read one or several masks of a CT as one, see `read_mask` and `merging.merge_masks`."""
    readers = [
        partial(
            read_mask,
            s.path,
            volume,
            s.rules,
            resample=resample,
            png_order=s.png_order,
            allow=allow,
            grid=grid,
        )
        for s in sources
    ]
    if len(readers) == 1:
        return readers[0]()
    rules = {rule.organ: rule for source in sources for rule in source.rules}
    return merge_masks(readers, tuple(rules.values()))


def read_mask(
    path: Path | str,
    volume: Volume,
    rules: tuple[OrganRule, ...] = (),
    *,
    resample: bool = False,
    png_order: str | None = None,
    allow: frozenset[str] = frozenset(),
    grid: StatedGrid | None = None,
) -> Mask:
    """Read a mask and map it, by position, onto the grid of its CT.

    The content decides the kind. A file may be an image file (NIfTI, NRRD, MetaImage, or a `.seg.nrrd` with
    named segments), DICOM SEG, RTSTRUCT or one DICOM or PNG image. A folder may hold one such file, several SEG and
    RTSTRUCT or several `.seg.nrrd` (for example one organ each), a DICOM image series, a PNG stack, one image file
    for each organ (`liver.nii.gz`, `kidney_left.nrrd`), or a folder for each organ with a series or a stack in it.

    Args:
        path: A file or a folder.
        volume: The CT, canonical.
        rules: Which values, segments, ROIs or names mean which organ. Empty: known organs are recognised by
            code or name, where there are codes or names.
        resample: Whether a mask on another grid is mapped by nearest position instead of refused.
        png_order: `"z-ascending"`, `"z-descending"` or `"file"`; see `png.load_png`.
        allow: Relaxations by name; only `"frame-of-reference"` is used here.
        grid: Where the voxels of an image file lie if its header does not state it.

    Returns:
        The organs on the CT's grid. An empty mask is returned with a loud note.

    Raises:
        DataError: If anything is wrong, with a code; nothing else escapes for unreadable or hostile files.
        ValueError: If `png_order` is none of the three.

    Example:
        ```python
        mask = read_mask("segmentation.nii.gz", volume, (OrganRule("liver", (5,)),))
        mask.labels.shape == volume.hu.shape
        ```
    """
    if png_order is not None and png_order not in ORDERS:
        raise ValueError(f"png_order={png_order!r}; expected one of {ORDERS}; leave it out for other masks")
    check_rules(rules)
    path = Path(path)
    request = Request(volume, rules, resample, png_order, allow, grid)
    try:
        with lenient_pydicom():
            return _read_folder(path, request) if path.is_dir() else _read_file(path, request)
    except DataError as error:
        raise error.at(path=path) from None


def _read_file(path: Path, request: Request) -> Mask:
    kind = kind_of(path)
    if kind is None:
        raise _no_mask("a file that is none of these", path)
    if kind.name == "dicom":
        return _read_dicom_files({path: kind.sop_class}, request, path)
    if kind.name == "image":
        return _read_image_file(path, request)
    return mask_from_label_map(load_png([path], request), request)


def _read_image_file(path: Path, request: Request) -> Mask:
    image = read_mask_image(path, request)
    if image.header.segments:
        return mask_from_segments(image, request)
    return mask_from_label_map(label_map_of(image), request)


def _read_folder(folder: Path, request: Request) -> Mask:
    listing = list_folder(folder)
    kinds = _sort(listing)
    if len(kinds) > 1:
        found = ", ".join(f"{len(paths)} {kind}" for kind, paths in sorted(kinds.items()))
        raise _ambiguous(f"a folder with {found} files", folder)
    mask = _read_kinds(folder, listing, kinds, request)
    if not listing.skipped:
        return mask
    text = f"{listing.skipped} entries of the mask folder are no regular files and were skipped"
    return Mask(mask.labels, mask.organs, mask.kind, (*mask.notes, Note("NOT_REGULAR", text)))


def _read_kinds(folder: Path, listing: Listing, kinds: dict[str, dict[Path, str]], request: Request) -> Mask:
    if not kinds and listing.folders:
        names = [part.name for part in listing.folders]
        _refuse_numbers(request, "folder")
        return mask_from_parts(
            names, lambda n: _load_part(listing.folders[n], request), request, word="folder"
        )
    if not kinds:
        raise _no_mask("a folder without such files", folder)
    ((kind, classes),) = kinds.items()
    if kind == "dicom":
        return _read_dicom_files(classes, request, folder)
    paths = list(classes)
    return _read_image_files(paths, request) if kind == "image" else _read_png(paths, request)


def _read_png(paths: Sequence[Path], request: Request) -> Mask:
    return mask_from_label_map(load_png(paths, request), request)


def _read_image_files(paths: Sequence[Path], request: Request) -> Mask:
    """Read the image files of a folder: one mask, one for each organ, or files with named segments."""
    names = [stem(path) for path in paths]
    named = sum(bool(read_image_header(path, request.grid).segments) for path in paths)
    if 0 < named < len(paths):
        raise _ambiguous(
            f"a folder with {named} of {len(paths)} image files with named segments", paths[0].parent
        )
    if named:
        readers = [partial(_read_image_file, path, request) for path in paths]
        return merge_masks(readers, request.rules) if len(readers) > 1 else readers[0]()
    if len(paths) > 1 or _is_named_part(names[0], request):
        _refuse_numbers(request, "file")
        return mask_from_parts(names, lambda n: _load([paths[n]], "image", request), request, word="file")
    return _read_image_file(paths[0], request)


def _read_dicom_files(classes: dict[Path, str], request: Request, place: Path) -> Mask:
    by_class: dict[str, list[Path]] = {}
    for path, sop_class in classes.items():
        by_class.setdefault(sop_class, []).append(path)
    by_class.pop(DICOMDIR, None)
    segmentations = [path for each in SEGMENTATIONS for path in by_class.pop(each, [])]
    structure_sets = by_class.pop(STRUCTURE_SET, [])
    readers = [partial(read_segmentation, path, request) for path in segmentations]
    readers += [partial(read_rtstruct, path, request) for path in structure_sets]
    if len(readers) == 1:
        return readers[0]()
    if readers:
        return merge_masks(readers, request.rules)
    images = [path for group in by_class.values() for path in group]
    if not images:
        raise _no_mask("DICOM files without any image, SEG or RTSTRUCT", place)
    return mask_from_label_map(load_series(images, request), request)


def _load(paths: Sequence[Path], kind: str, request: Request) -> LabelMap:
    return label_map_of(read_mask_image(paths[0], request)) if kind == "image" else load_png(paths, request)


def _load_part(folder: Path, request: Request) -> LabelMap:
    """Read the only stack of one organ's folder."""
    kinds = _sort(list_folder(folder))
    if len(kinds) != 1:
        raise _ambiguous(f"a folder of one organ with {len(kinds)} kinds of mask files", folder)
    ((kind, classes),) = kinds.items()
    paths = list(classes)
    if kind == "image" and len(paths) > 1:
        raise _ambiguous(f"a folder of one organ with {len(paths)} image files", folder)
    return load_series(paths, request) if kind == "dicom" else _load(paths, kind, request)


def _sort(listing: Listing) -> dict[str, dict[Path, str]]:
    """Return, by the name of their kind, the files of a folder with their SOP classes."""
    kinds: dict[str, dict[Path, str]] = {}
    for path in listing.files:
        kind = kind_of(path)
        if kind is not None:
            kinds.setdefault(kind.name, {})[path] = kind.sop_class
    return kinds


def _is_named_part(stem: str, request: Request) -> bool:
    """Return whether a folder's only image file bears an organ's name and the rules leave its values open."""
    if any(isinstance(value, int) for rule in request.rules for value in rule.values):
        return False
    return known_organ(stem) is not None


def _refuse_numbers(request: Request, word: str) -> None:
    if any(isinstance(value, int) for rule in request.rules for value in rule.values):
        raise DataError(
            "LABEL_RULE",
            f"label numbers for a folder with one {word} for each organ",
            f"the {word}s' names",
            f"name the {word} of each organ without its ending, e.g. --label {request.rules[0].organ}=NAME",
        )


def _no_mask(received: str, path: Path) -> DataError:
    return DataError(
        "MASK_KIND",
        received,
        MASK_FORMS,
        "name the mask's file or folder",
        path=path,
    )


def _ambiguous(received: str, path: Path) -> DataError:
    return DataError("AMBIGUOUS", received, "one mask", "name the file or folder that is meant", path=path)
