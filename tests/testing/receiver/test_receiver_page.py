"""The page's example does what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path


def test_example_prints_what_it_says(repository: Path) -> None:
    """Every line, as a script."""
    text = (repository / "docs" / "delivery" / "receiver.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines() == [
        "1 503", "2 429", "4 200", "4 200", "4 503", "5 200", "6 2", "msg_1",
    ]  # fmt: skip
