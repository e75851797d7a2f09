"""A delivery pipeline: claims work of one kind, sends it, and writes down what became of it.

    claimer --> waiting places --> workers --> results --> finisher
       ^             (few)       (parallel)   (as many)       |
       |                                                      |
       +------------- leases, renewed while held -------------+

Nothing is ever in memory alone: work is in the database until its result is there. A pipeline that
is killed loses leases, and after one lease another does its work.

Every stage is supervised by itself, none waits for another but for want of work or of room, and all
of them are owned by the task that runs `DeliveryPipeline.run`.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Final, Generic, TypeVar
from uuid import uuid4

import trio

from bulkhead_trio.database.work_records import Finished
from bulkhead_trio.delivery._claim_rules import MOST_LOOK_AHEAD, claim_size
from bulkhead_trio.delivery._schedule_rules import RetrySchedule
from bulkhead_trio.delivery.backoff import is_outage
from bulkhead_trio.delivery.claimer import POLL_SECONDS, Claimer
from bulkhead_trio.delivery.finisher import Finisher
from bulkhead_trio.delivery.leases import Held, Holdings, Run
from bulkhead_trio.delivery.renewing import SWEEP_SECONDS, Renewing
from bulkhead_trio.delivery.sending import Sending, utc_now
from bulkhead_trio.delivery.settings import MOST_PARALLEL
from bulkhead_trio.delivery.slowness import Slowness
from bulkhead_trio.delivery.statistics import PipelineStatistics
from bulkhead_trio.delivery.stores import Work, WorkStore
from bulkhead_trio.delivery.supervision import Supervisor
from bulkhead_trio.policies._checks import check_duration, check_seconds, check_whole

W = TypeVar("W", bound=Work)

WIND_UP_SECONDS: Final = 5.0
"""After the grace time: to write the last results and give back what is left. What cannot be given
back in this time comes back by itself, when its lease ends."""

_log = logging.getLogger("bulkhead_trio.delivery")


class DeliveryPipeline(Generic[W]):
    """One kind of work, from its claim to its result; `run` runs it.

    Args:
        name: for statistics and logs.
        store: where the work is.
        send: sends one piece of work and says what became of it. What it raises becomes a retry.
        parallel: how many are sent at once; 1 to 100.
        grace_seconds: what sends under way are given when the pipeline is stopped.
        lease_seconds: how long a lease lasts; longer than a send is meant to take.
        schedule: when something is tried again whose send raised.
        limit_seconds: the longest that a send may take, whatever it does.
        poll_seconds: between two looks for work when nobody says that there is some.
        sweep_seconds: between two looks for leases that have run out.
        wall_clock: the time as people are told it.
        uniform: a source of numbers in [0, 1) that keeps instances apart.

    Raises:
        ValueError: a number makes no sense; it is named.
    """

    def __init__(
        self,
        name: str,
        store: WorkStore[W],
        send: Callable[[W], Awaitable[Finished]],
        *,
        parallel: int,
        grace_seconds: float,
        lease_seconds: float = 60.0,
        schedule: RetrySchedule | None = None,
        limit_seconds: float = 150.0,
        poll_seconds: float = POLL_SECONDS,
        sweep_seconds: float = SWEEP_SECONDS,
        wall_clock: Callable[[], datetime] = utc_now,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        check_whole("parallel", parallel, minimum=1)
        if parallel > MOST_PARALLEL:
            raise ValueError(f"parallel must be at most {MOST_PARALLEL}, not {parallel}")
        check_duration("lease_seconds", lease_seconds)
        check_seconds("grace_seconds", grace_seconds)
        self.name = name
        self._store = store
        self._parallel = parallel
        self._grace_seconds = grace_seconds
        self._owner = uuid4()
        self._holdings = Holdings[W]()
        run = Run(name, store, self._owner, self._holdings, uniform)
        slowness = Slowness(self._holdings, parallel)
        self._claimer = Claimer(
            run,
            parallel=parallel,
            lease_seconds=lease_seconds,
            size=self._claim_size,
            hand=self._hand,
            slowness=slowness,
            poll_seconds=poll_seconds,
        )
        self._finisher = Finisher(
            run,
            on_written=self._claimer.work_may_be_there,
        )
        self._sending = Sending(
            run,
            send,
            self._finisher,
            schedule=RetrySchedule() if schedule is None else schedule,
            limit_seconds=limit_seconds,
            slowness=slowness,
            on_taken=self._claimer.there_may_be_room,
            wall_clock=wall_clock,
        )
        self._renewing = Renewing(
            run,
            lease_seconds=lease_seconds,
            on_swept=self._claimer.work_may_be_there,
            sweep_seconds=sweep_seconds,
        )
        self._supervisors = {
            stage: Supervisor(f"the {stage} of {name}")
            for stage in ("claimer", "worker", "finisher", "renewal", "sweep")
        }
        self._is_running = False
        self._stopping = trio.Event()
        self._too_late: list[Held[W]] = []
        self._open_queue()

    def wake(self) -> None:
        """Somebody says that there is work; never waits."""
        self._claimer.work_may_be_there()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Claim and send until cancelled.

        Cancelled, it claims nothing more, gives back what has not begun, gives what is being sent
        its grace time, writes the results, and gives back the rest.

        Raises:
            RuntimeError: it is running already.
        """
        if self._is_running:
            raise RuntimeError(f"the pipeline {self.name} is running already")
        self._is_running = True
        self._stopping = trio.Event()
        self._too_late = []
        self._open_queue()
        self._claimer.resume()
        try:
            async with trio.open_nursery() as nursery:
                # Not `start`: a task that is cancelled while it is started has no owner to stop it.
                nursery.start_soon(self._run_stages)
                task_status.started()
                try:
                    await trio.sleep_forever()
                finally:
                    self._stopping.set()
        finally:
            self._is_running = False

    def statistics(self) -> PipelineStatistics:
        """What the pipeline holds now, and has counted since it was made."""
        return PipelineStatistics(
            name=self.name,
            max_parallel=self._parallel,
            active=self._sending.active,
            most_active=self._sending.most_active,
            waiting=self._queue_in.statistics().current_buffer_used,
            held=len(self._holdings),
            unwritten=self._finisher.waiting,
            claims=self._claimer.claims,
            claimed=self._claimer.claimed,
            written=self._finisher.written,
            outdated=self._finisher.outdated,
            unwritable=self._finisher.unwritable,
            leases_lost=self._holdings.lost,
            leases_swept=self._renewing.swept,
            mistakes=self._sending.mistakes,
            crashes=sum(each.crashes for each in self._supervisors.values()),
            is_database_away=self._claimer.is_away,
            outcomes=self._sending.tally.outcomes,
            tries=self._sending.tally.tries,
        )

    # --- what the claimer asks -------------------------------------------------------------------

    def _open_queue(self) -> None:
        places = (1 + MOST_LOOK_AHEAD) * self._parallel
        self._queue_in, self._queue_out = trio.open_memory_channel[Held[W]](places)

    def _claim_size(self) -> int:
        look_ahead = self._sending.pace.look_ahead(self._parallel)
        return claim_size(parallel=self._parallel, held=len(self._holdings), look_ahead=look_ahead)

    def _hand(self, new: Sequence[Held[W]]) -> None:
        if self._stopping.is_set():
            self._too_late += new
            return
        for held in new:
            # There is a place: as many as can be held.
            self._queue_in.send_nowait(held)

    # --- running and stopping --------------------------------------------------------------------

    async def _run_stages(self) -> None:
        """All stages, out of reach of whoever stops the pipeline: they end in their own order."""
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as services:
                services.start_soon(self._supervise, "finisher", self._finisher.run)
                services.start_soon(self._supervise, "renewal", self._renewing.renew)
                services.start_soon(self._supervise, "sweep", self._renewing.sweep)
                await self._send_until_stopped(services)
                with trio.move_on_after(WIND_UP_SECONDS):
                    await self._finisher.wait_empty()
                    await self._give_back(list(self._holdings.all().values()))
                services.cancel_scope.cancel()
        if len(self._holdings):
            _log.warning(
                "%s was stopped with %d sends whose leases have to run out",
                self.name,
                len(self._holdings),
            )
            for held in self._holdings.all().values():
                self._holdings.let_go(held)

    async def _send_until_stopped(self, services: trio.Nursery) -> None:
        async with trio.open_nursery() as workers:
            for _ in range(self._parallel):
                workers.start_soon(self._supervise, "worker", self._work)
            async with trio.open_nursery() as claims:
                claims.start_soon(self._supervise, "claimer", self._claimer.run)
                await self._stopping.wait()
                self._claimer.stop()
                claims.cancel_scope.deadline = trio.current_time() + WIND_UP_SECONDS
                workers.cancel_scope.deadline = trio.current_time() + self._grace_seconds
                services.start_soon(self._give_back, self._take_out_of_line())
            # A claim that was under way has ended; what it brought does not begin.
            services.start_soon(self._give_back, self._too_late)
            self._queue_in.close()

    async def _supervise(self, stage: str, work: Callable[[], Awaitable[None]]) -> None:
        await self._supervisors[stage].run(work)

    async def _work(self) -> None:
        await self._sending.work(self._queue_out)

    def _take_out_of_line(self) -> list[Held[W]]:
        waiting = []
        try:
            while True:
                waiting.append(self._queue_out.receive_nowait())
        except (trio.WouldBlock, trio.EndOfChannel):
            return waiting

    async def _give_back(self, unbegun: Sequence[Held[W]]) -> None:
        """Say that ``unbegun`` is anybody's; with the database away, its leases say so later."""
        ids = [held.work.item_id for held in unbegun if not held.is_lost and held.result is None]
        if not ids:
            return
        try:
            with trio.move_on_after(WIND_UP_SECONDS):
                await self._store.release(self._owner, ids)
                for held in unbegun:
                    if held.result is None:
                        self._holdings.let_go(held)
        except Exception as error:  # noqa: BLE001  it is stopping, whatever the database does
            if not is_outage(error):
                _log.exception("%s could not give back what it had claimed", self.name)
