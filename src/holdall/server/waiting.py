"""How long a connection may keep waiting, by what it is waiting for."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from holdall.limits.server import BODY_RATE_BYTES_MIN
from holdall.server.reply import HTTPError

if TYPE_CHECKING:
    from holdall.server.settings import Settings

LINGER_SECONDS: Final = 2.0
"""How long a connection that was ended early is still read from."""


class Phase(Enum):
    """What a connection waits for."""

    IDLE = "idle"
    HEAD = "head"
    BODY = "body"
    ANSWER = "answer"
    LINGER = "linger"


def overdue(
    phase: Phase, waited: float, settings: Settings, *, body_bytes: int, body_seconds: float
) -> HTTPError | None:
    """What to tell a client that sends too slowly, or None while its time has not run out.

    Args:
        phase: What is waited for; only a head and a body are waited for with an answer at the end.
        waited: Seconds since anything came of it.
        settings: The limits.
        body_bytes: How much of the body has come.
        body_seconds: How long it has been coming.
    """
    if phase is Phase.HEAD and waited > settings.header_seconds:
        return HTTPError(408, "The request's head took too long.")
    if phase is Phase.BODY:
        slow = body_seconds > settings.stall_seconds and body_bytes < BODY_RATE_BYTES_MIN * body_seconds
        if slow or waited > settings.stall_seconds:
            return HTTPError(408, "The request's body came too slowly.")
    return None
