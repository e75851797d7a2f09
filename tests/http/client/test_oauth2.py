"""A source of tokens: one question for all, on the mock clock and real sockets."""

from __future__ import annotations

import logging

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from bulkhead_trio.errors import (
    BulkheadTrioError,
    CircuitOpen,
    DeadlineExceeded,
    UpstreamBodyTooLarge,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from bulkhead_trio.http.client.oauth2 import TokenRefused, TokenSource
from bulkhead_trio.testing.cancellation import CancellationPoint, sweep_cancellations
from bulkhead_trio.testing.upstream import Answer, Script
from bulkhead_trio.testing.upstream.script import End

from ._tokens import SECRET, MemoryCache, desk, steps, token_answer
from ._upstream import assert_at_rest


async def test_token_is_asked_for_as_the_grant_says(autojump_clock: MockClock) -> None:
    """With the client's name and secret, the form, and nothing of them in the URL."""
    async with desk(token_answer()) as there:
        assert await (await there.running()).token() == "one"
        (request,) = there.endpoint.seen().requests
    assert (request.method, request.target) == ("POST", "/token")
    assert request.header("authorization") == "Basic YnQ6aHVzaC1odXNo"
    assert request.header("content-type") == "application/x-www-form-urlencoded"
    assert request.length == len("grant_type=client_credentials&scope=a+b")


@pytest.mark.parametrize("is_running", [True, False])
async def test_thousand_callers_have_one_token(is_running: bool, autojump_clock: MockClock) -> None:
    """One question, whoever waits; and those who come later ask none."""
    async with desk(token_answer(head_seconds=2)) as there:
        source = await there.running() if is_running else there.source()
        got: list[str] = []

        async def call(after: float) -> None:
            await trio.sleep(after)
            got.append(await source.token())

        async with trio.open_nursery() as nursery:
            for number in range(1000):
                nursery.start_soon(call, number / 400)
        assert (len(got), set(got), there.asked) == (1000, {"one"}, 1)


@pytest.mark.parametrize("is_running", [True, False])
async def test_cancelled_caller_takes_nothing_from_the_others(
    is_running: bool, autojump_clock: MockClock
) -> None:
    """Whether it came first or not; where the source runs, nothing is even asked again."""
    async with desk(token_answer(head_seconds=2)) as there:
        source = await there.running() if is_running else there.source()
        got: list[str] = []

        async def call(seconds: float) -> None:
            with trio.move_on_after(seconds):
                got.append(await source.token())

        async with trio.open_nursery() as nursery:
            for seconds in (1, 1.5, 10, 10):
                nursery.start_soon(call, seconds)
                await trio.testing.wait_all_tasks_blocked()
        assert got == ["one", "one"]
        assert there.asked == (1 if is_running else 3)
        assert source.statistics().waiting == 0


async def test_callers_with_little_time_have_a_slow_token_nevertheless(
    autojump_clock: MockClock,
) -> None:
    """Each has gone before the answer comes; the question stays, and the last has it."""
    async with desk(token_answer(head_seconds=3)) as there:
        source = await there.running()
        for _ in range(3):
            with trio.move_on_after(0.9):
                await source.token()
        with trio.fail_after(0.9):
            assert await source.token() == "one"
        assert there.asked == 1


async def test_next_token_is_asked_for_while_the_old_one_is_good(autojump_clock: MockClock) -> None:
    """Nobody waits for it, however long it takes; the old one is given meanwhile."""
    async with desk(token_answer("one", 600), token_answer("two", 600, head_seconds=20)) as there:
        source = await there.running()
        assert await source.token() == "one"
        await trio.sleep(600 - 30 - 60 - 1)
        assert await source.token() == "one"
        assert there.asked == 1
        await trio.sleep(2)
        began = trio.current_time()
        assert await source.token() == "one"
        assert trio.current_time() == began
        await trio.sleep(10)
        assert (await source.token(), there.asked) == ("one", 2)
        await trio.sleep(11)
        assert (await source.token(), there.asked) == ("two", 2)


async def test_token_that_nobody_wants_is_not_renewed(autojump_clock: MockClock) -> None:
    """A source that is not used asks nobody."""
    async with desk(token_answer("one", 100), token_answer("two", 100)) as there:
        source = await there.running()
        await source.token()
        await trio.sleep(10_000)
        assert there.asked == 1
        assert source.token_nowait() is None
        assert await source.token() == "two"


async def test_token_is_not_given_at_its_end(autojump_clock: MockClock) -> None:
    """From a tenth of its life, or half a minute, before it: a new one is waited for then."""
    async with desk(token_answer("one", 100), token_answer("two", 100)) as there:
        source = there.source()  # without anybody to ask in the background
        began = trio.current_time()
        await source.token()
        await trio.sleep(89.9 - (trio.current_time() - began))
        assert await source.token() == "one"
        await trio.sleep(0.2)
        assert await source.token() == "two"


async def test_old_token_is_used_while_no_new_one_is_to_be_had(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    """As long as it is good; asked is not with each request, and the log has no secret."""
    async with desk(token_answer("one", 600), Answer(status=401), token_answer("two")) as there:
        source = await there.running()
        await source.token()
        await trio.sleep(511)
        with caplog.at_level(logging.WARNING):
            for _ in range(50):
                assert await source.token() == "one"
                await trio.sleep(0.1)
        assert there.asked == 2
        assert "401" in caplog.text
        assert SECRET not in caplog.text
        await trio.sleep(6)
        assert await source.token() == "one"
        await trio.sleep(1)
        assert (await source.token(), there.asked) == ("two", 3)
        assert source.statistics().failed == 1


async def test_failure_that_passes_is_tried_again(autojump_clock: MockClock) -> None:
    """Three times more, each wait twice as long."""
    failures = [Answer(status=503), End(how="reset"), Answer(status=429)]
    async with desk(*failures, token_answer()) as there:
        source = there.source(random=0.999999)
        began = trio.current_time()
        assert (await source.token(), there.asked) == ("one", 4)
        assert trio.current_time() - began == pytest.approx(0.5 + 1 + 2, abs=0.3)


async def test_failure_that_lasts_is_told(autojump_clock: MockClock) -> None:
    """After four tries; with what was answered."""
    async with desk(Answer(status=500)) as there:
        with pytest.raises(UpstreamError, match="of billing answered 500"):
            await there.source().token()
        assert there.asked == 4


async def test_endpoint_may_ask_to_wait(autojump_clock: MockClock) -> None:
    """Up to ten seconds; for longer nobody is kept waiting."""
    ask = Answer(status=503, headers=(("Retry-After", "7"),))
    long = Answer(status=503, headers=(("Retry-After", "11"),))
    async with desk(ask, token_answer("one", 10), long) as there:
        source, began = there.source(), trio.current_time()
        await source.token()
        assert trio.current_time() - began == pytest.approx(7, abs=0.3)
        await trio.sleep(10)
        with pytest.raises(UpstreamError):
            await source.token()
        assert there.asked == 3


async def test_refusal_is_final_and_says_a_word(autojump_clock: MockClock) -> None:
    """A wrong secret is wrong the second time too; nothing that it may repeat is told."""
    body = '{"error":"invalid_client","error_description":"not hush-hush"}'
    async with desk(Answer(status=401, body=body)) as there:
        with pytest.raises(TokenRefused, match=r"answered 401 \(invalid_client\)") as caught:
            await there.source().token()
        assert there.asked == 1
        assert SECRET not in str(caught.value)


async def test_breaker_keeps_everybody_away(autojump_clock: MockClock) -> None:
    """After five failures in a row, refusals too; and lets one see when its time is over."""
    async with desk(Answer(status=400)) as there:
        source = await there.running()
        for _ in range(5):
            with pytest.raises(TokenRefused):
                await source.token()
        for _ in range(100):
            with pytest.raises(CircuitOpen):
                await source.token()
        assert there.asked == 5
        there.endpoint.play(steps(token_answer()))
        await trio.sleep(5)
        assert await source.token() == "one"


async def test_endpoint_that_hangs_is_left(autojump_clock: MockClock) -> None:
    """Half a minute for a try, two minutes for all; and it counts for the breaker."""
    async with desk(End(how="hang", seconds=1000)) as there:
        source, began = there.source(), trio.current_time()
        with pytest.raises((UpstreamTimeout, DeadlineExceeded)):
            await source.token()
        assert trio.current_time() - began == pytest.approx(120, abs=1)
        assert source.statistics().breaker.failures >= 3
        assert_at_rest(there.client)


async def test_endpoint_that_is_away_is_told(autojump_clock: MockClock) -> None:
    """As what it is."""
    async with desk(token_answer()) as there:
        there.endpoint.play(Script(is_listening=False))
        with pytest.raises(UpstreamUnreachable):
            await there.source().token()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(body="{}"), UpstreamProtocolError),
        (token_answer(expires_in=0), UpstreamProtocolError),
        (Answer(size=64 * 1024 + 1), UpstreamBodyTooLarge),
        (Answer(status=302, headers=(("Location", "/x"),)), TokenRefused),
        (Answer(status=201, body=token_answer().body), TokenRefused),
    ],
)
async def test_answer_that_is_no_token_is_an_error(
    answer: Answer, error: type[Exception], autojump_clock: MockClock
) -> None:
    """Never a token that is none; no redirect is followed with a secret."""
    async with desk(answer) as there:
        with pytest.raises(error):
            await there.source().token()
        assert {request.target for request in there.endpoint.seen().requests} == {"/token"}


