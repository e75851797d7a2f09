"""Doing what the script says, on one connection."""

from __future__ import annotations

import functools
import http
import itertools
from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol, TypeAlias

import msgspec
import trio

from bulkhead_trio.testing.upstream._content import generated_blocks, in_pieces
from bulkhead_trio.testing.upstream._request import IncomingRequest
from bulkhead_trio.testing.upstream._web_socket import EchoingWebSocket
from bulkhead_trio.testing.upstream._wire import Wire
from bulkhead_trio.testing.upstream.script import (
    Answer,
    Cut,
    End,
    Ending,
    Events,
    Field,
    Raw,
    Step,
    WebSocket,
)

BODILESS = (204, 304)
EVENT_STREAM = (("Content-Type", "text/event-stream"), ("Cache-Control", "no-store"))
CHUNKED = ("Transfer-Encoding", "chunked")
LAST_CHUNK = b"0\r\n"

Pause: TypeAlias = Callable[[float], Awaitable[None]]


class Stage(Protocol):
    """Where an answer is given: what outlasts one connection."""

    async def pass_gate(self, name: str) -> None:
        """Return when the gate of that name is open."""


class CutShort(Exception):
    """The answer ended where the script says.

    Attributes:
        how: what becomes of the connection.
    """

    def __init__(self, how: Ending) -> None:
        super().__init__(how)
        self.how = how


class Answering:
    """What becomes of one request.

    Args:
        wire: its connection.
        request: it.
        stage: for gates.
    """

    def __init__(self, wire: Wire, request: IncomingRequest, stage: Stage) -> None:
        self._wire = wire
        self._request = request
        self._stage = stage

    async def perform(self, step: Step) -> Ending:
        """Do ``step``; says what becomes of the connection.

        Raises:
            CutShort: there was no whole answer, as the script says.
            Gone: the client went away.
            Malformed: the request's body is none.
        """
        try:
            return await self._do(step)
        except CutShort as cut:
            if cut.how == "hang":
                await self._wire.unless_gone(trio.sleep_forever)
            raise

    async def _do(self, step: Step) -> Ending:
        if isinstance(step, Answer):
            return await self._answer(step)
        if isinstance(step, Events):
            return await self._events(step)
        if isinstance(step, Raw):
            return await self._raw(step)
        if isinstance(step, WebSocket):
            return await EchoingWebSocket(self._wire, self._request.raw_head, step).run()
        return await self._end(step)

    # --- answers ---------------------------------------------------------------------------------

    async def _answer(self, step: Answer) -> Ending:
        if step.content == "mirror" or step.reading == "never":
            return await self._answer_only(step)
        if step.reading == "before":
            await self._read(step)
            return await self._answer_only(step)
        return await self._answer_beside_reading(step)

    async def _read(self, step: Answer) -> None:
        await self._request.read(seconds=step.read_seconds, ask=step.sends_continue)

    async def _answer_beside_reading(self, step: Answer) -> Ending:
        failures: list[Exception] = []
        endings: list[Ending] = []

        async def note(do: Callable[[], Awaitable[Ending | None]]) -> None:
            try:
                if ending := await do():
                    endings.append(ending)
            except Exception as error:  # noqa: BLE001  it is raised again below, in no group
                failures.append(error)
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(note, lambda: self._read(step))
            nursery.start_soon(note, lambda: self._answer_only(step, is_watched=False))
        if failures:
            raise failures[0]
        return endings[0]

    async def _answer_only(self, step: Answer, *, is_watched: bool = True) -> Ending:
        """Everything but reading the body, if that is not what the answer is made of.

        ``is_watched``: nobody else reads, so that it can be noticed when the client goes.
        """
        pause = self._pause if is_watched else trio.sleep
        if step.gate and is_watched:
            await self._wire.unless_gone(lambda: self._stage.pass_gate(step.gate))
        elif step.gate:
            await self._stage.pass_gate(step.gate)
        await pause(step.head_seconds)
        for early in step.informational:
            await self._wire.send(_head_bytes(early.status, early.headers))
        content = self._content(step)
        fields = tuple(self._framing(step, step.size if content is None else len(content)))
        await self._send_head(_head_bytes(step.status, (*step.headers, *fields)), step)
        if self._request.method != "HEAD" and step.status not in BODILESS:
            is_chunked = CHUNKED in fields or step.framing == "chunked"
            await self._body(step, content, _BodyWriter(self._wire, step, is_chunked), pause)
        return self._ending(step)

    def _content(self, step: Answer) -> bytes | None:
        """The body in one, if it can be."""
        if step.content == "mirror":
            return None
        if step.content == "echo":
            return self._echo()
        return step.body.encode() if step.size is None else None

    def _echo(self) -> bytes:
        request = self._request
        return msgspec.json.encode(
            {
                "method": request.method,
                "target": request.target,
                "headers": request.headers,
                "length": request.length,
                "digest": request.digest,
                "trailers": request.logged.seen.trailers,
            }
        )

    def _framing(self, step: Answer, length: int | None) -> Iterator[Field]:
        """The fields that say where the body ends, and what it is; ``length`` where it is known."""
        given = {name.lower() for name, _ in step.headers}
        if given & {"content-length", "transfer-encoding"} or step.status in BODILESS:
            return
        if step.content == "echo" and "content-type" not in given:
            yield "Content-Type", "application/json"
        if step.framing == "close":
            yield "Connection", "close"
        elif step.framing == "length" and length is not None:
            yield "Content-Length", str(length)
        elif step.framing == "length" and self._request.has_counted_body:
            yield "Content-Length", self._request.all("content-length")[0]
        elif step.framing == "length" and not self._request.has_body:
            yield "Content-Length", "0"
        else:
            yield CHUNKED

    async def _body(
        self, step: Answer, content: bytes | None, body: _BodyWriter, pause: Pause
    ) -> None:
        if step.content == "mirror":
            await self._request.read(body.send, ask=step.sends_continue)
        else:
            blocks = generated_blocks(step.size or 0) if content is None else iter([content])
            for piece in in_pieces(blocks, step.piece_bytes, is_varied=step.is_varied):
                await body.send(piece)
                await pause(step.piece_seconds)
        await body.finish()

    def _ending(self, step: Answer | Events) -> Ending:
        is_unread = not self._request.is_complete and self._request.has_body
        is_closed = isinstance(step, Answer) and step.framing == "close"
        if step.ending == "keep" and (self._request.is_last or is_unread or is_closed):
            return "close"
        return step.ending

    async def _send_head(self, head: bytes, step: Answer) -> None:
        if (cut := _cut_of(step, "head")) is None:
            await self._wire.send(head)
            return
        await self._wire.send(head[: cut.after_bytes])
        raise CutShort(cut.how)

    # --- other things ----------------------------------------------------------------------------

    async def _events(self, step: Events) -> Ending:
        await self._request.read()
        headers = (*EVENT_STREAM, CHUNKED)
        await self._wire.send(_head_bytes(200, headers))
        numbers = itertools.count(1) if step.count is None else range(1, step.count + 1)
        for number in numbers:
            await self._wire.send(_chunk(b'id: %d\ndata: {"number":%d}\n\n' % (number, number)))
            await self._pause(step.seconds)
        await self._wire.send(LAST_CHUNK + b"\r\n")
        return self._ending(step)

    async def _raw(self, step: Raw) -> Ending:
        if step.reading == "before":
            await self._request.read()
        await self._pause(step.seconds)
        data = step.data.encode("latin-1")
        for _ in range(step.repeat):
            await self._wire.send(data)
        if step.then != "echo":
            return step.then
        while data := await self._wire.receive():
            await self._wire.send(data)
        return "close"

    async def _end(self, step: End) -> Ending:
        if step.reading == "before":
            await self._request.read()
        await self._pause(step.seconds)
        raise CutShort(step.how)

    async def _pause(self, seconds: float) -> None:
        if seconds:
            await self._wire.unless_gone(functools.partial(trio.sleep, seconds))


