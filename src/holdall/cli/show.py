"""`holdall show`: what a commit is made of, and the line that restores it without holdall."""

from contextlib import aclosing
from typing import TYPE_CHECKING

from holdall.cli import output
from holdall.cli.exit_codes import DONE, NOT_FOUND
from holdall.cli.options import FROM_DEFAULTS, Common, CommonFrom, with_store
from holdall.core.address import Address

if TYPE_CHECKING:
    from holdall.core.manifest import Manifest
    from holdall.stores.base import Store

_BATCH = 1024


def show(address: str, /, *, common: CommonFrom = FROM_DEFAULTS) -> int:
    """Shows how many entries, bytes and chunks a commit has, and the line that restores it with tar alone.

    This does not count as a use. If a part of the commit is missing, the exit code is 3; `holdall keep` names it. With
    --json, the result is {"address", "codec", "entries", "files_bytes", "archive_bytes", "chunks", "stored_bytes",
    "missing", "restore"}.

    Args:
        address: The commit.
        common: The options of every command.
    """
    commit = Address.parse_text(address)

    async def work(store: "Store") -> int:
        from holdall.cli.run_lines import NEEDS_HOLDALL, restore_line  # noqa: PLC0415 - slow to import
        from holdall.snapshot.reading import open_commit  # noqa: PLC0415 - as above

        entries = files_bytes = 0
        async with await open_commit(store, commit, use=False) as reader, aclosing(reader.entries()) as found:
            async for entry in found:
                entries += 1
                files_bytes += entry.size_bytes
        manifest, place = reader.manifest, common.place()
        stored_bytes, missing = await _stored(store, commit, manifest)
        _show(
            {
                "address": commit.path,
                "codec": manifest.codec.value,
                "entries": entries,
                "files_bytes": files_bytes,
                "archive_bytes": reader.archive_bytes,
                "chunks": reader.chunks,
                "stored_bytes": stored_bytes,
                "missing": missing,
                "restore": restore_line(place, commit, manifest.codec.value, manifest.depth),
            },
            common,
        )
        if place.is_sealed and not common.quiet:
            output.note(NEEDS_HOLDALL.format(place.name))
        return NOT_FOUND if missing else DONE

    return with_store(common, work)


async def _stored(store: "Store", commit: Address, manifest: "Manifest") -> tuple[int, int]:
    """How many bytes all blobs of a commit take in the store, and how many blobs are missing."""
    from holdall.snapshot.keep import members_of  # noqa: PLC0415 - slow to import
    from holdall.snapshot.whole_store import looks  # noqa: PLC0415 - as above

    seen = {commit}
    batch, size_bytes, missing = [commit], 0, 0
    async with aclosing(members_of(store, manifest, use=False)) as lists:
        async for members in lists:
            batch += [member for member in dict.fromkeys(members) if member not in seen]
            seen.update(batch)
            while len(batch) >= _BATCH:
                infos = await looks(store, batch[:_BATCH])
                del batch[:_BATCH]
                size_bytes += sum(info.size_bytes for info in infos if info is not None)
                missing += infos.count(None)
    infos = await looks(store, batch)
    return size_bytes + sum(info.size_bytes for info in infos if info is not None), missing + infos.count(None)


def _show(facts: dict[str, str | int], common: Common) -> None:
    if common.json:
        output.document(facts)
        return
    from holdall.core.units import format_size  # noqa: PLC0415 - for these lines only

    def size(name: str) -> str:
        return format_size(int(facts[name]))

    output.line(str(facts["address"]))
    output.line(f"  entries  {facts['entries']:,}, with {size('files_bytes')} in files")
    output.line(f"  archive  {size('archive_bytes')} in {output.count(int(facts['chunks']), 'chunk')}")
    output.line(f"  stored   {size('stored_bytes')}, codec {facts['codec']}")
    if facts["missing"]:
        output.line(f"  missing  {output.count(int(facts['missing']), 'blob')}")
    output.line(f"  restore  {facts['restore']}")
