"""The line of an invite, read."""

from __future__ import annotations

import base64
from typing import Final
from urllib.parse import parse_qs, urlsplit

from holdall.errors import InviteError, RosterError
from holdall.sync import keys
from holdall.sync.roster import Entry

SCHEME: Final = "holdall+ssh"


def read_line(line: str) -> tuple[Entry, bytes, int]:
    """What the line of an invite says: the node that made it, the key pair, and until when, in seconds since 1970.

    Raises:
        InviteError: It is none.
    """
    try:
        parts = urlsplit(line.strip())
        words = {name: values[0] for name, values in parse_qs(parts.query, strict_parsing=True).items()}
        secret = words["secret"]
        pair = base64.b64decode(secret + "=" * (-len(secret) % 4), altchars=b"-_", validate=True)
        if parts.scheme != SCHEME or len(pair) != 64:
            raise InviteError("This is no invite.")
        entry = Entry(
            repository=parts.path.removeprefix("/"),
            node=words["node"],
            serial=1,
            role="rw",
            address=parts.hostname or "",
            port=parts.port or 22,
            user=parts.username or "",
            host_key=words["host"],
            key=keys.public_key(pair[32:]),
            signer=words["node"],
        )
        return entry, pair, int(words["until"])
    except (ValueError, KeyError, IndexError, RosterError):
        raise InviteError("This is no invite, or a part of it is missing.") from None
