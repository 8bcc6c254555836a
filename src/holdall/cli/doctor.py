"""`holdall doctor`: a store and its machine looked at, and what to mend."""

import os
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, cast

from cyclopts import Parameter

from holdall.cli import output
from holdall.cli.exit_codes import DONE, FAILED
from holdall.cli.findings import Finding, Outcome
from holdall.cli.options import DEFAULTS, Common
from holdall.core.address import Address
from holdall.errors import AccessError, HoldallError, UsageError
from holdall.stores.base import Kind
from holdall.stores.opening import directory_of, open_store

if TYPE_CHECKING:
    from holdall.stores.base import Store
    from holdall.stores.http import HTTPStore

_PROBE_BYTES = 1000


def doctor(store: Annotated[str | None, Parameter(name="STORE")] = None, /, *, common: Common = DEFAULTS) -> int:
    """Looks at a store and the machine it is on: permissions, room, abilities, clock, limits, key, and one write.

    The write goes to a random slot, which is read back and deleted: nothing is left. Of a profile, or of several
    stores, each is looked at by itself. The exit code is 1 if a check failed. With --json, prints {"store", "ok",
    "checks": [{"check", "outcome", "detail", "advice"}]}, a line for each store, where an outcome is "ok", "warn" or
    "fail".

    Args:
        store: The store, as --store takes it.
        common: The options of every command.
    """
    if store is not None and common.store not in {(), (store,)}:
        raise UsageError("There are two stores to look at.", hint="Name one.")
    place = common.place() if store is None else replace(common, store=(store,)).place()
    healthy = True
    for number, member in enumerate(place.stores):
        if number and not common.json:
            output.line("")
        healthy &= _look_at(member.url, member.api_key, common)
    return DONE if healthy else FAILED


def _look_at(where: str, api_key: str | None, common: Common) -> bool:
    """Looks at one store and says what was found; whether all is well."""
    findings = _examine(where, api_key)
    healthy = all(finding.outcome is not Outcome.FAIL for finding in findings)
    shown = directory_of(where) or where.partition("?")[0]
    if common.json:
        checks = [
            {"check": found.check, "outcome": found.outcome.value, "detail": found.detail, "advice": found.advice}
            for found in findings
        ]
        output.document({"store": shown, "ok": healthy, "checks": checks})
    else:
        output.line(f"Store: {shown}\n")
        rows = [(found.check, found.outcome.value, found.detail) for found in findings]
        output.table(rows)
        advice = [found for found in findings if found.advice]
        if advice:
            output.line("\nWhat to do")
        for found in advice:
            output.line(f"  {found.check}: {found.advice}")
    return healthy


def _examine(where: str, api_key: str | None) -> list[Finding]:
    import asyncio  # noqa: PLC0415 - slow to import; --help does without

    path = directory_of(where)
    if path is None:
        return asyncio.run(_examine_store(where, api_key))
    from holdall.cli.check_directory import check_directory  # noqa: PLC0415 - not needed for a server

    findings = list(check_directory(path))
    return findings + asyncio.run(_examine_store(where, None)) if os.path.isdir(path) else findings


async def _examine_store(where: str, api_key: str | None) -> list[Finding]:
    try:
        store = await open_store(where, api_key=api_key, create=False)
    except UsageError:
        raise
    except HoldallError as error:
        return [_failed("opening", error)]
    try:
        if where.lower().startswith(("http:", "https:")):
            return await _examine_server(cast("HTTPStore", store), api_key)
        return [await _probe(store)]
    finally:
        await store.aclose()


async def _examine_server(store: "HTTPStore", api_key: str | None) -> list[Finding]:
    from holdall.cli.check_server import check_server, judge_openness  # noqa: PLC0415 - needed for a server only

    findings = [found async for found in check_server(store, api_key)]
    if findings[0].outcome is Outcome.FAIL:
        return findings
    probe = await _probe(store)
    if probe.outcome is Outcome.OK:
        return [*findings, probe, judge_openness(store.url, has_key=store.has_key)]
    return [*findings, probe]


async def _probe(store: "Store") -> Finding:
    """Writes, reads back and deletes a slot of its own."""
    address, value = Address(secrets.token_bytes(32)), secrets.token_bytes(_PROBE_BYTES)
    try:
        await store.write(address, value)
        try:
            async with await store.get(address) as reading:
                found = await reading.read()
        finally:
            await store.delete(address, kind=Kind.SLOT)
    except AccessError as error:
        hint = error.hint or "Give the key with --api-key-file or HOLDALL_API_KEY."
        return Finding("write", Outcome.FAIL, error.message, hint)
    except HoldallError as error:
        return _failed("write", error)
    if found != value:
        advice = "Do not trust this store: check its disk and its memory."
        return Finding("write", Outcome.FAIL, "what is read back is not what was written", advice)
    return Finding("write", Outcome.OK, "a slot was written, read back and deleted")


def _failed(check: str, error: HoldallError) -> Finding:
    return Finding(check, Outcome.FAIL, error.message, error.hint)
