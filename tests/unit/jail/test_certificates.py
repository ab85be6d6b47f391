"""What a sandbox trusts: what its image does and one more, and nothing of the host's that an image points to."""

import os
import stat
from pathlib import Path
from posixpath import dirname

import pytest

from tenantry.engines.jail.certificates import MOST_CERTIFICATES, write_certificates
from tenantry.engines.jail.types import CERTIFICATES

OURS = b"-----BEGIN CERTIFICATE-----\nours\n"
BUNDLE = "etc/ssl/certs/ca-certificates.crt"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "run/tenantry").mkdir(parents=True)
    (root / BUNDLE).parent.mkdir(parents=True)
    return root


def written(root: Path) -> bytes:
    write_certificates(str(root), str(root / dirname(CERTIFICATES[1:])), OURS, uid=None)
    return (root / CERTIFICATES[1:]).read_bytes()


def test_the_images_own_come_first_and_all_may_read_the_file(root: Path) -> None:
    (root / BUNDLE).write_bytes(b"theirs")
    before = os.umask(0o077)
    try:
        assert written(root) == b"theirs\n" + OURS
    finally:
        os.umask(before)
    assert stat.S_IMODE((root / CERTIFICATES[1:]).stat().st_mode) == 0o444


def test_an_image_without_any_has_ours_alone(root: Path) -> None:
    assert written(root) == OURS


@pytest.mark.parametrize("place", ["etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "etc/ssl/cert.pem"])
def test_they_are_found_where_other_distributions_keep_them(root: Path, place: str) -> None:
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    (root / place).write_bytes(b"theirs\n")
    assert written(root) == b"theirs\n" + OURS


@pytest.mark.parametrize("where", ["file", "folder", "above"])
def test_no_link_of_an_image_is_followed(root: Path, tmp_path: Path, where: str) -> None:
    host = tmp_path / "host"
    (host / "ssl/certs").mkdir(parents=True)
    (host / "ssl/certs/ca-certificates.crt").write_bytes(b"of the host")
    certs = root / "etc/ssl/certs"
    if where == "file":
        (certs / "ca-certificates.crt").symlink_to(host / "ssl/certs/ca-certificates.crt")
    else:
        certs.rmdir()
        if where == "folder":
            certs.symlink_to(host / "ssl/certs")
        else:
            (root / "etc/ssl").rmdir()
            (root / "etc/ssl").symlink_to(host / "ssl")
    assert written(root) == OURS


def test_what_is_no_file_or_too_large_is_not_read(root: Path) -> None:
    os.mkfifo(root / BUNDLE)
    (root / "etc/ssl/cert.pem").write_bytes(b"x" * (MOST_CERTIFICATES + 1))
    assert written(root) == OURS
