"""Ingest of DICOM series: identities, twins, and what may not be told."""

import os
from dataclasses import replace

import h5py
import nibabel
import numpy as np
import pydicom
import pytest
from made.cases import LIVER, LPS_TO_RAS
from made.series import make_series
from made.stores import digest, statuses, take

from kerasbalance.data.ingest.case import CaseOptions, CaseRequest
from kerasbalance.data.store import SliceStore, Store, verify_store

SLICES, SIZE = 6, 32


def make_case(folder, *, series="1.2.3.4", patient="P1", seed=0, shift=0, **how):
    """A DICOM series with a NIfTI mask on its grid."""

    def identify(dataset, number):
        dataset.PatientID = patient

    made = make_series(
        folder / "ct", slices=SLICES, size=SIZE, series=series, seed=seed, edit=identify, **how
    )
    labels = np.zeros(made.hu.shape, np.uint8)
    labels[1:4, 5 + shift : 15 + shift, 8:20] = 1
    affine = np.diag([0.8, 0.8, 2.5, 1.0])
    affine[:3, 3] = (-100.0, -120.0, 50.0)
    nibabel.save(nibabel.Nifti1Image(labels.transpose(2, 1, 0), LPS_TO_RAS @ affine), folder / "mask.nii")
    return (
        CaseRequest(folder / "ct", folder / "mask.nii", LIVER, where=f"case {folder.name}"),
        made.hu,
        labels,
    )


def test_a_series_is_taken_voxel_by_voxel(tmp_path):
    request, hu, labels = make_case(tmp_path / "a")
    assert statuses(take(tmp_path, [request])) == ["taken"]
    x, y = SliceStore(tmp_path / "store").source("liver").read(np.arange(SLICES))
    np.testing.assert_array_equal(x[..., 0], hu)
    np.testing.assert_array_equal(y[..., 0], labels)


def test_a_series_sent_again_under_other_file_names_is_unchanged(tmp_path):
    request, _, _ = make_case(tmp_path / "a")
    again, _, _ = make_case(tmp_path / "b", name="slice-{}.ima")
    assert statuses(take(tmp_path, [request])) == ["taken"]
    before = digest(tmp_path)
    assert statuses(take(tmp_path, [again])) == ["unchanged"]
    assert digest(tmp_path) == before


def test_the_same_series_with_other_pixels_is_refused(tmp_path):
    request, _, _ = make_case(tmp_path / "a")
    other, _, _ = make_case(tmp_path / "b", seed=1)
    assert statuses(take(tmp_path, [request, other])) == ["taken", "CHANGED"]
    assert statuses(take(tmp_path, [other], replace_changed=True)) == ["replaced"]


@pytest.mark.parametrize("jobs", [1, 4])
def test_the_same_images_under_other_uids_are_kept_once(tmp_path, jobs):
    one, _, _ = make_case(tmp_path / "a")
    two, _, _ = make_case(tmp_path / "b", series="1.2.3.5", patient="P2")
    outcomes = take(tmp_path, [one, two], jobs=jobs)
    assert sorted(statuses(outcomes)) == ["duplicate", "taken"]
    assert outcomes[0].facts.key == outcomes[1].facts.key
    before = digest(tmp_path)
    again = take(tmp_path, [one, two], jobs=jobs)
    assert sorted(statuses(again)) == ["duplicate", "unchanged"]
    assert digest(tmp_path) == before


def test_the_same_images_with_another_mask_are_refused(tmp_path):
    one, _, _ = make_case(tmp_path / "a")
    two, _, _ = make_case(tmp_path / "b", series="1.2.3.5", shift=3)
    outcomes = take(tmp_path, [one, two])
    assert statuses(outcomes) == ["taken", "DUPLICATE"]
    assert f"case {outcomes[0].facts.key[:8]} under another series UID" in str(outcomes[1].error)


def break_case(folder, key):
    path = folder / "store" / "cases" / f"{key}.h5"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_damaged_case_is_no_reason_to_drop_its_twin(tmp_path):
    one, _, _ = make_case(tmp_path / "a")
    two, _, _ = make_case(tmp_path / "b", series="1.2.3.5")
    key = take(tmp_path, [one])[0].facts.key
    break_case(tmp_path, key)
    assert statuses(take(tmp_path, [two])) == ["taken"]
    assert statuses(take(tmp_path, [one])) == ["duplicate"]
    store = Store(tmp_path / "store")
    assert (len(store.entries()), verify_store(store).faults) == (1, {})
    assert not (store.cases_folder / f"{key}.h5").exists()


def test_a_series_does_not_become_a_second_copy_of_another_by_replacing(tmp_path):
    one, _, _ = make_case(tmp_path / "a")
    two, _, _ = make_case(tmp_path / "b", series="1.2.3.5", seed=1)
    assert statuses(take(tmp_path, [one, two])) == ["taken", "taken"]
    same, _, _ = make_case(tmp_path / "c", series="1.2.3.5", seed=0)
    assert statuses(take(tmp_path, [replace(same, patient="X")], replace_changed=True)) == ["DUPLICATE"]


def test_a_series_without_any_uid_is_known_by_its_pixels(tmp_path):
    one, _, _ = make_case(tmp_path / "a")
    for path in (tmp_path / "a" / "ct").iterdir():
        dataset = pydicom.dcmread(path)
        del dataset.SeriesInstanceUID, dataset.StudyInstanceUID
        dataset.save_as(path)
    first = take(tmp_path, [one])
    assert statuses(first) == ["taken"]
    assert statuses(take(tmp_path, [one])) == ["unchanged"]


def test_uids_are_kept_when_asked(tmp_path):
    request, _, _ = make_case(tmp_path / "a")
    outcome = take(tmp_path, [request], CaseOptions(keep_uids=True))[0]
    with h5py.File(tmp_path / "store" / "cases" / f"{outcome.facts.key}.h5") as file:
        uids = file["uids"].asstr()[()].tolist()
    assert uids[1] == "1.2.3.4"
    assert uids[3:] == [f"1.2.3.4.{n + 1}" for n in range(SLICES)]


def test_links_and_pipes_in_a_series_are_skipped_and_told(tmp_path):
    request, hu, _ = make_case(tmp_path / "a")
    os.mkfifo(tmp_path / "a" / "ct" / "pipe.dcm")
    (tmp_path / "a" / "ct" / "link.dcm").symlink_to("/etc/passwd")
    (tmp_path / "a" / "ct" / "loop.dcm").symlink_to("loop.dcm")
    (tmp_path / "a" / "ct" / "nowhere.dcm").symlink_to("gone")
    (tmp_path / "a" / "ct" / "folder.dcm").mkdir()
    outcome = take(tmp_path, [request])[0]
    assert outcome.status == "taken"
    assert outcome.facts.slices == len(hu)
