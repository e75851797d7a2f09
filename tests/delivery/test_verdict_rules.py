"""What a try means for its delivery and its endpoint."""

from __future__ import annotations

import pytest

from bulkhead_trio.delivery._verdict_rules import (
    BY_FAILURE,
    BY_STATUS,
    DELIVERED,
    GONE,
    Failure,
    verdict_of,
)

TRIED_AGAIN_4XX = {408, 409, 425, 429}


@pytest.mark.parametrize("status", range(200, 300))
def test_every_2xx_is_success(status: int) -> None:
    """And only these are."""
    assert verdict_of(status) is DELIVERED


@pytest.mark.parametrize("status", [*range(300, 600)])
def test_no_other_status_is_success(status: int) -> None:
    """Redirects among them, which are not followed."""
    assert verdict_of(status).outcome != "delivered"
    assert verdict_of(status).blames_endpoint


@pytest.mark.parametrize("status", range(300, 400))
def test_redirects_are_tried_again(status: int) -> None:
    """They are failures like others: the URL may be put right meanwhile, at either end."""
    assert verdict_of(status).outcome == "retry"


@pytest.mark.parametrize("status", range(400, 500))
def test_4xx_is_final_but_for_four(status: int) -> None:
    """What an endpoint refuses it would refuse again."""
    expected = "retry" if status in TRIED_AGAIN_4XX else "dead"
    assert verdict_of(status).outcome == expected


@pytest.mark.parametrize("status", range(500, 600))
def test_5xx_is_tried_again(status: int) -> None:
    """The endpoint is down, and may come back."""
    assert verdict_of(status).outcome == "retry"
    assert verdict_of(status).trips


def test_410_alone_disables_the_endpoint() -> None:
    """It wants nothing more of us."""
    disabling = [status for status in range(100, 700) if verdict_of(status).disables]
    assert disabling == [410]
    assert verdict_of(410).disables == GONE
    assert verdict_of(410).outcome == "dead"


def test_429_502_and_504_alone_slow_the_endpoint_down() -> None:
    """They say that it is too much."""
    assert [status for status in range(100, 700) if verdict_of(status).slows] == [429, 502, 504]


def test_what_an_endpoint_says_of_one_delivery_does_not_stop_the_others() -> None:
    """A breaker is for those that are down: one that answers 404 to one type of event is not."""
    assert not any(verdict_of(status).trips for status in range(200, 500))


@pytest.mark.parametrize("status", [100, 199, 600, 999])
def test_status_that_http_does_not_know_is_tried_again(status: int) -> None:
    """It is no success, and nobody can say that it is final."""
    assert verdict_of(status).outcome == "retry"


@pytest.mark.parametrize("failure", Failure)
def test_failure_without_a_status_is_never_success(failure: Failure) -> None:
    """Each has a verdict; those that would come again in the same way are final."""
    verdict = verdict_of(failure)
    is_final = failure in (Failure.BAD_URL, Failure.REFUSED_ADDRESS)
    assert verdict.outcome == ("dead" if is_final else "retry")
    assert BY_FAILURE[failure] is verdict


def test_mistake_of_ours_is_not_the_endpoints() -> None:
    """A server with another SECRET_KEY disables nobody's endpoint."""
    ours = [failure for failure in Failure if not verdict_of(failure).blames_endpoint]
    assert ours == [Failure.NO_SECRET]
    assert not verdict_of(Failure.NO_SECRET).trips


def test_table_of_statuses_has_no_row_that_says_nothing() -> None:
    """Every row decides for some status: none is hidden by those before it."""
    for first, last, verdict in BY_STATUS:
        assert any(verdict_of(status) is verdict for status in range(first, last + 1))
