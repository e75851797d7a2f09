"""What wrk prints, and its command line."""

from __future__ import annotations

import pytest

from bench.client import Address
from bench.http.wrk import UnreadableOutput, command, parse

REPORT = """Running 2s test @ http://127.0.0.1:18999/
  1 threads and 5 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   274.14us  470.04us  10.79ms   97.34%
    Req/Sec    19.73k     3.01k   21.20k    90.00%
  Latency Distribution
     50%  197.00us
     75%  252.00us
     90%  385.00us
     99%    2.33ms
  39290 requests in 2.00s, 4.72MB read
"""
TAIL = "Requests/sec:  19617.65\nTransfer/sec:      2.36MB\n"


def test_report_is_read() -> None:
    """Requests, seconds and latency come out in one unit each."""
    count = parse(REPORT + TAIL)
    assert (count.requests, count.refused, count.errors, count.seconds) == (39_290, 0, 0, 2.0)
    assert count.p50 == pytest.approx(0.197)
    assert count.p99 == pytest.approx(2.33)
    assert count.per_second == pytest.approx(19_645)


def test_refusals_and_broken_connections_are_counted() -> None:
    """Both lines are optional, and each counts for itself."""
    lines = (
        "  Socket errors: connect 1, read 20, write 300, timeout 4000\n"
        "  Non-2xx or 3xx responses: 39190\n"
    )
    count = parse(REPORT + lines + TAIL)
    assert (count.refused, count.errors) == (39_190, 4_321)


def test_long_runs_and_latencies_are_read() -> None:
    """Seconds and minutes are units too; wrk puts a blank after short ones."""
    text = REPORT.replace("in 2.00s", "in 1.50m").replace("2.33ms", "1.20s ")
    count = parse(text + TAIL)
    assert count.seconds == pytest.approx(90.0)
    assert count.p99 == pytest.approx(1200.0)


@pytest.mark.parametrize("output", ["", "unable to connect to 127.0.0.1:1 Connection refused"])
def test_other_output_is_no_report(output: str) -> None:
    """Nothing is made up where wrk did not run."""
    with pytest.raises(UnreadableOutput):
        parse(output)


def test_command_names_connections_length_and_headers() -> None:
    """One thread, and every header field as an option of its own."""
    line = command(
        Address("127.0.0.1", 80), "/a", {"X-A": "b", "X-C": "d"}, connections=50, seconds=5.0
    )
    assert line == [
        "wrk", "-t1", "-c50", "-d5s", "--latency", "-H", "X-A: b", "-H", "X-C: d",
        "http://127.0.0.1:80/a",
    ]  # fmt: skip
