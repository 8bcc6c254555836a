"""`holdall watch`: a directory tree, committed again whenever it was changed."""

import os
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from holdall.cli import output
from holdall.cli.commit import described, record_commit, root_of, slot_of_ref
from holdall.cli.exit_codes import DONE
from holdall.cli.options import TO_DEFAULTS, Common, CommonTo
from holdall.core.units import SECOND_NS, format_size, parse_duration_ns
from holdall.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from holdall.cli.profiles import Place
    from holdall.core.address import Address
    from holdall.snapshot.commit import Report
    from holdall.stores.base import Store


def watch(
    directory: Annotated[str, Parameter(show_default=False)] = ".",
    /,
    *,
    ref: Annotated[str | None, Parameter(metavar="NAME")] = None,
    exclude: Annotated[tuple[str, ...], Parameter(metavar="GLOB", show_default=False)] = (),
    no_ignore: bool = False,
    one_file_system: bool = False,
    preserve: bool = False,
    codec: Literal["zstd", "gzip", "none"] = "zstd",
    every: Annotated[str, Parameter(metavar="DURATION")] = "10m",
    settle: Annotated[str, Parameter(metavar="DURATION")] = "1s",
    encrypt: bool = False,
    common: CommonTo = TO_DEFAULTS,
) -> int:
    """Commits a directory tree now, and again whenever it was changed; prints each new address. SIGTERM ends it.

    A store that cannot be reached is tried again until it can, and a tree that is away, as an unmounted disk, is waited
    for. Where this machine does not tell of all changes, the tree is walked every minute. What holdall itself writes to
    is left out where it lies in the tree. With --json, each line is {"address", "entries", "size_bytes", "chunks",
    "sent_chunks", "sent_bytes", "skipped"}. Needs the package watchdog: pip install 'holdall[watch]'.

    Args:
        directory: The tree; the current directory if none is named.
        ref: Also add each commit to the history of this name; see `holdall log`.
        exclude: Leave out what matches, written as in .gitignore; may be given several times.
        no_ignore: Take everything, `.git` included.
        one_file_system: Do not descend into other file systems.
        preserve: Also keep times, owners, all mode bits, extended attributes and hard links: a full backup.
        codec: How chunks are compressed: restored by `tar --zstd -x`, `tar -xz` or `tar -x`.
        every: Also walk the tree this often, for changes that the system did not tell of.
        settle: Commit when nothing was changed for this long, or, while it never rests, every 30s.
        encrypt: Send nothing to a store that is not encrypted. One that is has a profile: see `holdall store add`.
        common: The options of every command.
    """
    import asyncio  # noqa: PLC0415 - slow to import; --help and wrong use do without
    import signal  # noqa: PLC0415 - as above

    from holdall.snapshot.commit_directory import CommitOptions, own_places  # noqa: PLC0415 - as above
    from holdall.snapshot.watch import Pace, Watcher  # noqa: PLC0415 - as above

    pace = Pace(settle_seconds=_seconds(settle), every_seconds=_seconds(every))
    root = os.path.abspath(root_of(directory))
    place = common.place()
    if encrypt and not place.is_sealed:
        raise UsageError("The store is not encrypted.", hint="Name the profile of one that is: see holdall store add.")
    slot = None if ref is None else slot_of_ref(ref, "", common)
    own = own_places(root, place.directories)
    if own and not common.quiet:
        output.note(f"Left out, since holdall writes there: {', '.join(own)}")
    options = CommitOptions(
        exclude=(*own, *exclude),
        no_ignore=no_ignore,
        one_file_system=one_file_system,
        preserve=preserve,
        codec=codec,
    )
    teller = _Teller(place, slot, common)

    async def work() -> int:
        watcher = Watcher(root, options, teller.opened, on_commit=teller.tell, say=output.note, pace=pace)
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, watcher.stop)
        if not common.quiet:
            output.note(f"Watching {root!r}.")
        await watcher.run()
        return DONE

    return asyncio.run(work())


class _Teller:
    """Opens the store for each commit, and says and records what became of it.

    Args:
        place: The store.
        slot: Of the ref that commits are added to.
        common: How to say it.
    """

    def __init__(self, place: "Place", slot: "Address | None", common: Common) -> None:
        self._place = place
        self._slot = slot
        self._common = common
        self._last: Address | None = None
        self._recorded: str | None = None
        self._skipped: set[bytes] = set()
        self._failing: set[str] = set()

    def opened(self, create: bool) -> "AbstractAsyncContextManager[Store]":
        """The store, for one commit."""
        from contextlib import asynccontextmanager  # noqa: PLC0415 - after the parser's imports

        from holdall.cli.spread import failures_of, open_place, tell  # noqa: PLC0415 - as above

        @asynccontextmanager
        async def opening() -> "AsyncIterator[Store]":
            store = await open_place(self._place, create=create)
            try:
                yield store
            finally:
                failing = {failure.member for failure in failures_of(store) if failure.lasts}
                if failing - self._failing:  # a member that is away is named once
                    tell(self._place, store, as_json=self._common.json)
                self._failing = failing
                await store.aclose()

        return opening()

    async def tell(self, store: "Store", report: "Report") -> None:
        """Records a commit that differs from the last, and prints its address."""
        for skipped in report.skipped:
            if skipped.path not in self._skipped:
                output.note(f"{os.fsdecode(skipped.path)!r} is left out: {skipped.reason}.")
        self._skipped = {skipped.path for skipped in report.skipped}
        address = report.address
        if address is None or address == self._last:
            return
        if self._slot is not None:
            await self._record(store, self._slot, address.path)
        self._last = address
        if self._common.json:
            output.document(described(report))
        else:
            output.line(address.path)
            if not self._common.quiet:
                entries = output.count(report.entries, "entry", "entries")
                output.note(f"{entries}, {format_size(report.size_bytes)}; {format_size(report.sent_bytes)} sent.")
        output.flush()

    async def _record(self, store: "Store", slot: "Address", path: str) -> None:
        """Adds a commit to the ref unless it is its newest."""
        from holdall.snapshot import history  # noqa: PLC0415 - needed for a ref only

        if self._recorded is None:  # at first, and when it is not known whether the last try got through
            try:
                self._recorded = (await history.read(store, slot))[-1].address
            except (NotFoundError, IndexError):
                self._recorded = ""
        if self._recorded != path:
            self._recorded = None
            await record_commit(store, slot, path, "")
            self._recorded = path


def _seconds(text: str) -> float:
    return parse_duration_ns(text) / SECOND_NS
