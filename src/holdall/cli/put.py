"""`holdall put`: files or standard input into the store."""

from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from holdall.cli import local_files, output
from holdall.cli.exit_codes import DONE, FAILED
from holdall.cli.options import DEFAULTS, Common, with_store
from holdall.cli.progress import Progress
from holdall.core.address import Address
from holdall.core.template import check_template, fill
from holdall.errors import LocalFileError, UsageError

if TYPE_CHECKING:
    from holdall.stores.base import Store

_WIDTH = 4
"""Files under way at once: enough to hide a server's latency, few enough to keep the disk streaming."""


def put(
    *files: Annotated[str, Parameter(allow_leading_hyphen=True)],
    expect: Annotated[str | None, Parameter(metavar="ADDRESS")] = None,
    template: Annotated[str, Parameter(name="--format", metavar="TEXT")] = "*",
    common: Common = DEFAULTS,
) -> int:
    """Stores files, or standard input, and prints the address of each.

    The address is the SHA-256 of the bytes. Of several files, each line is the address, two spaces and the name, as
    sha256sum writes it. With --json, each line is {"address", "name", "size_bytes"}.

    Args:
        files: What to store; - is standard input, which is also read when nothing is named.
        expect: Refuse bytes that have another address; then nothing is kept.
        template: What to print for an address: the first * becomes the path, as in 'http://host*'.
        common: The options of every command.
    """
    names = local_files.check_names(files)
    check_template(template)
    expected = None if expect is None else Address.parse_text(expect)
    if expected is not None and len(names) > 1:
        raise UsageError("--expect is for one file at a time.")

    async def work(store: "Store") -> int:
        return await _put_all(store, names, expected, template, common)

    return with_store(common, work, writes=True, create=True)


async def _put_all(
    store: "Store", names: tuple[str, ...], expected: Address | None, template: str, common: Common
) -> int:
    from holdall.stores.ordered import in_order  # noqa: PLC0415 - brings asyncio with it

    sizes = [local_files.size_of(name) for name in names]
    total = None if None in sizes else sum(size or 0 for size in sizes)
    code = DONE

    with Progress("Storing", total, quiet=common.quiet) as progress:

        async def put_one(name: str) -> tuple[Address, int] | LocalFileError:
            counted = _Counted()
            try:
                source = local_files.read_pieces(name, progress.add, counted.add)
                address = await store.put(source, expected=expected)
            except LocalFileError as error:
                return error
            return address, counted.size_bytes

        async with aclosing(in_order(names, put_one, width=_WIDTH)) as outcomes:
            index = 0
            async for outcome in outcomes:
                name = names[index]
                index += 1
                if isinstance(outcome, LocalFileError):
                    output.failure(outcome, as_json=common.json)
                    code = FAILED
                else:
                    _show(*outcome, name, template, common, named=len(names) > 1)
    return code


def _show(address: Address, size_bytes: int, name: str, template: str, common: Common, *, named: bool) -> None:
    shown = fill(template, address.path)
    if common.json:
        output.document({"address": shown, "name": name, "size_bytes": size_bytes})
    elif named:
        output.named_line(shown, name)
    else:
        output.line(shown)


class _Counted:
    def __init__(self) -> None:
        self.size_bytes = 0

    def add(self, size_bytes: int) -> None:
        self.size_bytes += size_bytes
