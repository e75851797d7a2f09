"""That ours and the peers are given the same tiers, and do the same with them."""

from __future__ import annotations

import json

from bench.http.jobs import JOBS, REFUSALS
from bench.http.scenarios import SCENARIOS
from bench.http.subjects import DEFAULT_TIERS, Role, TierLimits, our_tiers, peer_tiers
from bench.http.throughput import Reply, difference
from bench.peers.tiers import FixedWindow, common_headers
from bulkhead_trio.config import DEFAULT_TIERS as CONTRACT_TIERS


def test_default_tiers_are_those_of_the_contract() -> None:
    """The peers' defaults follow ours."""
    contract = {
        tier.name: TierLimits(tier.connections, tier.rate_limit, round(tier.window))
        for tier in CONTRACT_TIERS
    }
    assert contract == DEFAULT_TIERS


def test_tiers_mean_the_same_to_ours_and_to_the_peers() -> None:
    """An absent limit is empty in our settings and null in theirs."""
    tiers = {"free": TierLimits(5, 100), "enterprise": TierLimits(50, None, 30)}
    assert our_tiers(tiers) == {
        "BULKHEAD_TIERS__FREE__CONNECTIONS": "5",
        "BULKHEAD_TIERS__FREE__RATE_LIMIT": "100",
        "BULKHEAD_TIERS__FREE__WINDOW": "60",
        "BULKHEAD_TIERS__ENTERPRISE__CONNECTIONS": "50",
        "BULKHEAD_TIERS__ENTERPRISE__RATE_LIMIT": "",
        "BULKHEAD_TIERS__ENTERPRISE__WINDOW": "30",
    }
    assert json.loads(peer_tiers(tiers)) == {
        "free": {"connections": 5, "rateLimit": 100, "window": 60},
        "enterprise": {"connections": 50, "rateLimit": None, "window": 30},
    }


def test_every_part_begins_with_ours_and_has_a_name_of_its_own() -> None:
    """The first entry is what the others are compared with; bars are of peers that take part."""
    names = [part.name for part in (*JOBS, *SCENARIOS)]
    assert len(set(names)) == len(names)
    for job in JOBS:
        roles = [entry.subject.role for entry in job.entries]
        assert roles[0] is Role.OURS
        assert Role.OURS not in roles[1:]
        peers = {e.subject.name for e in job.entries if e.subject.role is Role.PEER}
        assert {bar.peer for bar in job.bars} == peers
    assert all(s.subjects[0].role is Role.OURS for s in SCENARIOS)


def test_refusals_are_measured_without_pacing() -> None:
    """Paced, they would be as many as the pace."""
    assert REFUSALS.entries[0].environment["REFUSALS_PER_SECOND"] == "0"


def test_window_of_the_peers_lets_its_limit_pass_and_starts_anew() -> None:
    """A refusal says how long to wait, and costs no quota."""
    window = FixedWindow(2, 60)
    taken = [window.take(at) for at in (120.0, 121.0, 130.5, 180.0)]
    assert [allowed for allowed, _ in taken] == [True, True, False, True]
    assert [headers["x-ratelimit-remaining"] for _, headers in taken] == ["1", "0", "0", "1"]
    assert taken[2][1]["retry-after"] == "50"
    assert taken[2][1]["x-ratelimit-reset"] == "180"


def test_request_id_of_the_peers_is_the_callers_if_it_can_be_repeated() -> None:
    """Otherwise it is a new one."""
    assert common_headers("abc")["x-request-id"] == "abc"
    assert len(common_headers("a b")["x-request-id"]) == 32
    assert common_headers(None)["x-request-id"] != common_headers(None)["x-request-id"]


QUOTA = {
    "x-request-id": "1",
    "x-ratelimit-limit": "9",
    "x-ratelimit-remaining": "8",
    "x-ratelimit-reset": "7",
}


def test_same_rows_are_the_same_whatever_the_blanks() -> None:
    """JSON is compared by value."""
    ours = Reply(200, QUOTA, b'[{"id":1}]')
    assert difference(ours, Reply(200, QUOTA, b'[ {"id": 1} ]'), True) == ""


def test_other_rows_and_missing_fields_are_another_job() -> None:
    """Who answers less is faster, and not compared."""
    ours = Reply(200, QUOTA, b'[{"id":1}]')
    assert "the answer is" in difference(ours, Reply(200, QUOTA, b'[{"id":"1"}]'), True)
    fewer = {name: value for name, value in QUOTA.items() if name != "x-request-id"}
    assert difference(ours, Reply(200, fewer, ours.body), True) == "no x-request-id"


def test_constant_answers_are_compared_byte_by_byte() -> None:
    """Nothing but the body counts there."""
    assert difference(Reply(200, {}, b"hello"), Reply(200, {"a": "b"}, b"hello"), False) == ""
    assert difference(Reply(200, {}, b"hello"), Reply(200, {}, b"hello "), False) != ""
