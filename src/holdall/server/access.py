"""The API key: who may write, delete and list.

The key comes from a setting or from a file that is read again when it changes. It is compared in constant time, and
a client that brought a wrong one waits a little longer each time, without holding up anybody else.
"""

from __future__ import annotations

import hmac
import os
import stat
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from holdall.limits.server import API_KEY_BYTES_MAX, FAILURE_CLIENTS_MAX, FAILURE_DELAY_SECONDS_MAX
from holdall.server.reply import HTTPError

if TYPE_CHECKING:
    from holdall.server.settings import Settings

_FIRST_DELAY_SECONDS: Final = 0.1
_CHALLENGE: Final = (("WWW-Authenticate", 'Bearer realm="holdall"'),)


class Access:
    """Decides whether a request may do what it asks.

    Args:
        settings: Where the key comes from.
    """

    def __init__(self, settings: Settings) -> None:
        self._fixed = settings.api_key
        self._path = None if settings.api_key is not None else settings.api_key_path
        self._seen: tuple[int, int, int] | None = None
        self._key: bytes | None = None if settings.api_key is None else settings.api_key.encode()
        self._failures: OrderedDict[str, int] = OrderedDict()
        self.failures = 0
        self.refresh()

    @property
    def has_key(self) -> bool:
        """Whether a key is set now."""
        return self._key is not None

    def refresh(self) -> None:
        """Reads the key file again if it has changed; called about once a second."""
        if self._path is None:
            return
        try:
            status = os.stat(self._path)
        except (FileNotFoundError, NotADirectoryError):
            self._key, self._seen = None, None
            return
        except OSError:
            self._keep_or_lock()
            return
        seen = (status.st_mtime_ns, status.st_size, status.st_ino)
        if seen == self._seen:
            return
        if not stat.S_ISREG(status.st_mode):  # to open a FIFO would be to wait for its writer
            self._keep_or_lock()
            return
        try:
            with open(self._path, "rb") as file:
                key = file.read(API_KEY_BYTES_MAX + 1).strip()
        except OSError:
            self._keep_or_lock()
            return
        self._seen = seen
        # An empty file is a key nobody has: to lock the server, not to open it.
        self._key = key if 0 < len(key) <= API_KEY_BYTES_MAX else os.urandom(32)

    def check(self, brought: str | None, *, needed: bool, client: str) -> None:
        """Lets the request pass or refuses it.

        Args:
            brought: The key that came with it, or None.
            needed: Whether what it asks for needs one where one is set.
            client: Where it came from.

        Raises:
            HTTPError: 401.
        """
        if self._key is None:
            if brought is not None:
                raise HTTPError(401, "This server has no API key, so none can be right.", headers=_CHALLENGE)
            return
        if brought is None:
            if needed:
                raise HTTPError(401, "This needs the API key.", hint="Send ?apikey=KEY.", headers=_CHALLENGE)
            return
        if not hmac.compare_digest(brought.encode("utf-8", "surrogateescape"), self._key):
            self._fail(client)
            raise HTTPError(401, "The API key is wrong.", headers=_CHALLENGE)
        self._failures.pop(client, None)

    def delay_seconds(self, client: str) -> float:
        """How long the answer to this client's failure is held back."""
        count = self._failures.get(client, 0)
        return min(FAILURE_DELAY_SECONDS_MAX, _FIRST_DELAY_SECONDS * 2 ** min(count - 1, 16)) if count else 0.0

    def _keep_or_lock(self) -> None:
        """The key file is there but cannot be read: the old key holds, and without one nobody has it."""
        if self._key is None:
            self._key = os.urandom(32)

    def _fail(self, client: str) -> None:
        self.failures += 1
        self._failures[client] = self._failures.pop(client, 0) + 1
        while len(self._failures) > FAILURE_CLIENTS_MAX:
            self._failures.popitem(last=False)
