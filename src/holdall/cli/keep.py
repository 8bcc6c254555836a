"""`holdall keep`: commits, used in all their parts so that nothing of them expires."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from holdall.cli import output
from holdall.cli.exit_codes import NOT_FOUND
from holdall.cli.options import FROM_DEFAULTS, Common, CommonFrom, with_store
from holdall.cli.several import for_each, parse_all

if TYPE_CHECKING:
    from holdall.core.address import Address
    from holdall.snapshot.keep import KeepReport
    from holdall.stores.base import Store


def keep(
    address: str,
    /,
    *addresses: Annotated[str, Parameter(name="address")],
    common: CommonFrom = FROM_DEFAULTS,
) -> int:
    """Restarts the time to expiry of commits and of every blob that they are made of.

    Prints the address of each blob that is missing; if there is one, the exit code is 3, and the others are kept all
    the same. With --json, each line is {"address", "members", "missing"}.

    Args:
        address: The commit to keep.
        addresses: More of them.
        common: The options of every command.
    """
    wanted = parse_all([address, *addresses])
    lacking = False

    async def work(store: "Store") -> int:
        from holdall.snapshot.keep import keep as use  # noqa: PLC0415 - slow to import

        async def keep_one(one: "Address") -> None:
            nonlocal lacking
            report = await use(store, one)
            lacking = lacking or bool(report.missing)
            _show(one, report, common)

        code = await for_each(wanted, keep_one, as_json=common.json)
        return NOT_FOUND if lacking else code

    return with_store(common, work, writes=True)


def _show(address: "Address", report: "KeepReport", common: Common) -> None:
    missing = [lost.path for lost in report.missing]
    if common.json:
        output.document({"address": address.path, "members": report.members, "missing": missing})
        return
    for path in missing:
        output.line(path)
    if missing:
        output.note(f"{address} lacks {output.count(len(missing), 'blob')} of {report.members:,}.")
    elif not common.quiet:
        output.note(f"{address}: {output.count(report.members, 'blob')} kept.")
