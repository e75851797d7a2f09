"""Where workers have their sockets: a path that is short enough, and nobody else's directory."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from bulkhead_trio.http.listeners import LONGEST_UNIX_PATH
from bulkhead_trio.workers.directory import socket_directory, socket_path


def test_directory_is_where_temporary_files_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closed to others, and gone afterwards."""
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    with socket_directory(2) as directory:
        assert Path(directory).parent == Path("/tmp")
        assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700
    assert not Path(directory).exists()


def test_directory_with_a_long_path_is_passed_over(tmp_path: Path) -> None:
    """Also where only the last workers' sockets would not fit."""
    short = tempfile.mkdtemp(dir="/tmp")
    room = LONGEST_UNIX_PATH - len(socket_path("/bulkhead-xxxxxxxx", 9))
    fits, too_long = f"/{'a' * (room - 1)}", f"/{'a' * room}"
    try:
        with socket_directory(9, [too_long, short]) as directory:
            assert Path(directory).parent == Path(short)
        assert len(socket_path(f"{fits}/bulkhead-xxxxxxxx", 9)) == LONGEST_UNIX_PATH
        with pytest.raises(FileNotFoundError):  # short enough, only not there
            with socket_directory(9, [fits]):
                pass
        with pytest.raises(OSError, match="short enough"):
            with socket_directory(10, [fits]):
                pass
    finally:
        os.rmdir(short)


def test_directory_that_cannot_be_made_is_passed_over(tmp_path: Path) -> None:
    """The next one is tried; the last reason is told."""
    short = tempfile.mkdtemp(dir="/tmp")
    try:
        with socket_directory(2, ["/nowhere", short]) as directory:
            assert Path(directory).parent == Path(short)
        with pytest.raises(FileNotFoundError):
            with socket_directory(2, ["/nowhere"]):
                pass
    finally:
        os.rmdir(short)
