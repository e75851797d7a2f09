"""An application is started before it is served, and shut down afterwards, whatever it does."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from bulkhead_trio.http.lifespan import Lifespan, LifespanError, open_lifespan
from bulkhead_trio.testing.cancellation import CancellationPoint, sweep_cancellations


class App:
    """An application that notes what happens to it; each step may be another one's."""

    def __init__(self, *, starts: float = 0, stops: float = 0, answers: Any = None) -> None:
        self.events: list[str] = []
        self.scopes: list[Any] = []
        self._starts, self._stops = starts, stops
        self._answers = answers or {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        if scope["type"] != "lifespan":
            return
        try:
            for stage, seconds in (("startup", self._starts), ("shutdown", self._stops)):
                message = await receive()
                assert message["type"] == f"lifespan.{stage}"
                self.events.append(stage)
                await trio.sleep(seconds)
                scope["state"][stage] = True
                await send(self._answers.get(stage, {"type": f"lifespan.{stage}.complete"}))
        finally:
            self.events.append("returned")


async def test_application_is_started_and_shut_down(autojump_clock: Any) -> None:
    """Startup is over before the block begins, shutdown before it ends."""
    app = App(starts=5, stops=5)
    async with open_lifespan(app) as lifespan:
        assert app.events == ["startup"]
        assert trio.current_time() == pytest.approx(5)
        assert lifespan.is_supported
    assert app.events == ["startup", "shutdown", "returned"]
    assert trio.current_time() == pytest.approx(10)


async def test_state_is_copied_into_requests() -> None:
    """What the application put into the state while starting is in each request's scope."""
    app = App()
    async with open_lifespan(app) as lifespan:
        for _ in range(2):
            await lifespan({"type": "http"}, None, None)  # type: ignore[arg-type]
            app.scopes[-1]["state"]["own"] = 1
    assert [sorted(scope["state"]) for scope in app.scopes[1:]] == [["own", "startup"]] * 2
    assert app.scopes[1]["state"] is not app.scopes[2]["state"]


async def raises(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError(scope["type"])


async def returns(scope: Any, receive: Any, send: Any) -> None:
    return


async def listens_and_returns(scope: Any, receive: Any, send: Any) -> None:
    await receive()


async def raises_in_a_nursery(scope: Any, receive: Any, send: Any) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(raises, scope, receive, send)


@pytest.mark.parametrize("app", [raises, returns, listens_and_returns, raises_in_a_nursery])
async def test_application_without_lifespan_is_served(app: Any) -> None:
    """An application that does not know the protocol is served all the same."""
    async with open_lifespan(app) as lifespan:
        assert not lifespan.is_supported


async def test_failed_startup_is_raised(autojump_clock: Any) -> None:
    """An application that says that it cannot start is not served, and its reason is told."""
    app = App(answers={"startup": {"type": "lifespan.startup.failed", "message": "no database"}})
    with pytest.raises(LifespanError, match="no database") as raised:
        async with open_lifespan(app):
            pytest.fail("served")
    assert raised.value.stage == "startup"
    assert app.events == ["startup", "returned"]


async def test_failed_startup_that_raises_too_is_told_once(autojump_clock: Any) -> None:
    """An application may say that it failed and raise as well."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        raise ValueError("no database")

    with pytest.raises(LifespanError, match="no database"):
        async with open_lifespan(app):
            pytest.fail("served")


async def test_startup_has_a_limit(autojump_clock: Any) -> None:
    """An application that never gets ready is cancelled."""
    app = App(starts=100)
    with pytest.raises(LifespanError, match="10 s"):
        async with open_lifespan(app, startup_seconds=10):
            pytest.fail("served")
    assert trio.current_time() == pytest.approx(10)
    assert app.events == ["startup", "returned"]


async def test_shutdown_has_a_limit(autojump_clock: Any) -> None:
    """An application that does not come to its end is cancelled."""
    app = App(stops=100)
    with pytest.raises(LifespanError, match="10 s") as raised:
        async with open_lifespan(app, shutdown_seconds=10):
            pass
    assert raised.value.stage == "shutdown"
    assert trio.current_time() == pytest.approx(10)
    assert app.events[-1] == "returned"


async def test_application_that_never_returns_is_cancelled(autojump_clock: Any) -> None:
    """Having said that it has shut down, it has as long again to return."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await App()(scope, receive, send)
        await trio.sleep_forever()

    async with open_lifespan(app, shutdown_seconds=10):
        pass
    assert trio.current_time() == pytest.approx(10)


async def test_failed_shutdown_is_raised() -> None:
    """An application that says that it could not shut down is believed."""
    app = App(answers={"shutdown": {"type": "lifespan.shutdown.failed", "message": "stuck"}})
    with pytest.raises(LifespanError, match="stuck"):
        async with open_lifespan(app):
            pass


async def test_application_that_dies_ends_the_block(autojump_clock: Any) -> None:
    """What it held is gone with it: nothing is served any more."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await trio.sleep(5)
        raise ZeroDivisionError

    with pytest.raises(LifespanError) as raised:
        async with open_lifespan(app):
            await trio.sleep_forever()
    assert raised.value.stage == "serving"
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


async def test_application_that_returns_early_is_served(autojump_clock: Any) -> None:
    """An application with nothing to shut down may return after startup."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})

    async with open_lifespan(app):
        await trio.sleep(5)


@pytest.mark.parametrize("wrong", ["lifespan.shutdown.complete", "lifespan.startup.maybe", "http"])
async def test_wrong_message_is_an_error_of_the_application(wrong: str) -> None:
    """A message that is not due raises in the application."""
    app = App(answers={"startup": {"type": wrong}})
    async with open_lifespan(app) as lifespan:
        assert not lifespan.is_supported


async def test_errors_of_the_block_shut_down_and_pass() -> None:
    """The application is shut down although serving failed, and the failure comes out as it was."""
    app = App()
    with pytest.raises(ZeroDivisionError):
        async with open_lifespan(app):
            raise ZeroDivisionError
    assert app.events == ["startup", "shutdown", "returned"]


async def test_error_of_the_block_wins_over_that_of_the_shutdown() -> None:
    """Where both fail, what came first is what is told."""
    app = App(answers={"shutdown": {"type": "lifespan.shutdown.failed"}})
    with pytest.raises(ZeroDivisionError):
        async with open_lifespan(app):
            raise ZeroDivisionError


async def test_cancelling_cancels_the_application(autojump_clock: Any) -> None:
    """At any checkpoint, the application has returned when the block has been left."""

    async def scenario(point: CancellationPoint) -> None:
        app = App(starts=1, stops=1)
        lifespans: list[Lifespan] = []
        with point:
            async with open_lifespan(app) as lifespan:
                lifespans.append(lifespan)
                await trio.sleep(1)
        assert app.events[-1:] in ([], ["returned"])
        assert point.was_cancelled or app.events == ["startup", "shutdown", "returned"]

    assert await sweep_cancellations(scenario) > 3
