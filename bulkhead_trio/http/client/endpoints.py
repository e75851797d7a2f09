"""A client of many endpoints in which none can sink the others."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self

import attrs
import trio

from bulkhead_trio.errors import UnknownEndpoint
from bulkhead_trio.http.client._pattern_rules import EndpointPattern, parse_pattern
from bulkhead_trio.http.client._request_rules import Field
from bulkhead_trio.http.client._url_rules import split_url
from bulkhead_trio.http.client.client import HTTPClient, HTTPClientStatistics
from bulkhead_trio.http.client.dialling import Resolve, resolve_by_system
from bulkhead_trio.http.client.exchange import Exchange
from bulkhead_trio.http.client.limits import ClientLimits
from bulkhead_trio.http.client.response import DEFAULT_MAX_BYTES, Response, StreamedResponse
from bulkhead_trio.http.client.sending import Content
from bulkhead_trio.policies._checks import check_duration, check_wait
from bulkhead_trio.policies.bulkhead import Bulkhead, BulkheadStatistics
from bulkhead_trio.policies.bulkhead.bulkhead import Permit


@attrs.frozen
class EndpointStatistics:
    """What one endpoint does at one moment.

    Attributes:
        bulkhead: requests that run, wait and were refused.
        client: its connections.
    """

    bulkhead: BulkheadStatistics
    client: HTTPClientStatistics


@attrs.frozen
class _Endpoint:
    pattern: EndpointPattern
    timeout: float
    bulkhead: Bulkhead
    client: HTTPClient


class BulkheadedExchange:
    """A request that has a permit of its endpoint's bulkhead as long as its block lasts."""

    __slots__ = ("_exchange", "_permit")

    def __init__(self, exchange: Exchange, permit: Permit) -> None:
        self._exchange = exchange
        self._permit = permit

    async def __aenter__(self) -> StreamedResponse:
        await self._permit
        try:
            return await self._exchange.__aenter__()
        except BaseException as error:
            await self._permit.__aexit__(type(error), error, error.__traceback__)
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self._exchange.__aexit__(kind, error, traceback)
        finally:
            await self._permit.__aexit__(kind, error, traceback)


class BulkheadHTTPClient:
    """Sends requests to configured endpoints, each with connections, a timeout and a bulkhead.

    An endpoint that hangs keeps its own connections and permits busy, and nobody else's. A URL
    belongs to the most specific pattern that has it; one that no pattern has is refused.

    It works as long as its ``async with`` block does; endpoints may be configured before and in it.

    Args:
        limits: of each endpoint's client; ``connections`` is the endpoint's own.
        resolve: gives the addresses of a host.
        tls_context: for ``https``; by default one that verifies with the system's authorities.
    """

    def __init__(
        self,
        limits: ClientLimits = ClientLimits(),  # noqa: B008  frozen
        *,
        resolve: Resolve = resolve_by_system,
        tls_context: ssl.SSLContext | None = None,
    ) -> None:
        self._limits = limits
        self._resolve = resolve
        self._tls_context = tls_context
        self._endpoints: list[_Endpoint] = []  # the most specific first
        self._opened: AbstractAsyncContextManager[trio.Nursery] | None = None
        self._nursery: trio.Nursery | None = None

    def configure_endpoint(
        self,
        pattern: str,
        *,
        max_connections: int = 10,
        timeout: float = 30.0,
        max_wait: float = 0.0,
        max_queued: int | None = None,
    ) -> None:
        """Let requests go to the URLs of ``pattern``.

        Args:
            pattern: ``scheme://host[:port][/path]``, see `EndpointPattern`.
            max_connections: requests at the same time, and connections that are kept after them.
            timeout: seconds for one request, its wait in the bulkhead not included.
            max_wait: seconds a request waits for its turn; 0 refuses at once.
            max_queued: requests that may wait.

        Raises:
            ValueError: the pattern is none, or there is one already that has the same URLs; or a
                number makes no sense.
        """
        parsed = parse_pattern(pattern)
        if any(endpoint.pattern.key == parsed.key for endpoint in self._endpoints):
            raise ValueError(f"an endpoint with the pattern {pattern!r} is configured already")
        check_duration("timeout", timeout)
        check_wait("max_wait", max_wait)
        bulkhead = Bulkhead(pattern, max_connections, max_wait=max_wait, max_queued=max_queued)
        # Whoever has a permit finds a connection free: there are as many for each origin.
        limits = attrs.evolve(
            self._limits, connections=max_connections, idle_connections=max_connections
        )
        client = HTTPClient(limits, resolve=self._resolve, tls_context=self._tls_context)
        self._endpoints.append(_Endpoint(parsed, timeout, bulkhead, client))
        self._endpoints.sort(key=lambda endpoint: endpoint.pattern.specificity, reverse=True)
        if self._nursery is not None:
            client.open(self._nursery)

    async def __aenter__(self) -> Self:
        """Keep connections from now on.

        Raises:
            RuntimeError: it is open already.
        """
        if self._opened is not None:
            raise RuntimeError("this client is open already")
        await trio.lowlevel.checkpoint()
        self._opened = trio.open_nursery()
        self._nursery = await self._opened.__aenter__()
        for endpoint in self._endpoints:
            endpoint.client.open(self._nursery)
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
        # What the block ends with goes on as it is, in no group.
        await opened.__aexit__(None, None, None)

    # --- requests --------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Iterable[Field] = (),
        content: Content = None,
        timeout: float | None = None,
        target: bytes | None = None,
    ) -> BulkheadedExchange:
        """A request; use as ``async with client.request("GET", url) as response:``.

        Args:
            method: as it is sent.
            url: which also says to which endpoint it belongs.
            headers: see `HTTPClient.request`.
            content: see there.
            timeout: seconds, where it has less time than its endpoint gives.
            target: see there; what it asks for is not looked at to find the endpoint.

        Returns:
            What gives a `StreamedResponse`; entering it raises what `Bulkhead.acquire` and
            `HTTPClient.request` do.

        Raises:
            UnknownEndpoint: no pattern has that URL.
            InvalidRequest: this cannot be sent.
            RuntimeError: the client is not open.
            ValueError: the timeout is none.
        """
        endpoint = self._endpoint(url)
        exchange = endpoint.client.request(
            method,
            url,
            headers=headers,
            content=content,
            timeout=endpoint.timeout if timeout is None else min(timeout, endpoint.timeout),
            target=target,
        )
        return BulkheadedExchange(exchange, endpoint.bulkhead.acquire())

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
        """Send a request and read its whole answer, at most ``max_bytes`` of its body.

        Raises:
            UpstreamBodyTooLarge: there is more; and what `request` says.
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

    def statistics(self) -> Mapping[str, EndpointStatistics]:
        """What each endpoint does now, by its pattern."""
        return {
            endpoint.pattern.text: EndpointStatistics(
                endpoint.bulkhead.statistics(), endpoint.client.statistics()
            )
            for endpoint in self._endpoints
        }

    def _endpoint(self, url: str) -> _Endpoint:
        origin, target = split_url(url)
        path = target.partition(b"?")[0].decode("ascii")
        for endpoint in self._endpoints:
            if endpoint.pattern.has(origin, path):
                return endpoint
        patterns = [endpoint.pattern.text for endpoint in self._endpoints]
        known = ", ".join(patterns) if patterns else "none at all"
        raise UnknownEndpoint(f"no endpoint has {origin}{path}: there is {known}",
                              patterns=patterns)  # fmt: skip
