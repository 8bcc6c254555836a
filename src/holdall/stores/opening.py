"""From the name of a store to the store: a path, `file:///path`, `http(s)://host:port` or `memory:`.

The modules of the stores are imported only when one is opened, so that nobody waits for what he does not use.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from holdall.errors import StoreURLError

if TYPE_CHECKING:
    from holdall.stores.base import Store

DATA_DIRECTORY: Final = "/data"
"""Where the original server keeps its data."""

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")


def default_directory() -> str:
    """The embedded default store: `/data` where it exists and can be written, else the user's data directory."""
    if os.path.isdir(DATA_DIRECTORY) and os.access(DATA_DIRECTORY, os.R_OK | os.W_OK | os.X_OK):
        return DATA_DIRECTORY
    from platformdirs import user_data_dir  # noqa: PLC0415 - see the module

    return user_data_dir("holdall", appauthor=False)


def directory_of(where: str) -> str | None:
    """The directory that the name of a store means, or None where it means a server or memory.

    Args:
        where: A path, a `file:` URL, or the name of another store.

    Raises:
        StoreURLError: It names no store.
    """
    if not where or "\0" in where:
        raise StoreURLError("The store has no name.")
    scheme = _SCHEME.match(where)
    match scheme and scheme[1].lower():
        case None:
            return os.path.abspath(where)
        case "http" | "https":
            return None
        case "memory":
            if where.lower() != "memory:":
                raise StoreURLError(f"{where[:200]!r} is not the name of a store.", hint="Write memory: alone.")
            return None
        case "file":
            return _path_of(where)
        case other:
            if re.fullmatch(r"[\w.-]+:\d{1,5}(/.*)?", where, re.ASCII):
                raise StoreURLError(f"{where[:200]!r} names no store.", hint=f"Is it http://{where[:200]}?")
            raise StoreURLError(
                f"There are no {other}: stores.",
                hint=f"{StoreURLError.default_hint} A path with a colon in it starts with ./",
            )


async def open_store(where: str, *, api_key: str | None = None, create: bool = True) -> Store:
    """Opens the store that is called `where`; close it with `aclose`.

    Args:
        where: A path, `file:///path`, `http(s)://host:port[/path][?apikey=KEY]` or `memory:`.
        api_key: The API key for a server, instead of one in the URL.
        create: Make a directory that is missing.

    Raises:
        StoreURLError: It names no store.
        UsageError: The API key cannot be sent.
        StoreError: The store cannot be opened.
    """
    path = directory_of(where)
    if path is not None:
        from holdall.stores.directory import DirectoryStore  # noqa: PLC0415 - see the module

        return await DirectoryStore.open(path, create=create)
    if where.lower().startswith("memory:"):
        from holdall.stores.memory import MemoryStore  # noqa: PLC0415 - see the module

        return MemoryStore()
    from holdall.stores.http import HTTPStore  # noqa: PLC0415 - see the module

    return HTTPStore(where, api_key=api_key)


def _path_of(url: str) -> str:
    from urllib.parse import unquote, urlsplit  # noqa: PLC0415 - slow to import, and needed for a URL only

    try:
        parts = urlsplit(url)
    except ValueError:
        raise StoreURLError(f"{url[:200]!r} is not the URL of a directory.") from None
    path = unquote(parts.path)
    if (
        parts.netloc not in {"", "localhost"}
        or not path.startswith("/")
        or parts.query
        or parts.fragment
        or "\0" in path
    ):
        raise StoreURLError(f"{url[:200]!r} is not the URL of a directory.", hint="Write file:///path.")
    return path
