"""Deficit round robin over loop time: what each account gets, whatever its turns cost."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkhead_trio.http.engine._turn_rules import (
    FIRST_ESTIMATE_SECONDS,
    MOST_DEBT_SECONDS,
    QUANTUM_SECONDS,
    Turns,
)

costs = st.floats(min_value=5e-6, max_value=0.01)


def backlogged(turns: Turns[str], costs_of: dict[str, float], rounds: int) -> dict[str, float]:
    """Everybody always has something waiting; what each has spent after so many rounds."""
    for name in costs_of:
        account = turns.account(name)
        for _ in range(200):
            turns.ask(account, name)
    for _ in range(rounds):
        taken = turns.take()
        assert taken
        for name, taken_for in taken:
            turns.account(name).charge(costs_of[name], taken_for)
            turns.ask(turns.account(name), name)
    return turns.spent()


@settings(deadline=None, max_examples=30)
@given(st.lists(costs, min_size=2, max_size=5))
def test_accounts_that_always_want_more_get_the_same_time(each: list[float]) -> None:
    """Whether an account's turns are cheap or dear, over time it has no more than another."""
    names = {f"tier{number}": cost for number, cost in enumerate(each)}
    turns: Turns[str] = Turns()
    before = backlogged(turns, names, 50)
    after = backlogged(turns, names, 400)
    spent = {name: after[name] - before[name] for name in names}
    slack = 3 * max(each) + 20 * QUANTUM_SECONDS
    assert max(spent.values()) - min(spent.values()) <= slack


def test_account_alone_has_all_the_time_it_wants() -> None:
    """Nobody waits for anybody who is not there: every round gives something, debt or not."""
    turns: Turns[str] = Turns()
    account = turns.account("only")
    for _ in range(10):
        turns.ask(account, "x")
        ((item, taken_for),) = turns.take()
        assert item == "x"
        account.charge(0.05, taken_for)
    assert turns.spent() == {"only": pytest.approx(0.5)}


def test_account_in_debt_lets_the_others_go_first() -> None:
    """Whoever took ten quanta in one turn sits out ten rounds, as long as others want turns."""
    turns: Turns[str] = Turns(quantum=0.001)
    dear, cheap = turns.account("dear"), turns.account("cheap")
    turns.ask(dear, "d")
    ((_, taken_for),) = turns.take()
    dear.charge(0.01, taken_for)
    turns.ask(dear, "d")
    rounds = []
    for _ in range(14):
        for _ in range(3):
            turns.ask(cheap, "c")
        taken = turns.take()
        rounds.append([item for item, _ in taken])
        for item, taken_for in taken:
            (dear if item == "d" else cheap).charge(0.0001, taken_for)
    first = next(number for number, items in enumerate(rounds) if "d" in items)
    assert 8 <= first <= 10
    assert all("c" in items for items in rounds)


def test_round_takes_as_many_as_the_quantum_pays_for() -> None:
    """Of what is estimated alike, a round takes a quantum's worth and no more than one over it."""
    turns: Turns[int] = Turns(quantum=4.5 * FIRST_ESTIMATE_SECONDS)
    account = turns.account("a")
    for item in range(20):
        turns.ask(account, item)
    assert [item for item, _ in turns.take()] == [0, 1, 2, 3, 4]
    assert turns.are_wanted


def test_quantum_that_was_not_used_is_not_saved_up() -> None:
    """Whoever was idle for long has one quantum when it comes back, like everybody."""
    turns: Turns[int] = Turns(quantum=2 * FIRST_ESTIMATE_SECONDS)
    account, other = turns.account("a"), turns.account("b")
    for item in range(50):
        turns.ask(account, item)
        ((_, taken_for),) = turns.take()
        account.charge(0.0, taken_for)
        account._estimate = FIRST_ESTIMATE_SECONDS
    for item in range(50):
        turns.ask(account, item)
        turns.ask(other, item)
    assert len([item for item, _ in turns.take()]) <= 2 * 3


def test_debt_is_bounded() -> None:
    """One very long turn does not keep an account away for as long."""
    turns: Turns[str] = Turns()
    account, other = turns.account("long"), turns.account("other")
    account.charge(60.0)
    turns.ask(account, "x")
    rounds = 0
    while True:
        turns.ask(other, "o")
        taken = turns.take()
        for item, taken_for in taken:
            if item == "o":
                other.charge(QUANTUM_SECONDS, taken_for)
        if "x" in [item for item, _ in taken]:
            break
        rounds += 1
    assert rounds <= MOST_DEBT_SECONDS / QUANTUM_SECONDS + 2


def test_turn_that_is_given_back_costs_nothing() -> None:
    """What was taken for a turn is there again."""
    turns: Turns[str] = Turns(quantum=FIRST_ESTIMATE_SECONDS)
    account, other = turns.account("a"), turns.account("b")
    turns.ask(account, "x")
    ((_, taken_for),) = turns.take()
    account.give_back(taken_for)
    turns.ask(account, "x")
    turns.ask(other, "y")
    assert {item for item, _ in turns.take()} == {"x", "y"}


def test_nothing_waits_nothing_is_taken() -> None:
    """An empty round is none."""
    turns: Turns[str] = Turns()
    turns.account("a")
    assert turns.take() == []
    assert not turns.are_wanted


def order(turns: Turns[str]) -> list[str]:
    """Everything that waits, in the order of its turns."""
    taken = []
    while found := turns.take():
        for item, taken_for in found:
            taken.append(item)
            turns.account("tier").charge(taken_for, taken_for)
    return taken


def test_parties_of_an_account_come_in_turn() -> None:
    """One with two hundred waiting delays another by one of them."""
    turns: Turns[str] = Turns()
    account = turns.account("tier")
    for _ in range(200):
        turns.ask(account, "noisy", "noisy")
    turns.ask(account, "quiet", "quiet")
    assert order(turns).index("quiet") == 1


def test_party_that_comes_back_waits_behind_those_that_have_not_had_a_turn() -> None:
    """Asking again after every turn is no way past the others."""
    turns: Turns[str] = Turns(quantum=FIRST_ESTIMATE_SECONDS / 2)
    account = turns.account("tier")
    for name in "abc":
        turns.ask(account, name, name)
    seen = []
    for _ in range(30):
        ((item, taken_for),) = turns.take()
        account.charge(taken_for, taken_for)
        seen.append(item)
        turns.ask(account, item, item)
    assert seen == list("abc") * 10


@given(st.lists(st.sampled_from("abcd"), max_size=60))
def test_parties_lose_nothing_and_keep_their_own_order(parties: list[str]) -> None:
    """Everything gets its turn once; of one party, first come, first served; nobody twice in a row
    while another waits.
    """
    turns: Turns[str] = Turns()
    account = turns.account("tier")
    items = [f"{party}{number}" for number, party in enumerate(parties)]
    for item in items:
        turns.ask(account, item, item[0])
    taken = order(turns)
    assert sorted(taken) == sorted(items)
    for party in "abcd":
        own = [item for item in taken if item[0] == party]
        assert own == [item for item in items if item[0] == party]
    for number, (item, following) in enumerate(itertools.pairwise(taken)):
        if item[0] == following[0]:
            assert {later[0] for later in taken[number + 1 :]} == {item[0]}
