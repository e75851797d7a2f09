"""What waits for its turn on the event loop, and is charged for the loop time that it takes."""

from __future__ import annotations

import trio

from bulkhead_trio.http.engine._turn_rules import Account
from bulkhead_trio.http.engine.meter import ONE_ROUND_IN
from bulkhead_trio.http.engine.readiness import Readiness, Watcher


class TurnTaker:
    """What waits for turns: one task; others that wait beside it are woken with it.

    Args:
        readiness: gives the turns.
        account: the name of the account that pays for them.
    """

    __slots__ = ("_account", "_others", "_party", "_readiness", "_taken_for", "_task",
                 "_wants_turn")  # fmt: skip

    def __init__(self, readiness: Readiness, account: str) -> None:
        self._readiness = readiness
        self._account: Account[Watcher] = readiness.turns.account(account)
        self._party = ""
        self._task: trio.lowlevel.Task | None = None
        self._others: trio.lowlevel.ParkingLot | None = None
        self._wants_turn = False
        self._taken_for = 0.0

    def move_to(self, account: str, party: str = "") -> None:
        """Have another account pay from now on, and take turns with others on it as ``party``."""
        self._party = party
        if account != self._account.name:
            self._account = self._readiness.turns.account(account)

    @property
    def is_parked(self) -> bool:
        """Whether anybody waits for a turn."""
        return self._task is not None or bool(self._others)

    async def park(self) -> None:
        """Wait for the next turn; somebody has to ask for it."""
        if self._task is not None:  # two tasks of one application
            self._others = self._others or trio.lowlevel.ParkingLot()
            await self._others.park()
            return
        self._task = trio.lowlevel.current_task()

        def leave(_: object) -> trio.lowlevel.Abort:
            self._task = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(leave)

    async def next_turn(self) -> None:
        """Let others have the loop first."""
        self.ask_for_turn()
        while self._wants_turn:
            await self.park()

    def ask_for_turn(self) -> None:
        """Have one turn; asking twice gives no second one."""
        if not self._wants_turn:
            self._wants_turn = True
            self._readiness.ask(self._account, self, self._party)

    def on_ready(self, events: int) -> None:
        """Called for the kernel's news; never waits."""
        raise NotImplementedError

    def on_turn(self, taken_for: float, *, is_measured: bool) -> None:
        """Called when the turn has come, which was taken for so many seconds; never waits."""
        self._wants_turn = False
        if self._others is not None:
            self._others.unpark_all()
        if (task := self._task) is not None:
            self._task = None
            self._taken_for = taken_for if is_measured else 0.0
            trio.lowlevel.reschedule(task)
        else:
            self._account.give_back(taken_for)  # cancelled meanwhile

    def on_step(self, seconds: float) -> None:
        """Called when a task that works for this has had the loop."""
        taken_for = self._taken_for
        if taken_for:
            self._taken_for = 0.0
        self._account.charge(seconds, taken_for, ONE_ROUND_IN)
