"""What every `holdall timeline` command is told, and what it comes to: a store, opened and closed around the work."""

from contextlib import contextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import Parameter

from holdall.cli.options import EVERYWHERE
from holdall.errors import HoldallError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdall.timeline import Store

When = Annotated[str | None, Parameter(allow_leading_hyphen=True)]
Label = Annotated[str | None, Parameter(name=["--label", "-l"], metavar="TEXT", allow_leading_hyphen=True)]


@Parameter(name="*", group=EVERYWHERE)
@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """What every command of a timeline can be told.

    Attributes:
        repo: The repository.
        key_file: A file with the key, or with several.
        compression: How blobs are compressed.
        json: Write JSON.
        quiet: Say nothing beside the result.
        debug: Show where an error came from.
    """

    repo: Annotated[
        str,
        Parameter(
            name=["--repo", "-C"],
            metavar="DIR",
            help="The git repository, or the URL of a slot on a holdall server. Default: the working directory.",
            show_default=False,
        ),
    ] = "."
    key_file: Annotated[
        str | None,
        Parameter(metavar="FILE", help="Encrypt and decrypt with the key in this file; `timeline key` makes one."),
    ] = None
    compression: Annotated[
        str | None,
        Parameter(metavar="NAME", help="How blobs are compressed: bz2, gzip, lzma, zstd, or a Python module."),
    ] = None
    json: Annotated[bool, Parameter(help="Write JSON: a document, or one a line.")] = False
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], help="Say nothing beside the result.")] = False
    debug: Annotated[bool, Parameter(help="Show where an error came from.")] = False


DEFAULTS: Final = Common()


@contextmanager
def needed_packages() -> "Iterator[None]":
    """Says how to get the packages of the extra where an import misses them.

    Raises:
        HoldallError: They are not installed.
    """
    try:
        yield
    except ImportError as error:
        raise HoldallError(
            "The timeline needs packages that are not installed.", hint="Install them: pip install 'holdall[timeline]'"
        ) from error


@contextmanager
def opened(common: Common, **options: Any) -> "Iterator[Store]":
    """Opens the store, and closes it at the end of the block.

    Args:
        common: Which, and how its blobs are stored.
        options: Further ones of `holdall.timeline.Store`.

    Raises:
        HoldallError: As the store.
    """
    with needed_packages():
        from holdall.timeline import Store  # noqa: PLC0415 - an optional extra
    store = Store(common.repo, compression=common.compression, key_file=common.key_file, **options)
    try:
        yield store
    finally:
        store.close()


def moment_of(words: str | None) -> str | Decimal | None:
    """A time as the command line takes it, for the store: seconds since 1970 after @, or words that it parses."""
    if words is None:
        return None
    words = words.strip()
    if words.startswith("@"):
        with suppress(InvalidOperation):
            return Decimal(words[1:])
    return words.removeprefix("since ").strip()
