"""A worker pool: results, fire and forget, urgent jobs, fair turns, and a graceful end."""

from __future__ import annotations

import trio

from bulkhead_trio import BulkheadFull, FairQueue, Priority, Rejected, open_worker_pool


async def render(page: str, seconds: float = 1.0) -> str:
    """Stands for work that takes a while."""
    await trio.sleep(seconds)
    return f"<{page}>"


async def results() -> None:
    """Callers wait for what their jobs return; an error comes to the caller, not to the pool."""

    async def fails() -> None:
        raise OSError("no such page")

    async with open_worker_pool("pages", workers=2, queue=10) as pool:
        print("result:", await pool.run_job(render, "home"))
        try:
            await pool.run_job(fails)
        except OSError as error:
            print("error:", error)


async def more_urgent_ones_come() -> None:
    """Two places: the third that waits is refused, unless it is more urgent than one of them."""
    start = trio.current_time()

    async def job(name: str) -> None:
        print(f"{name} after {trio.current_time() - start:.0f} s")
        await trio.sleep(1)

    def shed(reason: Rejected) -> None:
        print(f"report was shed: {reason.message}")

    async with open_worker_pool("mail", workers=1, queue=2) as pool:
        pool.submit_nowait(job, "running")
        pool.submit_nowait(job, "newsletter", priority=Priority.LOW)
        pool.submit_nowait(job, "report", priority=Priority.LOW, on_shed=shed)
        pool.submit_nowait(job, "password reset", priority=Priority.HIGH)
        try:
            pool.submit_nowait(job, "another report", priority=Priority.LOW)
        except BulkheadFull:
            print("another report was refused")


async def everybody_has_a_turn() -> None:
    """One tenant's thousand jobs do not keep another's single one waiting."""
    order: list[str] = []

    async def job(tenant: str) -> None:
        order.append(tenant)

    # One tenant may have 800 of the places.
    async with open_worker_pool(
        "tenants", workers=1, queue=FairQueue(1_000, reserved_share=0.2)
    ) as pool:
        pool.submit_nowait(render, "something else first")
        refused = 0
        for _ in range(1_000):
            try:
                pool.submit_nowait(job, "greedy", key="greedy")
            except BulkheadFull:
                refused += 1
        pool.submit_nowait(job, "modest", key="modest")
    print(f"refused: {refused}; modest was number {order.index('modest') + 1} of {len(order)}")


async def closing() -> None:
    """Leaving the block drains; what was accepted is done, and nothing new is taken."""
    async with open_worker_pool("last", workers=1, queue=10) as pool:
        for page in ("a", "b", "c"):
            pool.submit_nowait(render, page)
    print("completed:", pool.statistics().completed)
    try:
        pool.submit_nowait(render, "too late")
    except trio.ClosedResourceError as error:
        print(error)


async def main() -> None:
    """All of them, one after the other."""
    await results()
    await more_urgent_ones_come()
    await everybody_has_a_turn()
    await closing()


if __name__ == "__main__":
    trio.run(main)
