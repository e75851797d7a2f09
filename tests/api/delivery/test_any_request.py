"""Whatever is sent to the deliveries: never a 500, and always an answer that is described."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ._world import HOOK, MAIL, open_world

TEXTS = st.text(max_size=6) | st.sampled_from(
    ["*", "order.*", "https://example.com", "http://[::1", "a@b", "a@\u00fc.de", "\0", "smtp"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


def bodies(good: dict[str, Any], *others: str) -> st.SearchStrategy[bytes]:
    """Near to a good one, and far from it."""
    names = st.sampled_from([*good, *others])
    near = st.dictionaries(names, JSON, max_size=3).map(lambda wrong: {**good, **wrong})
    return st.binary(max_size=40) | (near | JSON).map(lambda value: json.dumps(value).encode())


WEBHOOKS = bodies(HOOK, "description", "fifo", "active", "id")
NOTIFICATIONS = bodies(MAIL, "from")
FILTERS = bodies({}, "type", "webhookId", "from", "to", "kind", "cursor")
QUERIES = st.dictionaries(
    st.sampled_from(["state", "webhookId", "type", "kind", "from", "to", "limit", "cursor", "x"]),
    st.sampled_from(["dead", "order.*", "webhook", "2026-02-11T12:00:00Z", "7", ""]) | TEXTS,
    max_size=3,
)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(WEBHOOKS, NOTIFICATIONS, FILTERS, QUERIES), min_size=8, max_size=8))
def test_any_request_is_answered_as_described(
    module_database: str, requests: list[tuple[bytes, bytes, bytes, dict[str, str]]]
) -> None:
    """Good, or refused for the caller's mistake."""

    async def main() -> None:
        async with open_world(module_database) as world:
            tenant = await world.tenant()
            hook = (await tenant.make_webhook())["id"]
            for webhook, notification, wanted, query in requests:
                fields = "&".join(f"{name}={quote(value)}" for name, value in query.items())
                answers = [
                    await tenant.ask("POST", "/api/webhooks", webhook),
                    await tenant.ask("PATCH", f"/api/webhooks/{hook}", webhook),
                    await tenant.ask("POST", "/api/notifications", notification),
                    await tenant.ask("POST", "/api/dead-letters/replay", wanted),
                    await tenant.ask("GET", f"/api/deliveries?{fields}"),
                    await tenant.ask("GET", f"/api/dead-letters?{fields}"),
                ]
                for each in answers:
                    assert each.status in (200, 201, 202, 400), each.body

    trio.run(main)
