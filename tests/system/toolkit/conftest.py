"""For tests that start processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ._processes import child_processes, open_files


@pytest.fixture
def nothing_is_left() -> Iterator[None]:
    """The test leaves as many open files and children as it has found."""
    files, children = open_files(), child_processes()
    yield
    assert open_files() == files
    assert child_processes() == children
