"""What the command line answers to the shell: the one table of exit codes."""

from __future__ import annotations

import textwrap
from typing import Final

from holdall.errors import AccessError, DamageError, HoldallError, NotFoundError, UnreachableError, UsageError

DONE: Final = 0
FAILED: Final = 1
WRONG_USE: Final = 2
NOT_FOUND: Final = 3
DAMAGED: Final = 4
REFUSED: Final = 5
UNREACHABLE: Final = 6
INTERRUPTED: Final = 130
"""128 and the number of SIGINT, as shells have it."""
TERMINATED: Final = 143
"""128 and the number of SIGTERM, as shells have it."""
PIPE_CLOSED: Final = 141
"""128 and the number of SIGPIPE, as shells have it: the reader of the output has gone."""

MEANINGS: Final = {
    DONE: "done",
    FAILED: "the work failed",
    WRONG_USE: "wrong use",
    NOT_FOUND: "not found",
    DAMAGED: "damaged data",
    REFUSED: "refused: the API key, or what the other nodes allow",
    UNREACHABLE: "the store cannot be reached",
    INTERRUPTED: "interrupted",
    TERMINATED: "terminated",
}

_BY_FAMILY: Final[tuple[tuple[type[HoldallError], int], ...]] = (
    (DamageError, DAMAGED),
    (UsageError, WRONG_USE),
    (NotFoundError, NOT_FOUND),
    (AccessError, REFUSED),
    (UnreachableError, UNREACHABLE),
)


def code_of(error: HoldallError) -> int:
    """The exit code that an error ends a command with."""
    return next((code for family, code in _BY_FAMILY if isinstance(error, family)), FAILED)


def summary() -> str:
    """The table as a few short lines of text, for the end of a help page."""
    words = ", ".join(f"{code} {meaning}" for code, meaning in MEANINGS.items())
    return "\n".join(textwrap.wrap(f"Exit codes: {words}.", 79, subsequent_indent=" " * 12))
