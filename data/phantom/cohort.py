"""Many synthetic cases on disk: which are hard, which mask format each has, and the manifest for `ingest`."""

import csv
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kerasbalance.data.errors import DataError
from kerasbalance.data.phantom.case import LABELS, case_patient, make_case
from kerasbalance.data.phantom.ct_series import make_ct_series, write_ct_series
from kerasbalance.data.phantom.identity import CaseIdentity
from kerasbalance.data.phantom.mask_files import NAMES, write_nifti, write_seg
from kerasbalance.data.phantom.patient import HARD_KINDS
from kerasbalance.data.phantom.rtstruct import write_rtstruct
from kerasbalance.data.phantom.wrong_masks import spoil_masks
from kerasbalance.files import remove_leftovers, write_file

MASK_FILES = {"seg": "seg.dcm", "rtstruct": "rtstruct.dcm", "nifti": "mask.nii.gz"}
MANIFEST = "cases.csv"
TABLE = "phantom.csv"
WRONG = "wrong-masks.csv"
PARAMETERS = "phantom.json"
TWO_KINDS_SHARE = 0.4
# Independent random streams of a cohort; case n draws from (seed, n, ...), so these need a second word.
_HARD, _FORMATS = (2**31 + 1, 2**31 + 2)


@dataclass(frozen=True)
class PlannedCase:
    """What a case will be, before it is made.

    Args:
        identity: Names and UIDs.
        kinds: Hard kinds; () for an easy case.
        mask_format: `"seg"`, `"rtstruct"` or `"nifti"`.
    """

    identity: CaseIdentity
    kinds: tuple[str, ...]
    mask_format: str

    @property
    def key(self) -> tuple[int, int]:
        """Seed of the case."""
        return self.identity.seed, self.identity.number


def plan_cases(
    cases: int,
    size: int,
    seed: int,
    *,
    hard_share: float = 0.25,
    rtstruct_share: float = 0.2,
    nifti_share: float = 0.2,
) -> tuple[PlannedCase, ...]:
    """Decide which cases are hard and which format each mask has: exact counts, seeded choice.

    `round(hard_share * cases)` cases are hard, 60 % of them in one way and the others in two;
    `round(rtstruct_share * cases)` masks are RTSTRUCT, `round(nifti_share * cases)` NIfTI, the others SEG.

    Raises:
        ValueError: If a count or share is out of range.
    """
    _check(
        cases, seed, {"hard_share": hard_share, "rtstruct_share": rtstruct_share, "nifti_share": nifti_share}
    )
    rng = np.random.default_rng((seed, _HARD))
    kinds: list[tuple[str, ...]] = [()] * cases
    for number in rng.permutation(cases)[: round(hard_share * cases)]:
        count = 2 if rng.random() < TWO_KINDS_SHARE else 1
        kinds[number] = tuple(str(kind) for kind in rng.choice(HARD_KINDS, count, replace=False))
    formats = ["seg"] * cases
    order = np.random.default_rng((seed, _FORMATS)).permutation(cases)
    contours, niftis = round(rtstruct_share * cases), round(nifti_share * cases)
    for rank, number in enumerate(order[: contours + niftis]):
        formats[number] = "rtstruct" if rank < contours else "nifti"
    return tuple(PlannedCase(CaseIdentity(seed, n, size), kinds[n], formats[n]) for n in range(cases))


def _check(cases: int, seed: int, shares: dict[str, float]) -> None:
    if cases < 1:
        raise ValueError(f"cases {cases}; expected at least 1; ask for one case or more")
    if seed < 0:
        raise ValueError(f"seed {seed}; expected 0 or more; choose another seed")
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise ValueError(f"{name} {share}; expected 0 to 1; give a share, not a percentage")
    if shares["rtstruct_share"] + shares["nifti_share"] > 1:
        raise ValueError(
            f"rtstruct_share {shares['rtstruct_share']} and nifti_share {shares['nifti_share']}; "
            "expected a sum of at most 1; lower one of them"
        )


