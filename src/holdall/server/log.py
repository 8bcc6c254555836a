"""What the server says on standard error; a key in a request never gets here in the clear."""

from __future__ import annotations

import json
import re
import sys
import time
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from holdall.errors import HoldallError
    from holdall.server.exchange import Exchange

_KEY: Final = re.compile(rb"(?<=[?&])apikey=[^&]*")


class Log:
    """Lines on standard error.

    Args:
        access: `off`, `text` or `json`: whether, and how, each request is written down.
    """

    def __init__(self, access: str) -> None:
        self.access = access

    def request(
        self, client: str, method: bytes, target: bytes, *, status: int, sent_bytes: int, seconds: float
    ) -> None:
        """Writes a request down."""
        shown = _KEY.sub(b"apikey=...", target).decode("latin-1")
        verb = method.decode("latin-1")
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if self.access == "json":
            line = json.dumps(
                {
                    "time": now,
                    "client": client,
                    "method": verb,
                    "target": shown,
                    "status": status,
                    "sent_bytes": sent_bytes,
                    "seconds": round(seconds, 6),
                }
            )
        else:
            line = f"{now} {client} {verb} {ascii(shown)[1:-1]} {status} {sent_bytes} {seconds * 1000:.1f}ms"
        _write(line + "\n")

    def error(self, exchange: Exchange, error: HoldallError) -> None:
        """Says why an answer failed."""
        verb, target = exchange.method.decode("latin-1"), _KEY.sub(b"apikey=...", exchange.raw_target)
        self.say(f"{verb} {ascii(target.decode('latin-1'))[1:-1]} failed: {error.sentence()}")

    def fault(self, error: BaseException) -> None:
        """Shows where a fault of the server's own happened."""
        text = "".join(traceback.format_exception(error))
        _write(f"holdall: a fault in the server:\n{text}")

    @staticmethod
    def say(sentence: str) -> None:
        """Writes one line."""
        _write(f"holdall: {sentence}\n")


def _write(text: str) -> None:
    with suppress(OSError, ValueError):  # a full disk, a reader that is gone: no request may fail for that
        sys.stderr.write(text)
        sys.stderr.flush()
