import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from made.cases import LIVER, made_pair, make_cohort, write_nifti
from made.stores import digest, open_store, statuses, take

from kerasbalance.data.errors import DataError
from kerasbalance.data.ingest import case
from kerasbalance.data.ingest.case import CaseOptions, CaseRequest
from kerasbalance.data.ingest.ingest import examine, ingest
from kerasbalance.data.labels import OrganRule
from kerasbalance.data.store import SliceStore, Store, read_rejections, verify_store
from kerasbalance.data.store.writer import open_writer


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Four cases as NIfTI."""
    return make_cohort(tmp_path_factory.mktemp("cohort"), 4)


@pytest.fixture(scope="module")
def ingested(cohort, tmp_path_factory):
    """A folder with a store of the cohort; copy it to change it."""
    folder = tmp_path_factory.mktemp("ingested")
    take(folder, cohort, jobs=2)
    return folder


@pytest.fixture
def home(ingested, tmp_path):
    """A copy of that folder."""
    shutil.copytree(ingested, tmp_path / "home")
    return tmp_path / "home"


def flip(path, at=-200):
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)


def case_file(home, outcome):
    return home / "store" / "cases" / f"{outcome.facts.key}.h5"


def test_every_case_is_taken_voxel_by_voxel(cohort, ingested):
    store = SliceStore(ingested / "store")
    source = store.source(("liver", "spleen"))
    seen = set()
    for n in range(4):
        x, y = source.read(np.arange(5 * n, 5 * n + 5))
        for seed in range(4):
            hu, labels = made_pair(seed)
            if np.array_equal(x[..., 0], hu) and np.array_equal(y[..., 0], labels):
                seen.add(seed)
    assert seen == {0, 1, 2, 3}


def test_the_same_ingest_again_changes_nothing(cohort, home):
    before = {path: path.stat() for path in (home / "store").rglob("*") if path.is_file()}
    assert statuses(take(home, cohort, jobs=2)) == ["unchanged"] * 4
    after = {path: path.stat() for path in (home / "store").rglob("*") if path.is_file()}
    assert {p: (s.st_ino, s.st_mtime_ns) for p, s in before.items() if p.name != "LOCK"} == {
        p: (s.st_ino, s.st_mtime_ns) for p, s in after.items() if p.name != "LOCK"
    }


def test_the_result_does_not_depend_on_jobs_or_order(cohort, ingested, tmp_path):
    assert statuses(take(tmp_path, [cohort[n] for n in (2, 0, 3, 1)], jobs=1)) == ["taken"] * 4
    assert digest(tmp_path) == digest(ingested)


def test_an_ingest_in_two_halves_gives_the_same_store(cohort, ingested, tmp_path):
    take(tmp_path, cohort[:2])
    assert statuses(take(tmp_path, cohort)) == ["unchanged"] * 2 + ["taken"] * 2
    assert digest(tmp_path) == digest(ingested)


def test_an_ingest_that_is_abandoned_keeps_what_it_yielded(cohort, ingested, tmp_path):
    store, pseudonyms = open_store(tmp_path)
    running = ingest(cohort, store, pseudonyms, CaseOptions(), jobs=2)
    first = next(running)
    running.close()
    assert first.facts.key in store.entries()
    assert not verify_store(store).faults
    assert not list(store.aside.iterdir())
    take(tmp_path, cohort, jobs=2)
    assert digest(tmp_path) == digest(ingested)


def test_no_process_is_left_when_the_consumer_stops_early(cohort, tmp_path):
    store, pseudonyms = open_store(tmp_path)
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    running = ingest(cohort * 3, store, pseudonyms, CaseOptions(), jobs=4)
    next(running)
    running.close()
    servers = ("forkserver", "resource_tracker")
    left = [c for c in psutil.Process().children(recursive=True) if c.pid not in before]
    assert [c for c in left if not any(name in " ".join(c.cmdline()) for name in servers)] == []


def test_an_exception_in_the_consumer_frees_the_lock(cohort, tmp_path):
    store, pseudonyms = open_store(tmp_path)
    running = ingest(cohort, store, pseudonyms, CaseOptions())
    next(running)
    with pytest.raises(KeyError):
        running.throw(KeyError())
    with open_writer(store):
        pass


def test_renamed_and_moved_sources_are_unchanged(cohort, home, tmp_path):
    moved = []
    for n, request in enumerate(cohort):
        place = tmp_path / f"other {n} é" / "deeper"
        place.mkdir(parents=True)
        ct, mask = place / "a.nii", place / "b.nii"
        shutil.copy(request.ct, ct), shutil.copy(request.mask, mask)
        moved.append(replace(request, ct=ct, mask=mask))
    before = digest(home)
    assert statuses(take(home, moved)) == ["unchanged"] * 4
    assert digest(home) == before


@pytest.mark.parametrize("spelling", ["relative", "through a link", "with dots", "long"])
def test_a_source_may_be_spelt_in_any_way(cohort, home, tmp_path, monkeypatch, spelling):
    folder = cohort[0].ct.parent
    monkeypatch.chdir(folder)
    (tmp_path / "link").symlink_to(folder)
    base = {
        "relative": Path(),
        "through a link": tmp_path / "link",
        "with dots": folder / "." / ".." / folder.name,
        "long": folder.joinpath(*(["..", folder.name] * 40)),
    }[spelling]
    request = replace(cohort[0], ct=base / cohort[0].ct.name, mask=base / cohort[0].mask.name)
    assert statuses(take(home, [request])) == ["unchanged"]


def test_another_mask_for_a_stored_series_is_refused_unless_replacing(cohort, home, tmp_path):
    mask = write_nifti(tmp_path / "mask.nii", np.roll(made_pair(0)[1], 1, axis=2))
    changed = [replace(cohort[0], mask=mask), *cohort[1:]]
    before = digest(home)
    assert statuses(take(home, changed)) == ["CHANGED", *["unchanged"] * 3]
    assert digest(home) == before
    assert statuses(take(home, changed, replace_changed=True)) == ["replaced", *["unchanged"] * 3]
    assert digest(home) != before
    assert not verify_store(Store(home / "store")).faults
    assert statuses(take(home, cohort, replace_changed=True)) == ["replaced", *["unchanged"] * 3]
    assert digest(home) == before


@pytest.mark.parametrize("options", [CaseOptions(crop=16), CaseOptions(resize=12)])
def test_other_options_for_a_stored_series_are_a_change(cohort, home, options):
    assert statuses(take(home, cohort[:1], options)) == ["CHANGED"]
    assert statuses(take(home, cohort[:1], options, replace_changed=True)) == ["replaced"]


def test_uids_that_are_asked_for_later_are_a_change(cohort, home):
    assert statuses(take(home, cohort[:1], CaseOptions(keep_uids=True))) == ["CHANGED"]


def test_options_that_change_nothing_leave_a_case_unchanged(cohort, home):
    before = digest(home)
    assert statuses(take(home, cohort, CaseOptions(resample_mask=True))) == ["unchanged"] * 4
    assert digest(home) == before


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "missing", "swapped", "no index"])
def test_ingesting_again_mends_what_was_damaged(cohort, home, damage):
    outcomes, before = take(home, cohort), digest(home)
    path = case_file(home, outcomes[1])
    {
        "flip": lambda: flip(path),
        "cut": lambda: os.truncate(path, 1000),
        "empty": lambda: os.truncate(path, 0),
        "missing": path.unlink,
        "swapped": lambda: shutil.copy(case_file(home, outcomes[2]), path),
        "no index": lambda: (flip(path), (home / "store" / "index.jsonl").unlink()),
    }[damage]()
    assert list(verify_store(Store(home / "store")).faults) == [outcomes[1].facts.key]
    assert statuses(take(home, cohort, jobs=2)) == ["unchanged", "mended", "unchanged", "unchanged"]
    assert digest(home) == before
    assert not verify_store(Store(home / "store")).faults


def test_a_damaged_case_is_not_mended_with_other_content_unless_replacing(cohort, home, tmp_path):
    flip(case_file(home, take(home, cohort)[0]))
    mask = write_nifti(tmp_path / "mask.nii", np.roll(made_pair(0)[1], 1, axis=2))
    changed = [replace(cohort[0], mask=mask)]
    assert statuses(take(home, changed)) == ["CHANGED"]
    assert statuses(take(home, changed, replace_changed=True)) == ["replaced"]


def test_one_series_named_twice_in_one_run_is_kept_once(cohort, ingested, tmp_path):
    doubled = [*cohort, replace(cohort[0], where="again"), replace(cohort[3], where="and again")]
    outcomes = take(tmp_path, doubled, jobs=4)
    assert sorted(statuses(outcomes)) == ["taken"] * 4 + ["unchanged"] * 2
    assert digest(tmp_path) == digest(ingested)


def test_a_refused_case_stops_no_other(cohort, tmp_path):
    junk = tmp_path / "junk.nii"
    junk.write_bytes(b"no image" * 100)
    bad = [
        CaseRequest(junk, cohort[0].mask, LIVER, where="a"),
        CaseRequest(tmp_path / "nowhere.nii", cohort[0].mask, LIVER, where="b"),
        CaseRequest(cohort[0].ct, tmp_path / "nowhere.nii", LIVER, where="c"),
        CaseRequest(cohort[0].ct, cohort[1].ct, LIVER, where="d"),
        CaseRequest(cohort[0].ct, cohort[0].mask, (OrganRule("heart", (9,)),), where="e"),
    ]
    outcomes = take(tmp_path, [*bad, *cohort], jobs=3)
    assert statuses(outcomes)[5:] == ["taken"] * 4
    assert all(outcome.error is not None for outcome in outcomes[:5])
    assert not any("INTERNAL" in status for status in statuses(outcomes))
    assert not list((tmp_path / "store" / "tmp").iterdir())


def test_a_missing_mask_is_called_a_mask(cohort, tmp_path):
    missing = replace(cohort[0], mask=tmp_path / "nowhere.nii")
    error = take(tmp_path, [missing])[0].error
    assert str(error).startswith(
        "UNREADABLE: case 1 of 4, mask: no such file or directory; expected a readable file"
    )
    assert error.path == missing.mask


def test_refusals_are_kept_with_the_store_until_the_source_is_taken(cohort, tmp_path):
    wrong = [replace(cohort[0], mask=tmp_path / "nowhere.nii"), *cohort[1:]]
    take(tmp_path, wrong)
    kept = read_rejections(Store(tmp_path / "store"))
    assert [rejection.code for rejection in kept] == ["UNREADABLE"]
    assert str(tmp_path) not in kept[0].message
    take(tmp_path, cohort)
    assert read_rejections(Store(tmp_path / "store")) == []


def test_renamed_masks_of_one_organ_each_are_not_taken_for_unchanged(cohort, tmp_path):
    _, labels = made_pair(0)
    folder = tmp_path / "masks"
    write_nifti(folder / "liver.nii", (labels == 1).astype(np.uint8))
    write_nifti(folder / "spleen.nii", (labels == 2).astype(np.uint8))
    request = [CaseRequest(cohort[0].ct, folder, where="case 1 of 1")]
    assert statuses(take(tmp_path, request)) == ["taken"]
    assert statuses(take(tmp_path, request)) == ["unchanged"]
    (folder / "liver.nii").rename(folder / "x")
    (folder / "spleen.nii").rename(folder / "liver.nii")
    (folder / "x").rename(folder / "spleen.nii")
    assert statuses(take(tmp_path, request)) == ["CHANGED"]


def test_patients_are_kept_apart_and_together(cohort, tmp_path):
    names = ["Doe 1", "DOE-1", "", ""]
    outcomes = take(tmp_path, [replace(r, patient=p) for r, p in zip(cohort, names, strict=True)])
    patients = [outcome.facts.patient for outcome in outcomes]
    assert patients[0] == patients[1]
    assert len(set(patients)) == 3
    assert [note.code for note in outcomes[2].facts.notes] == ["PATIENT_UNKNOWN"]


def test_looking_writes_nothing(cohort, tmp_path):
    _, pseudonyms = open_store(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    outcomes = list(
        examine([*cohort, replace(cohort[0], mask=tmp_path / "x")], pseudonyms, CaseOptions(), jobs=2)
    )
    assert sorted(statuses(outcomes)) == ["UNREADABLE", *["taken"] * 4]
    assert sorted(tmp_path.rglob("*")) == before


def test_an_ingest_with_another_secret_is_refused(cohort, tmp_path):
    store, pseudonyms = open_store(tmp_path)
    other = replace(pseudonyms, secret=b"x" * 32)
    with pytest.raises(DataError, match="KEY_DIFFERS"):
        next(ingest(cohort, store, other, CaseOptions()))


def test_a_second_ingest_at_once_is_refused_and_harms_nothing(cohort, ingested, tmp_path):
    store, pseudonyms = open_store(tmp_path)
    running = ingest(cohort, store, pseudonyms, CaseOptions(), jobs=2)
    next(running)
    with pytest.raises(DataError, match="LOCKED"):
        next(ingest(cohort, Store(store.path), pseudonyms, CaseOptions()))
    assert len(list(running)) == 3
    assert digest(tmp_path) == digest(ingested)


def test_sources_are_remembered_outside_the_store_and_follow_a_move(cohort, tmp_path):
    take(tmp_path, cohort[:1])
    _, pseudonyms = open_store(tmp_path)
    key = next(iter(Store(tmp_path / "store").entries()))
    assert pseudonyms.sources() == {key: os.path.realpath(cohort[0].ct)}
    moved = tmp_path / "moved.nii"
    shutil.copy(cohort[0].ct, moved)
    take(tmp_path, [replace(cohort[0], ct=moved)])
    assert pseudonyms.sources() == {key: os.path.realpath(moved)}


def test_a_mask_that_changes_while_it_is_read_is_refused(cohort, tmp_path, monkeypatch):
    mask = tmp_path / "mask.nii"
    shutil.copy(cohort[0].mask, mask)
    request = replace(cohort[0], mask=mask)
    opened = case.open_case(request, CaseOptions())
    write_nifti(mask, np.roll(made_pair(0)[1], 1, axis=2))
    _, pseudonyms = open_store(tmp_path)
    with pytest.raises(DataError, match="CHANGING: mask: files that changed while they were read"):
        case.read_opened(opened, pseudonyms)