async def test_refused_token_is_replaced_once(autojump_clock: MockClock) -> None:
    """However many requests it was sent with; and one that is new is kept for a while."""
    async with desk(token_answer("one"), token_answer("two"), token_answer("three")) as there:
        source = await there.running()
        assert await source.token() == "one"
        for _ in range(100):
            source.refused("one")
            assert await source.token() == "two"
        source.refused("two")
        assert (await source.token(), there.asked) == ("two", 2)
        await trio.sleep(30)
        source.refused("two")
        assert (await source.token(), there.asked) == ("three", 3)
        assert source.statistics().refused == 2


async def test_error_is_everybodys_who_waits(autojump_clock: MockClock) -> None:
    """They are told at once; the next to ask begins anew."""
    async with desk(Answer(status=400, head_seconds=1), token_answer()) as there:
        source = await there.running()
        told: list[BulkheadTrioError] = []

        async def call() -> None:
            with pytest.raises(TokenRefused) as caught:
                await source.token()
            told.append(caught.value)

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(call)
        assert (len(told), there.asked) == (10, 1)
        assert await source.token() == "one"


async def test_source_that_ends_leaves_nobody_behind(autojump_clock: MockClock) -> None:
    """Whoever waits asks for itself."""
    async with desk(token_answer(head_seconds=2)) as there:
        source = there.source()
        got: list[str] = []

        async def call() -> None:
            got.append(await source.token())

        async with trio.open_nursery() as nursery:
            async with trio.open_nursery() as inner:
                await inner.start(source.run)
                nursery.start_soon(call)
                nursery.start_soon(call)
                await trio.sleep(1)
                inner.cancel_scope.cancel()
        assert got == ["one", "one"]


