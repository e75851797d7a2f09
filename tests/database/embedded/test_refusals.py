"""What cannot be started is refused with a reason, and is left as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulkhead_trio.database.embedded import EmbeddedServerError, open_embedded_server
from bulkhead_trio.database.embedded._file_lock import FileLock

from ._look import is_running

IMPATIENT_SECONDS = 0.3


async def refusal(directory: Path, *, seconds: float = 20.0) -> str:
    """The message of the error with which a start ends."""
    with pytest.raises(EmbeddedServerError) as caught:
        async with open_embedded_server(directory, max_connections=20, start_seconds=seconds):
            raise AssertionError("it was started")
    assert not is_running(directory)
    return str(caught.value)


async def test_refuses_another_major_version(own_cluster: Path) -> None:
    """An older cluster is neither started nor touched."""
    directory = own_cluster
    (directory / "PG_VERSION").write_text("16\n")
    before = sorted(path for path in directory.rglob("*"))
    message = await refusal(directory)
    assert "made by PostgreSQL 16" in message
    assert str(directory) in message
    assert sorted(path for path in directory.rglob("*")) == before


async def test_refuses_a_directory_with_other_files(data_dir: Path) -> None:
    """Somebody's files are no place for a cluster."""
    directory = data_dir / "photos"
    directory.mkdir()
    (directory / "cat.jpg").write_text("meow")
    assert "no PostgreSQL" in await refusal(directory)
    assert [path.name for path in directory.iterdir()] == ["cat.jpg"]


async def test_takes_an_empty_directory(data_dir: Path) -> None:
    """One that was made beforehand will do."""
    directory = data_dir / "postgres"
    directory.mkdir()
    async with open_embedded_server(directory, max_connections=20):
        pass


async def test_refuses_a_file(data_dir: Path) -> None:
    """A file where the directory should be."""
    (data_dir / "postgres").write_text("")
    assert "no directory" in await refusal(data_dir / "postgres")


async def test_refuses_a_line_break(data_dir: Path) -> None:
    """The one character that PostgreSQL's own files cannot tell apart from their ends of lines."""
    assert "line break" in await refusal(data_dir / "a\nb")


async def test_says_what_postgresql_says(own_cluster: Path) -> None:
    """A cluster that does not start: PostgreSQL's own reason is in the error."""
    with (own_cluster / "postgresql.conf").open("a") as file:
        file.write("no_such_setting = 1\n")
    message = await refusal(own_cluster)
    assert "no_such_setting" in message
    assert "database system is shut down" not in message, "that is from the time before"


async def test_says_what_initdb_says(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster that cannot be made: initdb's own reason is in the error."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(data_dir))
    (data_dir / "libc.so.6").write_text("not a library")
    message = await refusal(data_dir / "postgres")
    assert "initdb failed" in message
    assert "libc.so.6" in message


async def test_waits_for_another_starter_no_longer_than_allowed(directory: Path) -> None:
    """Somebody who holds the start lock for ever is named as the reason."""
    with FileLock(directory.with_name("postgres.start.lock"), owner=None) as held:
        held.acquire_exclusive_nowait()
        message = await refusal(directory, seconds=IMPATIENT_SECONDS)
    assert "another process has been starting or stopping" in message


async def test_never_starts_beside_processes_it_cannot_see(directory: Path) -> None:
    """Files that a PostgreSQL of another container uses are not opened a second time."""
    with FileLock(directory.with_name("postgres.alive.lock"), owner=None) as held:
        held.acquire_exclusive_nowait()
        message = await refusal(directory, seconds=IMPATIENT_SECONDS)
    assert "still use its files" in message
