"""What the documents name exists: files, headings, commands and options."""

import re
from pathlib import Path

import click
import pytest

from kerasbalance.cli.main import main

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "data/FORMAT.md", "benchmarks/README.md"]
PAGES += sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))
OPTION = r"(?<![\w-])--[a-z][a-z-]+"
OTHERS = {"--dist", "--tiny"}  # of pytest and of the benchmarks


def text(page: str) -> str:
    return (ROOT / page).read_text()


def options_of(name: str) -> set[str]:
    context = click.Context(main)
    command = main.get_command(context, name)
    assert command is not None, f"there is no command {name}"
    return {option for parameter in command.params for option in parameter.opts} | {"--help"}


def all_options() -> set[str]:
    return {option for name in main.list_commands(click.Context(main)) for option in options_of(name)}


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_relative_link_of_a_page_resolves(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", text(page)):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        linked = (ROOT / page).parent / name if name else ROOT / page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


@pytest.mark.parametrize("page", PAGES)
def test_every_option_that_a_page_names_exists(page):
    assert set(re.findall(OPTION, text(page))) <= all_options() | OTHERS


def command_lines(page: str) -> list[str]:
    """Return the commands in blocks of code, and those in a sentence, with their options."""
    content = text(page).replace("\\\n", " ")
    blocks = re.findall(r"^```\n(.*?)^```", content, flags=re.DOTALL | re.MULTILINE)
    prose = re.sub(r"```.*?```", "", content, flags=re.DOTALL)
    spans = [" ".join(span.split()).removeprefix("kerasbalance ") for span in re.findall(r"`([^`]*)`", prose)]
    names = main.list_commands(click.Context(main))
    in_text = [f"kerasbalance {span}" for span in spans if span.partition(" ")[0] in names and " " in span]
    return re.findall(r"^kerasbalance .*$", "\n".join(blocks), flags=re.MULTILINE) + in_text


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_exists_and_takes_its_options(page):
    for line in command_lines(page):
        name = line.split()[1]
        assert set(re.findall(OPTION, line.split("#")[0])) <= options_of(name), line


def test_the_readme_shows_a_command_line_for_training():
    assert any(line.startswith("kerasbalance train store --out run") for line in command_lines("README.md"))
