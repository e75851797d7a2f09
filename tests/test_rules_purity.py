"""Rules are pure: no module named as one reads a clock, the network, a log or chance."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import bulkhead_trio

PACKAGE = Path(bulkhead_trio.__file__).parent
RULES = sorted(
    str(path.relative_to(PACKAGE))
    for path in PACKAGE.rglob("*_rules.py")
    if "config" not in path.parts
)
IMPURE = {"trio", "time", "socket", "logging", "random", "secrets", "os", "structlog", "datetime"}


def imported_by(source: str) -> set[str]:
    """The top-level names of every module that ``source`` imports, wherever it does."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize("path", RULES)
def test_rules_take_what_they_need(path: str) -> None:
    """`now` and randomness are arguments."""
    assert not imported_by((PACKAGE / path).read_text()) & IMPURE


def test_rules_are_found() -> None:
    """The test above looks at something, and would see an import inside a function."""
    assert "policies/breaker/_rules.py" in RULES
    assert imported_by("def f():\n    import time\nfrom trio.lowlevel import x") == {"time", "trio"}