def write_phantom(
    out: Path | str,
    cases: int,
    size: int = 128,
    seed: int = 0,
    *,
    hard_share: float = 0.25,
    rtstruct_share: float = 0.2,
    nifti_share: float = 0.2,
    wrong_share: float = 0.0,
    progress: Callable[[int], object] | None = None,
) -> tuple[PlannedCase, ...]:
    """Write synthetic cases as DICOM CT series with their masks, and a manifest that `ingest` takes.

    `out/case-000/ct/*.dcm` is a series, its mask lies beside it: `seg.dcm`, `rtstruct.dcm` or `mask.nii.gz`.
    `out/cases.csv` is the manifest (ct, mask, case, patient, labels), `out/phantom.csv` says what each case
    is. A case appears whole or not at all: after an interruption the same call completes the folder. The
    same arguments give the same bytes.

    Args:
        out: A new or empty folder, or one that an earlier call with the same arguments left unfinished.
        cases: How many.
        size: Rows and columns.
        seed: 0 or more; case n is `make_case((seed, n), size, kinds)`.
        hard_share: Share of hard cases, 0 to 1.
        rtstruct_share: Share of masks written as RTSTRUCT.
        nifti_share: Share of masks written as NIfTI; the rest is DICOM SEG.
        wrong_share: Share of the slices with liver whose masks are wrong on purpose, as `wrong-masks.csv` then lists.
        progress: Called with 1 after each case, also for one that was there already.

    Returns:
        What each case is.

    Raises:
        ValueError: If an argument is out of range.
        DataError: If `out` holds something else (code `PHANTOM_FOLDER`).
    """
    shares = {"hard_share": hard_share, "rtstruct_share": rtstruct_share, "nifti_share": nifti_share}
    plan = plan_cases(cases, size, seed, **shares)
    if not 0 <= wrong_share <= 1:
        raise ValueError(f"wrong_share {wrong_share}; expected 0 to 1; give a share, not a percentage")
    out = Path(out)
    parameters: dict[str, object] = {"format": 1, "cases": cases, "size": size, "seed": seed, **shares}
    _claim(out, parameters | ({"wrong_share": wrong_share} if wrong_share else {}))
    for planned in plan:
        if not (out / planned.identity.name).is_dir():
            _write_case(out, planned, wrong_share)
        if progress is not None:
            progress(1)
    write_file(out / TABLE, _table(plan).encode())
    write_file(out / MANIFEST, _manifest(plan).encode())
    if wrong_share:
        write_file(out / WRONG, _wrong_table(out, plan).encode())
    return plan


def _claim(out: Path, parameters: dict[str, object]) -> None:
    """Take a new or empty folder, or one with the same parameters; refuse anything else."""
    out.mkdir(parents=True, exist_ok=True)
    remove_leftovers(out)
    marker = out / PARAMETERS
    text = json.dumps(parameters, indent=1) + "\n"
    if marker.is_file():
        if marker.read_text() == text:
            return
        received = f"a folder that holds a phantom made with other parameters (see {PARAMETERS})"
    elif any(out.iterdir()):
        received = "a folder that holds other files"
    else:
        write_file(marker, text.encode())
        return
    raise DataError(
        "PHANTOM_FOLDER",
        received,
        "a new or empty folder, or an unfinished phantom made with the same parameters",
        "choose another folder, or repeat the parameters",
        path=out,
    )


def _write_case(out: Path, planned: PlannedCase, wrong_share: float) -> None:
    """Write a case under a temporary name, then rename it."""
    identity = planned.identity
    folder = out / f".{identity.name}.partial"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    case = make_case(planned.key, identity.size, planned.kinds)
    if wrong_share:
        case, wrong = spoil_masks(case, planned.key, wrong_share)
        write_file(folder / WRONG, _csv([[str(one.slice), one.kind] for one in wrong]).encode())
    series = make_ct_series(case, identity)
    write_ct_series(series, folder / "ct", identity.seed)
    mask = folder / MASK_FILES[planned.mask_format]
    if planned.mask_format == "seg":
        write_seg(case, series, identity, mask)
    elif planned.mask_format == "rtstruct":
        write_rtstruct(case, series, identity, mask)
    else:
        write_nifti(case, mask)
    folder.rename(out / identity.name)


def _table(plan: tuple[PlannedCase, ...]) -> str:
    rows = [["case", "seed", "hard", "kinds", "phase", "slices", "mask"]]
    for planned in plan:
        patient = case_patient(planned.key, planned.kinds)
        hard, kinds = str(int(bool(planned.kinds))), "+".join(planned.kinds)
        name, seed = planned.identity.name, str(planned.identity.seed)
        rows.append([name, seed, hard, kinds, patient.phase, str(patient.slices), planned.mask_format])
    return _csv(rows)


def _wrong_table(out: Path, plan: tuple[PlannedCase, ...]) -> str:
    rows = [["case", "slice", "kind"]]
    for planned in plan:
        name = planned.identity.name
        with (out / name / WRONG).open(newline="") as file:
            rows += [[name, *row] for row in csv.reader(file)]
    return _csv(rows)


def _manifest(plan: tuple[PlannedCase, ...]) -> str:
    rows = [["ct", "mask", "case", "patient", "labels"]]
    for planned in plan:
        name = planned.identity.name
        mask = f"{name}/{MASK_FILES[planned.mask_format]}"
        rows.append([f"{name}/ct", mask, name, planned.identity.patient, label_rules(planned.mask_format)])
    return _csv(rows)


def label_rules(mask_format: str) -> str:
    """Say which values of a mask mean which organ: `organ=value,value;organ=value`."""
    values = {
        organ: str(value) if mask_format == "nifti" else NAMES[organ] for organ, value in LABELS.items()
    }
    kidney = f"{values['kidney_left']},{values['kidney_right']}"
    return f"liver={values['liver']};spleen={values['spleen']};kidney={kidney}"


def _csv(rows: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
