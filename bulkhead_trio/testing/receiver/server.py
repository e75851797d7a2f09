"""The receiver itself: where it listens, what its endpoints do, and what it has seen."""

from __future__ import annotations

import hashlib
import http
import socket
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self, TypeAlias

import trio

from bulkhead_trio.testing.receiver._log import Log
from bulkhead_trio.testing.receiver._reading import Request, RequestReader, Unreadable
from bulkhead_trio.testing.receiver.behaviour import Answers, Behaviour, Resets, ok, step_of
from bulkhead_trio.testing.receiver.seen import Arrival, EndpointSeen, Received

Verify: TypeAlias = Callable[[Sequence[str], Mapping[str, str], bytes], bool | None]
"""Takes an endpoint's secrets, a request's headers (lower case) and its body; says whether one of
the secrets signed it. ``None``: it was not looked at."""

PATH = "/e/"
BACKLOG = 1024
READ_BYTES = 65_536
DIGEST_BYTES = 8
LINGER_RESET = b"\1\0\0\0\0\0\0\0"
"""SO_LINGER on, for no time: closing sends RST."""
REASONS = {status.value: status.phrase for status in http.HTTPStatus}


class Receiver:
    """Receives webhooks at ``/e/<number>``, within its ``async with`` block.

    It lives in the event loop that opens it, so that with a mock clock its pauses take no time.
    An endpoint that was told nothing takes everything.

    Args:
        verify: judges signatures, if there is something that does; with secrets given to `trust`.
        host: the address to listen on.
        port: there; 0 for any free one.
        clock: what arrivals are noted by.
    """

    def __init__(
        self,
        verify: Verify | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self._verify = verify
        self._host = host
        self._port = port
        self._clock = clock
        self._log = Log()
        self._behaviours: dict[int, Behaviour] = {}
        self._secrets: dict[int, tuple[str, ...]] = {}
        self._turns: Counter[int] = Counter()
        self._opened = AsyncExitStack()

    # --- its life --------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Begin to listen.

        Raises:
            OSError: the address cannot be had.
        """
        async with AsyncExitStack() as stack:
            (listener,) = await trio.open_tcp_listeners(
                self._port, host=self._host, backlog=BACKLOG
            )
            await stack.enter_async_context(listener)
            self._port = int(listener.socket.getsockname()[1])
            nursery = await stack.enter_async_context(trio.open_nursery())
            stack.callback(nursery.cancel_scope.cancel)
            nursery.start_soon(trio.serve_listeners, self._serve, [listener])
            self._opened = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._opened.__aexit__(None, None, None)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    def url(self, endpoint: int) -> str:
        """The address of an endpoint."""
        return f"http://{self._host}:{self._port}{PATH}{endpoint}"

    # --- what it is told -------------------------------------------------------------------------

    def behave(self, behaviours: Mapping[int, Behaviour]) -> None:
        """From the next request on, these endpoints do this; their turns begin anew."""
        self._behaviours |= behaviours
        for endpoint in behaviours:
            del self._turns[endpoint]

    def trust(self, secrets: Mapping[int, Sequence[str]]) -> None:
        """These endpoints are signed for with any of these secrets."""
        self._secrets |= {endpoint: tuple(given) for endpoint, given in secrets.items()}

    def forget(self) -> None:
        """Begin anew: nothing was seen, no secrets, and every endpoint takes everything."""
        self._log.forget()
        self._behaviours.clear()
        self._secrets.clear()
        self._turns.clear()

    # --- what it has seen ------------------------------------------------------------------------

    def arrivals(self, since: int = 0) -> Sequence[Arrival]:
        """Every request in the order of their coming, but the first ``since``."""
        return self._log.arrivals(since)

    def received(self, endpoint: int) -> list[Received]:
        """The last requests of an endpoint in full, the oldest first."""
        return self._log.received(endpoint)

    def sums(self) -> dict[int, EndpointSeen]:
        """The sums of every endpoint that has seen a request."""
        return self._log.sums()

    # --- one connection --------------------------------------------------------------------------

    async def _serve(self, stream: trio.SocketStream) -> None:
        reader = RequestReader()
        try:
            while data := await stream.receive_some(READ_BYTES):
                for request in reader.feed(bytes(data)):
                    await self._take(stream, request)
                    if request.is_last:
                        return
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # the sender has gone, or the answer was a reset
        except Unreadable:
            await self._refuse(stream)

    async def _refuse(self, stream: trio.SocketStream) -> None:
        try:
            await stream.send_all(_answer_bytes(Answers(status=400), is_last=True))
        except trio.BrokenResourceError:
            return

    async def _take(self, stream: trio.SocketStream, request: Request) -> None:
        endpoint = _endpoint_of(request.target)
        if endpoint is None:
            await stream.send_all(_answer_bytes(Answers(status=404), is_last=request.is_last))
            return
        step = step_of(self._behaviours.get(endpoint, ok()), self._turns[endpoint])
        self._turns[endpoint] += 1
        is_taken = False
        self._log.begin(endpoint)
        try:
            self._log.note(self._judged(endpoint, request, step))
            await self._do(stream, step, is_last=request.is_last)
            is_taken = isinstance(step, Answers) and 200 <= step.status < 300
        finally:
            self._log.end(endpoint, is_taken=is_taken)

    async def _do(
        self, stream: trio.SocketStream, step: Answers | Resets, *, is_last: bool
    ) -> None:
        if step.seconds:
            await trio.sleep(step.seconds)
        if isinstance(step, Answers):
            await stream.send_all(_answer_bytes(step, is_last=is_last))
            return
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
        await trio.aclose_forcefully(stream)

    def _judged(self, endpoint: int, request: Request, step: Answers | Resets) -> Received:
        secrets = self._secrets.get(endpoint)
        is_valid = None
        if self._verify is not None and secrets is not None:
            is_valid = self._verify(secrets, request.headers, request.body)
        arrival = Arrival(
            endpoint,
            request.headers.get("webhook-id", ""),
            self._clock(),
            step.status if isinstance(step, Answers) else 0,
            is_valid,
            hashlib.blake2b(request.body, digest_size=DIGEST_BYTES).hexdigest(),
        )
        text = request.body.decode("utf-8", "replace")
        return Received(arrival, request.method, request.target, request.headers, text)


def _endpoint_of(target: str) -> int | None:
    path = target.partition("?")[0]
    number = path.removeprefix(PATH)
    is_number = number.isascii() and number.isdigit()
    return int(number) if path.startswith(PATH) and is_number else None


def _answer_bytes(answer: Answers, *, is_last: bool) -> bytes:
    body = answer.body.encode()
    lines = [f"HTTP/1.1 {answer.status} {REASONS.get(answer.status, 'Unknown')}"]
    if answer.retry_after is not None:
        lines.append(f"Retry-After: {answer.retry_after}")
    if answer.location is not None:
        lines.append(f"Location: {answer.location}")
    if is_last:
        lines.append("Connection: close")
    if answer.status != http.HTTPStatus.NO_CONTENT:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
