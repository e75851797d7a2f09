"""The certificate and the key of TLS: files that have to be there, and to belong together."""

from __future__ import annotations

import ssl
import stat
from collections.abc import Iterator
from pathlib import Path

from bulkhead_trio.config.mistakes import Mistake

CERTIFICATE, KEY = "TLS_CERTIFICATE", "TLS_KEY"


def pair_mistakes(certificate: Path | None, key: Path | None) -> Iterator[Mistake]:
    """What is wrong with the two files; nothing where neither is configured."""
    if certificate is None and key is None:
        return
    if certificate is None or key is None:
        missing, there = (CERTIFICATE, KEY) if certificate is None else (KEY, CERTIFICATE)
        yield Mistake(missing, f"is required with {there}")
        return
    wrong = [
        *_file_mistakes(CERTIFICATE, certificate, b"BEGIN CERTIFICATE", "certificate"),
        *_file_mistakes(KEY, key, b"PRIVATE KEY", "private key"),
    ]
    yield from wrong
    if wrong:
        return
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key, password=_no_password)
    except _EncryptedError:
        yield Mistake(KEY, "is encrypted; the server needs a plain private key")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            yield Mistake(KEY, f"is not the private key of {CERTIFICATE}")
        else:
            yield Mistake(CERTIFICATE, f"cannot be used with {KEY}: {error.reason or 'unreadable'}")


def is_exposed(key: Path) -> bool:
    """Whether everybody on this machine can read the file."""
    try:
        return bool(key.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False


class _EncryptedError(Exception):
    pass


def _no_password() -> str:
    # Otherwise OpenSSL would ask the terminal for it, and wait.
    raise _EncryptedError


def _file_mistakes(variable: str, path: Path, mark: bytes, what: str) -> Iterator[Mistake]:
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or type(error).__name__
        yield Mistake(variable, f"cannot be read: {reason}")
    else:
        if mark not in content:
            yield Mistake(variable, f"has no {what} in it (PEM)")
