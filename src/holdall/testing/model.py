"""A stateful model: any sequence of calls has the same outcome on a store as on `MemoryStore`.

Hypothesis makes up the sequences and cuts a failing one down to the few calls that matter. Nothing here knows which
store it runs.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar, Final, TypeAlias, TypeVar

try:
    import pytest  # noqa: F401 - `contract` needs it
    from hypothesis import strategies as st
    from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, consumes, invariant, multiple, rule
except ImportError as error:
    raise ImportError("The model needs pytest and hypothesis: pip install pytest hypothesis") from error

from holdall.core.address import Address
from holdall.errors import BlobInTheWayError, HoldallError, VersionMismatchError
from holdall.limits import CHUNK_BYTES, SMALL_BYTES_MAX
from holdall.stores.base import ABSENT, ALWAYS, IfVersion, Info, Kind, Span, missing
from holdall.stores.memory import MemoryStore
from holdall.testing.contract import SourceBrokeError, assert_same_bytes, broken, cut, identity, streamed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from contextlib import AbstractAsyncContextManager

    from holdall.stores.base import Condition, Reading, Source, Store

_T = TypeVar("_T")

_Value: TypeAlias = "tuple[bytes, int]"
"""A letter and how often it is repeated: what Hypothesis prints of a megabyte."""

_SIZES: Final = (0, 1, 100, SMALL_BYTES_MAX, SMALL_BYTES_MAX + 1, CHUNK_BYTES + 1)
_BLOBS: Final[tuple[_Value, ...]] = ((b"a", 0), (b"a", 100), (b"b", SMALL_BYTES_MAX + 1))
_ADDRESSES: Final = (
    *(Address.of(letter * count) for letter, count in _BLOBS),
    Address(bytes(32)),
    Address(b"\xff" * 32),
)

# Few addresses and values, so that calls meet; the values whose addresses are used come up most.
addresses = st.sampled_from(_ADDRESSES)
values = st.sampled_from(_BLOBS) | st.tuples(st.sampled_from([b"a", b"b"]), st.sampled_from(_SIZES))
# An appended part is never empty and has a letter of its own, so that no slot grows into its address's blob: whether
# it would then be one is nowhere promised.
parts = st.tuples(st.just(b"+"), st.sampled_from(_SIZES[1:]))
pieces_bytes = st.sampled_from([None, 1000, SMALL_BYTES_MAX + 5])
edges = st.sampled_from([0, 1, 50, SMALL_BYTES_MAX, CHUNK_BYTES])
spans = st.builds(
    Span,
    edges | edges.map(lambda edge: -edge),
    st.none() | edges,
)


def _bytes(value: _Value) -> bytes:
    letter, count = value
    return letter * count


def _source(value: _Value, piece_bytes: int | None) -> Source:
    data = _bytes(value)
    return data if piece_bytes is None else streamed(*cut(data, piece_bytes))


async def _outcome(call: Awaitable[_T]) -> _T | type[HoldallError]:
    """What a call answers, or the kind of error it raises."""
    try:
        return await call
    except HoldallError as error:
        return type(error)


class StoreMachine(RuleBasedStateMachine):
    """Compares a store with `MemoryStore`: subclass it, say how an empty store is opened, and run its `TestCase`.

        class MyStoreMachine(StoreMachine):
            @asynccontextmanager
            async def open_store(self):
                async with MyStore(self.place) as store:
                    yield store

        TestMyStore = MyStoreMachine.TestCase
        TestMyStore.settings = settings(deadline=None)

    Attributes:
        lasting: Whether a store that is opened again, by the same machine, holds what it held.
    """

    lasting: ClassVar[bool] = False

    versions: Bundle[tuple[Address, str, str]] = Bundle("versions")
    readings: Bundle[tuple[Reading, Reading]] = Bundle("readings")

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._reference = MemoryStore()
        self._opened: list[Reading] = []
        self._versions: dict[tuple[Address, str], str] = {}
        self._references: dict[tuple[Address, str], str] = {}
        self._open()

    def open_store(self) -> AbstractAsyncContextManager[Store]:
        """Opens the store under test, empty the first time, and closes it at the end of the block."""
        raise TypeError(f"{type(self).__name__} does not say how to open its store: define open_store().")

    def teardown(self) -> None:
        """Closes what is open, whatever the outcome."""
        try:
            self._close()
        finally:
            self._runner.close()

    @rule(value=values, piece_bytes=pieces_bytes, expected=st.none() | addresses)
    def put(self, value: _Value, piece_bytes: int | None, expected: Address | None) -> None:
        """Stores a blob, now and then under an address that is not its own."""
        self._compare(lambda store: store.put(_source(value, piece_bytes), expected=expected))

    @rule(target=versions, address=addresses, value=values, piece_bytes=pieces_bytes, exclusive=st.booleans())
    def write(
        self, address: Address, value: _Value, piece_bytes: int | None, exclusive: bool
    ) -> MultipleResults[tuple[Address, str, str]]:
        """Writes a slot, or creates it."""
        return self._write(
            address, value, piece_bytes, ABSENT if exclusive else ALWAYS, ABSENT if exclusive else ALWAYS
        )

    @rule(target=versions, version=versions, value=values, piece_bytes=pieces_bytes)
    def swap(
        self, version: tuple[Address, str, str], value: _Value, piece_bytes: int | None
    ) -> MultipleResults[tuple[Address, str, str]]:
        """Writes over a version that may be long gone."""
        address, of_reference, of_store = version
        return self._write(address, value, piece_bytes, IfVersion(of_reference), IfVersion(of_store))

    @rule(target=versions, address=addresses, part=parts, piece_bytes=pieces_bytes)
    def append(
        self, address: Address, part: _Value, piece_bytes: int | None
    ) -> MultipleResults[tuple[Address, str, str]]:
        """Adds to a slot."""
        expected = self._run(_outcome(self._reference.append(address, _bytes(part))))
        actual = self._run(_outcome(self._store.append(address, _source(part, piece_bytes))))
        return self._same_info(expected, actual)

    @rule(address=addresses, value=values, appending=st.booleans())
    def break_off(self, address: Address, value: _Value, appending: bool) -> None:
        """Sends a source that raises."""
        source = broken(*cut(_bytes(value), 30_000))
        try:
            self._run(self._store.append(address, source) if appending else self._store.write(address, source))
        except (SourceBrokeError, BlobInTheWayError):
            return
        raise AssertionError("a source raised, and the write returned")

    @rule(address=addresses, span=spans)
    def get(self, address: Address, span: Span) -> None:
        """Reads part of an entry."""

        async def read(store: Store) -> tuple[int, int, bytes]:
            async with await store.get(address, span) as reading:
                return reading.start, reading.stop, b"".join([piece async for piece in reading])

        expected, actual = self._outcomes(read)
        if isinstance(expected, type) or isinstance(actual, type):
            assert actual == expected
            return
        assert actual[:2] == expected[:2]
        assert_same_bytes(actual[2], expected[2])

    @rule(target=readings, address=addresses, taking=st.booleans())
    def open_reading(self, address: Address, taking: bool) -> MultipleResults[tuple[Reading, Reading]]:
        """Opens an entry to read it later, after other calls; taking it removes it."""
        expected, actual = self._outcomes(lambda store: store.take(address) if taking else store.get(address))
        if isinstance(expected, type) or isinstance(actual, type):
            assert actual == expected
            return multiple()
        self._same_info(expected.info, actual.info)
        self._opened.append(actual)
        return multiple((expected, actual))

    @rule(pair=consumes(readings))
    def finish_reading(self, pair: tuple[Reading, Reading]) -> None:
        """Reads what was opened before."""
        expected, actual = pair
        if actual in self._opened:
            assert_same_bytes(self._run(actual.read()), self._run(expected.read()))
            self._run(actual.aclose())
            self._opened.remove(actual)

    @rule(address=addresses, use=st.booleans())
    def stat(self, address: Address, use: bool) -> None:
        """Looks at an entry."""
        self._same_info(*self._outcomes(lambda store: store.stat(address, use=use)))

    @rule(address=addresses, kind=st.none() | st.sampled_from(Kind))
    def delete(self, address: Address, kind: Kind | None) -> None:
        """Removes an entry."""
        self._compare(lambda store: store.delete(address, kind=kind))

    @rule(asked=st.lists(addresses, max_size=8))
    def ask_for_missing(self, asked: list[Address]) -> None:
        """Asks for many at once."""
        self._compare(lambda store: missing(store, asked))

    @rule()
    def open_again(self) -> None:
        """Closes the store and opens it again."""
        if self.lasting:
            self._close()
            self._open()

    @invariant()
    def lists_the_same(self) -> None:
        """Every entry is listed once, as what it is."""

        async def listed(store: Store) -> list[tuple[Address, Kind, int]]:
            return sorted([identity(info)[:3] async for info in store.entries()])

        self._compare(listed)

    def _open(self) -> None:
        self._context = self.open_store()
        self._store = self._run(_entered(self._context))

    def _close(self) -> None:
        for reading in self._opened:
            self._run(reading.aclose())
        self._opened.clear()
        self._run(_left(self._context))

    def _run(self, coroutine: Coroutine[object, object, _T]) -> _T:
        return self._runner.run(coroutine)

    def _outcomes(
        self, call: Callable[[Store], Awaitable[_T]]
    ) -> tuple[_T | type[HoldallError], _T | type[HoldallError]]:
        return self._run(_outcome(call(self._reference))), self._run(_outcome(call(self._store)))

    def _compare(self, call: Callable[[Store], Awaitable[object]]) -> None:
        expected, actual = self._outcomes(call)
        assert actual == expected

    def _write(
        self, address: Address, value: _Value, piece_bytes: int | None, reference_when: Condition, when: Condition
    ) -> MultipleResults[tuple[Address, str, str]]:
        expected = self._run(_outcome(self._reference.write(address, _bytes(value), when=reference_when)))
        actual = self._run(_outcome(self._store.write(address, _source(value, piece_bytes), when=when)))
        no_such_slot = {BlobInTheWayError, VersionMismatchError}
        if isinstance(when, IfVersion) and {expected, actual} <= no_such_slot:
            return multiple()
        return self._same_info(expected, actual)

    def _same_info(
        self, expected: Info | type[HoldallError], actual: Info | type[HoldallError]
    ) -> MultipleResults[tuple[Address, str, str]]:
        """Compares two answers; versions must be different tokens for the same things."""
        if isinstance(expected, type) or isinstance(actual, type):
            assert actual == expected
            return multiple()
        assert identity(actual)[:3] == identity(expected)[:3]
        address = expected.address
        assert self._versions.setdefault((address, expected.version), actual.version) == actual.version
        assert self._references.setdefault((address, actual.version), expected.version) == expected.version
        return multiple((address, expected.version, actual.version))


async def _entered(context: AbstractAsyncContextManager[Store]) -> Store:
    return await context.__aenter__()


async def _left(context: AbstractAsyncContextManager[Store]) -> None:
    await context.__aexit__(None, None, None)
