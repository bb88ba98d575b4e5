"""What the commands share: errors without tracebacks, exit codes, tables, options."""

import contextlib
import functools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click
from click.core import ParameterSource

DONE, FAILED, PARTLY = 0, 1, 3
EVERYDAY, RUN, MACHINE = "Options", "The run", "Backend and messages"
"""Titles of groups of options, in commands whose help has groups; the first and the last stand in all of them."""
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}

Command = Callable[..., Any]


class GroupedOption(click.Option):
    """An option that stands in a titled group of the help.

    Args:
        group: The title of its group.
    """

    def __init__(self, *words: Any, group: str, **attributes: Any) -> None:
        super().__init__(*words, **attributes)
        self.group = group


class GroupedCommand(click.Command):
    """A command whose help shows its everyday options first and then each group of the others."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options into the help, group by group in the order in which they first appear, `MACHINE` last."""
        groups: dict[str, list[tuple[str, str]]] = {EVERYDAY: []}
        for parameter in self.get_params(ctx):
            shown = parameter.get_help_record(ctx)
            if shown is not None and isinstance(parameter, click.Option):
                groups.setdefault(getattr(parameter, "group", EVERYDAY), []).append(shown)
        machine = groups.pop(MACHINE, [])
        for title, options in [*groups.items(), *([(MACHINE, machine)] if machine else [])]:
            with formatter.section(title):
                formatter.write_dl(options)


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM; carries the exit code, and what to tell the user."""

    def __init__(self, code: int, message: str = "") -> None:
        super().__init__(message)
        self.code = code


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Turn the first Ctrl-C or SIGTERM in the block into `Interrupted`; later ones do not disturb the clean-up."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(128 + number)

    def discarded(unraisable: Any) -> None:
        """Send the signal again if it came while a finalizer ran: Python discards what is raised in there."""
        if not isinstance(unraisable.exc_value, Interrupted):
            hook(unraisable)
            return
        for each in before:
            signal.signal(each, stop)
        threading.Timer(0.05, os.kill, (os.getpid(), unraisable.exc_value.code - 128)).start()

    # Python lets no other thread than the main one handle signals. What the process ignores stays ignored: SIGINT
    # under nohup or in the background, where Ctrl-C is meant for somebody else.
    in_main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM) if in_main}
    before = {number: handler for number, handler in handlers.items() if handler is not signal.SIG_IGN}
    hook, sys.unraisablehook = sys.unraisablehook, discarded
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook


def reports_errors(command: Command) -> Command:
    """Show a refusal as one line and exit 1 (2 for wrong usage); `--debug` shows the traceback instead."""

    @click.option(
        "--show-paths",
        cls=GroupedOption,
        group=MACHINE,
        is_flag=True,
        help="Name files in messages. Paths may tell who a patient is.",
    )
    @click.option(
        "--debug",
        cls=GroupedOption,
        group=MACHINE,
        is_flag=True,
        help="Show the traceback of an error.",
    )
    @functools.wraps(command)
    def wrapped(*args: Any, show_paths: bool, debug: bool, **options: Any) -> Any:
        from kerasbalance.data.errors import DataError

        try:
            with interruptible():
                return command(*args, show_paths=show_paths, **options)
        except Interrupted as interruption:
            click.echo(str(interruption) or "interrupted", err=True)
            raise SystemExit(interruption.code) from None
        except KeyboardInterrupt:  # a second Ctrl-C, while the first was being heeded
            raise SystemExit(128 + signal.SIGINT) from None
        except DataError as error:
            if debug:
                raise
            message = readable(error.message(show_path=show_paths))
            raise (click.UsageError if error.code == "USAGE" else click.ClickException)(message) from None
        except OSError as error:
            if debug or isinstance(error, BrokenPipeError):
                raise
            place = f": {error.filename}" if show_paths and error.filename else ""
            raise click.ClickException(readable(f"{error.strerror or type(error).__name__}{place}")) from None
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if debug:
                raise
            raise click.ClickException(
                f"INTERNAL: an unforeseen {type(error).__name__}; run again with --debug and report what it shows"
            ) from None

    return wrapped


def stated_options(*, but: Collection[str] = ()) -> list[str]:
    """Return the options on the command line as a user types them, for instance "--csv".

    Args:
        but: names of parameters that do not count.
    """
    context = click.get_current_context()
    return [
        max(parameter.opts, key=len)
        for parameter in context.command.params
        if isinstance(parameter, click.Option)
        and parameter.name not in but
        and context.get_parameter_source(str(parameter.name)) == ParameterSource.COMMANDLINE
    ]


def readable(text: str) -> str:
    """Return text for a terminal: line ends, and bytes of a path that are no UTF-8, as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Lay out rows in columns; numbers to the right."""
    cells = [[readable(str(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
    right = [bool(cells) and all(_is_number(row[n]) for row in cells) for n in range(len(headers))]
    lines = [
        "  ".join(
            c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in [list(headers), *cells]
    ]
    return "\n".join(lines)


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).replace("%", "").strip().isdigit() or text in ("", "-")


def print_json(value: object) -> None:
    """Print a value for a program to read."""
    click.echo(json.dumps(value, indent=1, allow_nan=False))


def progress(length: int, label: str) -> Any:
    """Return a progress bar on stderr, or where stderr is no terminal one that prints a line a minute for a log."""
    if sys.stderr.isatty():
        return click.progressbar(length=length, label=label, file=sys.stderr)
    return contextlib.nullcontext(ProgressLines(length, label))


def say(bar: Any, text: str) -> None:
    """Print lines while a progress bar stands on the terminal; the bar goes on below them."""
    on_terminal = not isinstance(bar, ProgressLines)
    if on_terminal:
        click.echo("\r\033[K", nl=False, err=True)
    click.echo(text)
    if on_terminal:
        bar.render_progress()


class ProgressLines:
    """Prints how far a command is, at the first update after each minute.

    Args:
        length: Steps in all.
        label: What is done; it may be changed on the way.
    """

    EVERY_S = 60.0

    def __init__(self, length: int, label: str) -> None:
        self.length, self.label, self.pos = length, label, 0
        self._begin = self._told = time.monotonic()

    def update(self, steps: int) -> None:
        """Count steps that are done."""
        self.pos += steps
        now = time.monotonic()
        if now - self._told < self.EVERY_S or not self.pos:
            return
        self._told = now
        left = (now - self._begin) / self.pos * max(self.length - self.pos, 0)
        click.echo(f"{self.label}: {self.pos:,} of {self.length:,}, about {duration(left)} left", err=True)


def duration(seconds: float) -> str:
    """Return a time as a person would say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def store_argument(command: Command) -> Command:
    """Add the argument STORE."""
    return click.argument("store", type=click.Path(path_type=Path))(command)


