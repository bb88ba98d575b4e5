"""Lists of cases, as people and spreadsheet programs write them."""

import csv
from pathlib import Path

import pytest
from made.cases import LIVER, make_cohort

from kerasbalance.data.errors import DataError
from kerasbalance.data.ingest.layouts import find_cases, read_manifest
from kerasbalance.data.labels import OrganRule


def pairs(layout):
    return [(request.ct.name, request.mask.name) for request in layout.requests]


def write_manifest(folder: Path, text: str) -> Path:
    path = folder / "list.csv"
    path.write_text(text)
    return path


def test_a_manifest_names_cases_relative_to_itself(tmp_path):
    path = write_manifest(
        tmp_path, "ct,mask,case,patient,labels\na/ct,m.nii,one,P 7,liver=5;spleen=Milz\nb,/x/m,,,\n"
    )
    one, two = read_manifest(path, LIVER).requests
    assert (one.ct, one.mask, one.patient) == (tmp_path / "a" / "ct", tmp_path / "m.nii", "P 7")
    assert one.rules == (OrganRule("liver", (5,)), OrganRule("spleen", ("Milz",)))
    assert (two.mask, two.patient, two.rules) == (Path("/x/m"), "", LIVER)
    assert (one.where, two.where) == ("case 1 of 2", "case 2 of 2")


def test_a_manifest_written_by_a_spreadsheet_is_read(tmp_path):
    path = tmp_path / "list.csv"
    path.write_bytes('﻿ct,mask\r\n"Ä, b",m\r\n'.encode())
    assert pairs(read_manifest(path)) == [("Ä, b", "m")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column 'ct'"),
        ("ct,case\na,b\n", "no column 'mask'"),
        ("ct,mask,DOE^JANE\na,b,c\n", "1 columns that are not known"),
        ("ct,mask\n", "a manifest without rows"),
        ("ct,mask\na,b\nc,\n", "row 2 without ct or mask"),
        ("ct,mask\na,b,c\n", "row 1 without ct or mask, or with too many fields"),
        ("ct,mask\na\0b,c\n", "row 1 with a NUL|a manifest that cannot be read"),
        ("ct,mask,labels\na,b,DOE^JANE=1\n", "row 1 with labels that say nothing"),
        ("ct,mask\n" + '"' + "x" * 200_000 + '",b\n', r"a manifest that cannot be read \(Error\)"),
    ],
)
def test_a_manifest_that_is_wrong_is_refused_without_quoting_it(tmp_path, text, message):
    with pytest.raises(DataError, match=rf"MANIFEST: ({message})") as caught:
        read_manifest(write_manifest(tmp_path, text))
    assert "DOE" not in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", None])
def test_a_manifest_that_cannot_be_read_is_refused(tmp_path, content):
    path = tmp_path / "list.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match="MANIFEST: a manifest that cannot be read"):
        read_manifest(path)


def test_rules_of_the_command_line_do_not_overrule_a_row(tmp_path):
    make_cohort(tmp_path, 2)
    rules = (OrganRule("spleen", (2,)),)
    assert [rule.organ for rule in find_cases(tmp_path, rules).requests[0].rules] == ["liver", "spleen"]


def test_rows_of_a_manifest_keep_their_order(tmp_path):
    with (tmp_path / "list.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerows([["mask", "ct"], *[[f"m{n}", f"c{n}"] for n in (10, 9, 2)]])
    assert pairs(read_manifest(tmp_path / "list.csv")) == [("c10", "m10"), ("c9", "m9"), ("c2", "m2")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_separators_encodings_capitals_blanks_and_empty_lines_do_not_matter(tmp_path, separator, encoding):
    lines = [[" CT", "Mask ", "PATIENT", "Labels", ""], ["ä b.nii", " m.nii ", "P 7", '"liver=5,6;spleen=1"', ""],
             [""] * 5, ["c.nii", "n.nii", "", "", ""], ["", "", "", "", ""]]  # fmt: skip
    text = "\r\n".join(separator.join(line) for line in lines) + "\r\n\r\n"
    mark = "\ufeff" if encoding == "utf-16-le" else ""
    (tmp_path / "list.csv").write_bytes((mark + text).encode(encoding))
    layout = read_manifest(tmp_path / "list.csv")
    assert pairs(layout) == [("ä b.nii", "m.nii"), ("c.nii", "n.nii")]
    assert layout.requests[0].rules == (OrganRule("liver", (5, 6)), OrganRule("spleen", (1,)))
    assert (layout.requests[0].patient, layout.requests[1].patient) == ("P 7", "")


def test_the_separator_line_of_excel_is_no_header(tmp_path):
    path = write_manifest(tmp_path, "sep=;\nct;mask\na;b\n")
    assert pairs(read_manifest(path)) == [("a", "b")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ct,mask,Label\na,b,c\n", r"1 columns that are not known \(column 3, perhaps labels\)"),
        ("ct;mask;age;sex\na;b;c;d\n", r"2 columns that are not known \(column 3, column 4\)"),
        ("ct,mask,CT\na,b,c\n", "the column 'ct' twice"),
        ("ct;mask;labels\na;b;liver=1;spleen=2\n", "row 1 without ct or mask, or with too many fields; expected both "
         "paths; correct the manifest: a cell that holds the separator needs quotation marks"),
        ("ct,mask,\na,b,c\n", "row 1 without ct or mask, or with too many fields"),
    ],
)  # fmt: skip
def test_a_column_or_cell_that_is_wrong_is_told_by_its_place(tmp_path, text, message):
    with pytest.raises(DataError, match=rf"MANIFEST: {message}"):
        read_manifest(write_manifest(tmp_path, text))
