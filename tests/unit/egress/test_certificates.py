"""Certificates of a gateway, as another library judges them: for their hosts, for their time, and nothing else."""

import shutil
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from tenantry.engines.egress.certificates import Authority, server_context
from tenantry.kit.hosts import parse_host

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl")
NAME, ADDRESS = parse_host("api.example.com"), parse_host("192.0.2.7")


def verify(folder: Path, authority: Authority, leaf: bytes, *options: str) -> str:
    (folder / "ca.pem").write_bytes(authority.pem)
    (folder / "leaf.pem").write_bytes(leaf)
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", str(folder / "ca.pem")]
    done = subprocess.run([*command, *options, str(folder / "leaf.pem")], capture_output=True, text=True, check=False)
    return "OK" if done.returncode == 0 else done.stderr


def test_a_certificate_for_its_host_is_good_and_for_another_is_not(tmp_path: Path) -> None:
    authority = Authority([NAME], seconds=60)
    assert verify(tmp_path, authority, authority.issue(NAME)[1], "-verify_hostname", NAME.name) == "OK"
    for other in ("other.example.com", "example.com", "api.example.com.example.net", "192.0.2.7", "2001:db8::1"):
        said = verify(tmp_path, authority, authority.issue(parse_host(other))[1])
        assert "permitted subtree violation" in said or "excluded subtree violation" in said, (other, said)


def test_an_address_is_held_to_itself_and_no_name_comes_with_it(tmp_path: Path) -> None:
    authority = Authority([ADDRESS], seconds=60)
    assert verify(tmp_path, authority, authority.issue(ADDRESS)[1], "-verify_ip", ADDRESS.name) == "OK"
    for other in ("192.0.2.8", "api.example.com", "2001:db8::1"):
        said = verify(tmp_path, authority, authority.issue(parse_host(other))[1])
        assert "subtree violation" in said, (other, said)


def test_another_authority_does_not_vouch_for_it(tmp_path: Path) -> None:
    one, other = Authority([NAME], seconds=60), Authority([NAME], seconds=60)
    assert "OK" not in verify(tmp_path, one, other.issue(NAME)[1])


def test_it_counts_for_its_time_alone(tmp_path: Path) -> None:
    past = Authority([NAME], seconds=60, now=datetime.now(UTC) - timedelta(minutes=10))
    assert "certificate has expired" in verify(tmp_path, past, past.issue(NAME)[1])
    certificate = x509.load_pem_x509_certificate(Authority([NAME], seconds=60).pem)
    assert certificate.not_valid_after_utc < datetime.now(UTC) + timedelta(seconds=61)


def test_constraints_are_critical_and_it_makes_no_authorities() -> None:
    extensions = x509.load_pem_x509_certificate(Authority([NAME], seconds=60).pem).extensions
    assert extensions.get_extension_for_class(x509.NameConstraints).critical
    basic = extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)


def test_no_file_has_the_key(tmp_path: Path) -> None:
    before = set(Path("/tmp").iterdir())
    authority = Authority([NAME], seconds=60)
    assert authority.context_of(NAME) is authority.context_of(NAME)
    assert "PRIVATE" not in authority.pem.decode()
    assert set(Path("/tmp").iterdir()) <= before | {tmp_path}
    with pytest.raises(KeyError):
        authority.context_of(ADDRESS)


def test_an_authority_is_for_some_host() -> None:
    with pytest.raises(ValueError, match="some host"):
        Authority([], seconds=60)


def test_the_context_speaks_http_1_in_tls_from_1_2_on() -> None:
    context = server_context(*Authority([NAME], seconds=60).issue(NAME))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION
