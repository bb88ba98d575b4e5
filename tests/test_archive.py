"""ZIP archives are unpacked whole into a folder that does not stay, or refused whole."""

import json
import stat
import zipfile

import pytest
from made.cases import make_cohort
from made.commands import invoke

from kerasbalance.data.errors import DataError
from kerasbalance.data.ingest.archive import unpacked


def write_zip(path, entries, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def test_the_files_are_there_in_the_block_and_gone_after_it(tmp_path):
    path = write_zip(tmp_path / "a.zip", [("ct/", b""), ("ct/1.dcm", b"one"), ("deep/er/m.nii", b"two")])
    with unpacked(path) as folder:
        files = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert files == {"ct/1.dcm": b"one", "deep/er/m.nii": b"two"}
    assert not folder.exists()


def test_a_case_of_an_archive_is_known_by_its_place_in_the_archive(tmp_path):
    make_cohort(tmp_path / "data", 2)
    files = [(path.name, path.read_bytes()) for path in sorted((tmp_path / "data").iterdir())]
    write_zip(tmp_path / "a.zip", files)
    for expected in ("taken", "unchanged"):
        result = invoke(tmp_path, "ingest", "a.zip", "--out", "store")
        assert result.stdout.count(expected) == 3  # two rows and the sum
    (links,) = (tmp_path / "config").rglob("links.jsonl")
    sources = [json.loads(line)["source"] for line in links.read_text().splitlines()]
    assert sorted(sources) == [f"{tmp_path}/a.zip!/ct00{n}.nii" for n in (0, 1)]


def test_what_is_no_archive_passes_as_it_is(tmp_path):
    (tmp_path / "ct.nii").write_bytes(b"no archive")
    for path in (tmp_path, tmp_path / "ct.nii", tmp_path / "missing"):
        with unpacked(path) as same:
            assert same == path


def link():
    entry = zipfile.ZipInfo("link")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", "..\\x", "C:/x", "link"])
def test_an_entry_that_leads_out_or_is_a_link_refuses_the_archive(tmp_path, name):
    path = write_zip(tmp_path / "a.zip", [("good", b"x"), (link() if name == "link" else name, b"/etc")])
    with (
        pytest.raises(DataError, match="UNSAFE_ARCHIVE: a ZIP archive with 1 links or names that lead out"),
        unpacked(path),
    ):
        pytest.fail("unpacked")


def test_an_archive_that_expands_without_measure_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("kerasbalance.data.ingest.archive.FREE_BYTES", 1000)
    path = write_zip(tmp_path / "a.zip", [("zeros", bytes(10**6))])
    with (
        pytest.raises(DataError, match=r"TOO_LARGE: .* bytes of ZIP that unpack to 1,000,000; expected"),
        unpacked(path),
    ):
        pytest.fail("unpacked")


def test_a_damaged_archive_is_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip", [("a", b"x" * 1000)], zipfile.ZIP_STORED)
    content = path.read_bytes()
    for damaged in (content[:50], content.replace(b"xxxx", b"yyyy", 1)):
        path.write_bytes(damaged)
        with (
            pytest.raises(DataError, match="MALFORMED: a ZIP archive that cannot be unpacked"),
            unpacked(path),
        ):
            pytest.fail("unpacked")


def test_a_zipped_folder_of_cases_is_ingested(tmp_path):
    make_cohort(tmp_path / "data", 2)
    write_zip(
        tmp_path / "data.zip", [(p.name, p.read_bytes()) for p in sorted((tmp_path / "data").iterdir())]
    )
    result = invoke(tmp_path, "ingest", "data.zip", "--out", "store")
    assert result.exit_code == 0, result.output
    assert "2 taken" in result.output
