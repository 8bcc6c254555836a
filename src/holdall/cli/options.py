"""The options that every command has, and what they come to: a store, opened and closed around the work."""

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Literal

from cyclopts import Group, Parameter

from holdall.cli import output
from holdall.cli.exit_codes import DONE, FAILED
from holdall.errors import UsageError
from holdall.limits.server import API_KEY_BYTES_MAX
from holdall.stores.opening import default_directory

if TYPE_CHECKING:
    from holdall.cli.profiles import Place
    from holdall.stores.base import Store

STORE_VARIABLE: Final = "HOLDALL_STORE"
KEY_VARIABLE: Final = "HOLDALL_API_KEY"

EVERYWHERE: Final = Group("Options of every command", sort_key=10)


_STORE_HELP: Final = (
    "A directory, http(s)://host:port, memory: or the name of a profile (see holdall store); given again, several "
    f"stores as one. Default: ${STORE_VARIABLE}, else the directory that `holdall serve` serves."
)


@Parameter(name="*", group=EVERYWHERE)
@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """What every command can be told.

    Attributes:
        store: The store's name, or the names of several.
        spread: How several are one.
        api_key_file: A file with the API key, or one for each server.
        json: Write JSON.
        quiet: Say nothing beside the result.
        debug: Show where an error came from.
    """

    store: Annotated[
        tuple[str, ...], Parameter(name=["--store", "-s"], metavar="STORE", help=_STORE_HELP, show_default=False)
    ] = ()
    spread: Annotated[
        Literal["mirror", "stripe", "split", "shares"] | None,
        Parameter(
            metavar="HOW",
            help="How several stores are one. mirror: each has everything; stripe: each has a part. split and shares "
            "take a profile. Default: mirror.",
            show_choices=False,
        ),
    ] = None
    api_key_file: Annotated[
        tuple[str, ...],
        Parameter(
            metavar="FILE",
            help=f"Read the API key from this file; for several servers, one for each. Default: ${KEY_VARIABLE}, for "
            "one server.",
            show_default=False,
        ),
    ] = ()
    json: Annotated[bool, Parameter(help="Write JSON: a document, or one a line.")] = False
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], help="Say nothing beside the result.")] = False
    debug: Annotated[bool, Parameter(help="Show where an error came from.")] = False

    def place(self, *, environment_key: bool = True) -> "Place":
        """What was named, or the default store.

        Args:
            environment_key: Whether the environment's API key is for the server named, if it is one alone.

        Raises:
            UsageError: It means nothing, or a file with an API key cannot be read or holds none.
        """
        from holdall.cli.spread import is_server, place_of  # noqa: PLC0415 - --help and wrong use do without

        named = self.store or tuple(filter(None, [os.environ.get(STORE_VARIABLE)])) or (default_directory(),)
        words = tuple(map(os.path.expanduser, named))
        keys = self.keys()
        # A key in a URL is nearer at hand than the environment's.
        if not keys and environment_key and len(words) == 1 and "?" not in words[0] and is_server(words[0]):
            keys = [os.environ.get(KEY_VARIABLE) or None]
        place = place_of(words, self.spread, keys)
        if any(is_server(member.url) for member in place.stores):
            output.tell_of_waits(quiet=self.quiet or self.json)
        return place

    def keys(self) -> list[str | None]:
        """The API keys of the files given, in their order.

        Raises:
            UsageError: One cannot be read or holds no key.
        """
        return [_key_in(path) for path in self.api_key_file]


@Parameter(name="*", group=EVERYWHERE)
@dataclass(frozen=True, slots=True, kw_only=True)
class CommonTo(Common):
    """As `Common`, for a command that brings something to a store."""

    store: Annotated[
        tuple[str, ...],
        Parameter(name=["--store", "-s", "--to"], metavar="STORE", help=_STORE_HELP, show_default=False),
    ] = ()


@Parameter(name="*", group=EVERYWHERE)
@dataclass(frozen=True, slots=True, kw_only=True)
class CommonFrom(Common):
    """As `Common`, for a command that gets something from a store."""

    store: Annotated[
        tuple[str, ...],
        Parameter(name=["--store", "-s", "--from"], metavar="STORE", help=_STORE_HELP, show_default=False),
    ] = ()


DEFAULTS: Final = Common()
TO_DEFAULTS: Final = CommonTo()
FROM_DEFAULTS: Final = CommonFrom()


def with_store(
    common: Common, work: Callable[["Store"], Awaitable[int]], *, writes: bool = False, create: bool = False
) -> int:
    """Opens the store, does the work, and closes the store.

    Args:
        common: Which store, and with which key.
        work: What to do with it; returns an exit code.
        writes: Whether the work is whole only if every member of the store has done its part.
        create: Make a directory that is missing: for what stores something. Whatever else made one of a misspelt name
            would find it empty, and all well; the default directory has no name to misspell.

    Raises:
        HoldallError: As the store and the work.
    """
    is_named = bool(common.store or os.environ.get(STORE_VARIABLE))
    return with_place(common.place(), common, work, writes=writes, create=create or not is_named)


def with_place(
    place: "Place",
    common: Common,
    work: Callable[["Store"], Awaitable[int]],
    *,
    writes: bool = False,
    create: bool = True,
) -> int:
    """Opens the store at a place, does the work, and closes the store; says which of its members failed.

    Args:
        place: Which store.
        common: How to say so.
        work: What to do with it; returns an exit code.
        writes: See `with_store`.
        create: Make directories that are missing.

    Raises:
        HoldallError: As the store and the work.
    """
    import asyncio  # noqa: PLC0415 - slow to import; --help and wrong use do without

    from holdall.cli.spread import open_place, tell  # noqa: PLC0415 - as above

    async def done() -> int:
        store = await open_place(place, create=create)
        lasts = False
        try:
            code = await work(store)
        finally:
            lasts = tell(place, store, as_json=common.json)
            await store.aclose()
        return code or (FAILED if writes and lasts else DONE)

    return asyncio.run(done())


def _key_in(path: str) -> str:
    try:
        with open(path, "rb") as file:
            key = file.read(API_KEY_BYTES_MAX + 2).strip()
    except OSError as error:
        raise UsageError(f"The API key file cannot be read: {error.strerror}.") from error
    try:
        return key.decode("ascii")
    except UnicodeDecodeError:
        raise UsageError(f"{path} holds no API key.") from None
