"""What several resources say in the same words."""

from __future__ import annotations

import pytest

from bulkhead_trio.api._wire import rate_limit_headers, tenant_quota_words
from bulkhead_trio.policies.rate import Decision


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (100, "Your tenant may send 100 requests per 1.5 s."),
        (
            50,
            "Your tenant may send 100 requests per 1.5 s; it has a part of that, 50, with the"
            " process that answers.",
        ),
    ],
)
def test_quota_is_told_as_it_was_counted(part: int, words: str) -> None:
    """The headers have the number that was counted by; where that is a part, the words say so."""
    decision = Decision(False, part, 1.5, 0, 0.2, 0.2)
    headers = dict(rate_limit_headers("tenant", decision, wall_clock=1000.0))
    assert headers[b"x-ratelimit-limit"] == b"%d" % part
    assert headers[b"ratelimit-policy"] == b'"tenant";q=%d;w=2' % part
    assert tenant_quota_words(100, decision) == words
