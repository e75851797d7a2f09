"""A client for a service that is slow, fails, and is away for a while.

Run it: ``python docs/examples/resilient_client.py``. Six seconds of real time; the test runs it on
a virtual clock. The service is a scripted one, so that you see the same each time.
"""

from __future__ import annotations

import trio

from bulkhead_trio import (
    Bulkhead,
    BulkheadTrioError,
    CircuitBreaker,
    Consecutive,
    Fallback,
    Pipeline,
    Retry,
    Timeout,
    deadline,
)


class PriceService:
    """Answers in 50 ms; fails its first call; hangs from second 1 to second 3."""

    def __init__(self) -> None:
        self.calls = 0
        self._born = trio.current_time()

    async def price_of(self, item: str) -> str:
        """What ``item`` costs.

        Raises:
            ConnectionError: the first time.
        """
        self.calls += 1
        await trio.sleep(0.05)
        if self.calls == 1:
            raise ConnectionError("the connection was reset")
        if 1 <= trio.current_time() - self._born < 3:
            await trio.sleep_forever()
        return f"{len(item)}.99"


class PriceClient:
    """The service as the rest of a program sees it: quick to answer, whatever happens."""

    def __init__(self, service: PriceService) -> None:
        self._service = service
        self._breaker = CircuitBreaker("prices", window=Consecutive(3), wait_in_open=1.5)
        # One pipeline for all calls: its policies know something because they see every one.
        self.pipeline = Pipeline(
            Fallback(value="unknown", name="prices"),
            Retry(attempts=3, base_delay=0.1, jitter="none", name="prices"),
            Bulkhead("prices", 5, max_wait=0.2),
            self._breaker,
            Timeout(0.3, name="prices"),
            name="price client",
        )

    async def price_of(self, item: str) -> str:
        """The price, or ``unknown``.

        Raises:
            DeadlineExceeded: there was no answer within a second.
        """
        with deadline(1.0):
            return await self.pipeline.call(self._service.price_of, item)

    @property
    def state(self) -> str:
        """The breaker's."""
        return self._breaker.statistics().state.value


async def main() -> None:
    """Ask twice a second, and say what came of it."""
    service = PriceService()
    client = PriceClient(service)
    print(client.pipeline)
    began = trio.current_time()
    for round_ in range(12):
        await trio.sleep_until(began + round_ / 2)
        before = service.calls
        try:
            price = await client.price_of("tea")
        except BulkheadTrioError as error:
            price = error.code
        took = trio.current_time() - began - round_ / 2
        tries = service.calls - before
        print(f"{round_ / 2:3.1f} s: {price:8} in {took:.2f} s, {tries} tries, {client.state}")


if __name__ == "__main__":
    trio.run(main)