key_file_option = click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    help="The file with the secret that the keys of cases and patients are made with. It is made if it is missing. By "
    "default, it is kerasbalance/secret.key in your configuration folder.",
)


def split_list(text: str) -> tuple[str, ...]:
    """Split what is separated by commas; blanks and empty parts do not count."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


class CommaList(click.ParamType[tuple[str, ...]]):
    """Words separated by commas."""

    name = "list"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, ...]:
        """Return the words."""
        return split_list(value) if isinstance(value, str) else value


model_option = click.option(
    "--model",
    cls=GroupedOption,
    group=RUN,
    help="The run's network, if it is package.module:function: its code is executed, so you name it again.",
)
threshold_option = click.option(
    "--threshold",
    cls=GroupedOption,
    group=RUN,
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="The probability above which a pixel is predicted, for every organ. The default is the run's own choice on "
    "its validation cases, or 0.5 without such cases.",
)
clean_up_option = click.option(
    "--no-clean-up",
    cls=GroupedOption,
    group=RUN,
    is_flag=True,
    help="Leave out the clean-up (largest part, holes filled) that the run chose on its validation cases.",
)
averaged_flips_option = click.option(
    "--flips",
    cls=GroupedOption,
    group=RUN,
    type=CommaList(),
    default="none",
    show_default=True,
    help="The forms in which each slice is segmented, separated by commas: none, horizontal, vertical, both. Their "
    "outputs are averaged. A run should see only forms that it was trained with.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for a program to read.")
