"""The system account that PostgreSQL runs as, and what that account must be able to reach.

PostgreSQL refuses to run as root. An ordinary user runs it as herself; root runs it as the owner
of the cluster, and a new cluster as the account `ACCOUNT_NAME`, which is made when it is missing.
"""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from pathlib import Path
from typing import Any

import attrs
import trio

from bulkhead_trio.database.embedded._errors import EmbeddedServerError

ACCOUNT_NAME = "pgserver"
"""The name that the wheel with PostgreSQL in it uses as well."""

_READ = stat.S_IRUSR, stat.S_IRGRP, stat.S_IROTH
_PASS = stat.S_IXUSR, stat.S_IXGRP, stat.S_IXOTH
"""One right, for the owner, for the group, and for everybody else."""


@attrs.frozen
class Account:
    """A system account other than the one this process runs as."""

    uid: int
    gid: int

    def process_options(self) -> dict[str, Any]:
        """What makes ``subprocess`` run something as this account."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def select(self, rights: tuple[int, int, int], status: os.stat_result) -> int:
        """Which of the rights counts for this account, as a bit of the mode."""
        if status.st_uid == self.uid:
            return rights[0]
        return rights[1] if status.st_gid == self.gid else rights[2]


async def choose_account(directory: Path) -> Account | None:
    """The account to run the cluster in ``directory`` as; ``None`` for the caller's own.

    Raises:
        EmbeddedServerError: this is root, and the account is missing and cannot be made.
    """
    if os.geteuid() != 0:
        return None
    owner = _owner(directory)
    if owner is not None and owner.uid != 0:
        return owner
    return _look_up() or await _make_account()


def _owner(directory: Path) -> Account | None:
    try:
        status = directory.stat()
    except FileNotFoundError:
        return None
    return Account(status.st_uid, status.st_gid)


def _look_up() -> Account | None:
    try:
        entry = pwd.getpwnam(ACCOUNT_NAME)
    except KeyError:
        return None
    return Account(entry.pw_uid, entry.pw_gid)


async def _make_account() -> Account:
    command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin"]
    try:
        result = await trio.run_process(
            [*command, ACCOUNT_NAME], capture_stdout=True, stderr=subprocess.STDOUT, check=False
        )
    except FileNotFoundError:
        said = "there is no useradd"
    else:
        said = result.stdout.decode(errors="replace").strip()
    # Whatever useradd said: another process may have made the account at the same moment.
    account = _look_up()
    if account is None:
        raise EmbeddedServerError(
            f"PostgreSQL does not run as root, and the account {ACCOUNT_NAME} cannot be made "
            f"({said}). Run this as an ordinary user, or create the account."
        )
    return account


def open_way(account: Account, path: Path) -> list[Path]:
    """Let ``account`` pass through the directories above ``path``.

    Those that it cannot pass get the right to be passed through (``o+x``, or ``g+x`` where its
    group owns them). That lets nobody list them.

    Returns:
        The directories that were changed.
    """
    return [parent for parent in reversed(path.parents) if _grant(account, parent, _PASS)]


def open_installation(account: Account, directory: Path, program: Path) -> list[Path]:
    """Let ``account`` read and run what is installed in ``directory``.

    What was installed under a strict umask is readable by its owner only. ``program`` tells: if
    the account may not run it, then everything beside it is opened as well, files with ``o+r``,
    directories and programs also with ``o+x`` (``g+...`` where the account's group owns them).

    Returns:
        What was changed, the directories that `open_way` opened included.
    """
    changed = open_way(account, program)
    if not _grant(account, program, _READ, _PASS):
        return changed
    changed.append(program)
    for path in directory.rglob("*"):
        if path.is_symlink():
            continue
        rights = [_READ, _PASS] if path.stat().st_mode & stat.S_IXUSR else [_READ]
        if _grant(account, path, *rights):
            changed.append(path)
    return changed


def _grant(account: Account, path: Path, *rights: tuple[int, int, int]) -> bool:
    """Add what ``account`` lacks of ``rights`` to the mode of ``path``; says whether it did."""
    status = path.stat()
    mode = stat.S_IMODE(status.st_mode)
    wanted = mode
    for right in rights:
        wanted |= account.select(right, status)
    if wanted == mode:
        return False
    path.chmod(wanted)
    return True
