"""Doing the same for several addresses: one that is missing does not keep the others from their turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdall.cli import output
from holdall.cli.exit_codes import DONE, code_of
from holdall.core.address import Address
from holdall.errors import ConflictError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable


async def for_each(addresses: Iterable[Address], call: Callable[[Address], Awaitable[None]], *, as_json: bool) -> int:
    """Calls `call` with each address in turn; what is missing or does not allow it is reported, and the rest goes on.

    Args:
        addresses: In order.
        call: What to do with each.
        as_json: How to report.

    Returns:
        The exit code of the first failure, or 0.

    Raises:
        HoldallError: Anything else that `call` raises; the rest is left.
    """
    code = DONE
    for address in addresses:
        try:
            await call(address)
        except (NotFoundError, ConflictError) as error:
            error.message = error.message if address.path in error.message else f"{address}: {error.message}"
            output.failure(error, as_json=as_json)
            code = code or code_of(error)
    return code


def parse_all(texts: Iterable[str]) -> list[Address]:
    """Reads addresses as people give them, before anything is done with the first.

    Raises:
        AddressError: One is none.
    """
    return [Address.parse_text(text) for text in texts]
