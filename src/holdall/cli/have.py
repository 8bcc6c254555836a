"""`holdall have`: which of many addresses a store lacks."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from holdall.cli import local_files, output
from holdall.cli.exit_codes import DONE
from holdall.cli.options import DEFAULTS, Common, with_store
from holdall.core.address import Address
from holdall.errors import UsageError
from holdall.limits.stores import BURST_LINE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from holdall.stores.base import Store

_BATCH = 8192


def have(
    file: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    /,
    *,
    common: Common = DEFAULTS,
) -> int:
    """Reads addresses, one on each line, and prints those that are not in the store.

    The others count as used. Empty lines and lines that start with # are passed over. With --json, each line is
    {"address"}.

    Args:
        file: Where the addresses are; - or nothing is standard input.
        common: The options of every command.
    """
    names = local_files.check_names(() if file is None else (file,))

    async def work(store: "Store") -> int:
        from holdall.stores.base import missing  # noqa: PLC0415 - a store's name shadows nothing this way

        async for batch in _batches(names[0]):
            for address in await missing(store, batch):
                if common.json:
                    output.document({"address": address.path})
                else:
                    output.line(address.path)
            output.flush()
        return DONE

    return with_store(common, work)


async def _batches(name: str) -> "AsyncIterator[list[Address]]":
    rest, batch, number = b"", [], 0
    async for piece in local_files.read_pieces(name):
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > BURST_LINE_BYTES_MAX:
            raise UsageError(f"Line {number + len(lines) + 1} is over {BURST_LINE_BYTES_MAX} bytes long.")
        for line in lines:
            number += 1
            batch += _addresses(line, number)
        if len(batch) >= _BATCH:
            yield batch
            batch = []
    batch += _addresses(rest, number + 1)
    if batch:
        yield batch


def _addresses(line: bytes, number: int) -> list[Address]:
    """The address on a line, if there is one."""
    text = line.decode("ascii", "replace").strip()
    if not text or text.startswith("#"):
        return []
    try:
        return [Address.parse_text(text)]
    except UsageError as error:
        raise UsageError(f"Line {number}: {error.message}", hint=error.hint) from None