class _BodyWriter:
    """Sends pieces as the framing wants them, and stops where the script says."""

    def __init__(self, wire: Wire, step: Answer, is_chunked: bool) -> None:
        self._wire = wire
        self._step = step
        self._is_chunked = is_chunked
        self._cut = _cut_of(step, "body")
        self._sent = 0

    async def send(self, piece: bytes) -> None:
        cut = self._cut
        framed = _chunk(piece) if self._is_chunked else piece
        if cut is not None and self._sent + len(piece) > cut.after_bytes:
            before = framed.index(b"\r\n") + 2 if self._is_chunked else 0
            await self._wire.send(framed[: before + cut.after_bytes - self._sent])
            raise CutShort(cut.how)
        self._sent += len(piece)
        await self._wire.send(framed)

    async def finish(self) -> None:
        if self._cut is not None:
            raise CutShort(self._cut.how)
        if self._is_chunked:
            await self._wire.send(LAST_CHUNK + _field_lines(self._step.trailers) + b"\r\n")


def _cut_of(step: Answer, part: str) -> Cut | None:
    return step.cut if step.cut is not None and step.cut.of == part else None


def _chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def _head_bytes(status: int, headers: tuple[Field, ...]) -> bytes:
    try:
        reason = http.HTTPStatus(status).phrase
    except ValueError:
        reason = "Unknown"
    return f"HTTP/1.1 {status} {reason}\r\n".encode() + _field_lines(headers) + b"\r\n"


def _field_lines(fields: tuple[Field, ...]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in fields).encode("latin-1")
