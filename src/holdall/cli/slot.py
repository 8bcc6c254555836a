"""`holdall slot`: values that change, each under the hash of a key."""

import base64
import sys
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import App, Group, Parameter

from holdall.cli import local_files, output
from holdall.cli.exit_codes import DONE
from holdall.cli.options import DEFAULTS, Common, with_store
from holdall.core.address import Address
from holdall.errors import KindError, UsageError
from holdall.limits import KIB
from holdall.limits.stores import JSON_VALUE_BYTES_MAX
from holdall.stores.base import ABSENT, ALWAYS, IfVersion, Kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from holdall.stores.base import Condition, Info, Reading, Store

_KEY_BYTES_MAX: Final = 64 * KIB

Words = Annotated[str, Parameter(name="words", allow_leading_hyphen=True)]
Key = Annotated[str | None, Parameter(name=["--key", "-k"], metavar="TEXT", allow_leading_hyphen=True)]
Value = Annotated[str | None, Parameter(metavar="TEXT", allow_leading_hyphen=True)]

app = App(
    name="slot",
    help="Values that change, each under the SHA-256 of a key.",
    group_parameters=Group("Options", sort_key=1),
)


@app.command(usage="holdall slot key TEXT|- [OPTIONS]")
def key(text: Annotated[str, Parameter(allow_leading_hyphen=True)], /, *, common: Common = DEFAULTS) -> int:
    """Prints the address of a key: the SHA-256 of its bytes. Nothing is stored.

    With --json, prints {"address"}.

    Args:
        text: The key; - reads it from standard input, where a newline at its end counts as part of it.
        common: The options of every command.
    """
    if text == local_files.STANDARD_INPUT:
        data = sys.stdin.buffer.read(_KEY_BYTES_MAX + 1)
        if len(data) > _KEY_BYTES_MAX:
            raise UsageError(f"The key is over {_KEY_BYTES_MAX} bytes.")
    else:
        data = _bytes(text)
    _show_address(Address.of(data), common)
    return DONE


@app.command(usage="holdall slot get (ADDRESS | --key TEXT) [OPTIONS]")
def get(*words: Words, key: Key = None, common: Common = DEFAULTS) -> int:
    """Writes the value of a slot to standard output.

    With --json, prints {"address", "kind", "size_bytes", "version", "used_ns", "expires_ns", "value"}, where a value
    that is not UTF-8 is called "value_base64" instead; "version" is what `set --if-version` takes.

    Args:
        words: ADDRESS, unless there is a --key.
        key: The key whose slot is meant.
        common: The options of every command.
    """
    address = _address_alone(words, key)

    async def work(store: "Store") -> int:
        async with await store.get(address) as reading:
            if reading.info.kind is Kind.BLOB:
                raise KindError(f"{address} holds a blob.", hint="Read it with holdall get.")
            await _show_value(reading, common)
        return DONE

    return with_store(common, work)


@app.command(usage="holdall slot take (ADDRESS | --key TEXT) [OPTIONS]")
def take(*words: Words, key: Key = None, common: Common = DEFAULTS) -> int:
    """Writes the value of a slot to standard output and deletes the slot, in one step; one taker gets it.

    With --json, prints what `get --json` prints.

    Args:
        words: ADDRESS, unless there is a --key.
        key: The key whose slot is meant.
        common: The options of every command.
    """
    address = _address_alone(words, key)

    async def work(store: "Store") -> int:
        async with await store.take(address) as reading:
            await _show_value(reading, common)
        return DONE

    return with_store(common, work, writes=True)


@app.command(name="set", usage="holdall slot set (ADDRESS | --key TEXT) [FILE | --value TEXT] [OPTIONS]")
def set_(
    *words: Words,
    key: Key = None,
    value: Value = None,
    if_version: Annotated[str | None, Parameter(metavar="V", allow_leading_hyphen=True)] = None,
    common: Common = DEFAULTS,
) -> int:
    """Writes a slot, all at once, and prints its address.

    With --json, prints {"address", "kind", "size_bytes", "version", "used_ns", "expires_ns"}.

    Args:
        words: ADDRESS, unless there is a --key; then a FILE with the value. Without one, or with -, the value is
            read from standard input.
        key: The key whose slot is meant.
        value: The value itself, instead of a file.
        if_version: Write only over this version; if the slot has another, exit code 1.
        common: The options of every command.
    """
    when = ALWAYS if if_version is None else IfVersion(if_version)
    return _write(words, key, value, when, common)


