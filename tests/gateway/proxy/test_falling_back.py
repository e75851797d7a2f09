"""What stands in for upstreams that fail: an answer of the route's, or another upstream."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.testing.upstream import Answer, Cut, End, Raw, Rule, Script, always

from ._front import KINDS, Kind
from ._world import open_world, retry

both = pytest.mark.parametrize("kind", KINDS)

ANSWER = {"statusCode": 218, "contentType": "text/html", "body": "<p>later</p>"}

FAILURES: list[Any] = [
    always(Answer(status=500)),
    always(Answer(status=503, size=100_000)),
    always(End(how="close")),
    always(Raw(data="garbage\r\n\r\n")),
    always(End(how="hang")),
    always(Answer(cut=Cut(after_bytes=12, of="head"))),
    Script(is_listening=False),
]


def limits(**members: Any) -> dict[str, Any]:
    return {"timeout": {"default": 1000}, **members}


@both
@pytest.mark.parametrize("script", FAILURES)
async def test_answer_takes_the_place_of_every_failure(
    autojump_clock: MockClock, kind: Kind, script: Script
) -> None:
    """5xx, no connection, no answer, none in time: the same status, type and body for each."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(script)
        await world.route(customer, upstream, resilience=limits(fallback=ANSWER))
        visit = await world.ask(customer, kind=kind)
        assert (visit.status, visit.body) == (218, b"<p>later</p>")
        assert visit.header("content-type") == "text/html"
        assert world.notes.lines[-1]["fallback"] == "answer"
        await world.assert_at_rest()


@both
@pytest.mark.parametrize("script", FAILURES)
@pytest.mark.parametrize("body", [b"", b"small", [b"big" * 9000, 0.1, b"end"]])
async def test_other_upstream_is_asked_in_place_of_those_that_fail(
    autojump_clock: MockClock, kind: Kind, script: Script, body: Any
) -> None:
    """With the same request, byte for byte, while its body has been kept."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(script)
        spare = await world.upstream(always(Answer(content="mirror")))
        resilience = limits(
            **retry(maxRetries=1, baseDelayMs=0), fallback={"upstream": spare.url, **ANSWER}
        )
        await world.route(customer, upstream, resilience=resilience)
        visit = await world.ask(customer, "PUT", "/x?y=z", body=body, kind=kind)
        whole = (
            body if isinstance(body, bytes) else b"".join(x for x in body if isinstance(x, bytes))
        )
        assert (visit.status, visit.body) == (200, whole)
        assert [each.target for each in spare.seen().requests] == ["/x?y=z"]
        assert world.notes.lines[-1]["fallback"] == "upstream"
        await world.assert_at_rest()


@both
@pytest.mark.parametrize("script", FAILURES)
async def test_answer_is_given_where_the_other_upstream_fails_as_well(
    autojump_clock: MockClock, kind: Kind, script: Script
) -> None:
    """It is the last thing there is."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(always(Answer(status=500)))
        spare = await world.upstream(script)
        resilience = limits(fallback={"upstream": spare.url, **ANSWER})
        await world.route(customer, upstream, resilience=resilience)
        visit = await world.ask(customer, kind=kind)
        assert (visit.status, visit.body) == (218, b"<p>later</p>")
        await world.assert_at_rest()


@pytest.mark.parametrize("status", [200, 302, 404, 429])
async def test_answers_below_500_are_no_failures(autojump_clock: MockClock, status: int) -> None:
    """They are passed on, though there is a fallback: from the spare upstream too."""
    async with open_world() as world:
        customer = world.customer()
        upstream = await world.upstream(always(Answer(status=status, body="mine")))
        await world.route(customer, upstream, path="/a", resilience={"fallback": ANSWER})
        bad = await world.upstream(always(Answer(status=500)))
        spare = {"upstream": upstream.url, **ANSWER}
        await world.route(customer, bad, path="/b", resilience={"fallback": spare})
        for path in ("/a", "/b"):
            visit = await world.ask(customer, target=path)
            assert (visit.status, visit.body) == (status, b"mine")


async def test_retries_come_first(autojump_clock: MockClock) -> None:
    """The fallback is for when they have failed as well."""
    async with open_world() as world:
        customer = world.customer()
        script = Script(rules=(Rule(steps="500,500,500,500,200", then="last"),))
        upstream = await world.upstream(script)
        await world.route(customer, upstream, resilience={**retry(), "fallback": ANSWER})
        first, second = await world.ask(customer), await world.ask(customer)
        assert (first.status, second.status) == (218, 200)
        assert first.took == pytest.approx(0.5 + 1 + 2, abs=0.01)


