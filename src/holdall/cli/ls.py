"""`holdall ls`: what is in the store, or in a commit."""

import os
import stat
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from holdall.cli import output
from holdall.cli.exit_codes import DONE
from holdall.cli.options import FROM_DEFAULTS, Common, CommonFrom, with_store
from holdall.core.address import Address
from holdall.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from holdall.core.tree import Entry
    from holdall.stores.base import Info, Store

_LETTERS = {"file": stat.S_IFREG, "hardlink": stat.S_IFREG, "directory": stat.S_IFDIR, "symlink": stat.S_IFLNK}


def ls(
    address: str | None = None,
    path: str | None = None,
    /,
    *,
    long: Annotated[bool, Parameter(name=["--long", "-l"])] = False,
    limit: Annotated[int | None, Parameter(name=["--limit", "-n"], metavar="N")] = None,
    common: CommonFrom = FROM_DEFAULTS,
) -> int:
    """Lists the store, newest use first, an address on each line; or a commit, a path on each line.

    A server lists itself only to those who have its API key; one without a key lists nothing. With --json, each line
    is {"address"}, or with --long {"address", "kind", "size_bytes", "version", "used_ns", "expires_ns"}; for a commit
    it is {"path", "type", "mode", "size_bytes", "content", "target", "mtime_ns"}.

    Args:
        address: A commit to list; the store where none is named.
        path: Only this file or directory of the commit.
        long: Also kind, size in bytes and last use, before the address; of a commit mode, size and, where it is kept,
            time, before the path. Slower on a server: it is asked for each address.
        limit: Stop after so many.
        common: The options of every command.
    """
    if limit is not None and limit < 1:
        raise UsageError("--limit is 1 or more.")
    commit = None if address is None else Address.parse_text(address)

    async def work(store: "Store") -> int:
        if commit is not None:
            return await _list_commit(store, commit, path, common, long=long, limit=limit)
        return await _list_store(store, common, long=long, limit=limit)

    return with_store(common, work)


async def _list_store(store: "Store", common: Common, *, long: bool, limit: int | None) -> int:
    from holdall.stores.abilities import addresses  # noqa: PLC0415 - brings the stores' base with it

    shown = 0
    found: AsyncGenerator[Info | Address, None] = store.entries() if long else addresses(store)  # type: ignore[assignment]
    async with aclosing(found):
        async for item in found:
            _show(item, common)
            shown += 1
            if shown == limit:
                break
    if not shown and not common.quiet and common.place().stores[0].url.startswith("http"):
        output.note("The server lists nothing; one without an API key never does.")
    return DONE


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


async def _list_commit(
    store: "Store", commit: Address, path: str | None, common: Common, *, long: bool, limit: int | None
) -> int:
    from holdall.snapshot.reading import open_commit  # noqa: PLC0415 - slow to import
    from holdall.snapshot.selection import Selection  # noqa: PLC0415 - as above

    selection = Selection([] if path is None else [os.fsencode(path)])
    shown = 0
    async with await open_commit(store, commit) as reader, aclosing(reader.entries()) as entries:
        async for entry in entries:
            if selection.takes(entry) and selection.covers(entry.path):
                _show_entry(entry, common, long=long)
                shown += 1
                if shown == limit:
                    return DONE
    selection.check()
    return DONE


def _show_entry(entry: "Entry", common: Common, *, long: bool) -> None:
    time_ns = None if entry.metadata is None else entry.metadata.mtime_ns
    if common.json:
        output.document(
            {
                "path": os.fsdecode(entry.path),
                "type": entry.type.value,
                "mode": entry.mode,
                "size_bytes": entry.size_bytes,
                "content": None if entry.content is None else entry.content.hex(),
                "target": os.fsdecode(entry.target) if entry.target else None,
                "mtime_ns": time_ns,
            }
        )
    elif long:
        mode = stat.filemode(_LETTERS[entry.type.value] | entry.mode)
        moment = "" if time_ns is None else f"{output.moment(time_ns)}  "
        output.path_line(f"{mode}  {entry.size_bytes:>14}  {moment}", entry.path, entry.target)
    else:
        output.path_line("", entry.path)
