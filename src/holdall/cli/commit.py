"""`holdall commit`: a directory tree into the store, under one address."""

import os
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from holdall.cli import output
from holdall.cli.exit_codes import DONE, FAILED
from holdall.cli.options import TO_DEFAULTS, Common, CommonTo, with_place
from holdall.cli.progress import Progress
from holdall.errors import UsageError

if TYPE_CHECKING:
    from holdall.cli.profiles import Place
    from holdall.core.address import Address
    from holdall.snapshot.commit import Report
    from holdall.snapshot.commit_directory import CommitOptions
    from holdall.stores.base import Store


def commit(
    directory: Annotated[str, Parameter(show_default=False)] = ".",
    /,
    *,
    ref: Annotated[str | None, Parameter(metavar="NAME")] = None,
    message: Annotated[str, Parameter(name=["--message", "-m"], metavar="TEXT", show_default=False)] = "",
    exclude: Annotated[tuple[str, ...], Parameter(metavar="GLOB", show_default=False)] = (),
    no_ignore: bool = False,
    one_file_system: bool = False,
    preserve: bool = False,
    codec: Literal["zstd", "gzip", "none"] = "zstd",
    run: Annotated[str | None, Parameter(metavar="CMD")] = None,
    encrypt: bool = False,
    dry_run: bool = False,
    no_cache: bool = False,
    common: CommonTo = TO_DEFAULTS,
) -> int:
    """Stores a directory tree and prints its address: the same tree has the same address on every machine.

    Only what the store lacks is sent. `.git` is left out, and what .gitignore and .holdallignore name. With --json, the
    result is {"address", "entries", "size_bytes", "chunks", "sent_chunks", "sent_bytes", "skipped"}.

    Args:
        directory: The tree; the current directory if none is named.
        ref: Also add the commit to the history of this name; see `holdall log`.
        message: What to say of it in that history.
        exclude: Leave out what matches, written as in .gitignore; may be given several times.
        no_ignore: Take everything, `.git` included.
        one_file_system: Do not descend into other file systems.
        preserve: Also keep times, owners, all mode bits, extended attributes and hard links: a full backup.
        codec: How chunks are compressed: restored by `tar --zstd -x`, `tar -xz` or `tar -x`.
        run: Also print lines that fetch this version and run a command in it.
        encrypt: Send nothing to a store that is not encrypted. One that is has a profile: see `holdall store add`.
        dry_run: Send nothing; say how much would be sent.
        no_cache: Read every file, whatever is remembered of earlier commits.
        common: The options of every command.
    """
    _check_words(ref, message, run)
    root = root_of(directory)
    place = common.place()
    if encrypt:
        _check_sealed(place)

    async def work(store: "Store") -> int:
        from holdall.snapshot.commit_directory import CommitOptions, own_places  # noqa: PLC0415 - slow to import

        own = own_places(root, place.directories)
        if own and not common.quiet and not common.json:
            output.note(f"Left out, since holdall writes there: {', '.join(own)}")
        slot = None if ref is None else slot_of_ref(ref, message, common)  # what is wrong with it is said beforehand
        options = CommitOptions(
            exclude=(*own, *exclude),
            no_ignore=no_ignore,
            one_file_system=one_file_system,
            preserve=preserve,
            codec=codec,
            no_cache=no_cache,
        )
        report = await _commit(store, root, options, common, dry_run=dry_run)
        if slot is not None and report.address is not None:
            await record_commit(store, slot, report.address.path, message)
        _show(report, common)
        if run is not None and report.address is not None:
            _show_run_lines(place, report.address, codec, report.depth, run)
        return FAILED if report.skipped else DONE

    return with_place(place, common, work, writes=not dry_run)


async def _commit(store: "Store", root: str, options: "CommitOptions", common: Common, *, dry_run: bool) -> "Report":
    from holdall.snapshot.commit_directory import commit_directory  # noqa: PLC0415 - slow to import

    with Progress("Committing", None, quiet=common.quiet) as progress:
        shown = 0

        def advance(report: "Report") -> None:
            nonlocal shown
            progress.add(report.size_bytes - shown)
            shown = report.size_bytes

        return await commit_directory(store, root, options, dry_run=dry_run, on_progress=advance)


def _check_words(ref: str | None, message: str, run: str | None) -> None:
    if message and ref is None:
        raise UsageError("--message goes with --ref.")
    if run is not None and not run.strip():
        raise UsageError("--run names no command.")


def _check_sealed(place: "Place") -> None:
    """Refuses a store whose members would see what is committed."""
    if not place.is_sealed:
        raise UsageError(
            "The store is not encrypted: that takes a secret, which a profile keeps.",
            hint=f"Run holdall store add NAME {place.stores_words} --encrypt, and then commit --to NAME.",
        )


def _show_run_lines(place: "Place", address: "Address", codec: str, depth: int, command: str) -> None:
    from holdall.cli.run_lines import NEEDS_HOLDALL, run_lines  # noqa: PLC0415 - seldom asked for

    for text in run_lines(place, address, codec, depth, command):
        output.line(text)
    if place.is_sealed:
        output.note(NEEDS_HOLDALL.format(place.name))


def root_of(directory: str) -> str:
    """The tree that was named.

    Raises:
        UsageError: Nothing was: not the current directory, but a variable that was not set.
    """
    if not directory:
        raise UsageError("The directory has no name.")
    return os.path.expanduser(directory)


def slot_of_ref(ref: str, message: str, common: Common) -> "Address":
    """The slot of a ref of this user.

    Raises:
        UsageError: The name or the message cannot be that of a ref, or the secret cannot be read.
    """
    from holdall.cli.ref_secret import ref_secret  # noqa: PLC0415 - needed for a ref only
    from holdall.snapshot import history  # noqa: PLC0415 - as above

    history.check_message(message)
    return history.ref_address(ref_secret(quiet=common.quiet), ref)


async def record_commit(store: "Store", slot: "Address", address: str, message: str) -> None:
    """Adds a commit, made now, to a ref; errors as `history.record`."""
    import time  # noqa: PLC0415 - needed for a ref only

    from holdall.snapshot import history  # noqa: PLC0415 - as above

    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    await history.record(store, slot, history.Record(address, now, message))


def described(report: "Report") -> "dict[str, Any]":
    """What a commit did, as it appears in JSON documents."""
    return {
        "address": None if report.address is None else report.address.path,
        "entries": report.entries,
        "size_bytes": report.size_bytes,
        "chunks": report.chunks,
        "sent_chunks": report.sent_chunks,
        "sent_bytes": report.sent_bytes,
        "skipped": [os.fsdecode(skipped.path) for skipped in report.skipped],
    }


def _show(report: "Report", common: Common) -> None:
    for skipped in report.skipped:
        output.note(f"{os.fsdecode(skipped.path)!r} was left out: {skipped.reason}.")
    if common.json:
        output.document(described(report))
    elif report.address is not None:
        output.line(report.address.path)
    if not common.quiet and not common.json:
        from holdall.core.units import format_size  # noqa: PLC0415 - for this line only

        sent = "would be sent" if report.address is None else "sent"
        output.note(
            f"{output.count(report.entries, 'entry', 'entries')}, {format_size(report.size_bytes)} in "
            f"{output.count(report.chunks, 'chunk')}; "
            f"{format_size(report.sent_bytes)} {sent}."
        )
