"""Whose turn it is on the event loop: deficit round robin over accounts.

After M. Shreedhar and G. Varghese, "Efficient Fair Queueing Using Deficit Round Robin", SIGCOMM
1995, with seconds of loop time in the place of bytes. There a packet's length is known before it is
sent; what a turn costs is known only afterwards. So a turn is taken for what turns of its account
have cost lately, and put right when it is over: whoever took more than that waits the longer for
the next one.

Within an account its parties, such as the tenants of a tier, come in turn, one item each: whoever
has two hundred waiting delays nobody by more than one of them.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")

QUANTUM_SECONDS = 0.0005
"""Of loop time, for each account in each round. Whoever comes new to the round waits for at most
this much of each other account, and a round's own cost of some 15 us stays a small part of it."""

MOST_DEBT_SECONDS = 0.1
"""One turn that took a second must not keep its account away for a second's worth of rounds."""

MOST_ACCOUNTS = 1000
OTHERS = "others"

FIRST_ESTIMATE_SECONDS = 0.0001
_WEIGHT = 0.1
"""Of the newest turn in what turns are taken to cost."""


class Account(Generic[T]):
    """What one account has waiting, and may still take in this round.

    Attributes:
        name: whose it is.
        spent: seconds of loop time altogether.
    """

    __slots__ = ("_deficit", "_estimate", "_lines", "name", "spent")

    def __init__(self, name: str) -> None:
        self.name = name
        self.spent = 0.0
        # By party, in the order of their turns; nobody is here who has nothing waiting.
        self._lines: dict[str, deque[T]] = {}
        self._deficit = 0.0
        self._estimate = FIRST_ESTIMATE_SECONDS

    def charge(self, seconds: float, taken_for: float = 0.0, times: int = 1) -> None:
        """Loop time was used.

        Args:
            seconds: how much.
            taken_for: what `Turns.take` had taken the turn for, where this is its end; else 0.
            times: how many alike this stands for, of which only this one was measured.
        """
        spent = seconds * times
        self.spent += spent
        deficit = self._deficit + taken_for * times - spent
        self._deficit = deficit if deficit > -MOST_DEBT_SECONDS else -MOST_DEBT_SECONDS
        if taken_for:
            self._estimate += (seconds - self._estimate) * _WEIGHT

    def _add(self, item: T, party: str) -> None:
        line = self._lines.get(party)
        if line is None:
            self._lines[party] = deque((item,))
        else:
            line.append(item)

    def _next(self) -> T:
        lines = self._lines
        party = next(iter(lines))
        line = lines[party]
        item = line.popleft()
        if not line:
            del lines[party]
        elif len(lines) > 1:
            del lines[party]
            lines[party] = line  # behind the others
        return item

    def give_back(self, taken_for: float) -> None:
        """A turn was not used after all."""
        self._deficit += taken_for


class Turns(Generic[T]):
    """Gives turns to what waits for one.

    Args:
        quantum: seconds of loop time for each account in each round.
    """

    def __init__(self, quantum: float = QUANTUM_SECONDS) -> None:
        self._quantum = quantum
        self._accounts: dict[str, Account[T]] = {}
        self._round: list[Account[T]] = []

    @property
    def are_wanted(self) -> bool:
        """Whether anything waits."""
        return bool(self._round)

    def account(self, name: str) -> Account[T]:
        """The account of that name; made when first asked for, as long as there are not too many.

        Those that come then share one: names are an application's to give, and cost memory.
        """
        account = self._accounts.get(name)
        if account is None:
            if len(self._accounts) >= MOST_ACCOUNTS:
                name = OTHERS
            account = self._accounts.setdefault(name, Account(name))
        return account

    def spent(self) -> dict[str, float]:
        """Seconds of loop time that each account has used."""
        return {name: account.spent for name, account in self._accounts.items()}

    def ask(self, account: Account[T], item: T, party: str = "") -> None:
        """``item`` wants a turn on ``account``, of which ``party`` has a part; it must not be
        waiting already.
        """
        if not account._lines:
            self._round.append(account)
        account._add(item, party)

    def take(self) -> list[tuple[T, float]]:
        """One round: what gets its turn now, each with what it is taken for in seconds.

        Never nothing while anything waits: where all are in debt, the rounds in which only debts
        would be paid are passed over.
        """
        taken: list[tuple[T, float]] = []
        if not self._round:
            return taken
        least = max([account._deficit for account in self._round]) + self._quantum
        passed_over = 0.0 if least > 0 else self._quantum * (1 + -least // self._quantum)
        still: list[Account[T]] = []
        for account in self._round:
            deficit = account._deficit + self._quantum + passed_over
            lines, estimate = account._lines, account._estimate
            while lines and deficit > 0:
                taken.append((account._next(), estimate))
                deficit -= estimate
            if lines:
                still.append(account)
            elif deficit > 0:
                deficit = 0.0  # who has nothing waiting saves nothing up
            account._deficit = deficit
        self._round = still
        return taken
