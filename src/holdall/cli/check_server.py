"""What `holdall doctor` looks at where the store is an HTTP server."""

from __future__ import annotations

import ipaddress
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from holdall.cli.findings import Finding, Outcome, judge_clock, judge_key, judge_space
from holdall.errors import HoldallError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from holdall.stores.http import HTTPStore

_APART_NS_MAX: Final = 5 * 1_000_000_000
"""The server tells its time to the second, and the answer takes its time."""


async def check_server(store: HTTPStore, api_key: str | None) -> AsyncIterator[Finding]:
    """Yields what is found of a server before anything is written to it.

    Args:
        store: The server.
        api_key: The key that is sent, if it was not in the URL.
    """
    try:
        health = await store.health()
    except HoldallError as error:
        yield Finding("server", Outcome.FAIL, error.message, error.hint)
        return
    yield Finding("server", Outcome.OK, f"holdall {health.version}" if health.version else "it answers; not holdall's")
    if health.free_bytes is not None:
        yield judge_space(health.free_bytes, None)
    yield judge_clock(time.time_ns(), health.clock_ns, "the server's", apart_ns_max=_APART_NS_MAX)
    yield _transport(store.url)
    if api_key is not None:
        yield judge_key(api_key)


def judge_openness(url: str, *, has_key: bool) -> Finding:
    """What it means that a write was accepted.

    Args:
        url: Of the server.
        has_key: Whether the write brought an API key.
    """
    if has_key:
        return Finding("access", Outcome.OK, "writes bring the API key")
    if is_loopback(url):
        return Finding("access", Outcome.OK, "writes need no API key, and only this machine reaches the server")
    return Finding(
        "access",
        Outcome.WARN,
        "whoever reaches the server can write to it",
        "Give the server an API key: write one to the file apikey in its data directory.",
    )


def is_loopback(url: str) -> bool:
    """Whether the host of a URL is this machine and reached by nobody else."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _transport(url: str) -> Finding:
    if url.startswith("https:"):
        return Finding("transport", Outcome.OK, "encrypted, with a certificate that is trusted")
    if is_loopback(url):
        return Finding("transport", Outcome.OK, "not encrypted, and it does not leave this machine")
    return Finding(
        "transport", Outcome.WARN, "data and API key travel unencrypted", "Serve with --tls-cert and --tls-key."
    )
