"""The pages of the toolkit: complete, linked, and their code runs as far as it is a program."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import bulkhead_trio

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = sorted((DOCS / "policies").glob("*.md"))
PROMISES = [*PAGES, DOCS / "http-client.md"]


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_imports_what_there_is(page: Path) -> None:
    """Every block is Python, and every name that one imports from us is public."""
    for block in python_blocks(page):
        tree = compile(block, page.name, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "bulkhead_trio":
                missing = {alias.name for alias in node.names} - set(bulkhead_trio.__all__)
                assert not missing


@pytest.mark.parametrize("page", [*PAGES, *sorted(DOCS.glob("*.md"))], ids=lambda page: page.stem)
def test_page_links_lead_somewhere(page: Path) -> None:
    """Links to files are to files that are there."""
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target


def test_every_policy_page_is_in_the_index() -> None:
    """Who opens the index finds each page."""
    index = (DOCS / "policies" / "README.md").read_text()
    for page in PAGES:
        assert page.name == "README.md" or f"({page.name})" in index


def test_every_public_policy_is_on_a_page() -> None:
    """Whatever is a policy, a window, a rule or a line has a place where it is explained."""
    text = "".join(page.read_text() for page in PROMISES)
    for name in bulkhead_trio.__all__:
        thing = getattr(bulkhead_trio, name)
        is_record = name.endswith(("Statistics", "Error")) or issubclass_of_exception(thing)
        assert is_record or f"`{name}" in text or f"{name}(" in text, name


def issubclass_of_exception(thing: object) -> bool:
    return isinstance(thing, type) and issubclass(thing, BaseException)
