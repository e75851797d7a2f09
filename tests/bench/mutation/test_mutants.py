"""The mutator: which changes it makes, one at a time, and no others."""

from __future__ import annotations

from typing import Any

import pytest

from bench.mutation.mutants import mutants_of

SAMPLE = '''
"""Says 1 + 1 and a < b."""

from __future__ import annotations

LIMIT = 1


def is_over(count: int, limit: float = 0.0, strict: bool = True) -> bool:
    """Whether 0 < 1."""
    if not strict and count >= limit:
        return True
    return count - LIMIT > limit
'''


def changes(source: str) -> list[tuple[int, str, str]]:
    return [(mutant.line, mutant.before, mutant.after) for mutant in mutants_of(source, "s.py")]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a < b", ["a <= b"]),
        ("a <= b", ["a < b"]),
        ("a > b", ["a >= b"]),
        ("a >= b", ["a > b"]),
        ("a == b", ["a != b"]),
        ("a != b", ["a == b"]),
        ("a is b", ["a is not b"]),
        ("a is not b", ["a is b"]),
        ("a in b", ["a not in b"]),
        ("a not in b", ["a in b"]),
        ("a < b <= c", ["a <= b <= c", "a < b < c"]),
        ("a and b", ["a or b"]),
        ("a or b or c", ["a and b and c"]),
        ("not a", ["not not a"]),
        ("a + b", ["a - b"]),
        ("a - b", ["a + b"]),
        ("a * b", ["a / b"]),
        ("a / b", ["a * b"]),
        ("a += b", ["a -= b"]),
        ("a + 1", ["a - 1", "a + 2"]),
        ("f(0.0)", ["f(1.0)"]),
        ("a[0]", ["a[1]"]),
        ("a[-1]", ["-2"]),
    ],
)
def test_mutants_of_an_expression_are_its_neighbours(before: str, after: list[str]) -> None:
    """Each operator and each 0 and 1 is changed by itself."""
    assert [change[2] for change in changes(before)] == after


@pytest.mark.parametrize(
    "source",
    ["True", "f(2, 0.5)", "'0'", "a | b", "a % b", "-a", "a: Literal[0, 1]", "x = deque[float]()"],
)
def test_mutants_of_what_is_no_decision_are_none(source: str) -> None:
    """Texts, types, truth values and other numbers are left as they are."""
    assert changes(source) == []


def test_mutants_of_a_module_come_in_the_order_of_its_lines() -> None:
    """With the line and the text that a person needs to find them; annotations are left out."""
    assert changes(SAMPLE) == [
        (6, "LIMIT = 1", "LIMIT = 2"),
        (
            9,
            "count: int, limit: float=0.0, strict: bool=True",
            "count: int, limit: float=1.0, strict: bool=True",
        ),
        (11, "not strict and count >= limit", "not strict or count >= limit"),
        (11, "not strict", "not not strict"),
        (11, "count >= limit", "count > limit"),
        (13, "count - LIMIT > limit", "count - LIMIT >= limit"),
        (13, "count - LIMIT", "count + LIMIT"),
    ]


def test_mutants_differ_from_the_module_in_one_change_each() -> None:
    """The code that runs is the changed one, and no change is left behind for the next."""
    results = []
    for mutant in mutants_of(SAMPLE, "s.py"):
        namespace: dict[str, Any] = {}
        exec(mutant.code, namespace)  # noqa: S102
        is_over = namespace["is_over"]
        results.append(
            (
                namespace["LIMIT"],
                is_over(2, strict=True),
                is_over(1, strict=True),
                is_over(1, 1, strict=False),
                is_over(0),
            )
        )
    assert results == [
        (2, False, False, True, False),
        (1, False, False, True, False),
        (1, True, True, True, True),
        (1, True, True, False, True),
        (1, True, False, False, False),
        (1, True, True, True, False),
        (1, True, True, True, True),
    ]


def test_mutants_are_the_same_every_time() -> None:
    """The order depends on nothing but the source."""
    assert changes(SAMPLE) == changes(SAMPLE)
