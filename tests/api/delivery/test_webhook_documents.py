"""Webhooks as people write them, without a database."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from bulkhead_trio.api._webhook_documents import LONGEST_URL, read_webhook, webhook_urls
from bulkhead_trio.errors import BulkheadTrioError, InvalidBody
from bulkhead_trio.http.client.network import NetworkPolicy

URL = "https://example.com/hooks"
GOOD = {"url": URL, "eventTypes": ["order.*"]}
LOOPBACK = ipaddress.ip_network("127.0.0.0/8")

CHECK = webhook_urls(NetworkPolicy(), https_only=False)


def mistakes(document: dict[str, Any], *, is_new: bool = True) -> set[str]:
    with pytest.raises(InvalidBody) as caught:
        read_webhook(document, check_url=CHECK, is_new=is_new)
    return {each["path"] for each in caught.value.errors}


def test_webhook_is_read() -> None:
    """What is not said has its default."""
    said = read_webhook(GOOD, check_url=CHECK, is_new=True)
    assert (said.url, said.event_types) == (URL, ("order.*",))
    assert (said.description, said.fifo, said.active) == (None, False, True)


@pytest.mark.parametrize(
    ("members", "wrong"),
    [
        ({"url": None}, {"$.url"}),
        ({"url": 7}, {"$.url"}),
        ({"url": ""}, {"$.url"}),
        ({"url": "example.com/hooks"}, {"$.url"}),
        ({"url": "ftp://example.com/"}, {"$.url"}),
        ({"url": "https://user:secret@example.com/"}, {"$.url"}),
        ({"url": "https://example.com/#there"}, {"$.url"}),
        ({"url": "https://example.com/a b"}, {"$.url"}),
        ({"url": "https://example.com:70000/"}, {"$.url"}),
        ({"url": "https://example.com/" + "x" * LONGEST_URL}, {"$.url"}),
        ({"url": "http://127.0.0.1/"}, {"$.url"}),
        ({"url": "http://[::1]/"}, {"$.url"}),
        ({"url": "http://localhost/"}, {"$.url"}),
        ({"url": "http://10.0.0.7:8080/"}, {"$.url"}),
        ({"url": "http://169.254.169.254/latest/meta-data"}, {"$.url"}),
        ({"url": "http://2130706433/"}, {"$.url"}),
        ({"eventTypes": None}, {"$.eventTypes"}),
        ({"eventTypes": "order.*"}, {"$.eventTypes"}),
        ({"eventTypes": []}, {"$.eventTypes"}),
        ({"eventTypes": ["a"] * 101}, {"$.eventTypes"}),
        ({"eventTypes": ["a", 7]}, {"$.eventTypes[1]"}),
        ({"eventTypes": ["a", "b", "a"]}, {"$.eventTypes[2]"}),
        ({"eventTypes": ["order.*.x"]}, {"$.eventTypes[0]"}),
        ({"eventTypes": ["order "]}, {"$.eventTypes[0]"}),
        ({"eventTypes": ["x" * 129]}, {"$.eventTypes[0]"}),
        ({"description": 7, "fifo": "yes"}, {"$.description", "$.fifo"}),
        ({"description": "\0"}, {"$.description"}),
        ({"description": "x" * 1001}, {"$.description"}),
        ({"active": True}, {"$.active"}),
        ({"secret": "whsec_mine"}, {"$.secret"}),
    ],
)
def test_webhook_that_cannot_be_is_refused_member_by_member(
    members: dict[str, Any], wrong: set[str]
) -> None:
    """Every mistake with its path."""
    assert mistakes({**GOOD, **members}) == wrong


def test_webhook_without_anything_lacks_what_is_needed() -> None:
    """And nothing else."""
    assert mistakes({}) == {"$.url", "$.eventTypes"}


def test_active_is_a_member_of_what_is_there_already() -> None:
    """It is said when changing, not when making."""
    assert not read_webhook({**GOOD, "active": False}, check_url=CHECK, is_new=False).active
    assert mistakes({**GOOD, "active": 1}, is_new=False) == {"$.active"}


@pytest.mark.parametrize(
    ("url", "is_refused"),
    [
        ("https://example.com/", False),
        ("http://example.com/", True),
        ("http://203.0.114.7/", True),
        ("http://127.0.0.1:9000/", False),
        ("http://127.8.0.1:9000/", False),
        ("http://[::1]:9000/", True),
        ("https://10.0.0.1/", True),
    ],
)
def test_plain_http_is_for_what_is_inside_where_https_is_asked_for(
    url: str, is_refused: bool
) -> None:
    """Whoever is on the way could read it; nobody is between two machines of ours."""
    check = webhook_urls(NetworkPolicy([LOOPBACK]), https_only=True)
    if not is_refused:
        check(url)
        return
    with pytest.raises(BulkheadTrioError):
        check(url)
