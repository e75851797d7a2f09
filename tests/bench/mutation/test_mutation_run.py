"""The check as a whole, on a small tree: what is caught, what is not, what hangs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import trio

from bench.failures import RunFailed, run_explained
from bench.mutation.results import FileResult, Survivor, as_json, total_rate
from bench.mutation.run import check_all, copy_tree
from bench.mutation.targets import NoTests, find_rules, target_of

RULES = """
def is_over(count, limit):
    return count > limit

def total(count):
    while count > 0:
        count -= 1
    return count

def is_unnoticed(a, b):
    return a == b
"""

TESTS = """
from bulkhead_trio.policies.sample._rules import is_over, total

def test_is_over_at_its_bound():
    assert is_over(2, 1)
    assert not is_over(1, 1)

def test_total():
    assert total(3) == 0
"""


@pytest.fixture
def tree(tmp_path: Path, repository: Path) -> Path:
    """A source tree with one module of rules, and the bench to check it."""
    root = tmp_path / "tree"
    rules = root / "bulkhead_trio" / "policies" / "sample"
    tests = root / "tests" / "policies" / "sample"
    for directory in (rules, tests):
        directory.mkdir(parents=True)
    shutil.copytree(repository / "bench", root / "bench", ignore=shutil.ignore_patterns("results"))
    for package in (rules, rules.parent, rules.parent.parent):
        (package / "__init__.py").touch()
    (rules / "_rules.py").write_text(RULES)
    (tests / "test_sample.py").write_text(TESTS)
    return root


def check(tree: Path) -> list[FileResult]:
    seen: list[None] = []
    target = target_of(Path("bulkhead_trio/policies/sample/_rules.py"), tree)
    results = run_explained(
        lambda: trio.run(check_all, tree, [target], lambda: seen.append(None), 1.0), (RunFailed,)
    )
    assert len(seen) == sum(result.mutants for result in results)
    return results


def test_check_counts_what_was_caught_and_says_what_was_not(tree: Path) -> None:
    """A mutant that does not end counts as caught; the file itself is never changed."""
    (result,) = check(tree)
    assert result.file == "bulkhead_trio/policies/sample/_rules.py"
    assert (result.mutants, result.killed, result.timed_out) == (6, 5, 1)
    assert result.survivors == (Survivor(11, "a == b", "a != b"),)
    source = tree / "bulkhead_trio" / "policies" / "sample" / "_rules.py"
    assert source.read_text() == RULES


def test_check_of_tests_that_fail_anyway_says_so(tree: Path) -> None:
    """They would catch every mutant, and prove nothing."""
    (tree / "tests/policies/sample/test_sample.py").write_text("def test_no():\n    assert 0\n")
    with pytest.raises(RunFailed, match="fail without any change"):
        check(tree)


def test_copy_leaves_out_what_the_tests_do_not_need(tmp_path: Path) -> None:
    """Environments, histories and caches stay where they are."""
    root = tmp_path / "root"
    for name in (".git", ".venv", "tests/__pycache__", "bench/results", "docs"):
        (root / name).mkdir(parents=True)
    copy_tree(root, tmp_path / "copy")
    found = {str(path.relative_to(tmp_path / "copy")) for path in (tmp_path / "copy").rglob("*")}
    assert found == {"tests", "bench", "docs"}


def test_targets_are_the_rules_with_the_tests_that_belong_to_them(tmp_path: Path) -> None:
    """A whole area for its ``_rules.py``, those of the subject for others, rules first."""
    for name in (
        "bulkhead_trio/policies/_hedge_rules.py",
        "bulkhead_trio/policies/_lonely_rules.py",
        "bulkhead_trio/policies/queue/_rules.py",
        "bulkhead_trio/policies/queue/_fair_rules.py",
        "bulkhead_trio/policies/queue/fair.py",
        "bulkhead_trio/policies/rate/_rules.py",
        "tests/policies/test_hedge.py",
        "tests/policies/test_hedge_rules.py",
        "tests/policies/test_retry.py",
        "tests/policies/queue/test_bounded.py",
        "tests/policies/queue/test_fair_queue.py",
        "tests/policies/queue/test_rule_laws.py",
        "tests/policies/queue/conftest.py",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    rules = find_rules(tmp_path)
    policies = Path("bulkhead_trio/policies")
    assert [str(path.relative_to(policies)) for path in rules] == [
        "_hedge_rules.py",
        "_lonely_rules.py",
        "queue/_fair_rules.py",
        "queue/_rules.py",
        "rate/_rules.py",
    ]
    hedge, lonely, fair, queue = (target_of(path, tmp_path) for path in rules[:4])
    assert hedge.module == "bulkhead_trio.policies._hedge_rules"
    assert [path.name for path in hedge.tests] == ["test_hedge_rules.py", "test_hedge.py"]
    assert len(lonely.tests) == 3
    assert [path.name for path in fair.tests] == ["test_rule_laws.py", "test_fair_queue.py"]
    assert [path.name for path in queue.tests] == [
        "test_rule_laws.py",
        "test_bounded.py",
        "test_fair_queue.py",
    ]
    with pytest.raises(NoTests, match="rate"):
        target_of(rules[4], tmp_path)
    with pytest.raises(ValueError, match="subpath"):
        target_of(Path("bulkhead_trio/config/_rules.py"), tmp_path)


def test_results_total_over_all_modules() -> None:
    """Every mutant counts the same, in whatever module; none at all is nothing missed."""
    one = FileResult("a", 10, 10, 1, (), 1.0)
    two = FileResult("b", 30, 27, 0, (Survivor(3, "a < b", "a <= b"),), 2.0)
    assert (one.rate, two.rate) == (1.0, 0.9)
    assert total_rate([one, two]) == 0.925
    assert total_rate([]) == 1.0
    document = json.loads(as_json([one, two]))
    assert document["total"] == {"mutants": 40, "killed": 37, "rate": 0.925, "least_rate": 0.95}
    assert document["files"][1]["survivors"] == [{"line": 3, "before": "a < b", "after": "a <= b"}]
    assert document["files"][1]["rate"] == 0.9
