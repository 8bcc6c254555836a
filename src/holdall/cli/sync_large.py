"""`holdall sync store`: where a folder's large files go; and moving them, for the commands that do."""

import os
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from holdall.cli import output
from holdall.cli.exit_codes import DONE, FAILED
from holdall.cli.sync_folders import DEFAULTS, Common, clusters, only, reconciled
from holdall.core.units import parse_size_bytes
from holdall.errors import DamageError, HoldallError, UsageError
from holdall.limits.sync import SYNC_ARRIVAL_FILE_BYTES_MAX, SYNC_FILE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdall.stores.base import Store
    from holdall.sync.cluster import Cluster
    from holdall.sync.folder import Folder
    from holdall.sync.pointer import Pointer

Name = Annotated[str | None, Parameter(name="--store", metavar="STORE")]
Size = Annotated[str | None, Parameter(metavar="SIZE")]


def store(
    name: Annotated[str | None, Parameter(name="store")] = None,
    /,
    *,
    none: Annotated[bool, Parameter(negative="")] = False,
    max_size: Size = None,
    directory: Annotated[str | None, Parameter(name=["--directory", "-C"], metavar="DIR")] = None,
    common: Common = DEFAULTS,
) -> int:
    """Says where the large files of a folder go, or settles it, for this node alone.

    The history has a pointer to such a file, and the store its bytes, under their SHA-256. With --json, prints
    {"store", "size_max_bytes", "waiting": {path: reason}, "store_error"}.

    Args:
        name: A directory, http(s)://host:port or the name of a profile (see holdall store).
        none: No store: large files are left out, and those of other nodes do not come.
        max_size: A file above this is large, such as 50MB.
        directory: The folder; not needed where it is clear.
        common: The options of every command.
    """
    from holdall.sync.left_out import waiting  # noqa: PLC0415 - slow to import
    from holdall.sync.state import Config  # noqa: PLC0415 - as above
    from holdall.sync.status import poke_daemon  # noqa: PLC0415 - as above

    if name is not None and none:
        raise UsageError("A store and --none are two commands.")
    cluster, code = only(clusters(directory)), DONE
    if none or name is not None or max_size is not None:
        settle(cluster.folder, "" if none else checked(name), max_size)
        if not poke_daemon(cluster):  # where one runs, it does the rest
            code = reconciled(cluster, common, moves=True) or move(cluster, common)
    config = Config.read(os.fspath(cluster.own / "config.toml"))
    place, size = (config.policy or {}).get("store", "").partition("?")[0], config.size_max_bytes
    rows, error = waiting(cluster.folder)
    if common.json:
        facts = {"store": place or None, "size_max_bytes": size}
        output.document(facts | {"waiting": rows, "store_error": error or None})
    else:
        output.line(f"files above {size:,} bytes: {f'in {place}' if place else 'left out'}")
        for path, why in rows.items():
            output.path_line(f"{why}: ", os.fsencode(path))
    return code


def settle(folder: "Folder", name: str | None, max_size: str | None) -> None:
    """Settles the store of a folder, as `checked` has it or empty for none, and which files are large, if not None."""
    from holdall.sync.large import configure  # noqa: PLC0415 - slow to import

    configure(folder, store=name, size_max_bytes=None if max_size is None else size_bytes(max_size))


def size_bytes(max_size: str | None) -> int:
    """Above which size a file is large, as it was said or as it is where nothing was.

    Raises:
        UsageError: That is no size, or more than other nodes take.
    """
    found = SYNC_FILE_BYTES_MAX if max_size is None else parse_size_bytes(max_size)
    if found > SYNC_ARRIVAL_FILE_BYTES_MAX:
        raise UsageError(
            "Other nodes take no file above 1 GiB into their history.", hint="Name a store for such files."
        )
    return found


def move(cluster: "Cluster", common: Common) -> int:
    """Moves the large files that wait, and commits and places what came of it; says what did not succeed."""
    gives = cluster.me.role == "rw"
    return move_all(cluster.folder, lambda: reconciled(cluster, common, moves=True), common, gives=gives)


def move_all(folder: "Folder", look: "Callable[[], int]", common: Common, *, gives: bool) -> int:
    """As `move`, for a folder that is in no cluster either.

    Args:
        folder: It.
        look: Reconciles it, and returns an exit code.
        common: The options of every command.
        gives: Whether its files go to the store.
    """
    from holdall.sync.transfer import Mover  # noqa: PLC0415 - slow to import

    before = None
    while True:
        told: list[str] = []
        say = _say_nothing if common.quiet else output.note
        error = Mover(folder, open_named, gives=lambda: gives, say=say, tell=told.append).run()
        code = look() if told else DONE
        if error:
            output.note(error)
            return FAILED
        if code != DONE or not told or told == before:
            return code
        before = told


async def open_named(name: str) -> "Store":
    """Opens the store that is called so: a profile, a directory or a server."""
    from holdall.cli.spread import open_place, place_of  # noqa: PLC0415 - slow to import

    return await open_place(place_of((name,), None, []), create=False)


def write_out(folder: "Folder", pointer: "Pointer") -> None:
    """Writes the bytes of a large file, from the store, to standard output.

    Raises:
        UsageError: This node has no store.
        HoldallError: It does not have them.
    """
    import asyncio  # noqa: PLC0415 - slow to import
    import hashlib  # noqa: PLC0415 - as above

    from holdall.sync.state import Config  # noqa: PLC0415 - as above

    config = Config.read(os.path.join(folder.git_dir, "holdall", "config.toml"))
    name = (config.policy or {}).get("store")
    if not name:
        raise UsageError("Its bytes lie in a store, and this node has none.", hint="Name it: holdall sync store.")

    async def work() -> None:
        opened = await open_named(name)
        digest = hashlib.sha256()
        try:
            async with await opened.get(pointer.address) as reading:
                async for piece in reading:
                    digest.update(piece)
                    output.data(piece)
        finally:
            await opened.aclose()
        if digest.digest() != pointer.address:
            raise DamageError("What the store has is not what the file held.")

    asyncio.run(work())


def _say_nothing(_words: str) -> None:
    pass


def checked(name: str | None) -> str | None:
    """The name of a store as it is kept: found from everywhere, and made where it is a directory that is missing.

    Raises:
        UsageError: It names no store that keeps anything.
    """
    import asyncio  # noqa: PLC0415 - slow to import

    from holdall.cli.spread import open_place, place_of  # noqa: PLC0415 - as above
    from holdall.core.address import Address  # noqa: PLC0415 - as above
    from holdall.stores.base import missing  # noqa: PLC0415 - as above
    from holdall.stores.opening import directory_of  # noqa: PLC0415 - as above

    if name is None:
        return None
    name = os.path.expanduser(name)
    place = place_of((name,), None, [])
    if place.name is None:
        if name.lower().startswith("memory:"):
            raise UsageError("memory: keeps nothing that another node could get.")
        name = directory_of(name) or name

    async def work() -> None:
        opened = await open_place(place)
        try:
            await missing(opened, [Address(bytes(32))])
        finally:
            await opened.aclose()

    try:
        asyncio.run(work())
    except HoldallError as error:
        output.note(f"The store cannot be used now. {error.sentence()}")
    return name
