"""What a server is told when it starts: one value, checked, with no idea where each setting came from."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Final

from holdall.errors import SettingError
from holdall.limits import BODY_BYTES_MAX
from holdall.limits.server import (
    API_KEY_BYTES_MAX,
    CONNECTIONS_MAX,
    HEADER_SECONDS_MAX,
    IDLE_SECONDS_MAX,
    STALL_SECONDS_MAX,
)
from holdall.limits.stores import CACHE_BYTES
from holdall.stores.changes import Durability

RETENTION_NS_DEFAULT: Final = 14 * 86_400 * 1_000_000_000
"""Two weeks, the original server's default."""
WORKERS_MAX: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a server is told.

    Attributes:
        data: The data directory.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        workers: Processes that share the port.
        retention_ns: How long an unused entry lives; None for ever.
        durability: What an acknowledged write survives.
        size_bytes_max: Largest entry.
        cache_bytes: Memory for hot blobs, per worker; 0 for none.
        api_key: The key, or None to look for `api_key_path`.
        api_key_path: File with the key; read again when it changes; no key where there is no file.
        tls_cert: PEM file with the certificate chain, or None for plain HTTP; read again when it changes.
        tls_key: PEM file with its key.
        cors: Origin whose pages may call the server, or None.
        connections_max: Open connections per worker.
        header_seconds: A client's time to send a request's head.
        idle_seconds: How long a connection without a request is kept.
        stall_seconds: How long a body may stand still.
        drain_seconds: How long requests under way are waited for at a stop.
        sweep_seconds: Pause between sweeps, or None for one that suits the retention.
        access_log: `off`, `text` or `json`: a line per request on standard error.
    """

    data: str
    host: str = "127.0.0.1"
    port: int = 7777
    workers: int = 1
    retention_ns: int | None = RETENTION_NS_DEFAULT
    durability: Durability = Durability.SYNC
    size_bytes_max: int = BODY_BYTES_MAX
    cache_bytes: int = CACHE_BYTES
    api_key: str | None = field(default=None, repr=False)
    api_key_path: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    cors: str | None = None
    connections_max: int = CONNECTIONS_MAX
    header_seconds: float = HEADER_SECONDS_MAX
    idle_seconds: float = IDLE_SECONDS_MAX
    stall_seconds: float = STALL_SECONDS_MAX
    drain_seconds: float = 30.0
    sweep_seconds: float | None = None
    access_log: str = "off"

    def __post_init__(self) -> None:
        """Checks what one setting alone, or two together, can get wrong.

        Raises:
            SettingError: One cannot be used.
        """
        _check(0 <= self.port <= 65535, "The port must be between 0 and 65535.")
        _check(1 <= self.workers <= WORKERS_MAX, f"The workers must be between 1 and {WORKERS_MAX}.")
        _check(self.size_bytes_max > 0, "The largest size must be above 0.")
        _check(self.cache_bytes >= 0, "The cache size must not be negative.")
        _check(self.connections_max > 0, "There must be room for at least one connection.")
        for name in ("header_seconds", "idle_seconds", "stall_seconds"):
            _check(getattr(self, name) > 0, f"{name} must be above 0.")
        _check(self.drain_seconds >= 0, "The drain timeout must not be negative.")
        _check(self.sweep_seconds is None or self.sweep_seconds > 0, "The pause between sweeps must be above 0.")
        _check((self.tls_cert is None) == (self.tls_key is None), "A TLS certificate and its key come together.")
        _check(self.access_log in {"off", "text", "json"}, "The access log is off, text or json.")
        _check(
            self.cors is None or (self.cors.isascii() and self.cors.isprintable() and " " not in self.cors),
            "The CORS origin must be * or an origin such as https://example.com.",
        )
        if self.api_key is not None:
            size = len(self.api_key.encode())
            _check(0 < size <= API_KEY_BYTES_MAX, f"The API key must have 1 to {API_KEY_BYTES_MAX} bytes.")
        for path in (self.tls_cert, self.tls_key):
            _check(path is None or os.path.isfile(path), f"There is no file {path}.")

    @property
    def scheme(self) -> str:
        """`https` with a certificate, else `http`."""
        return "http" if self.tls_cert is None else "https"

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host in {"localhost", "::1"} or self.host.startswith("127.")


def _check(holds: bool, sentence: str) -> None:
    if not holds:
        raise SettingError(sentence)
