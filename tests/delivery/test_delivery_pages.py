"""The pages on signing and retries say what is so."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import WebhookVerificationError

from bulkhead_trio.delivery._endpoint_rules import FAILING
from bulkhead_trio.delivery._schedule_rules import DEFAULT_WAITS
from bulkhead_trio.delivery._signing_rules import make_secret, sign
from bulkhead_trio.delivery._verdict_rules import BY_FAILURE, BY_STATUS, GONE, Verdict

from ._secrets import read_secret

PAGES = Path(__file__).parents[2] / "docs" / "delivery"
SIGNING = (PAGES / "signing.md").read_text(encoding="utf-8")
RETRIES = (PAGES / "retries.md").read_text(encoding="utf-8")
WORDS = {"delivered": "delivered", "retry": "tried again", "dead": "dead"}
UNITS = {"s": 1, "min": 60, "h": 3600}


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the table whose first column has this heading."""
    _, _, after = page.partition(f"| {heading} |")
    assert after, heading
    lines = after.split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def seconds(text: str) -> int:
    """Of ``2 h 35 min 5 s``."""
    return sum(int(number) * UNITS[unit] for number, unit in re.findall(r"(\d+) (\w+)", text))


def effect(verdict: Verdict) -> str:
    if verdict.disables:
        return f"disabled: `{verdict.disables}`"
    return "gets nothing for a while" if verdict.slows else ""


def test_page_has_the_schedule() -> None:
    """Every try, its wait, and the time since the first."""
    found = [(seconds(after), seconds(since)) for _, after, since in rows(RETRIES, "try")]
    sums = [sum(DEFAULT_WAITS[:number]) for number in range(len(DEFAULT_WAITS) + 1)]
    assert found == list(zip((0, *DEFAULT_WAITS), sums, strict=True))


def test_page_has_the_table_of_statuses() -> None:
    """Row by row, in its order."""
    expected = [
        [str(first) if first == last else f"{first}–{last}", WORDS[verdict.outcome]]
        for first, last, verdict in BY_STATUS
    ]
    found = rows(RETRIES, "status")
    assert [row[:2] for row in found] == expected
    for row, (_, _, verdict) in zip(found, BY_STATUS, strict=True):
        assert effect(verdict) in row[2]
        assert effect(verdict) or not row[2] or "redirects" in row[2]


def test_page_has_every_error() -> None:
    """As it is told, with what becomes of the delivery."""
    expected = [[f"`{each.value}`", WORDS[it.outcome]] for each, it in BY_FAILURE.items()]
    assert rows(RETRIES, "`error`") == expected


def test_page_has_every_reason() -> None:
    """Why an endpoint was disabled."""
    assert [row[0] for row in rows(RETRIES, "`disabledReason`")] == [f"`{GONE}`", f"`{FAILING}`"]


def signed(body: bytes, *, at: int) -> tuple[str, dict[str, str]]:
    new, old = make_secret(b"n" * 32), make_secret(b"o" * 32)
    headers = {"webhook-id": "evt_1", "webhook-timestamp": str(at)}
    return old.text, headers | {"webhook-signature": sign([new, old], "evt_1", at, body)}


def names_of_page() -> dict[str, Any]:
    names: dict[str, Any] = {}
    for source in re.findall(r"```python\n(.*?)```", SIGNING, re.DOTALL):
        exec(compile(source, "signing.md", "exec"), names)  # noqa: S102
    return names


def test_message_of_the_page_is_signed_right() -> None:
    """Whoever tries the page's example with its secret gets the page's signature."""
    message = re.search(
        r"webhook-id: (.*)\nwebhook-timestamp: (.*)\n.*: (v1,.*)\n\n(.*)\n", SIGNING
    )
    secret = re.search(r"whsec_\w+", SIGNING)
    assert message is not None
    assert secret is not None
    message_id, timestamp, signature, body = message.groups()
    assert sign([read_secret(secret[0])], message_id, int(timestamp), body.encode()) == signature


def test_receiver_of_the_page_verifies() -> None:
    """With the public package, and by hand: what is ours, during a rotation, and nothing else."""
    names, body, now = names_of_page(), b'{"a": 1}', int(time.time())
    secret, headers = signed(body, at=now)
    assert names["received"](secret, headers, body) == {"a": 1}
    assert names["is_ours"](secret, headers, body)
    with pytest.raises(WebhookVerificationError):
        names["received"](secret, headers, body + b" ")
    assert not names["is_ours"](secret, headers, body + b" ")
    assert not names["is_ours"](make_secret(b"x" * 32).text, headers, body)
    secret, headers = signed(body, at=now - 301)
    assert not names["is_ours"](secret, headers, body)


@pytest.mark.parametrize("page", [SIGNING, RETRIES], ids=["signing", "retries"])
def test_links_of_the_page_lead_somewhere(page: str) -> None:
    """Those to other files of the repository."""
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page):
        assert (PAGES / target).resolve().exists(), target
