"""`holdall rm`: entries out of the store for good."""

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from holdall.cli import output
from holdall.cli.options import DEFAULTS, Common, with_store
from holdall.cli.several import for_each, parse_all
from holdall.stores.base import Kind

if TYPE_CHECKING:
    from holdall.core.address import Address
    from holdall.stores.base import Store


def rm(
    address: str,
    /,
    *addresses: Annotated[str, Parameter(name="address")],
    kind: Literal["blob", "slot"] | None = None,
    common: Common = DEFAULTS,
) -> int:
    """Deletes what is at each address; the bytes are gone.

    One that is missing is reported and the rest goes on. A server deletes a blob only for its API key. With --json,
    each line is {"address", "deleted": true}.

    Args:
        address: What to delete.
        addresses: More of it.
        kind: Delete it only if it is a blob, or only if it is a slot.
        common: The options of every command.
    """
    wanted = parse_all([address, *addresses])

    async def work(store: "Store") -> int:
        async def delete(one: "Address") -> None:
            await store.delete(one, kind=None if kind is None else Kind(kind))
            if common.json:
                output.document({"address": one.path, "deleted": True})

        return await for_each(wanted, delete, as_json=common.json)

    return with_store(common, work, writes=True)
