"""The receiver as a process: told and asked over its pipes, verifying with the public package."""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime

import pytest
import trio
from standardwebhooks import Webhook

from bulkhead_trio.testing.receiver import ReceiverFailed, ReceiverProcess, dead, flapping

from .._client import ask, request_bytes

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + base64.b64encode(bytes(range(24))).decode()
LEAST_PER_SECOND = 2_000
SENDERS, EACH = 8, 250


def signed_headers(secret: str, body: bytes, identity: str = "msg_1") -> dict[str, str]:
    """As a sender makes them."""
    now = datetime.now(UTC)
    return {
        "Webhook-Id": identity,
        "Webhook-Timestamp": str(int(now.timestamp())),
        "Webhook-Signature": Webhook(secret).sign(identity, now, body.decode()),
    }


async def test_receiver_process_behaves_and_tells(receiver: ReceiverProcess) -> None:
    """Statuses as told; arrivals with ids, moments and judged signatures."""
    address = ("127.0.0.1", receiver.port)
    receiver.behave({1: dead(), 2: flapping(1, 1)})
    receiver.trust({2: [SECRET], 3: [SECRET]})
    before = time.monotonic()
    body = b'{"a":1}'
    statuses = [
        (
            await ask(
                address, f"/e/{endpoint}", method="POST", body=body,
                headers=signed_headers(secret, body),
            )
        ).status
        for endpoint, secret in ((1, SECRET), (2, SECRET), (2, OTHER), (3, SECRET))
    ]  # fmt: skip
    assert statuses == [503, 200, 503, 200]
    found = receiver.arrivals()
    assert [(a.endpoint, a.is_valid) for a in found] == [
        (1, None),
        (2, True),
        (2, False),
        (3, True),
    ]
    assert {each.id for each in found} == {"msg_1"}
    assert before <= found[0].at <= found[-1].at <= time.monotonic()
    assert receiver.arrivals(3) == found[3:]
    assert receiver.sums()[2].taken == 1
    assert receiver.received(3)[0].body == body.decode()


async def test_receiver_process_takes_thousands_a_second(receiver: ReceiverProcess) -> None:
    """More than any test sends, each signature verified."""
    body = b'{"type":"order.completed","timestamp":"2026-01-01T00:00:00Z","data":{}}'
    receiver.trust({1: [SECRET]})
    request = request_bytes("/e/1", method="POST", body=body, headers=signed_headers(SECRET, body))

    async def send() -> None:
        async with await trio.open_tcp_stream("127.0.0.1", receiver.port) as stream:
            for _ in range(EACH):
                await stream.send_all(request)
                assert (await stream.receive_some(4096)).startswith(b"HTTP/1.1 200")

    began = time.monotonic()
    async with trio.open_nursery() as nursery:
        for _ in range(SENDERS):
            nursery.start_soon(send)
    rate = SENDERS * EACH / (time.monotonic() - began)
    assert all(each.is_valid for each in receiver.arrivals())
    assert len(receiver.arrivals()) == SENDERS * EACH
    # Senders and receiver share the machine with other tests; alone it is several times as much.
    assert rate > LEAST_PER_SECOND / 4, f"{rate:.0f} a second"


def test_receiver_process_that_ended_is_told() -> None:
    """A port that is taken, and a process that is no more."""
    with ReceiverProcess() as first:
        with pytest.raises(ReceiverFailed), ReceiverProcess(port=first.port):
            pass
        assert first.sums() == {}
    with pytest.raises(RuntimeError):
        first.sums()