async def test_body_that_was_not_kept_cannot_go_to_the_other_upstream(
    autojump_clock: MockClock,
) -> None:
    """Half of it must never be taken for the whole: the answer is given at once."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(always(Answer(status=500)))
        spare = await world.upstream()
        resilience = {"fallback": {"upstream": spare.url, **ANSWER}}
        await world.route(customer, upstream, resilience=resilience)
        visit = await world.ask(customer, "POST", body=[b"x" * 50_000, 0.1, b"y"])
        assert (visit.status, spare.seen().count) == (218, 0)


@both
async def test_open_breaker(autojump_clock: MockClock, kind: Kind) -> None:
    """No upstream is asked, and nobody waits."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(always(End(how="hang")))
        resilience = limits(circuitBreaker={"failureThreshold": 2}, fallback=ANSWER)
        await world.route(customer, upstream, resilience=resilience)
        visits = [await world.ask(customer, kind=kind) for _ in range(4)]
        assert [visit.status for visit in visits] == [218] * 4
        assert [round(visit.took, 2) for visit in visits] == [1.0, 1.0, 0.0, 0.0]
        assert upstream.seen().count == 2


@both
async def test_full_bulkhead(autojump_clock: MockClock, kind: Kind) -> None:
    """Whoever finds no place there is answered at once; those who have one are not disturbed."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(always(Answer(gate="go")))
        resilience = {"bulkhead": {"maxConcurrent": 1, "queueSize": 1}, "fallback": ANSWER}
        await world.route(customer, upstream, resilience=resilience)
        visits = [world.begin(customer, kind=kind) for _ in range(3)]
        await trio.sleep(1)
        assert sorted(visit.status for visit in visits) == [0, 0, 218]
        upstream.open_gate("go")
        for visit in visits:
            await visit.over.wait()
        assert sorted(visit.status for visit in visits) == [200, 200, 218]
        await world.assert_at_rest()


async def test_all_upstreams_down(autojump_clock: MockClock) -> None:
    """Their health is a failure like any other."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(always(Answer(status=500)))
        checks = {"intervalMs": 1000, "timeoutMs": 500, "unhealthyThreshold": 1}
        await world.route(customer, upstream, path="/a", resilience={"healthCheck": checks})
        await world.route(
            customer, upstream, path="/b", resilience={"healthCheck": checks, "fallback": ANSWER}
        )
        await trio.sleep(3)
        visit = await world.ask(customer, target="/a")
        assert (visit.status, visit.code) == (502, "upstream_error")
        assert (await world.ask(customer, target="/b")).status == 218
        assert not any(each.target in ("/a", "/b") for each in upstream.seen().requests)


async def test_what_is_no_failure_of_an_upstream_is_told(autojump_clock: MockClock) -> None:
    """A full tier and a caller's own deadline: a fallback would hide what the caller can change."""
    async with open_world(workers=1, queue=0) as world:
        customer, upstream = world.customer(), await world.upstream(always(Answer(gate="go")))
        await world.route(customer, upstream, resilience={"fallback": ANSWER})
        world.begin(customer)
        await trio.sleep(0.1)
        visit = await world.ask(customer)
        assert (visit.status, visit.code) == (503, "bulkhead_full")
        upstream.open_gate("go")
        await trio.sleep(0.1)
        upstream.forget()
        visit = await world.ask(customer, headers={"x-request-timeout": "1"})
        assert (visit.status, visit.code) == (504, "deadline_exceeded")
        await world.assert_at_rest()


@both
@pytest.mark.parametrize("fallback", ["answer", "upstream"])
async def test_deadline_that_cannot_be_kept_is_told(
    autojump_clock: MockClock, kind: Kind, fallback: str
) -> None:
    """As one that has passed is: it is the caller's own, who would not learn that it is too short.

    Whoever has more time waits, and gets the upstream's answer.
    """
    async with open_world(workers=10) as world:
        customer = world.customer()
        upstream = await world.upstream(always(Answer(head_seconds=1)))
        spare = await world.upstream()
        stands_in = ANSWER if fallback == "answer" else {"upstream": spare.url}
        resilience = {"bulkhead": {"maxConcurrent": 1, "queueSize": 9}, "fallback": stands_in}
        await world.route(customer, upstream, resilience=resilience)
        await world.ask(customer)  # so long a request takes
        visits = [world.begin(customer) for _ in range(4)]
        await trio.sleep(0.1)
        refused = await world.ask(customer, headers={"x-request-timeout": "2"}, kind=kind)
        assert (refused.status, refused.code) == (503, "deadline_unreachable")
        assert refused.took == pytest.approx(0, abs=0.01)
        assert 3 <= int(refused.header("retry-after") or 0) <= 5
        assert upstream.url.encode() not in refused.body
        patient = await world.ask(customer, headers={"x-request-timeout": "9"}, kind=kind)
        assert patient.status == 200
        for visit in visits:
            await visit.over.wait()
        assert ({visit.status for visit in visits}, spare.seen().count) == ({200}, 0)
        await world.assert_at_rest()


async def test_answer_to_head_and_to_a_tunnel(autojump_clock: MockClock) -> None:
    """It is an answer to these as well."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(always(Answer(status=500)))
        await world.route(customer, upstream, resilience={"fallback": ANSWER})
        assert (await world.ask(customer, "HEAD")).status == 218
        visit = world.web_socket(customer)
        await visit.run(world.edge)
        assert (visit.status, visit.body) == (218, b"<p>later</p>")
        await world.assert_at_rest()