async def test_source_outlives_whatever_is_raised(autojump_clock: MockClock) -> None:
    """Whoever waits is told; the next to ask is served."""
    async with desk(token_answer()) as there:

        class Broken(MemoryCache):
            async def get(self) -> tuple[bytes, float] | None:
                if self.is_away:
                    raise trio.ClosedResourceError
                return await super().get()

        cache = Broken()
        cache.is_away = True
        source = await there.running(cache)
        with pytest.raises(trio.ClosedResourceError):
            await source.token()
        cache.is_away = False
        assert await source.token() == "one"


async def test_source_runs_once(autojump_clock: MockClock) -> None:
    """Two of them would ask twice."""
    async with desk(token_answer()) as there:
        source = await there.running()
        with pytest.raises(RuntimeError, match="runs already"):
            await source.run()


async def test_token_is_cancelled_anywhere(autojump_clock: MockClock) -> None:
    """Nothing is kept, nobody waits, and the next call has its token."""
    async with desk(token_answer()) as there:

        async def scenario(point: CancellationPoint) -> None:
            source: TokenSource = there.source(MemoryCache())
            with point:
                assert await source.token() == "one"
            statistics = source.statistics()
            assert (statistics.waiting, statistics.breaker.probes) == (0, 0)
            assert_at_rest(there.client)
            assert await source.token() == "one"

        assert await sweep_cancellations(scenario) > 3


