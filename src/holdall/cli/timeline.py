"""`holdall timeline`: blobs by time in a git repository."""

import os
import sys
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Group, Parameter

from holdall.cli import local_files, output, timeline_reading
from holdall.cli.exit_codes import DONE
from holdall.cli.timeline_options import DEFAULTS, Common, Label, moment_of, needed_packages, opened
from holdall.core.units import format_size
from holdall.errors import HoldallError, LocalFileError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdall.timeline import Store

app = App(
    name="timeline",
    help="Blobs by time, in a git repository.",
    group_parameters=Group("Options", sort_key=1),
)


@app.command(usage="holdall timeline init [OPTIONS]")
def init(*, layout: Literal["flat", "hour"] | None = None, common: Common = DEFAULTS) -> int:
    """Makes a git repository for blobs, where there is none yet. A clone of one needs no init.

    Args:
        layout: flat puts all files beside one another, as gitblobts does and reads; hour puts them into directories
            YYYY/MM/DD/HH, which stays fast with a million of them. A new repository is flat; where there are blobs,
            the layout stays as it is.
        common: The options of every command.
    """
    with opened(common, layout=layout, create=True):
        return DONE


@app.command(usage="holdall timeline key FILE [OPTIONS]")
def key(file: Annotated[str, Parameter(allow_leading_hyphen=True)], /, *, common: Common = DEFAULTS) -> int:
    """Makes a new key for --key-file, in a new file that only you can read. Who loses it loses the blobs.

    A key file may hold several, one a line: the first encrypts, each decrypts.

    Args:
        file: Where to; it must not be there yet.
        common: The options of every command.
    """
    del common
    with needed_packages():
        from holdall.timeline import generate_key  # noqa: PLC0415 - an optional extra
    try:
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as opened_file:
            opened_file.write(generate_key() + b"\n")
            opened_file.flush()
            os.fsync(fd)
    except FileExistsError:
        raise LocalFileError(f"{file!r} is there already.", hint="A key that is overwritten is lost.") from None
    except OSError as error:
        raise LocalFileError(f"Cannot write {file!r}: {error.strerror or error}.") from error
    return DONE


@app.command(usage="holdall timeline add [FILE ...] [OPTIONS]")
def add(
    *files: Annotated[str, Parameter(name="file", allow_leading_hyphen=True)],
    when: Annotated[str | None, Parameter(name=["--time", "-t"], metavar="T", allow_leading_hyphen=True)] = None,
    label: Label = None,
    each_line: bool = False,
    no_push: bool = False,
    common: Common = DEFAULTS,
) -> int:
    """Adds files, or standard input, in one commit, and pushes it to the remote, if there is one.

    If the push fails, the blobs are stored all the same and go out with the next push; the exit code is 6. With
    --json, prints {"blobs", "size_bytes"}.

    Args:
        files: Each is a blob. Without any, or with -, standard input is one.
        when: Their time instead of now, such as "yesterday noon", 2026-05-04T12:00Z, or @SECONDS since 1970.
        label: What they can be found by besides their time.
        each_line: Each line of standard input is a blob, of the time at which it came. Lines are committed and pushed
            within about a second, until the input ends.
        no_push: Only commit; the next push brings it along.
        common: The options of every command.
    """
    names = local_files.check_names(files)
    if each_line and (when is not None or names != (local_files.STANDARD_INPUT,)):
        raise UsageError("--each-line reads standard input, and each line has the time at which it came.")

    with opened(common, push=False) as store:
        if each_line:
            _add_lines(store, label, common, push=not no_push)
            return DONE
        sizes: list[int] = []
        moments = None if when is None else repeat(moment_of(when))
        store.addblobs((_contents(name, sizes) for name in names), moments, label=label)
        _tell(len(sizes), sum(sizes), common)
        if not no_push and store.has_remote():
            store.push(sure=False)
    return DONE


def _add_lines(store: "Store", label: str | None, common: Common, *, push: bool) -> None:
    """Adds lines until there are no more; what was added is told in any case.

    Raises:
        HoldallError: The last of them could not be pushed, or one could not be stored.
    """
    from holdall.cli.timeline_lines import Intake  # noqa: PLC0415 - only here

    failure: HoldallError | None = None
    intake = Intake(sys.stdin.fileno(), lambda lines: store.add_at(lines, label=label))
    try:
        with intake:
            for _ in intake.committed():
                if push and store.has_remote():
                    before, failure = failure, _failure_of(partial(store.push, sure=False))
                    if failure is not None and before is None:
                        output.note(failure.sentence())
    finally:
        _tell(intake.count, intake.size_bytes, common)
    if failure is not None:
        raise failure


def _failure_of(push: "Callable[[], None]") -> HoldallError | None:
    try:
        push()
    except HoldallError as error:
        return error
    return None


def _tell(count: int, size_bytes: int, common: Common) -> None:
    if common.json:
        output.document({"blobs": count, "size_bytes": size_bytes})
    elif not common.quiet:
        output.note(f"{output.count(count, 'blob')} ({format_size(size_bytes)}) added.")


def _contents(name: str, sizes: list[int]) -> bytes:
    try:
        if name == local_files.STANDARD_INPUT:
            content = sys.stdin.buffer.read()
        else:
            with open(name, "rb") as file:
                content = file.read()
    except OSError as error:
        raise LocalFileError(f"Cannot use {name!r}: {error.strerror or error}.") from error
    sizes.append(len(content))
    return content


@app.command(usage="holdall timeline push [OPTIONS]")
def push(*, common: Common = DEFAULTS) -> int:
    """Pushes to the remote what it does not have; what others have pushed meanwhile is united with it.

    Args:
        common: The options of every command.
    """
    with opened(common) as store:
        store.push()
    return DONE


@app.command(usage="holdall timeline pull [OPTIONS]")
def pull(*, common: Common = DEFAULTS) -> int:
    """Pulls from the remote what others have pushed.

    Args:
        common: The options of every command.
    """
    with opened(common) as store:
        store.pull()
    return DONE


app.command(timeline_reading.get, usage="holdall timeline get [START [END]] [OPTIONS]")
app.command(timeline_reading.ls, usage="holdall timeline ls [START [END]] [OPTIONS]")
app.command(timeline_reading.export, usage="holdall timeline export DIRECTORY [START [END]] [OPTIONS]")
app.command(timeline_reading.stats, usage="holdall timeline stats [START [END]] [OPTIONS]")
app.command(timeline_reading.verify, usage="holdall timeline verify [OPTIONS]")
