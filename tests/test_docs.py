"""What README and docs say can be done: links, commands, options and Python blocks."""

import importlib.util
import re
import shlex
from pathlib import Path

import click
import keras
import numpy as np
import pytest
from made.runs import made_stack, store_of_stacks
from made.training import arrays, segmenter

from kerasbalance.cli.main import main as cli

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    page
    for folder in (".", "docs", "data", "benchmarks", "examples")
    for page in (ROOT / folder).glob("*.md")
)
MARKS_IN_FILES = ("kerasbalance case 1", "kerasbalance case sha256")
OTHERS = ("pip", "pytest", "python", "dcm")
OPTIONS_OF_OTHERS = {"--help", "--version", "--tiny", "--requeue", "--signal"}


def blocks(page, language):
    """The code blocks of a page in one language; "" for those without."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)


def inline(page):
    """The pieces of code inside a page's sentences, on one line each."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.M | re.S)
    return [" ".join(piece.split()) for piece in re.findall(r"`([^`]+)`", prose)]


def calls(page):
    """The words of every call that a page shows: `kerasbalance eval run` in a block, `train --resume` in a sentence."""
    lines = [line for block in blocks(page, "") for line in block.replace("\\\n", " ").splitlines()]
    shown = [line for line in lines if line.startswith("kerasbalance ")]
    for text in [*shown, *(piece for piece in inline(page) if piece not in MARKS_IN_FILES)]:
        words = shlex.split(text, comments=True) if text.count("'") % 2 == 0 else []
        if words[:1] == ["kerasbalance"] and len(words) > 1 and words[1] != "COMMAND":
            yield text in shown, words[1:]
        elif len(words) > 1 and words[0] in cli.commands:
            yield False, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file(page):
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8"))
    files = [target.split("#")[0] for target in targets if "://" not in target and not target.startswith("#")]
    assert [name for name in files if not (page.parent / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_line_has_a_command_and_options_that_exist(page):
    for is_whole, (name, *words) in calls(page):
        command = cli.commands[name]
        if is_whole:  # the values too
            _, _, given = command.make_parser(click.Context(command, **command.context_settings)).parse_args(
                words
            )
            assert given
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_option_that_a_sentence_names_exists(page):
    known = {
        option
        for command in cli.commands.values()
        for parameter in command.params
        for option in parameter.opts
    }
    pieces = [piece for piece in inline(page) if not piece.startswith(OTHERS)]
    named = {option for piece in pieces for option in re.findall(r"(?<!\S)--[a-z][a-z-]*", piece)}
    assert named - known - OPTIONS_OF_OTHERS == set()


def test_the_page_of_commands_is_what_the_commands_say():
    specification = importlib.util.spec_from_file_location("cli_page", ROOT / "docs" / "cli_page.py")
    cli_page = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(cli_page)
    assert cli_page.PAGE.read_text("utf-8") == cli_page.contents(), "run python docs/cli_page.py"


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store_of_stacks(tmp_path / "store", [made_stack(seed) for seed in range(2)], organs=("liver",))
    fit, read, judge = blocks(ROOT / "README.md", "python")
    for long, short in {
        "=5_000": "=20",
        "=10_000": "=30",
        "epochs=100": "epochs=3",
        "epoch=100": "epoch=10",
    }.items():
        assert long in fit
        fit = fit.replace(long, short)
    x, y = arrays(1000)
    names = {"x": x, "y": y, "model": segmenter()}
    exec(fit, names)
    assert len(Path("slices.csv").read_text().splitlines()) == 501
    exec(read, names)
    assert (names["x"].shape, names["x"].dtype, names["y"].dtype) == ((16, 32, 32, 1), np.int16, np.uint8)
    names["y"] = names["y"][..., 0]
    names["predicted"] = names["y"]
    exec(judge, names)
    assert names["case"].dice == 1.0


def test_the_python_of_the_format_reads_a_case(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = store_of_stacks(tmp_path / "store", [made_stack(slices=50)], organs=("liver",))
    (block,) = blocks(ROOT / "data" / "FORMAT.md", "python")
    names = {}
    exec(block.replace("<key>", store.cases[0].key), names)
    np.testing.assert_array_equal(names["hu"], made_stack(slices=50)[0][40])


def test_the_readme_holds_the_two_commands_that_ci_runs():
    commands = [line for line in (ROOT / "README.md").read_text("utf-8").splitlines() if " -m venv " in line]
    assert [line.split()[0] for line in commands] == ["python3.11", "python3.11"]
    assert keras.config.backend() in (ROOT / "README.md").read_text("utf-8")


def test_the_tests_that_the_page_of_faults_names_exist():
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", (ROOT / "docs" / "faults.md").read_text("utf-8"))
    assert len(named) >= 30
    missing = [
        name
        for file, name in named
        if not re.search(rf"^def {name}\(", (ROOT / "tests" / file).read_text("utf-8"), re.M)
    ]
    assert missing == []
