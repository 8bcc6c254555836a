"""The secret that says where the refs of this user are."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from typing import Final

from holdall.cli import output
from holdall.errors import NotFoundError, UsageError
from holdall.stores.disk import open_regular

VARIABLE: Final = "HOLDALL_REF_SECRET"
_BYTES: Final = 32


def ref_secret(*, quiet: bool = False, create: bool = True) -> bytes:
    """The secret: the environment's, else that of the user's configuration, which is made the first time.

    Args:
        quiet: Do not say so when it is made.
        create: Make it; a new one finds nothing that is there.

    Raises:
        NotFoundError: There is none, and none is to be made.
        UsageError: It cannot be read or made.
    """
    given = os.environ.get(VARIABLE)
    if given:
        return given.encode("utf-8", "surrogateescape")
    from platformdirs import user_config_dir  # noqa: PLC0415 - slow to import

    path = os.path.join(user_config_dir("holdall", appauthor=False), "ref-secret")
    if not create and not os.path.lexists(path):
        raise NotFoundError(
            "There is no secret of refs here, so none can be found.",
            hint=f"Copy {path} from where the commits were made, or set ${VARIABLE}.",
        )
    try:
        try:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            _create(path)
        except FileExistsError:
            pass
        else:
            if not quiet:
                output.note(f"Made {path}: whoever has it finds your refs, and without it nobody does. Keep a copy.")
        with open(path, encoding="ascii", opener=open_regular) as file:
            found = file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise UsageError(f"The secret of the refs, {path}, cannot be used: {reason}.") from error
    if not found:
        raise UsageError(f"{path} is empty.", hint=f"Bring the secret in ${VARIABLE}, or remove it for a new one.")
    return found.encode()


def _create(path: str) -> None:
    """Makes the file whole or not at all.

    Raises:
        FileExistsError: It is there.
    """
    making = f"{path}.{os.getpid()}"
    fd = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(fd, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(_BYTES) + "\n")
        os.link(making, path)
    finally:
        with suppress(OSError):
            os.unlink(making)
