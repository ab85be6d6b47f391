import json
import os
from pathlib import Path

import pytest

from tenantry.client import Client, Credentials, CredentialsError
from tenantry.client.credentials import checked_url, home_directory, load, save
from tenantry.client.wire import connection_options

URL = "http://127.0.0.1:8000"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    save(Credentials(URL, "stored-key"), home=tmp_path)
    return tmp_path


def test_stored_credentials_are_read_and_private(home: Path) -> None:
    path = home / "credentials.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text()) == {"url": URL, "key": "stored-key"}
    assert load(home=home, environment={}) == Credentials(URL, "stored-key")
    assert list(home.iterdir()) == [path]


def test_a_file_others_may_read_is_refused_with_its_remedy(home: Path) -> None:
    for mode in (0o640, 0o604, 0o660, 0o601):
        (home / "credentials.json").chmod(mode)
        with pytest.raises(CredentialsError, match="chmod 600"):
            load(home=home, environment={})


def test_a_file_somebody_else_put_there_is_refused(home: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(home / "credentials.json", 12345, -1)
    with pytest.raises(CredentialsError, match="another user"):
        load(home=home, environment={})


def test_what_is_no_regular_file_is_refused(home: Path) -> None:
    path = home / "credentials.json"
    path.rename(home / "elsewhere.json")
    path.symlink_to(home / "elsewhere.json")
    with pytest.raises(CredentialsError, match="cannot be opened"):
        load(home=home, environment={})
    path.unlink()
    os.mkfifo(path, mode=0o600)
    with pytest.raises(CredentialsError, match="regular file"):
        load(home=home, environment={})
    path.unlink()
    path.mkdir(mode=0o700)
    with pytest.raises(CredentialsError, match="regular file"):
        load(home=home, environment={})


def test_a_malformed_file_does_not_show_its_text(home: Path) -> None:
    (home / "credentials.json").write_text("stored-key")
    with pytest.raises(CredentialsError) as caught:
        load(home=home, environment={})
    assert "stored-key" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_arguments_go_before_the_environment_and_it_before_the_file(home: Path) -> None:
    environment = {"TENANTRY_URL": "http://localhost:1", "TENANTRY_KEY": "env-key"}
    assert load(home=home, environment=environment) == Credentials("http://localhost:1", "env-key")
    assert load(url="http://[::1]:2/", key="k", home=home, environment=environment) == Credentials(
        "http://[::1]:2", "k"
    )
    assert load(key="k", home=home, environment={}).url == URL


def test_the_stored_key_is_not_sent_to_another_server(home: Path) -> None:
    with pytest.raises(CredentialsError, match="not sent"):
        load(home=home, environment={"TENANTRY_URL": "https://evil.example"})
    assert load(home=home, environment={"TENANTRY_URL": f"{URL}/"}).key == "stored-key"


def test_without_credentials_the_remedy_is_named(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match="tenantry login"):
        load(home=tmp_path, environment={})


def test_a_key_does_not_travel_in_clear_text_unless_told_so() -> None:
    with pytest.raises(CredentialsError, match="to the network"):
        load(url="http://tenantry.example", key="k", environment={})
    allowed = load(url="http://tenantry.example", key="k", environment={"TENANTRY_ALLOW_HTTP": "1"})
    assert allowed.url == "http://tenantry.example"
    assert checked_url("https://Tenantry.example:8443/base/") == "https://tenantry.example:8443/base"


@pytest.mark.parametrize(
    "url", ["", "ftp://x", "http://", "https://u:p@host", "https://h/?a=1", "https://h:99999", "x"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(CredentialsError):
        checked_url(url)


@pytest.mark.parametrize("key", ["", "a b", "a\nHost:evil", "a\x7f", "ä"])
def test_a_key_that_would_break_a_header_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(CredentialsError) as caught:
        Credentials(URL, key)
    assert "evil" not in str(caught.value)


def test_repr_does_not_show_the_key(home: Path) -> None:
    assert "stored-key" not in repr(load(home=home, environment={}))


def test_the_client_finds_its_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENANTRY_HOME", str(home))
    monkeypatch.delenv("TENANTRY_URL", raising=False)
    monkeypatch.delenv("TENANTRY_KEY", raising=False)
    with Client() as client:
        assert repr(client) == f"Client(url='{URL}')"
    monkeypatch.delenv("TENANTRY_HOME")
    expected = Path("/var/lib/tenantry") if os.geteuid() == 0 else Path.home() / ".tenantry"
    assert home_directory() == expected


def test_a_tenant_to_visit_is_named_in_each_request(tmp_path: Path) -> None:
    environment = {"TENANTRY_URL": "https://t.example", "TENANTRY_KEY": "a-key", "TENANTRY_TENANT": "acme"}
    visiting = connection_options(load(home=tmp_path, environment=environment))
    assert visiting["headers"]["X-Tenant-Id"] == "acme"
    del environment["TENANTRY_TENANT"]
    assert "X-Tenant-Id" not in connection_options(load(home=tmp_path, environment=environment))["headers"]
