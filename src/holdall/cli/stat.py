"""`holdall stat`: what a store knows of entries without reading them."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from holdall.cli import output
from holdall.cli.options import DEFAULTS, Common, with_store
from holdall.cli.several import for_each, parse_all
from holdall.core.units import format_size

if TYPE_CHECKING:
    from holdall.core.address import Address
    from holdall.stores.base import Info, Store


def stat(
    address: str,
    /,
    *addresses: Annotated[str, Parameter(name="address")],
    common: Common = DEFAULTS,
) -> int:
    """Shows kind, size, version, last use and expiry of what is at each address.

    This does not count as a use. One that is missing is reported and the rest goes on. With --json, each line is
    {"address", "kind", "size_bytes", "version", "used_ns", "expires_ns"}.

    Args:
        address: What to look at.
        addresses: More of it.
        common: The options of every command.
    """
    wanted = parse_all([address, *addresses])

    async def work(store: "Store") -> int:
        async def look(one: "Address") -> None:
            _show(await store.stat(one, use=False), common)

        return await for_each(wanted, look, as_json=common.json)

    return with_store(common, work)


def _show(info: "Info", common: Common) -> None:
    if common.json:
        output.document(output.described(info))
        return
    size = f"{info.size_bytes} bytes" + (f" ({format_size(info.size_bytes)})" if info.size_bytes >= 1024 else "")
    output.line(info.address.path)
    output.line(f"  kind     {info.kind.value}")
    output.line(f"  size     {size}")
    output.line(f"  version  {info.version or 'not known'}")
    output.line(f"  used     {output.moment(info.used_ns)}")
    output.line(f"  expires  {'never, or not known' if info.expires_ns is None else output.moment(info.expires_ns)}")
