"""The parser: built from the table of commands, each of which is imported when it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cyclopts import (
    App,
    CycloptsError,
    Group,
    MissingArgumentError,
    Parameter,
    UnknownCommandError,
    UnusedCliTokensError,
)

from holdall import __version__
from holdall.cli.commands import every_command
from holdall.cli.exit_codes import summary
from holdall.cli.help import PlainHelp
from holdall.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence


def build() -> App:
    """The parser of everything that `holdall` takes."""
    app = App(
        name="holdall",
        version=__version__,
        help_format="plaintext",
        help_formatter=PlainHelp(),
        help_epilogue=summary(),
        group_parameters=Group("Options", sort_key=1),
        default_parameter=Parameter(negative=()),
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
    )
    for command in every_command():
        # An application of several commands brings its own usage line.
        usage = {} if command.usage == "COMMAND" else {"usage": f"holdall {command.name} {command.usage}"}
        app.command(command.target, name=command.name, **usage)
    return app


def dispatch(tokens: Sequence[str]) -> int:
    """Does what the command line says.

    Args:
        tokens: The words after `holdall`.

    Returns:
        The exit code.

    Raises:
        UsageError: They are no command, or not as it takes them.
        HoldallError: The command failed.
    """
    try:
        code = build()(list(tokens))
    except CycloptsError as error:
        raise _wrong_use(error) from error
    return code if isinstance(code, int) else 0


def _wrong_use(error: CycloptsError) -> UsageError:
    error.verbose = False
    chain = [word for word in error.command_chain or () if not word.startswith("-")]
    command = " ".join(["holdall", *chain])
    message = " ".join(str(error).split())
    match error:
        case UnknownCommandError():
            message = message.split(" Available commands:")[0]
        case MissingArgumentError(keyword=str(option)):
            message = f"{option} needs a value."
        case MissingArgumentError(argument=argument) if argument is not None:
            message = f"{command} needs {argument.name.lstrip('-').upper()}."
        case UnusedCliTokensError(unused_tokens=[first, *_]):
            message = f"{command} has no use for {first!r}."
    return UsageError(message, hint=f"See {command} --help.")
