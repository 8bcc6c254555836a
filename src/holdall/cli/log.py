"""`holdall log`: the commits of a ref."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from holdall.cli import output
from holdall.cli.exit_codes import DONE
from holdall.cli.options import FROM_DEFAULTS, CommonFrom, with_store
from holdall.errors import UsageError

if TYPE_CHECKING:
    from holdall.stores.base import Store


def log(
    name: str,
    /,
    *,
    limit: Annotated[int | None, Parameter(name=["--limit", "-n"], metavar="N")] = None,
    common: CommonFrom = FROM_DEFAULTS,
) -> int:
    """Shows the commits that `holdall commit --ref NAME` recorded, newest first: address, time, message.

    Only who has the secret finds a ref: it is in the user's configuration, or in $HOLDALL_REF_SECRET. With --json, each
    line is {"address", "time", "message"}.

    Args:
        name: The ref.
        limit: Stop after so many.
        common: The options of every command.
    """
    if limit is not None and limit < 1:
        raise UsageError("--limit is 1 or more.")

    async def work(store: "Store") -> int:
        from holdall.cli.ref_secret import ref_secret  # noqa: PLC0415 - brings what --help does without
        from holdall.snapshot import history  # noqa: PLC0415 - as above

        found = await history.read(store, history.ref_address(ref_secret(create=False), name))
        for entry in found[::-1][:limit]:
            if common.json:
                output.document({"address": entry.address, "time": entry.time, "message": entry.message})
            else:
                output.line(output.escape(f"{entry.address}  {entry.time}  {entry.message}").rstrip())
        return DONE

    return with_store(common, work)
