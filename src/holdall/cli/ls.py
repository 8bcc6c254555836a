"""`holdall ls`: what is in the store."""

from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from holdall.cli import output
from holdall.cli.exit_codes import DONE
from holdall.cli.options import DEFAULTS, Common, with_store
from holdall.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from holdall.core.address import Address
    from holdall.stores.base import Info, Store


def ls(
    *,
    long: Annotated[bool, Parameter(name=["--long", "-l"])] = False,
    limit: Annotated[int | None, Parameter(name=["--limit", "-n"], metavar="N")] = None,
    common: Common = DEFAULTS,
) -> int:
    """Lists the store, newest use first, an address on each line.

    A server lists itself only to those who have its API key; one without a key lists nothing. With --json, each line
    is {"address"}, or with --long {"address", "kind", "size_bytes", "version", "used_ns", "expires_ns"}.

    Args:
        long: Also kind, size in bytes and last use, before the address. Slower on a server: it is asked for each.
        limit: Stop after so many.
        common: The options of every command.
    """
    if limit is not None and limit < 1:
        raise UsageError("--limit is 1 or more.")

    async def work(store: "Store") -> int:
        from holdall.stores.abilities import addresses  # noqa: PLC0415 - brings the stores' base with it

        shown = 0
        found: AsyncGenerator[Info | Address, None] = store.entries() if long else addresses(store)  # type: ignore[assignment]
        async with aclosing(found):
            async for item in found:
                _show(item, common)
                shown += 1
                if shown == limit:
                    break
        if not shown and not common.quiet and common.where().startswith("http"):
            output.note("The server lists nothing; one without an API key never does.")
        return DONE

    return with_store(common, work)


def _show(item: "Info | Address", common: Common) -> None:
    if isinstance(item, bytes):
        if common.json:
            output.document({"address": item.path})
        else:
            output.line(item.path)
    elif common.json:
        output.document(output.described(item))
    else:
        output.line(f"{item.kind.value}  {item.size_bytes:>14}  {output.moment(item.used_ns)}  {item.address.path}")
