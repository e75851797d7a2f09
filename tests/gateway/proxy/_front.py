"""A front in memory, of either kind, and the client behind it, which may go away at any moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import attrs
import msgspec
import trio
import trio.testing

from bulkhead_trio.api.edge import Edge
from bulkhead_trio.http.engine.errors import AnswerCutOff, LocalProtocolError
from bulkhead_trio.http.extensions import CANCELS, RESPOND
from bulkhead_trio.http.tunnel import TUNNEL
from bulkhead_trio.policies.context import RequestContext

Kind: TypeAlias = Literal["cancels", "tells"]
"""Whether a front cancels the application when its client goes, as ours do, or only tells it."""

KINDS: Final[tuple[Kind, ...]] = ("cancels", "tells")

Body: TypeAlias = bytes | Sequence[bytes | float | trio.Event]
"""All of a body, which says its length; or its pieces, and what is waited for between them."""

UPGRADE: Final = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}


class Notes:
    """An access log that is kept: what was noted of each request."""

    def __init__(self) -> None:
        self.lines: list[dict[str, str | float]] = []
        self.statuses: list[int | None] = []

    def is_wanted(self, *, is_quiet: bool) -> bool:
        return not is_quiet

    def request(
        self,
        context: RequestContext,  # noqa: ARG002
        method: str,  # noqa: ARG002
        path: str,  # noqa: ARG002
        status: int | None,
        seconds: float,  # noqa: ARG002
        notes: Mapping[str, str | float],
    ) -> None:
        self.statuses.append(status)
        self.lines.append(dict(notes))


@attrs.frozen
class End:
    """The client's end of a tunnel, or the gateway's."""

    stream: trio.StapledStream[Any, Any]

    async def read_piece(self) -> bytes:
        return bytes(await self.stream.receive_some())

    async def write(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def send_eof(self) -> None:
        await self.stream.send_eof()

    async def aclose(self) -> None:
        await self.stream.aclose()


@attrs.define(eq=False)
class Visit:
    """One request: its body comes as told, its answer is kept, and its client may go.

    Attributes:
        begun: the answer's head is there.
        over: the application has returned.
        was_cut_off: the answer ended in the middle.
        took: seconds until the application returned.
        may_write: while it is not set, the client takes nothing of an answer's body.
        tunnel: the client's end, after 101.
    """

    scope: dict[str, Any]
    kind: Kind
    pieces: list[bytes | float | trio.Event]
    begun: trio.Event = attrs.field(factory=trio.Event)
    over: trio.Event = attrs.field(factory=trio.Event)
    gone: trio.Event = attrs.field(factory=trio.Event)
    was_cut_off: bool = False
    is_complete: bool = False
    took: float = 0.0
    status: int = 0
    fields: list[tuple[bytes, bytes]] = attrs.field(factory=list)
    body: bytes = b""
    may_write: trio.Event | None = None
    tunnel: End | None = None
    _app_scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    # --- what the test does ----------------------------------------------------------------------

    def leave(self) -> None:
        """The client goes."""
        self.gone.set()
        if self.kind == "cancels":
            self._app_scope.cancel()

    def header(self, name: str) -> str | None:
        """The value of an answer's header; ``None`` without it."""
        values = [value.decode("latin-1") for key, value in self.fields if key == name.encode()]
        return ", ".join(values) if values else None

    @property
    def code(self) -> str | None:
        """The code of an answer of ours; ``None`` for an upstream's."""
        if self.header("content-type") != "application/problem+json":
            return None
        return str(msgspec.json.decode(self.body)["code"])

    def json(self) -> Any:
        """The decoded body."""
        return msgspec.json.decode(self.body)

    async def run(self, edge: Edge) -> None:
        """Have the request served."""
        began = trio.current_time()
        try:
            with self._app_scope:
                await edge(self.scope, self._receive, self._send)
        except AnswerCutOff:
            assert self.begun.is_set(), "only what has begun can be cut off"
            self.was_cut_off = True
        finally:
            self.took = trio.current_time() - began
            self.over.set()

    # --- what the application uses ---------------------------------------------------------------

    async def _receive(self) -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        while self.pieces and not self.gone.is_set():
            piece = self.pieces[0]
            if isinstance(piece, bytes):
                self.pieces.pop(0)
                return {"type": "http.request", "body": piece, "more_body": bool(self.pieces)}
            await self._wait_for(piece)
            if self.pieces and self.pieces[0] is piece and not self.gone.is_set():
                self.pieces.pop(0)
                if not self.pieces:
                    return {"type": "http.request", "body": b"", "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _wait_for(self, what: float | trio.Event) -> None:
        async with trio.open_nursery() as nursery:

            async def wait_until_gone() -> None:
                await self.gone.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(wait_until_gone)
            if isinstance(what, trio.Event):
                await what.wait()
            else:
                await trio.sleep(what)
            nursery.cancel_scope.cancel()

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        if message["type"] == "http.response.start":
            self._begin(message["status"], list(message["headers"]))
            return
        assert self.begun.is_set(), "a body needs a head"
        if self.is_complete:
            raise LocalProtocolError("the answer is complete")
        if self.may_write is not None and not self.gone.is_set():
            await self.may_write.wait()
        if not self.gone.is_set():
            self.body += message.get("body", b"")
        self.is_complete = not message.get("more_body", False)

    def _begin(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        if self.begun.is_set():
            raise LocalProtocolError("the answer has begun")
        self.status, self.fields = status, list(headers)
        self.begun.set()

    async def respond(self, status: int, headers: Any, body: bytes, last: Any = ()) -> None:
        await trio.lowlevel.checkpoint()
        self._begin(status, [*headers, *last])
        self.body, self.is_complete = body, True

    async def open_tunnel(self, status: int, headers: Any) -> End:
        await trio.lowlevel.checkpoint()
        self._begin(status, headers)
        ours, theirs = trio.testing.memory_stream_pair()
        self.tunnel = End(theirs)
        return End(ours)


def visit_of(kind: Kind, method: str, target: str, headers: Mapping[str, str], body: Body) -> Visit:
    """A request that is still to be made."""
    fields = {"host": "gateway.example", **headers}
    if isinstance(body, bytes):
        pieces: list[bytes | float | trio.Event] = [body]
        if body:
            fields.setdefault("content-length", str(len(body)))
    else:
        pieces = list(body)
        if "content-length" not in fields:
            fields["transfer-encoding"] = "chunked"
    path, _, query = target.partition("?")
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"spec_version": "2.3", "version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("ascii"),
        "query_string": query.encode("ascii"),
        "root_path": "",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in fields.items()],
        "client": ("127.0.0.1", 40000),
        "server": ("127.0.0.1", 8080),
        "extensions": {},
    }
    visit = Visit(scope, kind, pieces)
    extensions: dict[str, Any] = scope["extensions"]
    if kind == "cancels":
        extensions[CANCELS] = {}
        extensions[RESPOND] = visit.respond
    if "upgrade" in fields:
        extensions[TUNNEL] = visit.open_tunnel
    return visit