# --- several instances ---------------------------------------------------------------------------


async def test_instances_share_a_token(autojump_clock: MockClock) -> None:
    """The first asks, the others find it, and it lives no longer for being passed on."""
    async with desk(token_answer("one", 600), token_answer("two", 600)) as there:
        cache = MemoryCache()
        first, second = await there.running(cache), await there.running(cache)
        assert await first.token() == "one"
        await trio.sleep(400)
        assert await second.token() == "one"
        assert (there.asked, second.statistics().shared) == (1, 1)
        assert second.statistics().seconds_left == pytest.approx(170, abs=1)
        await trio.sleep(171)
        assert second.token_nowait() is None


async def test_instances_renew_at_different_moments(autojump_clock: MockClock) -> None:
    """Whose chance has it first asks; the others find the new one when they look."""
    async with desk(token_answer("one", 600), token_answer("two", 600)) as there:
        cache = MemoryCache()
        early, late = await there.running(cache, 0.0), await there.running(cache, 0.9)
        await early.token()
        await late.token()
        await trio.sleep(515)  # the early one's time has come, not the late one's
        for source in (early, late):
            await source.token()
        await trio.sleep(1)
        assert (await early.token(), late.token_nowait(), there.asked) == ("two", "one", 2)
        await trio.sleep(25)
        await late.token()
        await trio.sleep(1)
        assert (await late.token(), there.asked) == ("two", 2)


async def test_refused_token_is_not_taken_from_others(autojump_clock: MockClock) -> None:
    """What an upstream would not take from us is still what another instance has left."""
    async with desk(token_answer("one"), token_answer("two")) as there:
        cache = MemoryCache()
        first, second = await there.running(cache), await there.running(cache)
        await first.token()
        await second.token()
        second.refused("one")
        assert await second.token() == "two"
        first.refused("one")
        assert await first.token() == "two"
        assert there.asked == 2


async def test_token_of_another_is_better_than_none(autojump_clock: MockClock) -> None:
    """About to end, it is used where no new one is to be had."""
    async with desk(token_answer("one", 600), Answer(status=401)) as there:
        cache = MemoryCache()
        first, second = await there.running(cache), await there.running(cache)
        await first.token()
        await trio.sleep(530)
        assert await second.token() == "one"
        assert second.statistics().failed == 1


async def test_cache_that_is_away_is_as_if_there_were_none(autojump_clock: MockClock) -> None:
    """Each asks for its own."""
    async with desk(token_answer()) as there:
        cache = MemoryCache()
        cache.is_away, cache.seconds = True, 0.05
        for _ in range(2):
            assert await (await there.running(cache)).token() == "one"
        assert there.asked == 2


async def test_statistics_and_repr_have_no_secret(autojump_clock: MockClock) -> None:
    """Whatever is printed of it."""
    async with desk(token_answer("hush-token")) as there:
        source = await there.running()
        await source.token()
        text = repr(source) + repr(source.statistics()) + repr(vars(source)["_kept"])
        assert "hush" not in text
        assert source.statistics().has_token
