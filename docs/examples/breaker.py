"""A circuit breaker round a weather service that breaks down and recovers.

Run it: ``python docs/examples/breaker.py``. Eight seconds of real time; the test runs it on a
virtual clock. The service is a scripted one, so that you see the same each time.
"""

from __future__ import annotations

import trio

from bulkhead_trio.errors import CircuitOpen
from bulkhead_trio.policies.breaker import BreakerTransition, CircuitBreaker, CountWindow


class WeatherService:
    """Fails, after making its caller wait, from second 2 to second 5."""

    def __init__(self) -> None:
        self.calls = 0
        self._born = trio.current_time()

    async def temperature(self, city: str) -> int:
        """The temperature in ``city``, in degrees Celsius.

        Raises:
            ConnectionError: the service is down.
        """
        self.calls += 1
        if 2 <= trio.current_time() - self._born < 5:
            await trio.sleep(0.2)
            raise ConnectionError(f"no weather for {city}")
        return 20 + len(city)


def tell(move: BreakerTransition) -> None:
    """What a listener does with a transition: log it, page somebody, ..."""
    print(f"      {move.breaker}: {move.before.value} -> {move.after.value}")


async def main() -> None:
    """Ask twice a second, and say what came of it."""
    service = WeatherService()
    breaker = CircuitBreaker(
        "weather",
        window=CountWindow(4),
        failure_rate_threshold=0.5,
        wait_in_open=(1.0, 2.0),  # a second after the first opening, two after each in a row
        listeners=[tell],
    )
    began = trio.current_time()
    for round_ in range(16):
        await trio.sleep_until(began + round_ / 2)
        try:
            answer = f"{await breaker.call(service.temperature, 'Oslo')} degrees"
        except ConnectionError as error:
            answer = f"failed: {error}"
        except CircuitOpen as error:
            answer = f"not asked, again in {error.retry_after:.1f} s"
        print(f"{round_ / 2:3.1f} s {answer}")
    known = breaker.statistics()
    print(f"{service.calls} calls, {known.failed} failed, {known.refused} spared")


if __name__ == "__main__":
    trio.run(main)
