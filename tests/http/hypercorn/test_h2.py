"""HTTP/2 over TLS: requests are served side by side, and each is kept to its limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from h2.errors import ErrorCodes

from ._wires import LIMITS, answer, echo_app, h2_client, tls_front


async def test_request_is_answered(tmp_path: Path, autojump_clock: Any) -> None:
    """A request over h2 reaches the application as https and HTTP/2, and its answer comes back."""
    async with tls_front(echo_app, tmp_path) as front, h2_client(front) as client:
        answered = await client.ask("/some/path")
        assert (answered.status, answered.body) == (200, b"https 2 GET /some/path")
        assert "date" in answered.headers


async def test_body_is_read_whole(tmp_path: Path, autojump_clock: Any) -> None:
    """A body longer than every window arrives, since windows open as it is read."""
    body = bytes(range(256)) * 2000
    async with tls_front(echo_app, tmp_path) as front, h2_client(front) as client:
        number = client.send_request(method="POST", ends=False)
        sent = 0
        while sent < len(body):
            room = min(client.connection.local_flow_control_window(number), 16384)
            if room:
                client.connection.send_data(number, body[sent : sent + room])
                sent += room
                await client.flush()
            else:
                await client.read()
        client.connection.end_stream(number)
        await client.flush()
        assert (await client.answer(number)).body == body


async def test_requests_are_served_side_by_side(tmp_path: Path, autojump_clock: Any) -> None:
    """A request that takes long does not hold up the one after it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await trio.sleep(5 if scope["path"] == "/slow" else 0)
        await answer(send, scope["path"].encode())

    async with tls_front(app, tmp_path) as front, h2_client(front) as client:
        slow = client.send_request("/slow")
        quick = await client.ask("/quick")
        assert quick.body == b"/quick"
        assert not client.answers[slow].has_ended
        assert (await client.answer(slow)).body == b"/slow"


async def test_unread_body_does_not_hold_up_others(tmp_path: Path, autojump_clock: Any) -> None:
    """A body that its handler does not read fills its own window, and nobody else's."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/unread":
            await trio.sleep(30)
        await echo_app(scope, receive, send)

    async with tls_front(app, tmp_path) as front, h2_client(front) as client:
        unread = client.send_request("/unread", method="POST", ends=False)
        for _ in range(3):
            client.connection.send_data(unread, bytes(16384))
        other = client.send_request("/other", method="POST", ends=False)
        client.connection.send_data(other, b"quick", end_stream=True)
        await client.flush()
        assert (await client.answer(other)).body == b"quick"


async def test_slow_reader_holds_little_of_its_answer(tmp_path: Path, autojump_clock: Any) -> None:
    """While a peer's window is closed, the application waits instead of filling memory."""
    sent = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(1000):
            await send({"type": "http.response.body", "body": bytes(8192), "more_body": True})
            sent += 8192

    async with tls_front(app, tmp_path) as front, h2_client(front) as client:
        client.reads_bodies = False
        number = client.send_request()
        await client.flush()
        began = trio.current_time()
        reset = (await client.answer(number)).reset
        assert sent < 65_535 + 3 * 32_768
        assert reset == ErrorCodes.CANCEL
        assert trio.current_time() - began == pytest.approx(LIMITS.write, abs=1)


async def test_reset_cancels_the_application(tmp_path: Path, autojump_clock: Any) -> None:
    """A client that no longer wants an answer ends the work on it, and only that."""
    ended = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/long":
            try:
                await trio.sleep_forever()
            finally:
                ended.set()
        await answer(send, b"")

    async with tls_front(app, tmp_path) as front, h2_client(front) as client:
        number = client.send_request("/long")
        await client.flush()
        await trio.testing.wait_all_tasks_blocked()
        client.connection.reset_stream(number, ErrorCodes.CANCEL)
        await client.flush()
        await ended.wait()
        assert (await client.ask("/short")).status == 200


async def test_peer_that_goes_cancels_all_its_requests(tmp_path: Path, autojump_clock: Any) -> None:
    """Nothing runs on for a connection that is gone."""
    running = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal running
        running += 1
        try:
            await trio.sleep_forever()
        finally:
            running -= 1

    async with tls_front(app, tmp_path) as front:
        async with h2_client(front) as client:
            for _ in range(20):
                client.send_request()
            await client.flush()
            await trio.testing.wait_all_tasks_blocked()
            assert running == 20
        assert running == 0
        assert front.connections == 0


