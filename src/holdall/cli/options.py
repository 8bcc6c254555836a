"""The options that every command has, and what they come to: a store, opened and closed around the work."""

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import Group, Parameter

from holdall.errors import UsageError
from holdall.limits import API_KEY_BYTES_MAX
from holdall.stores.opening import default_directory, open_store

if TYPE_CHECKING:
    from holdall.stores.base import Store

STORE_VARIABLE: Final = "HOLDALL_STORE"
KEY_VARIABLE: Final = "HOLDALL_API_KEY"

EVERYWHERE: Final = Group("Options of every command", sort_key=10)


@Parameter(name="*", group=EVERYWHERE)
@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """What every command can be told.

    Attributes:
        store: The store's name.
        api_key_file: A file with the API key.
        json: Write JSON.
        quiet: Say nothing beside the result.
        debug: Show where an error came from.
    """

    store: Annotated[
        str | None,
        Parameter(
            name=["--store", "-s"],
            metavar="URL",
            help=f"A directory, http(s)://host:port or memory:. Default: ${STORE_VARIABLE}, else the directory that "
            "`holdall serve` serves.",
        ),
    ] = None
    api_key_file: Annotated[
        str | None,
        Parameter(metavar="FILE", help=f"Read the API key from this file. Default: ${KEY_VARIABLE}."),
    ] = None
    json: Annotated[bool, Parameter(help="Write JSON: a document, or one a line.")] = False
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], help="Say nothing beside the result.")] = False
    debug: Annotated[bool, Parameter(help="Show where an error came from.")] = False

    def where(self) -> str:
        """The name of the store."""
        named = self.store or os.environ.get(STORE_VARIABLE)
        return os.path.expanduser(named) if named else default_directory()

    def api_key(self) -> str | None:
        """The API key for a server, if any was given other than in the store's URL.

        Raises:
            UsageError: The file cannot be read or holds no key.
        """
        if self.api_key_file is not None:
            return _key_in(self.api_key_file)
        if "?" in self.where():
            return None  # the one in the URL is nearer at hand than the environment's
        return os.environ.get(KEY_VARIABLE) or None


DEFAULTS: Final = Common()


def with_store(common: Common, work: Callable[["Store"], Awaitable[int]]) -> int:
    """Opens the store, does the work, and closes the store.

    Args:
        common: Which store, and with which key.
        work: What to do with it; returns an exit code.

    Raises:
        HoldallError: As the store and the work.
    """
    import asyncio  # noqa: PLC0415 - slow to import; --help and wrong use do without

    async def done() -> int:
        store = await open_store(common.where(), api_key=common.api_key())
        try:
            return await work(store)
        finally:
            await store.aclose()

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