@app.command(usage="holdall slot claim (ADDRESS | --key TEXT) [FILE | --value TEXT] [OPTIONS]")
def claim(*words: Words, key: Key = None, value: Value = None, common: Common = DEFAULTS) -> int:
    """Writes a slot only if nothing is there, and prints its address; of any racers exactly one succeeds.

    If it is taken, the exit code is 1. With --json, prints what `set --json` prints.

    Args:
        words: ADDRESS, unless there is a --key; then a FILE with the value. Without one, or with -, the value is
            read from standard input.
        key: The key whose slot is meant.
        value: The value itself, instead of a file.
        common: The options of every command.
    """
    return _write(words, key, value, ABSENT, common)


@app.command(usage="holdall slot append (ADDRESS | --key TEXT) [FILE | --value TEXT] [OPTIONS]")
def append(*words: Words, key: Key = None, value: Value = None, common: Common = DEFAULTS) -> int:
    """Adds to the end of a slot, creating it if need be, and prints its address; appends never mix.

    With --json, prints what `set --json` prints.

    Args:
        words: ADDRESS, unless there is a --key; then a FILE with what to add. Without one, or with -, it is read
            from standard input.
        key: The key whose slot is meant.
        value: What to add, instead of a file.
        common: The options of every command.
    """
    return _write(words, key, value, None, common)


def _write(words: tuple[str, ...], key: str | None, value: str | None, when: "Condition | None", common: Common) -> int:
    address, rest = _address_first(words, key)
    if len(rest) > 1 or (rest and value is not None):
        raise UsageError(f"There is one word too many: {rest[-1]!r}.", hint="A slot gets one FILE or one --value.")
    names = local_files.check_names(rest) if value is None else ()

    async def work(store: "Store") -> int:
        source: bytes | AsyncIterator[bytes]
        source = local_files.read_pieces(names[0]) if value is None else _bytes(value)
        info = await (store.append(address, source) if when is None else store.write(address, source, when=when))
        _show_written(info, common)
        return DONE

    return with_store(common, work, writes=True, create=True)


def _address_first(words: tuple[str, ...], key: str | None) -> tuple[Address, tuple[str, ...]]:
    """The address meant, and the words that are left."""
    if key is not None:
        return Address.of(_bytes(key)), words
    if not words:
        raise UsageError("Which slot?", hint="Give its ADDRESS or --key TEXT.")
    return Address.parse_text(words[0]), words[1:]


def _address_alone(words: tuple[str, ...], key: str | None) -> Address:
    address, rest = _address_first(words, key)
    if rest:
        raise UsageError(f"There is one word too many: {rest[0]!r}.")
    return address


def _bytes(text: str) -> bytes:
    """The bytes of a word of the command line, whatever they are."""
    return text.encode("utf-8", "surrogateescape")


def _show_address(address: Address, common: Common) -> None:
    if common.json:
        output.document({"address": address.path})
    else:
        output.line(address.path)


def _show_written(info: "Info", common: Common) -> None:
    if common.json:
        output.document(output.described(info))
    else:
        output.line(info.address.path)


async def _show_value(reading: "Reading", common: Common) -> None:
    if not common.json:
        async for piece in reading:
            output.data(piece)
        return
    if reading.info.size_bytes > JSON_VALUE_BYTES_MAX:
        raise UsageError(f"The value is over {JSON_VALUE_BYTES_MAX} bytes.", hint="Read it without --json.")
    value = await reading.read()
    try:
        found = {"value": value.decode("utf-8")}
    except UnicodeDecodeError:
        found = {"value_base64": base64.b64encode(value).decode("ascii")}
    output.document(output.described(reading.info) | found)