async def test_application_that_fails_is_a_500(tmp_path: Path, autojump_clock: Any) -> None:
    """An error in the application costs its request, and the connection goes on."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/fails":
            raise ZeroDivisionError
        if scope["path"] == "/stops":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            return
        await answer(send, b"well")

    async with tls_front(app, tmp_path) as front, h2_client(front) as client:
        failed = await client.ask("/fails")
        assert (failed.status, failed.body) == (500, b'{"status":500}')
        assert (await client.ask("/stops")).reset == ErrorCodes.INTERNAL_ERROR
        assert (await client.ask("/")).body == b"well"


async def test_header_injection_is_not_sent(tmp_path: Path, autojump_clock: Any) -> None:
    """A line end in an answer's field never gets out."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, b"", headers={b"x-a": b"b\r\nset-cookie: c=d"})

    async with tls_front(app, tmp_path) as front, h2_client(front) as client:
        assert (await client.ask()).status == 500


async def test_answer_before_the_body_ends_the_request(tmp_path: Path, autojump_clock: Any) -> None:
    """An answer that did not need the body resets the rest of the request, without an error."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, b"no, thank you", status=413)

    async with tls_front(app, tmp_path) as front, h2_client(front) as client:
        number = client.send_request(method="POST", ends=False)
        client.connection.send_data(number, bytes(1000))
        await client.flush()
        refused = await client.answer(number)
        while refused.reset is None:
            await client.read()
        assert (refused.status, refused.body) == (413, b"no, thank you")
        assert refused.reset == ErrorCodes.NO_ERROR


@pytest.mark.parametrize("pause", [1.0, 4.0, 9.0, 11.0])
async def test_slow_body_is_refused(tmp_path: Path, autojump_clock: Any, pause: float) -> None:
    """A body has a limit between its pieces and one for all of it: 408."""
    async with tls_front(echo_app, tmp_path) as front, h2_client(front) as client:
        number = client.send_request(method="POST", ends=False)
        began = trio.current_time()

        async def dribble() -> None:
            while client.answers[number].status == 0:
                client.connection.send_data(number, b"x")
                await client.flush()
                await trio.sleep(pause)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(dribble)
            refused = await client.answer(number)
            took = trio.current_time() - began
            nursery.cancel_scope.cancel()
        assert refused.status == 408
        expected = LIMITS.body if pause < LIMITS.body_gap else LIMITS.body_gap
        assert took == pytest.approx(expected, abs=1)


async def test_idle_connection_is_closed(tmp_path: Path, autojump_clock: Any) -> None:
    """A connection without a request says goodbye after its idle time; a first one sooner."""
    async with tls_front(echo_app, tmp_path) as front:
        for requests, limit in ((0, LIMITS.head), (1, LIMITS.idle)):
            async with h2_client(front) as client:
                for _ in range(requests):
                    await client.ask()
                began = trio.current_time()
                await client.read_until_end()
                assert trio.current_time() - began == pytest.approx(limit, abs=0.1)
                assert client.goaway is not None
                assert client.goaway[0] == ErrorCodes.NO_ERROR


async def test_closing_lets_requests_finish(tmp_path: Path, autojump_clock: Any) -> None:
    """A front that closes says so, answers what runs, and ends the connection with that."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await trio.sleep(5)
        await answer(send, b"done")

    async with tls_front(app, tmp_path) as front, h2_client(front) as client:
        number = client.send_request()
        await client.flush()
        await trio.testing.wait_all_tasks_blocked()
        await front.close()
        while client.goaway is None:
            await client.read()
        assert client.goaway == (ErrorCodes.NO_ERROR, number)
        await client.read_until_end()
        assert b"done" in client.after_goaway


async def test_closing_ends_idle_connections(tmp_path: Path, autojump_clock: Any) -> None:
    """A connection on which nothing runs ends at once when the front closes."""
    async with tls_front(echo_app, tmp_path) as front, h2_client(front) as client:
        await client.ask()
        began = trio.current_time()
        await front.close()
        await client.read_until_end()
        assert trio.current_time() - began < 0.1


async def test_crowd_is_turned_away(tmp_path: Path, autojump_clock: Any) -> None:
    """A connection beyond the limit is told that nothing of it was looked at."""
    limits = attrs.evolve(LIMITS, connections=1)
    async with tls_front(echo_app, tmp_path, limits=limits) as front:
        async with h2_client(front) as first:
            assert (await first.ask()).status == 200
            async with h2_client(front) as second:
                await second.read_until_end()
                assert second.goaway == (ErrorCodes.NO_ERROR, 0)
            assert (await first.ask()).status == 200
        async with h2_client(front) as third:
            assert (await third.ask()).status == 200
