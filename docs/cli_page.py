"""Write docs/cli.md, the help of every command, as click prints it: python docs/cli_page.py."""

from pathlib import Path

import click

from kerasbalance.cli.main import main as cli

PAGE = Path(__file__).with_name("cli.md")
HEAD = """# Commands

This page is the help of every command, as `kerasbalance COMMAND --help` prints it. `python docs/cli_page.py` writes it.
"""


def contents() -> str:
    """Return the page that belongs to the commands as they are."""
    top = _context(cli, "kerasbalance", None)
    commands = [_context(cli.commands[name], name, top) for name in sorted(cli.commands)]
    return "\n".join([HEAD, *map(_section, [top, *commands])])


def _context(command: click.Command, name: str, parent: click.Context | None) -> click.Context:
    width = {"max_content_width": 110, "terminal_width": 110}
    return click.Context(command, parent, name, **{**command.context_settings, **width})


def _section(context: click.Context) -> str:
    lines = [line.rstrip() for line in context.get_help().splitlines()]
    return "\n".join([f"## {context.command_path}", "", "```", *lines, "```", ""])


if __name__ == "__main__":
    PAGE.write_text(contents(), encoding="utf-8")
