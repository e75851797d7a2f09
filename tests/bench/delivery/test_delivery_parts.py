"""The parts of the benchmark that need no server."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from bench.client import Address
from bench.delivery.accepting import script_of
from bench.delivery.calls import request_bytes
from bench.delivery.deliveries import PAYLOAD, is_signed
from bench.delivery.processes import tree_cpu_seconds
from bench.delivery.world import Subscriber
from bulkhead_trio.testing.receiver import Arrival, Received

SUBSCRIBERS = [Subscriber("t", f"key-{n}", f"bench.e{n}", n, "whsec_x") for n in range(2)]


def test_script_has_a_line_for_each_sender() -> None:
    """Its key and its type, or a type that nobody wants; and no placeholder left."""
    text = script_of(SUBSCRIBERS, is_wanted=True)
    assert '{"key-1", "bench.e1"},' in text
    assert "at % #requests + 1" in text
    assert PAYLOAD.decode() in text
    assert '{"key-1", "bench.nobody"},' in script_of(SUBSCRIBERS, is_wanted=False)


def test_request_is_counted_json() -> None:
    """The length is that of the body."""
    data = request_bytes(Address("127.0.0.1", 80), "/x", b"{}", {"X-Key": "a"})
    assert data.startswith(b"POST /x HTTP/1.1\r\nHost: 127.0.0.1:80\r\n")
    assert b"\r\nContent-Length: 2\r\nX-Key: a\r\n\r\n{}" in data


def test_payload_is_json() -> None:
    """What the API would take."""
    assert json.loads(PAYLOAD)


@pytest.mark.parametrize(
    ("body", "is_good"), [('{"test": 2432232314}', True), ('{"test": 2432232315}', False)]
)
def test_signature_is_the_published_one(body: str, is_good: bool) -> None:
    """By the standard's own vector."""
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,other v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    received = Received(Arrival(1, "", 0.0, 200, None, ""), "POST", "/e/1", headers, body)
    assert is_signed("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", received) is is_good


def test_processor_time_includes_children() -> None:
    """Of those that live and of those that were waited for."""
    code = (
        "import subprocess, sys\n"
        "subprocess.run([sys.executable, '-c', 'sum(range(10_000_000))'], check=True)\n"
        "print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert tree_cpu_seconds(process.pid) >= 0.1
        process.communicate()
    with pytest.raises(ProcessLookupError):
        tree_cpu_seconds(process.pid)
    assert tree_cpu_seconds(os.getpid()) > 0
