"""One request to an HTTP store and its answer: connections, the API key, further tries, errors translated.

What a request means is the store's business (`http`); here it is a method, a path and a body. No error of aiohttp
leaves this module.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, nullcontext, suppress
from itertools import count
from random import SystemRandom
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode

import aiohttp
from yarl import URL

from holdall import __version__
from holdall.errors import (
    AccessError,
    BusyError,
    HoldallError,
    StoreError,
    UnreachableError,
)
from holdall.limits import CHUNK_BYTES
from holdall.limits.stores import (
    CLIENT_ANSWER_BYTES_MAX,
    CLIENT_BACKOFF_SECONDS,
    CLIENT_CONNECT_SECONDS_MAX,
    CLIENT_CONNECTIONS,
    CLIENT_CONTINUE_SECONDS_MAX,
    CLIENT_PATIENCE_SECONDS,
    CLIENT_RETRIES,
    CLIENT_RETRY_AFTER_SECONDS_MAX,
    CLIENT_SILENCE_SECONDS_MAX,
)
from holdall.stores.http_request import NeverConnectedError, Outgoing, Request
from holdall.stores.http_wire import KIND, cleaned, error_from

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.connector import Connection


_KEY_HINT: Final = (
    "Open the store with it: ?apikey=KEY in its URL, or the command line's --api-key-file or HOLDALL_API_KEY."
)
_random: Final = SystemRandom()
_log: Final = logging.getLogger("holdall.stores.http")


class Session:
    """The connections to one store; made when the first request is sent, and bound to the loop that sends it.

    Args:
        base: The store's URL without a final slash.
        api_key: Sent with the requests that need it, never shown.
        tls: How to check the server's certificate; the system's way where None.

    Attributes:
        base: The store's URL without a final slash.
        has_key: Whether there is an API key.
        ours: Whether an answer has shown that the server is holdall's, and knows what original servers do not.
        waits: Whether it was said that the server is waited for, and it has not answered since.
    """

    def __init__(self, base: str, *, api_key: str | None, tls: ssl.SSLContext | None) -> None:
        self.base = base
        self.ours = self.waits = False
        self.has_key = api_key is not None
        self._api_key = api_key
        self._key_in_query: bool | None = None
        self._tls = tls
        self._client: aiohttp.ClientSession | None = None
        self._places = asyncio.Semaphore(CLIENT_CONNECTIONS)
        self._closed = False

    async def send(self, request: Request) -> aiohttp.ClientResponse:
        """Sends a request and returns an answer below 300, its body still to be read.

        Raises:
            HoldallError: What another answer means, or `UnreachableError` for none.
        """
        for attempt in count():
            try:
                return await self._try(request)
            except HoldallError as error:
                if attempt == CLIENT_RETRIES or not request.again_after(error):
                    raise
                asked = error.retry_seconds if isinstance(error, BusyError) else 0.0
            pause = CLIENT_BACKOFF_SECONDS * 2**attempt * _random.uniform(0.5, 1.5)
            await asyncio.sleep(min(asked, CLIENT_RETRY_AFTER_SECONDS_MAX) + pause)
        raise AssertionError  # count() does not end

    @asynccontextmanager
    async def answer(self, request: Request) -> AsyncIterator[aiohttp.ClientResponse]:
        """As `send`, and lets go of the answer at the end of the block.

        Raises:
            HoldallError: As `send`; errors of aiohttp while the block reads are translated too.
        """
        response = await self.send(request)
        try:
            with self.translating():
                yield response
        finally:
            response.release()

    async def short_answer(self, request: Request) -> tuple[aiohttp.ClientResponse, str]:
        """As `send`, with the text of an answer that is no longer than a path or a sentence.

        Raises:
            HoldallError: As `send`.
        """
        async with self.answer(request) as response:
            body = await _short_body(response)
        return response, body.decode("utf-8", "replace").strip()

    async def aclose(self) -> None:
        """Closes all connections; closing twice is harmless."""
        self._closed = True
        if self._client is not None:
            await self._client.close()

    async def _try(self, request: Request) -> aiohttp.ClientResponse:
        client = self._opened()
        query, headers = dict(request.query), dict(request.headers)
        if request.keyed and self._api_key is not None:
            if await self._wants_key_in_query():
                query["apikey"] = self._api_key
            else:
                headers["Authorization"] = f"Bearer {self._api_key}"
        url = URL(f"{self.base}{request.path}{'?' if query else ''}{urlencode(query, quote_via=quote)}", encoded=True)
        async with self._place(request), self._watched(request.body) as deadline:
            with _Patience(self, request.body):
                response = await client.request(
                    request.method,
                    url,
                    headers=headers | ({} if request.body is None else request.body.headers),
                    data=None if request.body is None else request.body.data(deadline),
                    expect100=request.body is not None and request.body.streams,
                    allow_redirects=False,
                )
            self.ours = self.ours or KIND in response.headers
            if response.status < 300:
                return response
            try:
                sentence = cleaned(await _short_body(response), response.headers.get("Content-Type", ""))
            finally:
                response.close()
            if response.status == 401 and not (request.keyed and self.has_key):
                raise AccessError("The server wants its API key for this.", hint=_KEY_HINT)
            raise error_from(response.status, response.headers, sentence, request.conflict)

    def _place(self, request: Request) -> AbstractAsyncContextManager[object]:
        """Bounds the requests under way; a stream may wait for another request, so it must not hold a place."""
        streams = request.body is not None and request.body.streams
        return nullcontext() if streams else self._places

    @asynccontextmanager
    async def _watched(self, body: Outgoing | None) -> AsyncIterator[asyncio.Timeout]:
        """Translates what fails, and gives up when a server takes no more of a body."""
        try:
            with self.translating():
                async with asyncio.timeout(None if body is None else CLIENT_SILENCE_SECONDS_MAX) as deadline:
                    yield deadline
        except BaseException as error:
            if body is not None and body.error is not None and isinstance(error, UnreachableError):
                raise body.error from None
            raise

    def translating(self) -> Translating:
        """A context that turns errors of the network into ours."""
        return Translating(self.base)

    async def _wants_key_in_query(self) -> bool:
        """Whether the server is an original one, which knows an API key only as `?apikey=`.

        Such a server answers 417 to any path that is no address. All others get a header, which no log shows.
        """
        if self._key_in_query is None:
            url = URL(f"{self.base}/-/health", encoded=True)
            with _Patience(self, None):
                async with self._watched(None), self._opened().get(url, allow_redirects=False) as response:
                    self._key_in_query = response.status == 417
        return self._key_in_query

    def _opened(self) -> aiohttp.ClientSession:
        if self._closed:
            raise StoreError("The store is closed.", hint="Open it again.")
        if self._client is None:
            self._client = aiohttp.ClientSession(
                # Open readings hold a connection each, and a caller may open any number before it reads the first.
                connector=aiohttp.TCPConnector(limit=0, ssl=self._tls or True),
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=CLIENT_CONNECT_SECONDS_MAX, sock_read=CLIENT_SILENCE_SECONDS_MAX
                ),
                headers={"User-Agent": f"holdall/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"},
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                read_bufsize=CHUNK_BYTES,
                middlewares=(self._once,),
                request_class=_Request,
            )
        return self._client

    async def _once(self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        """Translates errors before aiohttp would send a PUT, DELETE or GET again of its own accord.

        An append, a take or an exclusive create must not happen twice; `Request.again_after` decides instead.
        """
        with self.translating():
            return await handler(request)


class _Patience:
    """A context that logs, once until the server answers, that it neither does that nor takes more of a body.

    Args:
        session: The connections to it.
        body: What is sent.
    """

    def __init__(self, session: Session, body: Outgoing | None) -> None:
        self._session = session
        self._body = body
        self._taken = 0

    def __enter__(self) -> None:
        self._wait()

    def __exit__(self, kind: object, *_: object) -> None:
        self._timer.cancel()
        if kind is None:
            self._session.waits = False

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(CLIENT_PATIENCE_SECONDS, self._look)

    def _look(self) -> None:
        body = self._body
        if body is not None and (body.asks_source or body.pieces_taken != self._taken):
            self._taken = body.pieces_taken
            self._wait()
        elif not self._session.waits:
            self._session.waits = True
            host = URL(self._session.base).authority
            _log.info("%s has not answered for %.0f s; it is waited for.", host, CLIENT_PATIENCE_SECONDS)


class _Request(aiohttp.ClientRequest):
    """A request of which only the answer tells that the connection was lost, and that sends its body in the end.

    aiohttp sends a body in a task of its own, and asks nobody how that ended where the server went before it answered
    `Expect: 100-continue`; the event loop would then print a traceback. And it would wait for that answer for ever,
    which not every server gives (RFC 9110, 10.1.1).
    """

    async def write_bytes(
        self, writer: AbstractStreamWriter, conn: Connection, content_length: int | None = None
    ) -> None:
        """Sends the body."""
        timer = self.loop.call_later(CLIENT_CONTINUE_SECONDS_MAX, self._go_on)
        try:
            with suppress(aiohttp.ClientConnectionError):
                await super().write_bytes(writer, conn, content_length)
        finally:
            timer.cancel()

    def _go_on(self) -> None:
        if self._continue is not None and not self._continue.done():
            self._continue.set_result(True)


class Translating:
    """A context in which errors of aiohttp and of the network become ours.

    Args:
        base: The store's URL, for the message.
    """

    def __init__(self, base: str) -> None:
        self._base = base

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, HoldallError):
            return
        host = URL(self._base).authority
        match error:
            case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
                raise NeverConnectedError(
                    f"{host} has no TLS certificate that can be trusted.",
                    hint="Check the host's name and its certificate.",
                ) from error
            case aiohttp.ClientConnectorDNSError():
                raise NeverConnectedError(f"No host is called {URL(self._base).host}.") from error
            case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
                raise NeverConnectedError(f"{host} does not accept connections.") from error
            case TimeoutError():
                raise UnreachableError(f"{host} fell silent.") from error
            case aiohttp.ClientPayloadError():
                raise UnreachableError(f"{host} broke off in the middle of an answer.") from error
            case aiohttp.ClientConnectionError() | ConnectionError():
                raise UnreachableError(f"{host} closed the connection without an answer.") from error
            case aiohttp.ClientError() | OSError():
                raise UnreachableError(f"{host} does not speak HTTP as a store does.") from error


async def _short_body(response: aiohttp.ClientResponse) -> bytes:
    body = b""
    while len(body) <= CLIENT_ANSWER_BYTES_MAX and (piece := await response.content.read(CLIENT_ANSWER_BYTES_MAX)):
        body += piece
    return body[:CLIENT_ANSWER_BYTES_MAX]
