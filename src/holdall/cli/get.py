"""`holdall get`: an entry, a part of one, or a burst, out of the store."""

import hashlib
import re
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from holdall.cli import local_files, output
from holdall.cli.exit_codes import DONE
from holdall.cli.options import DEFAULTS, Common, with_store
from holdall.cli.progress import Progress
from holdall.core.address import Address
from holdall.errors import DamageError, UsageError
from holdall.limits.stores import BURST_DEPTH_MAX
from holdall.stores.base import WHOLE, Kind, Span

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from holdall.stores.base import Reading, Store


def get(
    address: str,
    /,
    *,
    file: Annotated[str | None, Parameter(name=["--output", "-o"], metavar="FILE", allow_leading_hyphen=True)] = None,
    burst: bool = False,
    depth: Annotated[int | None, Parameter(metavar="N")] = None,
    part: Annotated[str | None, Parameter(name="--range", metavar="A-B", allow_leading_hyphen=True)] = None,
    no_touch: bool = False,
    common: Common = DEFAULTS,
) -> int:
    """Writes what is at an address to standard output or to a file.

    A blob that is read whole is checked against its address on the way. If it does not match, the exit code is 4 and
    the file is not written; of standard output, all but the end may then be out already. With --json and -o, prints
    {"address", "kind", "size_bytes", "file"}.

    Args:
        address: The address: /<64 hex>.tig, the hex alone, or a URL that ends in it.
        file: Write here instead; the file appears when it is complete. - is standard output.
        burst: Read the lines as addresses, and write what they name, one after the other. Nothing is written if one
            is missing.
        depth: As --burst, with bursts within bursts down to this depth, at most 8.
        part: Only bytes A to B, counted from 0, both included; A- is from A to the end, -N the last N.
        no_touch: Do not count this as a use: the entry's time to expiry goes on.
        common: The options of every command.
    """
    wanted = _Wanted(
        address=Address.parse_text(address),
        span=WHOLE if part is None else _span(part),
        depth=depth if depth is not None else int(burst),
        use=not no_touch,
    )
    if not 0 <= wanted.depth <= BURST_DEPTH_MAX or depth == 0:
        raise UsageError(f"--depth is between 1 and {BURST_DEPTH_MAX}.")
    if common.json and file in {None, local_files.STANDARD_INPUT}:
        raise UsageError("--json needs -o FILE, since standard output cannot take both.")

    async def work(store: "Store") -> int:
        size, kind = 0, "burst"
        with Progress("Reading", None, quiet=common.quiet) as progress, local_files.target(file) as write:
            async with aclosing(_readings(store, wanted, progress)) as readings:
                async for reading in readings:
                    async for piece in _checked(reading, whole=reading.stop - reading.start == reading.info.size_bytes):
                        write(piece)
                        size += len(piece)
                        progress.add(len(piece))
                    kind = "burst" if wanted.depth else reading.info.kind.value
        if common.json:
            output.document({"address": wanted.address.path, "kind": kind, "size_bytes": size, "file": file})
        return DONE

    return with_store(common, work)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What is to be read; depth 0 is the entry itself."""

    address: Address
    span: Span
    depth: int
    use: bool


async def _readings(store: "Store", wanted: _Wanted, progress: Progress) -> "AsyncGenerator[Reading, None]":
    """Opens, one after the other, what makes up the bytes wanted; all of it is known to be there at the first."""
    if wanted.depth == 0:
        async with await store.get(wanted.address, wanted.span, use=wanted.use) as reading:
            progress.expect(reading.stop - reading.start)
            yield reading
        return
    from holdall.stores.abilities import BurstReading  # noqa: PLC0415 - needed by bursts only
    from holdall.stores.bursts import plan  # noqa: PLC0415 - as above

    if isinstance(store, BurstReading):
        reading = await store.get_burst(wanted.address, wanted.span, depth=wanted.depth, use=wanted.use)
        async with reading:
            progress.expect(reading.stop - reading.start)
            yield reading
        return
    members = await plan(store, wanted.address, wanted.depth, use=wanted.use)
    members.select(wanted.span)
    progress.expect(members.stop - members.start)
    async for reading in members.readings():
        yield reading


async def _checked(reading: "Reading", *, whole: bool) -> "AsyncIterator[bytes]":
    """The bytes of a reading; those of a whole blob are held to its address."""
    info, digest = reading.info, hashlib.sha256()
    check = whole and info.kind is Kind.BLOB
    async for piece in reading:
        if check:
            digest.update(piece)
        yield piece
    if check and digest.digest() != info.address:
        raise DamageError(
            f"What the store has at {info.address} does not hash to it.",
            hint="Put the right bytes from another copy, after holdall rm.",
        )


def _span(text: str) -> Span:
    """Reads `A-B`, `A-` or `-N` as HTTP means them."""
    found = re.fullmatch(r"(\d{1,18})-(\d{1,18})?|-(\d{1,18})", text, re.ASCII)
    if found is None or (found[3] and int(found[3]) == 0) or (found[2] and int(found[2]) < int(found[1])):
        raise UsageError(f"{text[:40]!r} is not a range.", hint="Write A-B, A- or -N, in bytes counted from 0.")
    if found[3]:
        return Span(-int(found[3]))
    return Span(int(found[1]), int(found[2]) + 1 if found[2] else None)
