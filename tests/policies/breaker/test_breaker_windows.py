"""The breaker's windows: what they hold, and when it is enough."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.policies.breaker import Consecutive, CountWindow, TimeWindow
from bulkhead_trio.policies.breaker._window_rules import BUCKETS, Tally, Thresholds

CALLS = st.lists(st.tuples(st.booleans(), st.booleans(), st.floats(0, 5)), max_size=60)


def filled(window: Any, calls: str, *, now: float = 0.0) -> Tally:
    """A tally after calls that were good, bad, slow, or both, as the letters say."""
    tally: Tally = window.empty(now)
    for letter in calls:
        tally = tally.after(letter in "bB", letter in "sB", now)
    return tally


def numbers(tally: Tally) -> tuple[int, int, int]:
    return tally.calls, tally.failures, tally.slow


# --- thresholds ----------------------------------------------------------------------------------


def test_thresholds_are_reached_at_the_very_share() -> None:
    """One less is not enough; failures and slow calls each by their own."""
    thresholds = Thresholds(failure_rate=0.5, slow_rate=0.75)
    assert not thresholds.are_reached(1, 2, 4)
    assert thresholds.are_reached(2, 0, 4)
    assert thresholds.are_reached(0, 3, 4)
    assert thresholds.are_reached(2, 3, 4)
    assert not Thresholds(failure_rate=1.0).are_reached(3, 3, 4)
    assert Thresholds(failure_rate=1.0).are_reached(0, 4, 4)


@pytest.mark.parametrize("percent", range(1, 101))
def test_thresholds_are_exact_for_every_percentage(percent: int) -> None:
    """As many of a hundred as the threshold says reach it, whatever binary makes of it."""
    thresholds = Thresholds(failure_rate=float(f"{percent / 100:.2f}"))
    assert thresholds.are_reached(percent, 0, 100)
    assert not thresholds.are_reached(percent - 1, 0, 100)


# --- so many in a row ----------------------------------------------------------------------------


def test_consecutive_counts_since_the_last_success() -> None:
    """A slow call is a failure to it, and a good one forgets them all."""
    window = Consecutive(3)
    assert numbers(filled(window, "bb")) == (2, 2, 0)
    assert numbers(filled(window, "bbg")) == (0, 0, 0)
    assert numbers(filled(window, "bsB")) == (3, 3, 0)
    assert not filled(window, "bb").opens(Thresholds())
    assert filled(window, "bbb").opens(Thresholds())
    assert not filled(window, "bbgb").opens(Thresholds())
    assert window.fails_trial(1, 0, 5, Thresholds())
    assert window.fails_trial(0, 1, 5, Thresholds())
    assert not window.fails_trial(0, 0, 5, Thresholds())


def test_consecutive_success_changes_nothing_when_there_is_nothing_to_forget() -> None:
    """The usual case makes no new object."""
    empty = Consecutive(3).empty(0.0)
    assert empty.after(False, False, 0.0) is empty
    assert empty.at(1e9) is empty


# --- the last so many ----------------------------------------------------------------------------


@given(size=st.integers(1, 70), calls=CALLS)
def test_count_window_holds_the_last_calls(
    size: int, calls: list[tuple[bool, bool, float]]
) -> None:
    """Always what the end of a list of all calls says."""
    tally: Tally = CountWindow(size).empty(0.0)
    for number in range(len(calls)):
        failed, slow, _ = calls[number]
        tally = tally.after(failed, slow, 0.0)
        last = calls[max(0, number + 1 - size) : number + 1]
        failures, slows = sum(call[0] for call in last), sum(call[1] for call in last)
        assert numbers(tally) == (len(last), failures, slows)
        assert tally.at(1e9) is tally


def test_count_window_full_of_good_calls_stays_as_it_is() -> None:
    """The usual case makes no new object, but only once it is full and only without a bad call."""
    window = CountWindow(3)
    full = filled(window, "ggg")
    assert full.after(False, False, 0.0) is full
    assert numbers(full.after(True, False, 0.0)) == (3, 1, 0)
    assert numbers(full.after(False, True, 0.0)) == (3, 0, 1)
    assert numbers(filled(window, "gg").after(False, False, 0.0)) == (3, 0, 0)
    assert numbers(filled(window, "bggg")) == (3, 0, 0)
    assert numbers(filled(window, "sgg")) == (3, 0, 1)
    assert numbers(filled(window, "sggg")) == (3, 0, 0)


@pytest.mark.parametrize("window", [CountWindow(10), TimeWindow(60.0)])
def test_rates_need_their_minimum(window: CountWindow | TimeWindow) -> None:
    """Below it nothing opens, at it the share decides, also when the last call was a success."""
    thresholds = Thresholds(failure_rate=0.5, slow_rate=0.5, minimum=4)
    assert not filled(window, "bbb").opens(thresholds)
    assert filled(window, "bbbg").opens(thresholds)
    assert filled(window, "bbgg").opens(thresholds)
    assert filled(window, "ssgg").opens(thresholds)
    assert not filled(window, "bsgg").opens(thresholds)
    assert not filled(window, "bgggg").opens(thresholds)
    assert filled(window, "bbggb").opens(thresholds)


@pytest.mark.parametrize("window", [CountWindow(10), TimeWindow(60.0)])
def test_rates_judge_a_trial_by_all_its_calls(window: CountWindow | TimeWindow) -> None:
    """The share is of the calls permitted, ended or not."""
    thresholds = Thresholds(failure_rate=0.5, slow_rate=0.75, minimum=1000)
    assert not window.fails_trial(1, 2, 4, thresholds)
    assert window.fails_trial(2, 0, 4, thresholds)
    assert window.fails_trial(0, 3, 4, thresholds)


# --- the last so many seconds --------------------------------------------------------------------


def test_time_window_forgets_a_bucket_at_a_time() -> None:
    """A call is in view for nine to ten tenths of the time, by when in its bucket it ended."""
    window = TimeWindow(10.0)
    tally = window.empty(100.0).after(True, False, 100.5).after(False, True, 101.0)
    assert numbers(tally) == (2, 1, 1)
    assert numbers(tally.at(109.99)) == (2, 1, 1)
    assert numbers(tally.at(110.0)) == (1, 0, 1)
    assert numbers(tally.at(110.99)) == (1, 0, 1)
    assert numbers(tally.at(111.0)) == (0, 0, 0)
    assert numbers(tally.at(1e9)) == (0, 0, 0)


def test_time_window_counts_into_the_newest_bucket() -> None:
    """Within one bucket, into the next, and by a clock that went back into the newest there is."""
    window = TimeWindow(10.0)
    tally = window.empty(0.0)
    for now in (0.0, 0.99, 1.0, 2.0, 1.5):
        tally = tally.after(True, True, now)
    assert numbers(tally) == (5, 5, 5)
    assert tally.at(2.99) is tally
    assert tally.at(0.0) is tally
    assert numbers(tally.at(10.0)) == (3, 3, 3)
    assert numbers(tally.at(11.0)) == (2, 2, 2)
    assert numbers(tally.at(12.0)) == (0, 0, 0)


@given(seconds=st.sampled_from([0.5, 10.0, 60.0]), calls=CALLS)
def test_time_window_holds_what_is_recent(
    seconds: float, calls: list[tuple[bool, bool, float]]
) -> None:
    """Always the calls of the bucket of now and of the nine before it, and as many buckets."""
    tally = TimeWindow(seconds).empty(0.0)
    now, seen = 0.0, []
    for failed, slow, pause in calls:
        now += pause
        seen.append((now // (seconds / 10), failed, slow))
        before, tally = tally, tally.after(failed, slow, now)
        newest = now // (seconds / 10)
        view = [call for call in seen if call[0] > newest - 10]
        expected = (len(view), sum(call[1] for call in view), sum(call[2] for call in view))
        assert numbers(tally) == expected
        assert numbers(before.at(now))[0] == expected[0] - 1
        assert len(tally.older) == BUCKETS - 1


def test_windows_take_constant_memory() -> None:
    """A hundred thousand calls take no more room than a full window."""
    count, time = CountWindow(100).empty(0.0), TimeWindow(10.0).empty(0.0)
    for number in range(20_000):
        count = count.after(True, True, 0.0)
        time = time.after(True, True, number / 100)
    assert count.failed_bits.bit_length() == count.slow_bits.bit_length() == 100
    assert len(time.older) == BUCKETS - 1


# --- parameters ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "name", "value"),
    [
        *((Consecutive, "failures", value) for value in (0, -1, 1.5, True)),
        *((CountWindow, "size", value) for value in (0, -1, 2.5)),
        *((TimeWindow, "seconds", value) for value in (0, -1.0, math.nan, math.inf)),
    ],
)
def test_windows_nonsense_is_refused_by_name(window: Any, name: str, value: float) -> None:
    """A value that means nothing raises, and the message names the parameter."""
    with pytest.raises(ValueError, match=f"^{name} "):
        window(value)


def test_windows_smallest() -> None:
    """One call is a window."""
    assert filled(Consecutive(1), "b").opens(Thresholds())
    assert filled(CountWindow(1), "gb").opens(Thresholds())
    assert not filled(CountWindow(1), "bg").opens(Thresholds())
