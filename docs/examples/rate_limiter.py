"""Rate limiters: one quota for everybody, one for each user, and one that paces.

Run it with ``python docs/examples/rate_limiter.py``.
"""

import trio

from bulkhead_trio.errors import RateLimited
from bulkhead_trio.policies.rate import (
    KeyedRateLimiter,
    LeakyBucket,
    RateLimiter,
    Reservation,
    SlidingLog,
    TokenBucket,
)


async def one_quota_for_all() -> None:
    """Decide without waiting, and tell a caller when to come back."""
    limiter = RateLimiter(SlidingLog(limit=2, seconds=1), name="reports")
    for _ in range(3):
        decision = limiter.acquire_nowait()
        if decision.allowed:
            print(f"report: {decision.remaining} of {decision.limit} left")
        else:
            print(f"report: refused, again in {decision.retry_after:.1f} s")


async def one_quota_a_user() -> None:
    """As a policy: the call runs, or `RateLimited` is raised."""
    limiter = KeyedRateLimiter(
        TokenBucket(rate=1, capacity=1), max_keys=10_000, name="api", exempt=["monitoring"]
    )

    async def greet(user: str) -> None:
        print(f"hello, {user}")

    for user in ("ada", "ada", "bob", "monitoring", "monitoring"):
        try:
            await limiter.for_key(user).call(greet, user)
        except RateLimited as refusal:
            print(f"{user}: {refusal.message}")


async def paced() -> None:
    """Twenty a second and no faster: whoever comes early waits in line."""
    limiter = RateLimiter(LeakyBucket(rate=20, capacity=10, pacing=True), name="mail")
    start = trio.current_time()

    async def send(number: int, turn: Reservation) -> None:
        async with turn:
            print(f"mail {number} after {trio.current_time() - start:.2f} s")

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(send, number, limiter.reserve())


async def main() -> None:
    """All three, one after the other."""
    await one_quota_for_all()
    await one_quota_a_user()
    await paced()


if __name__ == "__main__":
    trio.run(main)
