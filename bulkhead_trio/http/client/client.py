"""The client: origins to pools, requests to exchanges; the owner of all connections."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self

import attrs
import trio

from bulkhead_trio.errors import InvalidRequest
from bulkhead_trio.http.client._request_rules import Field, request_head
from bulkhead_trio.http.client._url_rules import Origin, check_target, split_url
from bulkhead_trio.http.client.dialling import (
    Dialler,
    Resolve,
    TLSStream,
    resolve_by_system,
)
from bulkhead_trio.http.client.exchange import Exchange
from bulkhead_trio.http.client.limits import ClientLimits
from bulkhead_trio.http.client.pool import OriginPool, OriginStatistics, Shelf
from bulkhead_trio.http.client.response import DEFAULT_MAX_BYTES, Response
from bulkhead_trio.http.client.sending import Content
from bulkhead_trio.http.client.wire import Wire
from bulkhead_trio.http.engine.readiness import Readiness
from bulkhead_trio.policies._checks import check_duration

LOOK_SECONDS = 0.1
"""Between two looks at what connections wait for, and how long they have been kept."""


@attrs.frozen
class HTTPClientStatistics:
    """What a client does at one moment.

    Attributes:
        connections: open ones, to all origins together.
        idle: of them, those that are kept for the next request.
        origins: each origin's own, as ``https://api.example.com``. An origin that nobody has a
            connection to is forgotten.
    """

    connections: int
    idle: int
    origins: Mapping[str, OriginStatistics]


class HTTPClient:
    """Sends requests over HTTP/1.1 and keeps connections.

    It works as long as its ``async with`` block does, or the nursery that it was opened in.

    Args:
        limits: on connections, and on waiting.
        resolve: gives the addresses of a host; by default the system's resolver, in a thread.
        tls_context: for ``https``; by default one that verifies with the system's authorities.
    """

    def __init__(
        self,
        limits: ClientLimits = ClientLimits(),  # noqa: B008  frozen
        *,
        resolve: Resolve = resolve_by_system,
        tls_context: ssl.SSLContext | None = None,
    ) -> None:
        self.limits = limits
        self._dialler = Dialler(
            resolve,
            tls_context,
            write_seconds=limits.write,
        )
        self._pools: dict[Origin, OriginPool] = {}
        self._shelf = Shelf()
        self._readiness: Readiness | None = None
        self._has_connections = trio.Event()
        self._opened: AbstractAsyncContextManager[trio.Nursery] | None = None
        self._nursery: trio.Nursery | None = None

    # --- its life --------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Keep connections from now on.

        Raises:
            RuntimeError: it is open already.
        """
        self._check_closed()
        await trio.lowlevel.checkpoint()
        self._opened = trio.open_nursery()
        self._nursery = await self._opened.__aenter__()
        self.open(self._nursery)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        opened, nursery = self._opened, self._nursery
        if opened is None or nursery is None:
            raise RuntimeError("this client is not open")
        self._opened = self._nursery = None
        nursery.cancel_scope.cancel()
        # What the block ends with goes on as it is, in no group: its own task never fails.
        await opened.__aexit__(None, None, None)

    def open(self, nursery: trio.Nursery) -> None:
        """Keep connections until ``nursery`` is cancelled; instead of ``async with``.

        Whoever is in the middle of a request then gets `trio.ClosedResourceError`.

        Raises:
            RuntimeError: it is open already, or the nursery is closed.
        """
        self._check_closed()
        readiness = Readiness()
        try:
            nursery.start_soon(self._live, readiness)
        except RuntimeError:
            readiness.close()
            raise
        self._readiness = readiness
        self._shelf = Shelf()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep connections until cancelled: `open` as a task, for ``await nursery.start(...)``.

        Raises:
            RuntimeError: it is open already.
        """
        self._check_closed()
        async with trio.open_nursery() as nursery:
            self.open(nursery)
            task_status.started()

    async def _live(self, readiness: Readiness) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(readiness.run)
                nursery.start_soon(self._look_after)
        finally:
            self._close()
            readiness.close()

    def _check_closed(self) -> None:
        if self._readiness is not None:
            raise RuntimeError("this client is open already")

    def _close(self) -> None:
        self._shelf.is_open = False
        for scope in self._shelf.dialling:
            scope.cancel()
        for pool in self._pools.values():
            pool.close()
        for connection in self._shelf.connections:
            connection.close()
        self._pools.clear()
        self._readiness = None

    async def _look_after(self) -> None:
        """Wake who has waited too long, and close what has been kept long enough."""
        while True:
            if not self._shelf.connections:
                self._has_connections = trio.Event()
                await self._has_connections.wait()
            await trio.sleep(LOOK_SECONDS)
            now = trio.current_time()
            for connection in list(self._shelf.connections):
                connection.wire.check_deadline(now)
                if connection.idle_by <= now and connection.wire.on_news is not None:
                    connection.pool.drop_idle(connection)
            for origin in [origin for origin, pool in self._pools.items() if pool.is_at_rest]:
                del self._pools[origin]

    # --- requests --------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Iterable[Field] = (),
        content: Content = None,
        timeout: float | None = None,
        head_timeout: float | None = None,
        target: bytes | None = None,
        is_idempotent: bool | None = None,
    ) -> Exchange:
        """A request; use as ``async with client.request("GET", url) as response:``.

        Args:
            method: as it is sent.
            url: absolute, ``http`` or ``https``, with everything escaped that has to be.
            headers: names and values, in order. ``Host`` and what frames the body are added.
            content: the body: bytes, or what gives its pieces. Their length is what
                ``Content-Length`` in ``headers`` says, or they go out in chunks.
            timeout: seconds for everything until the answer's last byte.
            head_timeout: seconds for the answer's head, in place of the client's limit; counted
                from when the request has been sent, and told a tenth of a second late at most.
            target: to ask for instead of the URL's path and query, as it is.
            is_idempotent: whether it does no more when it is sent twice, so that it may be where
                a kept connection ended as it was sent; ``None``: as its method says (RFC 9110,
                section 9.2.2).

        Returns:
            What sends the request when its block is entered, and gives a `StreamedResponse`.

            Entering, and reading the answer, raise `BulkheadFull` and `QueueTimeout` where no
            connection is to be had, `UpstreamUnreachable`, `UpstreamTimeout`,
            `UpstreamProtocolError`, `UpstreamError` where the connection breaks,
            and `trio.ClosedResourceError` where the client is closed meanwhile.

        Raises:
            InvalidRequest: this cannot be sent.
            RuntimeError: the client is not open.
            ValueError: the timeout is none.
        """
        origin, own_target = split_url(url)
        head = request_head(
            method,
            own_target if target is None else check_target(target),
            origin.authority,
            headers,
            length=_length_of(content),
        )
        if timeout is not None:
            check_duration("timeout", timeout)
        if self._readiness is None:
            raise RuntimeError("this client is not open: use `async with`, or `open`")
        if head_timeout is not None:
            check_duration("head_timeout", head_timeout)
        return Exchange(
            origin,
            self._pool,
            self.limits,
            method,
            head,
            content or None,
            timeout=timeout,
            head_timeout=head_timeout,
            is_idempotent=is_idempotent,
        )

    async def fetch(
        self,
        method: str,
        url: str,
        *,
        headers: Iterable[Field] = (),
        content: Content = None,
        timeout: float | None = None,
        max_bytes: int = DEFAULT_MAX_BYTES,
    ) -> Response:
        """Send a request and read its whole answer; arguments and errors as for `request`.

        Args:
            method: as it is sent.
            url: where to.
            headers: names and values.
            content: the body.
            timeout: seconds for everything.
            max_bytes: the most that is taken of the answer's body.

        Raises:
            UpstreamBodyTooLarge: there is more.
        """
        exchange = self.request(method, url, headers=headers, content=content, timeout=timeout)
        async with exchange as response:
            return await response.aread_whole(max_bytes)

    async def get(
        self,
        url: str,
        *,
        headers: Iterable[Field] = (),
        timeout: float | None = None,
        max_bytes: int = DEFAULT_MAX_BYTES,
    ) -> Response:
        """``GET``; arguments and errors as for `fetch`."""
        return await self.fetch("GET", url, headers=headers, timeout=timeout, max_bytes=max_bytes)

    async def post(
        self,
        url: str,
        *,
        content: Content = None,
        headers: Iterable[Field] = (),
        timeout: float | None = None,
        max_bytes: int = DEFAULT_MAX_BYTES,
    ) -> Response:
        """``POST``; arguments and errors as for `fetch`."""
        return await self.fetch(
            "POST", url, headers=headers, content=content, timeout=timeout, max_bytes=max_bytes
        )

    def statistics(self) -> HTTPClientStatistics:
        """What the client does now."""
        return HTTPClientStatistics(
            connections=len(self._shelf.connections),
            idle=self._shelf.idle,
            origins={str(origin): pool.statistics() for origin, pool in self._pools.items()},
        )

    # --- inside ----------------------------------------------------------------------------------

    def _pool(self, origin: Origin) -> OriginPool:
        pool = self._pools.get(origin)
        if pool is None:
            if self._readiness is None:
                raise trio.ClosedResourceError("the client was closed")
            pool = OriginPool(origin, self.limits, self._shelf, self._dial)
            self._pools[origin] = pool
        return pool

    async def _dial(self, origin: Origin) -> tuple[Wire, TLSStream | None]:
        if self._readiness is None:
            raise trio.ClosedResourceError
        made = await self._dialler.dial(origin, self._readiness)
        self._has_connections.set()
        return made


def _length_of(content: Content) -> int | None:
    """Of a body in bytes; ``None`` where only the body knows.

    Raises:
        InvalidRequest: it is no body.
    """
    if content is None:
        return 0
    if isinstance(content, bytes):
        return len(content)
    if not isinstance(content, AsyncIterable):
        raise InvalidRequest("content must be bytes, or give its pieces asynchronously")
    return None
