"""The certificate and its key are looked at before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from bulkhead_trio.config import ConfigurationError, load_settings
from bulkhead_trio.config.certificates import is_exposed


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return write_pair(tmp_path, "first")


def write_pair(directory: Path, name: str) -> tuple[Path, Path]:
    issued = trustme.CA(key_type=trustme.KeyType.ECDSA).issue_cert("localhost")
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    issued.cert_chain_pems[0].write_to_path(str(certificate))
    issued.private_key_pem.write_to_path(str(key))
    return certificate, key


def mistakes(certificate: object, key: object) -> list[tuple[str, str]]:
    given = {"TLS_CERTIFICATE": certificate, "TLS_KEY": key}
    environ = {name: str(value) for name, value in given.items() if value is not None}
    with pytest.raises(ConfigurationError) as raised:
        load_settings(environ=environ, overrides={})
    return [(mistake.variable, mistake.reason) for mistake in raised.value.mistakes]


def test_matching_pair_is_taken(pair: tuple[Path, Path]) -> None:
    """A certificate and its key are settings like others."""
    environ = {"TLS_CERTIFICATE": str(pair[0]), "TLS_KEY": str(pair[1])}
    settings = load_settings(environ=environ, overrides={})
    assert (settings.tls_certificate, settings.tls_key) == pair


def test_half_a_pair_is_a_mistake(pair: tuple[Path, Path]) -> None:
    """One without the other is no TLS, and nobody may take it for it."""
    assert mistakes(pair[0], None) == [("TLS_KEY", "is required with TLS_CERTIFICATE")]
    assert mistakes(None, pair[1]) == [("TLS_CERTIFICATE", "is required with TLS_KEY")]


def test_files_of_different_pairs_are_a_mistake(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """A key that is another certificate's is found at start."""
    _, other = write_pair(tmp_path, "second")
    assert mistakes(pair[0], other) == [("TLS_KEY", "is not the private key of TLS_CERTIFICATE")]


def test_missing_files_are_both_named(tmp_path: Path) -> None:
    """Every mistake is told at once."""
    found = mistakes(tmp_path / "none.pem", tmp_path)
    assert [variable for variable, _ in found] == ["TLS_CERTIFICATE", "TLS_KEY"]
    assert all(reason.startswith("cannot be read: ") for _, reason in found)


def test_swapped_files_are_a_mistake(pair: tuple[Path, Path]) -> None:
    """Each file has to hold what its variable says."""
    assert mistakes(pair[1], pair[0]) == [
        ("TLS_CERTIFICATE", "has no certificate in it (PEM)"),
        ("TLS_KEY", "has no private key in it (PEM)"),
    ]


def test_broken_certificate_is_a_mistake(pair: tuple[Path, Path]) -> None:
    """A file that only looks like PEM is told from one that is."""
    pair[0].write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    ((variable, reason),) = mistakes(*pair)
    assert variable == "TLS_CERTIFICATE"
    assert "cannot be used" in reason


def test_encrypted_key_is_a_mistake(pair: tuple[Path, Path]) -> None:
    """Nobody is asked for a password at start."""
    key = load_pem_private_key(pair[1].read_bytes(), None)
    encryption = BestAvailableEncryption(b"secret")
    pair[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    assert mistakes(*pair) == [("TLS_KEY", "is encrypted; the server needs a plain private key")]


def test_key_that_all_can_read_is_exposed(pair: tuple[Path, Path]) -> None:
    """A key's permissions are looked at."""
    for mode, exposed in ((0o600, False), (0o640, False), (0o644, True)):
        pair[1].chmod(mode)
        assert is_exposed(pair[1]) is exposed
    assert not is_exposed(pair[1].with_name("none"))
