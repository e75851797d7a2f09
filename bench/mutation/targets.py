"""Which modules hold rules, and which tests belong to each. Pure but for looking at the tree."""

from __future__ import annotations

from pathlib import Path

import attrs

RULES = Path("bulkhead_trio/policies")
TESTS = Path("tests/policies")


class NoTests(Exception):
    """A module of rules has no tests of its own."""


@attrs.frozen
class Target:
    """A module of rules and its tests; paths from the top of the tree.

    Attributes:
        module: its dotted name.
    """

    file: Path
    module: str
    tests: tuple[Path, ...]


def find_rules(root: Path) -> list[Path]:
    """Every ``_rules.py`` and ``_*_rules.py`` of the policies, from the top of the tree."""
    return sorted(path.relative_to(root) for path in (root / RULES).rglob("_*rules.py"))


def target_of(file: Path, root: Path) -> Target:
    """The target that ``file`` is.

    The tests of ``<area>/_rules.py`` are all in ``tests/policies/<area>``. Those of
    ``_<subject>_rules.py`` are the ones there that have the subject in their name, and in an area
    of its own those of any rule too; all where there are none such.

    Raises:
        NoTests: there are none.
        ValueError: ``file`` is not below ``bulkhead_trio/policies``.
    """
    area = root / TESTS / file.parent.relative_to(RULES)
    subject = file.stem.removesuffix("rules").strip("_")
    found = sorted(area.glob("test_*.py"))
    words = {subject} if file.parent == RULES else {subject, "rule"}
    chosen = [path for path in found if any(word in path.stem for word in words)] or found
    if not chosen:
        raise NoTests(f"{file} has no tests in {area.relative_to(root)}")
    # Those of the rules themselves are quick and catch most: first.
    chosen.sort(key=lambda path: ("rule" not in path.stem, path.name))
    return Target(
        file=file,
        module=".".join(file.with_suffix("").parts),
        tests=tuple(path.relative_to(root) for path in chosen),
    )
