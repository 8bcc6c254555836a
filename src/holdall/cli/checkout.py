"""`holdall checkout`: a commit back into a directory."""

import os
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from holdall.cli import output
from holdall.cli.exit_codes import DONE
from holdall.cli.options import FROM_DEFAULTS, Common, CommonFrom, with_store
from holdall.cli.progress import Progress
from holdall.core.address import Address
from holdall.errors import UsageError
from holdall.limits.snapshot import STORE_JOBS_MAX
from holdall.stores.opening import default_directory

if TYPE_CHECKING:
    from holdall.snapshot.checkout import Report, Wish
    from holdall.stores.base import Store

_NAME_CHARS = 12


def checkout(
    address: str,
    directory: str | None = None,
    /,
    *,
    path: Annotated[tuple[str, ...], Parameter(metavar="PATH", consume_multiple=False)] = (),
    overwrite: bool = False,
    delete: bool = False,
    dry_run: bool = False,
    jobs: Annotated[int | None, Parameter(metavar="N")] = None,
    common: CommonFrom = FROM_DEFAULTS,
) -> int:
    """Restores a commit into a directory, and prints which. Every byte is checked before it is used.

    A directory that is missing or empty is built beside its place and gets its name when it is whole; an interrupted
    run is gone on from by the next. In one that is not empty, what is already as it should be is left alone, what is
    missing is made, and nothing else is changed unless you ask for it. Nothing is written through a symlink. With
    --json, the result is {"address", "directory", "entries", "files", "files_bytes", "left", "deleted", "troubles"};
    in a dry run each line is {"change", "path"}.

    Args:
        address: The commit.
        directory: Where to; by default a new directory named by the first 12 digits of the address.
        path: Restore only this file or directory of the commit; may be given several times.
        overwrite: Replace what differs from the commit.
        delete: Delete what the commit does not have. What `holdall commit` would leave out, such as .git, what
            .gitignore names and the store, is kept, and holdall's configuration.
        dry_run: Change nothing; print what would be added (A), replaced (M) and deleted (D).
        jobs: Threads that unpack and compare; by default one per processor.
        common: The options of every command.
    """
    commit = Address.parse_text(address)
    if jobs is not None and not 1 <= jobs <= STORE_JOBS_MAX:
        raise UsageError(f"--jobs is between 1 and {STORE_JOBS_MAX}.")
    if directory == "" or "\0" in (directory or ""):
        raise UsageError("The directory has no name.")
    if "" in path:
        raise UsageError("--path has no name; without it, all is restored.")
    where = commit.hex()[:_NAME_CHARS] if directory is None else os.path.expanduser(directory)
    spared = _own(where, common) if delete else []

    async def work(store: "Store") -> int:
        from holdall.snapshot.checkout import Wish  # noqa: PLC0415 - with the parser's, its imports would be too slow

        wish = Wish(
            directory=where,
            paths=[os.fsencode(one) for one in path],
            replace=overwrite,
            delete=delete,
            spared=spared,
            dry_run=dry_run,
            threads=jobs,
        )
        return await _restore(store, commit, wish, common)

    return with_store(common, work)


def _own(directory: str, common: Common) -> list[str]:
    """Patterns of what holdall needs, the store itself and its secrets among it, where that lies in a directory.

    Raises:
        UsageError: The directory is such a place itself.
    """
    from holdall.cli.profiles import configuration  # noqa: PLC0415 - to delete only
    from holdall.snapshot.commit_directory import own_places  # noqa: PLC0415 - as above

    places = {configuration(): "holdall's configuration", default_directory(): "the default store"}
    return own_places(directory, places | common.place().directories)


async def _restore(store: "Store", commit: Address, wish: "Wish", common: Common) -> int:
    from holdall.snapshot.checkout import checkout as restore  # noqa: PLC0415 - see above
    from holdall.snapshot.reading import open_commit  # noqa: PLC0415 - as above

    with Progress("Restoring", None, quiet=common.quiet) as progress:
        shown = 0

        def advance(doing: str, done_bytes: int, total_bytes: int) -> None:
            nonlocal shown
            progress.relabel(doing)
            progress.expect(total_bytes)
            progress.add(done_bytes - shown)
            shown = done_bytes

        def change(letter: str, path: bytes) -> None:
            if wish.dry_run:
                _show_change(letter, path, common)

        async with await open_commit(store, commit, threads=wish.threads) as reader:
            report = await restore(reader, wish, on_change=change, on_progress=advance)
    if not wish.dry_run:
        _show(commit, report, common)
    return DONE


def _show_change(letter: str, path: bytes, common: Common) -> None:
    if common.json:
        output.document({"change": letter, "path": os.fsdecode(path)})
    else:
        output.path_line(f"{letter} ", path)


def _show(commit: Address, report: "Report", common: Common) -> None:
    if common.json:
        from msgspec.structs import asdict  # noqa: PLC0415 - for this line only

        output.document({"address": commit.path, **asdict(report)})
        return
    output.line(report.directory)
    if common.quiet:
        return
    from holdall.core.units import format_size  # noqa: PLC0415 - for this line only

    for trouble in report.troubles:
        output.note(trouble)
    words = f"{output.count(report.entries, 'entry', 'entries')}: {output.count(report.files, 'file')} "
    words += f"({format_size(report.files_bytes)}) written"
    if report.left:
        words += f", {output.count(report.left, 'entry', 'entries')} left alone"
    if report.deleted:
        words += f", {report.deleted:,} deleted"
    output.note(f"{words}.")
