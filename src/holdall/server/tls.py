"""TLS for the listening socket, with certificates that are taken anew when they are renewed."""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING

from holdall.errors import SettingError

if TYPE_CHECKING:
    from holdall.server.settings import Settings


class Certificates:
    """The server's TLS context, kept up with the files it came from.

    Args:
        settings: Names the files.

    Raises:
        SettingError: They cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        assert settings.tls_cert is not None  # noqa: S101 - made only for a server with TLS
        assert settings.tls_key is not None  # noqa: S101 - Settings checks that they come together
        self._cert, self._key = settings.tls_cert, settings.tls_key
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        self._seen = self._look()
        try:
            self.context.load_cert_chain(self._cert, self._key)
        except (OSError, ssl.SSLError) as error:
            raise SettingError(f"The TLS certificate and key cannot be used: {error}.") from error

    def refresh(self) -> str | None:
        """Takes renewed files for the connections to come; returns what to log, if anything."""
        seen = self._look()
        if seen is None or seen == self._seen:
            return None
        self._seen = seen
        try:
            # Loaded into a throw-away context first: a half-written pair must not spoil the one in use.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self._cert, self._key)
            self.context.load_cert_chain(self._cert, self._key)
        except (OSError, ssl.SSLError) as error:
            return f"The renewed certificate cannot be used yet, the old one stays: {error}."
        return "The renewed certificate is in use."

    def _look(self) -> tuple[int, ...] | None:
        try:
            found = [os.stat(path) for path in (self._cert, self._key)]
        except OSError:
            return None
        return tuple(number for status in found for number in (status.st_mtime_ns, status.st_size, status.st_ino))
