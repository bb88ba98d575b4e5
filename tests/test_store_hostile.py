"""A store that somebody sent is data: absurd sizes are never believed and nothing in it steers the terminal."""

import json

import click.testing
import pytest
from made.stores import made_store

from kerasbalance.cli.main import main
from kerasbalance.data.errors import DataError
from kerasbalance.data.store import SliceStore
from kerasbalance.data.store.catalogue import _line, load_entry
from kerasbalance.data.store.facts import MAX_SIZE


def crafted(store, **changes):
    """Rewrite the first line of the index with other facts and a checksum that fits."""
    lines = (store / "index.jsonl").read_bytes().splitlines(keepends=True)
    fields = json.loads(lines[0].partition(b" ")[2])
    fields["facts"].update(changes)
    lines[0] = _line(fields)
    (store / "index.jsonl").write_bytes(b"".join(lines))
    return lines[0]


@pytest.fixture
def store(tmp_path):
    made_store(tmp_path, cases=2)
    return tmp_path / "store"


@pytest.mark.parametrize(
    "changes",
    [
        {"slices": 10**12}, {"rows": 0}, {"columns": -1}, {"slices": True}, {"rows": 16.0}, {"slices": MAX_SIZE + 1},
        {"key": "../../../tmp/x"}, {"key": "G" * 32}, {"organ_hu": []}, {"positive_slices": [1]},
    ],
)  # fmt: skip
def test_a_line_that_no_ingest_writes_is_no_entry_and_the_case_speaks_for_itself(store, changes):
    before = [case.slices for case in SliceStore(store).cases]
    assert load_entry(crafted(store, **changes)) is None
    assert [case.slices for case in SliceStore(store).cases] == before == [4, 4]


def test_a_line_of_a_case_that_is_larger_than_its_file_is_refused_when_it_is_opened(store):
    crafted(store, slices=MAX_SIZE)
    opened = SliceStore(store)
    with pytest.raises(DataError, match="DAMAGED"):
        opened.source("liver").read(opened.refs("liver")[100:101])


@pytest.mark.parametrize("command", ["info", "verify"])
def test_control_characters_of_a_received_store_do_not_reach_the_terminal(store, command):
    note = {"code": "GAP", "text": "a\x1b[31mred\x07\u202e", "loud": True}
    crafted(store, notes=[note], organs=["li\x1b]0;ver\x07", "spleen"])
    done = click.testing.CliRunner().invoke(main, [command, str(store)])
    assert not set(done.output) & set("\x1b\x07\u202e"), repr(done.output)
    if command == "info":
        assert r"a\x1b[31mred\x07\u202e" in done.output
