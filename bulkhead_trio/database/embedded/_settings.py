"""What PostgreSQL is started with, and where its socket is."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Final

from bulkhead_trio.database.embedded._account import Account
from bulkhead_trio.database.embedded._errors import EmbeddedServerError

PORT: Final = 5432
"""Only a part of the socket's name: nothing listens on TCP."""

LONGEST_SOCKET_PATH: Final = 107
"""Bytes of a Unix socket's path, without the final NUL: ``sun_path`` in Linux's ``sys/un.h``."""


def server_settings(socket_directory: Path, max_connections: int) -> dict[str, str]:
    """What PostgreSQL is started with; everything else is its default, ``fsync`` included."""
    return {
        "max_connections": str(max_connections),
        "listen_addresses": "",
        "port": str(PORT),
        "unix_socket_directories": str(socket_directory),
        "unix_socket_permissions": "0700",
        # After a crash: one call for the file system instead of one for each of 1,000 files, which
        # takes seconds on a busy disk.
        "recovery_init_sync_method": "syncfs",
        # Errors, but not the statements that caused them: those can hold what customers sent.
        "logging_collector": "off",
        "log_destination": "stderr",
        "log_min_messages": "error",
        "log_min_error_statement": "panic",
        "log_checkpoints": "off",
        "log_timezone": "UTC",
        "timezone": "UTC",
    }


def choose_socket_directory(cluster: Path, uid: int) -> Path:
    """The cluster's own directory, or one in ``/tmp`` when no socket can have that path."""
    name = str(cluster / f".s.PGSQL.{PORT}")
    # libpq and PostgreSQL read a comma as the end of a path.
    if len(os.fsencode(name)) <= LONGEST_SOCKET_PATH and "," not in name and name.isprintable():
        return cluster
    digest = hashlib.sha256(os.fsencode(cluster)).hexdigest()[:16]
    # Not TMPDIR: every process that shares the cluster must come to the same path.
    return Path("/tmp") / f"bulkhead-trio-{uid}-{digest}"  # noqa: S108  make_private checks it


def make_private(directory: Path, account: Account | None) -> None:
    """Make a directory that is closed to other users, or see that an existing one is.

    That is what protects the server: it trusts whoever can reach its socket.

    Raises:
        EmbeddedServerError: somebody else may have made it.
    """
    directory.mkdir(mode=0o700, exist_ok=True)
    uid = os.geteuid() if account is None else account.uid
    status = directory.lstat()
    is_own = stat.S_ISDIR(status.st_mode) and status.st_uid in {uid, os.geteuid()}
    if not is_own or status.st_mode & 0o077:
        raise EmbeddedServerError(
            f"{directory} should be a directory of user {uid} that is closed to others, and is "
            "not. Remove it."
        )
    if account is not None:
        os.chown(directory, account.uid, account.gid)
