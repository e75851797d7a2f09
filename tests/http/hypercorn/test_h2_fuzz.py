"""Whatever frames come, in whatever order: no error that nobody expected, and nothing left."""

from __future__ import annotations

import math
from typing import Any

import hpack
import structlog.testing
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkhead_trio.http.hypercorn._h2_connection import H2Connection
from bulkhead_trio.http.hypercorn._h2_rules import PREFACE_BYTES, FrameMeter, H2Limits
from bulkhead_trio.http.hypercorn._transport import Plain
from bulkhead_trio.http.hypercorn._websocket import WebSocketLimits
from bulkhead_trio.http.hypercorn.front import make_serving

from ._wires import LIMITS, answer, read_all, render_error, socket_pair

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FIELDS = [
    [(":method", "GET"), (":path", "/"), (":scheme", "https"), (":authority", "localhost")],
    [(":method", "POST"), (":path", "/echo"), (":scheme", "https"), (":authority", "localhost")],
    [(":method", "POST"), (":path", "/slow"), (":scheme", "https"), (":authority", "localhost")],
    [(":method", "HEAD"), (":path", "/"), (":scheme", "https"), ("host", "localhost")],
    [(":method", "CONNECT"), (":authority", "localhost:80")],
    [(":method", "GET"), (":path", "/"), (":scheme", "https"), (":authority", "a"), ("x_y", "z")],
    [("trailer", "field")],
]


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return (
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
    )


def encoded(fields: list[tuple[str, str]]) -> bytes:
    # Without the dynamic table, so that every block can be read whatever came before.
    block: bytes = hpack.Encoder().encode([hpack.NeverIndexedHeaderTuple(*pair) for pair in fields])
    return block


STREAMS = st.sampled_from([0, 1, 1, 1, 3, 3, 5, 7, 2, 2**31 - 1])
FRAMES = st.one_of(
    st.builds(
        lambda fields, flags, stream: frame(0x1, flags, stream, encoded(fields)),
        st.sampled_from(FIELDS),
        st.sampled_from([0x4, 0x5, 0x5, 0x1, 0x0]),
        STREAMS,
    ),
    st.builds(
        lambda flags, stream, payload: frame(0x0, flags, stream, payload),
        st.sampled_from([0x0, 0x1, 0x8, 0x9]),
        STREAMS,
        st.sampled_from([b"", b"x", b"\x05hello\0\0\0\0\0", bytes(600), bytes(16384)]),
    ),
    st.builds(frame, st.just(0x3), st.just(0), STREAMS, st.just(bytes(4))),
    st.builds(
        lambda stream, step: frame(0x8, 0, stream, step.to_bytes(4, "big")),
        STREAMS,
        st.sampled_from([0, 1, 65535, 2**31 - 1]),
    ),
    st.builds(
        lambda name, value: frame(0x4, 0, 0, name.to_bytes(2, "big") + value.to_bytes(4, "big")),
        st.sampled_from([1, 2, 3, 4, 5, 6, 8, 99]),
        st.sampled_from([0, 1, 16384, 65535, 2**31 - 1, 2**32 - 1]),
    ),
    st.builds(
        frame,
        st.integers(0, 12),
        st.sampled_from([0, 1, 4, 5, 8, 0x20, 0x25]),
        STREAMS,
        st.binary(max_size=20),
    ),
)


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["path"] == "/slow":
        await trio.sleep(3)
    if scope["path"] == "/echo":
        while (await receive()).get("more_body"):
            pass
    await answer(send, bytes(100_000))


async def converse(frames: list[bytes], cut: int) -> None:
    ours, theirs = socket_pair()
    serving = make_serving(app, LIMITS, render_error, WebSocketLimits())
    connection = H2Connection(serving, Plain(theirs), H2Limits(streams=3))
    data = PREFACE + frame(0x4, 0, 0, b"") + b"".join(frames)

    async def serve() -> None:
        await connection.run()
        await trio.aclose_forcefully(theirs)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        nursery.start_soon(read_all, ours)
        try:
            for start in range(0, len(data), cut):
                await ours.send_all(data[start : start + cut])
                await trio.testing.wait_all_tasks_blocked()
            await ours.send_eof()
        except trio.BrokenResourceError:
            pass
    await trio.aclose_forcefully(ours)


@settings(max_examples=300, deadline=None)
@given(st.lists(FRAMES, max_size=12), st.sampled_from([37, 1000, 100_000]))
def test_any_frames_are_survived(frames: list[bytes], cut: int) -> None:
    """No error but the protocol's own, no task and no application left; always an end."""
    with structlog.testing.capture_logs() as logs:
        clock = trio.testing.MockClock(autojump_threshold=0)
        trio.run(converse, frames, cut, clock=clock)
        assert clock.current_time() < 200
    assert [log["event"] for log in logs] == []


@given(st.lists(FRAMES, max_size=12), st.data())
def test_meter_counts_the_same_however_bytes_are_cut(frames: list[bytes], data: Any) -> None:
    """The price of frames does not depend on where the reads end."""
    whole = bytes(PREFACE_BYTES) + b"".join(frames)
    meter, total, place = FrameMeter(), 0.0, 0
    while place < len(whole):
        step = data.draw(st.integers(1, 3000))
        total += meter.cost_of(whole[place : place + step])
        place += step
    assert math.isclose(total, FrameMeter().cost_of(whole))
