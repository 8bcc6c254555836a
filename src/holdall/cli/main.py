"""The program `holdall`: finds the command, runs it, and turns whatever happens into words and an exit code.

Importing this imports next to nothing: the overview and the version are answered before the parser is loaded.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, NoReturn

from holdall import __version__
from holdall.cli import exit_codes, output
from holdall.errors import HoldallError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

_HELP: Final = {"--help", "-h", "help"}
_COMPLETE: Final = "__complete"
"""What a shell's completion script asks with."""

_GARBAGE_THRESHOLD: Final = 50_000
"""New objects before cycles are looked for. With Python's own 700 that takes a fifth of a short command's time: what it
makes is freed by its count, or lives to the end."""


class OwnError(HoldallError):
    """A fault in holdall itself."""

    slug = "internal"
    default_hint = "This is a fault in holdall: run the command again with --debug and report what it shows."


class _Terminated(KeyboardInterrupt):
    """SIGTERM came."""


def program(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line of this process, and ends the process with its exit code.

    The process ends as any does: threads are waited for and what asked to be called at the end is called. But then the
    interpreter is not taken to pieces, which nobody sees and which takes a tenth of a short command's time.

    Args:
        arguments: As `main` takes them.
    """
    code = exit_codes.FAILED

    def end() -> None:
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError, OSError, ValueError):  # it was closed; what could not be written was told of
                stream.flush()
        os._exit(code)

    atexit.register(end)  # before all others, so that it comes after them
    try:
        code = main(arguments)
    except BaseException:
        atexit.unregister(end)
        raise
    sys.exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line.

    Args:
        arguments: The words after `holdall`; those of this process where None.

    Returns:
        The exit code; `exit_codes` says what each means.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = words[: words.index("--")] if "--" in words else words
    try:
        code = _run(words)
        output.flush()
    except _Terminated:
        output.note("Terminated.")
        return exit_codes.TERMINATED
    except KeyboardInterrupt:
        output.note("Interrupted.")
        return exit_codes.INTERRUPTED
    except BrokenPipeError:
        output.discard()
        return exit_codes.PIPE_CLOSED
    except Exception as error:  # noqa: BLE001 - here ends everything that was not foreseen
        if "--debug" in options:
            output.traceback()
        known = _known(error)
        output.failure(known, as_json="--json" in options)
        return exit_codes.code_of(known)
    return code


def _run(words: list[str]) -> int:
    if not words or (words[0] in _HELP and len(words) == 1):
        from holdall.cli.commands import overview  # noqa: PLC0415 - not needed by commands

        output.line(overview())
        return exit_codes.DONE
    if words == ["--version"]:
        output.line(f"holdall {__version__}")
        return exit_codes.DONE
    if words[0] == "help":
        words = [*words[1:], "--help"]
    _check_command(words[0])
    gc.set_threshold(_GARBAGE_THRESHOLD)
    from holdall.cli.parser import dispatch  # noqa: PLC0415 - slow to import

    with _ending_at_sigterm():
        return dispatch(words)


@contextmanager
def _ending_at_sigterm() -> Iterator[None]:
    """Lets SIGTERM end a command as SIGINT does: what is half done is taken back, and that is said.

    `serve` takes both signals over.
    """
    import signal  # noqa: PLC0415 - the overview and the version do without

    terminated = False

    def end(_number: int, frame: FrameType | None) -> None:
        nonlocal terminated
        terminated = True
        interrupt = signal.getsignal(signal.SIGINT)
        if callable(interrupt):  # of a running event loop, which cancels what it does
            interrupt(signal.SIGINT, frame)
        else:
            raise _Terminated

    try:
        before = signal.signal(signal.SIGTERM, end)
    except ValueError:  # only the main thread may
        yield
        return
    try:
        yield
    except KeyboardInterrupt:
        if terminated:
            raise _Terminated from None
        raise
    finally:
        if signal.getsignal(signal.SIGTERM) is end:
            signal.signal(signal.SIGTERM, before)


def _check_command(word: str) -> None:
    """Refuses a word that is no command, before every command would be imported to say so."""
    from holdall.cli.commands import every_command  # noqa: PLC0415 - the parser has it too

    names = [command.name for command in every_command()]
    if word in names or word == _COMPLETE:
        return
    if word.startswith("-"):
        raise UsageError(f"{word} comes after the command.", hint="See holdall --help.")
    import difflib  # noqa: PLC0415 - needed for wrong words only

    close = difflib.get_close_matches(word, names, n=1)
    raise UsageError(
        f"There is no command {word[:40]!r}.",
        hint=f"Did you mean {close[0]}?" if close else "See holdall --help for those there are.",
    )


def _known(error: Exception) -> HoldallError:
    if isinstance(error, HoldallError):
        return error
    if isinstance(error, OSError) and error.strerror:
        return HoldallError(f"The output cannot be written: {error.strerror}.")
    return OwnError(f"{type(error).__name__}: {error}.")
