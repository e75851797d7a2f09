"""What the README shows is what there is."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import trio
import trio.testing

import bulkhead_trio
from bulkhead_trio.config import DEFAULT_TIERS, load_settings


def blocks(repository: Path, language: str) -> list[str]:
    text = (repository / "README.md").read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


async def test_readme_program_runs(
    repository: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """The program in the README works as it stands there."""
    (program,) = blocks(repository, "python")
    imports, body = program.split("\n\n", 1)
    indented = "".join(f"    {line}\n" for line in body.splitlines())
    asked: list[str] = []

    async def fetch_price(item: str) -> str:
        asked.append(item)
        if len(asked) == 1:
            raise ConnectionError
        return "3.99"

    names = {"trio": trio, "fetch_price": fetch_price}
    source = f"{imports}\nasync def program():\n{indented}    return price\n"
    exec(compile(source, "README.md", "exec"), names)  # noqa: S102
    assert await names["program"]() == "3.99"  # type: ignore[operator]
    assert asked == ["tea", "tea"]


def test_readme_configuration_is_the_default(repository: Path, tmp_path: Path) -> None:
    """The TOML in the README loads, and shows the free tier's defaults."""
    (text,) = blocks(repository, "toml")
    assert set(tomllib.loads(text)) == {"tiers"}
    path = tmp_path / "bulkhead.toml"
    path.write_text(text)
    settings = load_settings(config_path=path, environ={}, overrides={})
    assert settings.tiers == DEFAULT_TIERS[:1]


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{name}" for name in (
    "architecture.md", "isolation.md", "http.md", "database.md", "configuration.md",
    "benchmarks.md", "dependencies.md"))])  # fmt: skip
def test_links_between_pages_lead_somewhere(repository: Path, page: str) -> None:
    """Every relative link of the documentation names a file that exists."""
    path = repository / page
    for target in re.findall(r"\]\(([^)#\s]+)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{page}: {target}"


def test_version_is_one(repository: Path) -> None:
    """The changelog's newest section is the version that the package has."""
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    newest = re.findall(r"^## (\S+)", (repository / "CHANGELOG.md").read_text(), re.MULTILINE)[0]
    assert newest == project["version"]
    assert bulkhead_trio.__doc__
