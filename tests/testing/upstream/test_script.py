"""Scripts as data: JSON, which rule, which step."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from bulkhead_trio.testing.upstream import (
    Answer,
    Cut,
    End,
    Events,
    Informational,
    Raw,
    Rule,
    Script,
    WebSocket,
    always,
    generated_blocks,
    generated_digest,
    read_script,
    script_json,
)
from bulkhead_trio.testing.upstream._content import in_pieces


def test_script_survives_json() -> None:
    """Everything that can be said can be written to a file and read again."""
    script = Script(
        rules=(
            Rule(steps="500,500,200", path="/a*", method="GET", then="last"),
            Rule(
                steps=(
                    Answer(
                        status=201,
                        headers=(("X-A", "b"),),
                        cut=Cut(after_bytes=3, how="reset"),
                        informational=(Informational(headers=(("Link", "</a>"),)),),
                    ),
                    Events(count=3),
                    Raw(data="\xff\r\n", then="hang"),
                    End(how="reset"),
                    WebSocket(greeting=("hi",), close_after=2),
                )
            ),
        ),
        connections=("serve", "reset"),
        is_listening=False,
    )
    assert read_script(script_json(script)) == script


def test_script_in_json_is_camel_case() -> None:
    """As people write it in a file."""
    text = """{"rules": [{"path": "/slow", "steps":
        [{"do": "answer", "headSeconds": 3, "body": "late"}, {"do": "end", "how": "hang"}]}]}"""
    assert read_script(text).rules[0].steps == (
        Answer(head_seconds=3, body="late"),
        End(how="hang"),
    )


@pytest.mark.parametrize(
    "text",
    [
        '{"rule": []}',
        '{"rules": [{"steps": []}]}',
        '{"rules": [{"steps": "500,"}]}',
        '{"rules": [{"steps": [{"do": "answer", "headseconds": 3}]}]}',
        '{"rules": [{"steps": [{"do": "nothing"}]}]}',
        '{"connections": []}',
    ],
)
def test_script_with_a_mistake_is_refused(text: str) -> None:
    """A misspelt word must not quietly mean nothing."""
    with pytest.raises(msgspec.ValidationError):
        read_script(text)


def test_first_rule_that_matches_decides() -> None:
    """By method and path; the query says nothing, a star at the end stands for anything."""
    script = Script(
        rules=(
            Rule(steps="201", path="/a", method="POST"),
            Rule(steps="202", path="/a/*"),
            Rule(steps="203", path="/a"),
        )
    )
    assert script.find("POST", "/a?b=c") == 0
    assert script.find("GET", "/a?b=c") == 2
    assert script.find("POST", "/a/b") == 1
    assert script.find("GET", "/ab") is None
    assert always(Answer()).find("PUT", "*") == 0


def test_steps_cycle_or_end_with_the_last() -> None:
    """A pattern repeats; a beginning does not."""
    statuses = [500, 500, 200]
    cycle = Rule(steps="500,500,200")
    assert [cycle.step(n) for n in range(6)] == [Answer(status=s) for s in statuses * 2]
    last = Rule(steps="500,500,200", then="last")
    assert [last.step(n) for n in range(5)] == [Answer(status=s) for s in [*statuses, 200, 200]]


def test_generated_bytes_are_always_the_same_and_nowhere_alike() -> None:
    """So that a byte lost, doubled or moved shows in the digest."""
    size = 200_000
    whole = b"".join(generated_blocks(size))
    assert len(whole) == size
    assert hashlib.sha256(whole).hexdigest() == generated_digest(size)
    assert len({whole[at : at + 16] for at in range(0, size, 16)}) == size // 16
    assert generated_digest(0) == hashlib.sha256().hexdigest()


@pytest.mark.parametrize("is_varied", [False, True])
def test_pieces_are_the_same_bytes(is_varied: bool) -> None:
    """However they are cut."""
    whole = b"".join(generated_blocks(150_000))
    pieces = list(in_pieces(generated_blocks(150_000), 999, is_varied=is_varied))
    assert b"".join(pieces) == whole
    assert all(1 <= len(piece) <= 999 for piece in pieces)
    assert (len({len(piece) for piece in pieces[:-1]}) > 1) is is_varied
