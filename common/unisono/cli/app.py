"""Makes typer commands of the table, and runs one.

A command in the table is first only its name and its line of help.  When typer wants to parse its arguments,
the module is imported, the function becomes a typer command, and that command takes over: see `_lazy`.
"""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from importlib import import_module
from importlib.metadata import version as distribution_version
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from .outcomes import INTERRUPTED, USAGE, report
from .table import GROUPS, TABLE, Entry
from .verbosity import is_verbose, set_verbose

_HELP = "Train one model together; the data stays where it is."
_SETTINGS = {"help_option_names": ["-h", "--help"]}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    if os.getpid() == 1:  # a container's first process: without a handler it would never hear these
        signal.signal(signal.SIGTERM, _end)
    set_verbose(False)
    root = typer.main.get_command(build())
    try:
        result = root.main(list(sys.argv[1:] if argv is None else argv), "unisono", standalone_mode=False)
    except typer.Abort:
        return INTERRUPTED
    except Exception as error:  # the last handler there is: every error becomes a code
        return report(error)
    return result if type(result) is int else 0


def _end(number: int, frame: object) -> None:
    """End as any other process would; `serve` and `client` have handlers of their own."""
    raise SystemExit(128 + number)


def build() -> typer.Typer:
    """Return the whole command line; imports nothing that the table names.

    A command with commands below it ("client", "client plans") is a group that does something by itself.
    """
    parents = {entry.words: entry for entry in TABLE if _is_parent(entry.words)}
    groups = {name: _group(text, _branch) for name, (text, _) in GROUPS.items()}
    groups |= {
        words: _group(entry.help, _placeholder, _lazy_group(entry)) for words, entry in parents.items()
    }
    groups[""] = _group(_HELP, _root)
    for entry in TABLE:
        above, _, name = entry.words.rpartition(" ")
        panel = "" if above else entry.panel
        if entry.words in parents:
            groups[above].add_typer(groups[entry.words], name=name, rich_help_panel=panel or None)
        else:
            _add(groups[above], name, entry, panel=panel)
    for words, (_, panel) in GROUPS.items():
        above, _, name = words.rpartition(" ")
        groups[above].add_typer(groups[words], name=name, rich_help_panel=None if above else panel)
    return groups[""]


def _is_parent(words: str) -> bool:
    return any(entry.words.startswith(f"{words} ") for entry in TABLE)


def load(target: str) -> TyperCommand:
    """Import "module:function" and return it as a typer command, with `-v` added."""
    module, _, name = target.partition(":")
    command = _command(_reporting_interrupts(getattr(import_module(module), name)))
    command.params.extend(_command(_only_verbose).params)
    return command


def _reporting_interrupts(function: Callable[..., int | None]) -> Callable[..., int | None]:
    """Let Ctrl-C say its word (what goes on without us): typer would turn it into a bare exit code."""

    @wraps(function)
    def run(*args: object, **kwargs: object) -> int | None:
        try:
            return function(*args, **kwargs)
        except KeyboardInterrupt as interrupt:
            return report(interrupt)

    return run


def version() -> None:
    """Print the version of this installation."""
    print(f"unisono {distribution_version('unisono')}")


def _group(text: str, callback: Callable[..., None], kind: type[TyperGroup] | None = None) -> typer.Typer:
    group = typer.Typer(
        cls=kind or _InTableOrder,
        help=text,
        invoke_without_command=True,
        context_settings=_SETTINGS,
        rich_markup_mode="rich",
        add_completion=callback is _root,
    )
    group.callback()(callback)
    return group


class _InTableOrder(TyperGroup):
    """Lists commands and groups as the table does; typer would put all groups last."""

    def list_commands(self, ctx: Any) -> list[str]:
        words = [entry.words.split()[0] for entry in TABLE]
        return sorted(super().list_commands(ctx), key=lambda name: words.index(name) if name in words else -1)


def _add(group: typer.Typer, name: str, entry: Entry, *, panel: str) -> None:
    command = group.command(name, cls=_lazy(entry.target), help=entry.help, rich_help_panel=panel or None)
    command(_placeholder)


def _lazy(target: str) -> type[TyperCommand]:
    """Return a command class whose instances turn into the real command when arguments are to be parsed.

    A context belongs to the command that made it: parsing, `--help`, completion and running see the real one.
    """

    class Lazy(TyperCommand):
        def make_context(self, *args: Any, **kwargs: Any) -> Any:
            command = load(target)
            command.name = self.name
            return command.make_context(*args, **kwargs)

    return Lazy


def _lazy_group(entry: Entry) -> type[TyperGroup]:
    """Return a group class whose instances become the command that they stand for, beside their commands."""

    class LazyGroup(_InTableOrder):
        def make_context(self, *args: Any, **kwargs: Any) -> Any:
            command = load(entry.target)
            self.params, self.help = command.params, command.help
            self.subcommand_metavar = "[COMMAND [ARGS]...]"
            context = super().make_context(*args, **kwargs)

            def alone(**values: object) -> object:
                if context.invoked_subcommand is not None:
                    _refuse_options(context, entry.words)
                    return None
                return command.callback(**values) if command.callback else None

            self.callback = alone
            return context

    return LazyGroup


def _refuse_options(context: Any, words: str) -> None:
    """Refuse options of a command that are given to one below it, where nothing would read them."""
    below = f"unisono {words} {context.invoked_subcommand}"
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name)
        if parameter.expose_value and source is not None and source.name == "COMMANDLINE":
            context.fail(
                f"{parameter.opts[0]} must stand behind the command: {below} {parameter.opts[0]} ..."
            )


def _command(function: Callable[..., object]) -> TyperCommand:
    alone = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
    alone.command(context_settings=_SETTINGS)(function)
    command = typer.main.get_command(alone)
    if not isinstance(command, TyperCommand):
        raise TypeError(f"{function!r} is not one command")
    return command


def _placeholder() -> None:
    """Stand in for a function that has not been imported."""


def _hear_verbose(wanted: bool) -> None:
    set_verbose(wanted or is_verbose())


def _show_version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


_Verbose = Annotated[
    bool,
    typer.Option(
        "-v",
        "--verbose",
        callback=_hear_verbose,
        expose_value=False,
        is_eager=True,
        help="Say more; show tracebacks.",
    ),
]
_Version = Annotated[
    bool,
    typer.Option(
        "--version", callback=_show_version, expose_value=False, is_eager=True, help="Print the version."
    ),
]


def _only_verbose(verbose: _Verbose = False) -> None:
    """Carry the option `-v`, which every command gets."""


def _root(context: typer.Context, verbose: _Verbose = False, version: _Version = False) -> None:
    _branch(context)


def _branch(context: typer.Context) -> None:
    """Show a group's help when no command of it was named; that is a usage error (exit 2)."""
    if context.invoked_subcommand is None:
        print(context.get_help(), end="")
        raise typer.Exit(USAGE)
