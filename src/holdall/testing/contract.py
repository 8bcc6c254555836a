"""What each part of the conformance suite stands on: hooks that describe a store, sources that misbehave.

Nothing here asserts anything of a store; the parts do.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import secrets
from typing import TYPE_CHECKING, ClassVar, Concatenate, ParamSpec, Protocol, TypeVar, cast

import pytest

from holdall.core.address import Address

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from holdall.stores.base import Info, Kind, Reading, Store

_P = ParamSpec("_P")


class StoreContract:
    """What a store's author says of it; see `holdall.testing.conformance.StoreConformance`.

    Attributes:
        lasting: Whether stores opened by one test, together or one after the other, hold the same entries.
        shows_use: Whether a use is recorded in `Info.used_ns` within about a second.
        body_bytes_max: The largest body the store takes, at least 8 MiB and small enough to send one byte
            more; None where that is not to be tested. In all, a store has to hold 32 MiB.
        repeats: How many times as often as usual a race is run.
        deadline_seconds: A test that takes longer has failed.
    """

    lasting: ClassVar[bool] = False
    shows_use: ClassVar[bool] = False
    body_bytes_max: ClassVar[int | None] = None
    repeats: ClassVar[int] = 1
    deadline_seconds: ClassVar[float] = 240.0

    def open_store(self) -> AbstractAsyncContextManager[Store]:
        """Opens the store under test, and closes it at the end of the block.

        It must be allowed to do everything: list, and delete blobs. It need not be empty.
        """
        raise TypeError(f"{type(self).__name__} does not say how to open its store: define open_store().")


_C = TypeVar("_C", bound=StoreContract)


def scenario(
    test: Callable[Concatenate[_C, Store, _P], Awaitable[None]],
) -> Callable[Concatenate[_C, _P], None]:
    """Makes an async test method with an open `store` into one that pytest can run.

    Args:
        test: Takes the instance, the store, and what pytest passes by name.
    """

    async def attempt(contract: _C, *args: _P.args, **kwargs: _P.kwargs) -> None:
        async with asyncio.timeout(contract.deadline_seconds), contract.open_store() as store:
            await test(contract, store, *args, **kwargs)

    @functools.wraps(test)
    def run(contract: _C, *args: _P.args, **kwargs: _P.kwargs) -> None:
        asyncio.run(attempt(contract, *args, **kwargs))

    signature = inspect.signature(test)
    shown = [parameter for name, parameter in signature.parameters.items() if name != "store"]
    run.__signature__ = signature.replace(parameters=shown)  # type: ignore[attr-defined]
    return cast("Callable[Concatenate[_C, _P], None]", run)


class SourceBrokeError(Exception):
    """What a broken source raises; no store knows it."""


async def streamed(*pieces: bytes) -> AsyncIterator[bytes]:
    """A source of these pieces, each after a turn of the event loop."""
    for piece in pieces:
        await asyncio.sleep(0)
        yield piece


def cut(data: bytes, size_bytes: int) -> list[bytes]:
    """The pieces of `data`, each of `size_bytes` but for the last."""
    return [data[at : at + size_bytes] for at in range(0, len(data), size_bytes)]


async def broken(*pieces: bytes) -> AsyncIterator[bytes]:
    """A source that raises `SourceBrokeError` after these pieces."""
    async for piece in streamed(*pieces):
        yield piece
    raise SourceBrokeError


class Stalled:
    """A source that stops after its first piece until it is let go.

    Args:
        before: The first piece.
        after: The piece that follows.

    Attributes:
        reached: Set when the store has asked for what comes after the first piece.
        go: Set it to let the source go on.
    """

    def __init__(self, before: bytes, after: bytes = b"") -> None:
        self.before = before
        self.after = after
        self.reached = asyncio.Event()
        self.go = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yields the two pieces."""
        yield self.before
        self.reached.set()
        await self.go.wait()
        yield self.after


class Writes(Protocol):
    """One way to send a source to an address."""

    async def __call__(self, store: Store, address: Address, source: bytes | AsyncIterator[bytes] | Stalled) -> object:
        """Sends `source`; what comes back differs by the way."""
        ...


async def _put(store: Store, address: Address, source: bytes | AsyncIterator[bytes] | Stalled) -> object:
    return await store.put(source, expected=address)


async def _write(store: Store, address: Address, source: bytes | AsyncIterator[bytes] | Stalled) -> object:
    return await store.write(address, source)


async def _append(store: Store, address: Address, source: bytes | AsyncIterator[bytes] | Stalled) -> object:
    return await store.append(address, source)


every_way_to_write = pytest.mark.parametrize(
    "send",
    [pytest.param(_put, id="put"), pytest.param(_write, id="write"), pytest.param(_append, id="append")],
)
every_way_to_write_a_slot = pytest.mark.parametrize(
    "send", [pytest.param(_write, id="write"), pytest.param(_append, id="append")]
)


def fresh_bytes(size_bytes: int = 40) -> bytes:
    """Bytes that no store holds yet."""
    return secrets.token_bytes(size_bytes)


def fresh_address() -> Address:
    """An address that no store holds anything at."""
    return Address(secrets.token_bytes(32))


def identity(info: Info) -> tuple[Address, Kind, int, str]:
    """What of an `Info` every later look must agree with; the recorded use may lag and catch up."""
    return info.address, info.kind, info.size_bytes, info.version


async def content(store: Store, address: Address) -> bytes:
    """All bytes at `address`, without counting as a use."""
    async with await store.get(address, use=False) as reading:
        return await reading.read()


async def gathered(reading: Reading) -> list[bytes]:
    """The pieces that a reading yields, which is then closed."""
    async with reading:
        return [piece async for piece in reading]


def assert_same_bytes(actual: bytes, expected: bytes) -> None:
    """Compares without printing megabytes."""
    if actual == expected:
        return
    pairs = enumerate(zip(actual, expected, strict=False))
    at = next((at for at, (one, other) in pairs if one != other), min(len(actual), len(expected)))
    pytest.fail(f"{len(actual)} bytes instead of {len(expected)}, different from byte {at} on")
