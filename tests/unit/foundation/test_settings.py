"""Settings: environment before file before defaults, every fault told at once, no secret told."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from tenantry.foundation.errors import Invalid
from tenantry.foundation.settings import Settings, load_settings, plain_settings

REGION = {name: f"postgresql://tenantry:hunter2@db/{name}" for name in ("app_url", "dispatcher_url", "sealer_url")}


def write(home: Path, *, text: str) -> None:
    (home / "tenantry.toml").write_text(text)


def refused(home: Path) -> Invalid:
    with pytest.raises(Invalid) as error:
        load_settings(home=home)
    assert error.value.code == "settings_invalid"
    return error.value


def test_defaults_are_an_embedded_installation_on_loopback(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path)
    assert settings.embedded
    assert settings.region_names == ("us", "eu")
    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 8000)
    assert settings.home == tmp_path


def test_every_fault_is_told_at_once_with_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(
        tmp_path,
        text='log_level = "loud"\nunknown = 1\n[server]\nport = 70000\nprot = 1\n[jobs]\nslots = 0\n'
        "[regions.US]\napp_url = 5\n",
    )
    monkeypatch.setenv("TENANTRY_AUDIT__SAMPLE_READS", "2")
    faults = refused(tmp_path).fields["faults"]
    assert isinstance(faults, list)
    told = {fault.partition(":")[0] for fault in faults}
    assert told >= {"log_level", "unknown", "server.port", "server.prot", "jobs.slots", "audit.sample_reads"}
    assert any(key.startswith("regions.US") for key in told)
    assert all(fault.partition(": ")[2] for fault in faults)


def test_the_environment_comes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, text='[server]\nport = 9000\nhost = "0.0.0.0"\n')
    assert load_settings(home=tmp_path).server.port == 9000
    monkeypatch.setenv("TENANTRY_SERVER__PORT", "9001")
    server = load_settings(home=tmp_path).server
    assert (server.port, server.host) == (9001, "0.0.0.0")  # noqa: S104 - a value read, not a socket


def test_a_port_that_was_asked_for_comes_before_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENANTRY_SERVER__PORT", "9001")
    monkeypatch.setenv("TENANTRY_SERVER__MAX_BODY_BYTES", "4096")
    server = load_settings(home=tmp_path, port=0).server
    assert (server.port, server.max_body_bytes) == (0, 4096)


def test_a_home_that_was_asked_for_comes_before_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENANTRY_HOME", str(tmp_path / "other"))
    assert load_settings(home=tmp_path).home == tmp_path
    assert load_settings().home == tmp_path / "other"


def test_the_file_of_the_home_in_the_environment_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, text="[jobs]\nslots = 3\n")
    monkeypatch.setenv("TENANTRY_HOME", str(tmp_path))
    assert load_settings().jobs.slots == 3


@pytest.mark.parametrize("name", ["TENANTRY_URL", "TENANTRY_KEY", "TENANTRY_WORKSPACE"])
def test_what_the_environment_holds_for_the_client_is_no_setting(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load_settings(home=tmp_path)
    monkeypatch.setenv(name, "tenantry_us_platform_x_y")
    assert load_settings(home=tmp_path) == before


def test_a_misspelt_setting_in_the_environment_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENANTRY_SERVER__PROT", "1")
    assert "server.prot" in refused(tmp_path).message


def test_a_variable_that_is_not_json_where_it_must_be_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENANTRY_SERVER", "hunter2:8000")
    assert "hunter2" not in refused(tmp_path).message


@pytest.mark.parametrize("content", [b"port = ", b"\xff\xfe", b"a = 1\na = 2\n"])
def test_a_file_that_is_not_toml_is_refused_by_its_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "tenantry.toml").write_bytes(content)
    assert str(tmp_path / "tenantry.toml") in refused(tmp_path).message


def toml_region() -> str:
    return "[regions.us]\n" + "".join(f'{name} = "{url}"\n' for name, url in REGION.items())


def test_regions_without_a_directory_are_refused_and_no_password_is_told(tmp_path: Path) -> None:
    write(tmp_path, text=toml_region())
    fault = refused(tmp_path)
    assert "database.directory_url is required" in fault.message
    assert "hunter2" not in f"{fault.message}{fault.fields}{fault!r}"


def test_regions_with_a_directory_embed_nothing_and_show_no_password(tmp_path: Path) -> None:
    write(tmp_path, text=toml_region() + '[database]\ndirectory_url = "postgresql://d:hunter2@db/d"\n')
    settings = load_settings(home=tmp_path)
    assert not settings.embedded
    assert settings.region_names == ("us",)
    assert "hunter2" not in f"{settings!r}{settings}{settings.model_dump_json()}"
    assert settings.regions["us"].app_url.get_secret_value() == REGION["app_url"]


def test_a_region_that_is_known_need_not_be_served(tmp_path: Path) -> None:
    text = 'known_regions = ["eu", "us", "ap-south"]\n' + toml_region()
    write(tmp_path, text=text + '[database]\ndirectory_url = "postgresql://d:hunter2@db/d"\n')
    settings = load_settings(home=tmp_path)
    assert settings.region_names == ("us",)
    assert settings.known_region_names == ("us", "eu", "ap-south")


def test_an_embedded_installation_may_serve_one_of_its_regions(tmp_path: Path) -> None:
    write(tmp_path, text='serve_regions = ["eu"]\n')
    settings = load_settings(home=tmp_path)
    assert (settings.region_names, settings.known_region_names) == (("eu",), ("eu", "us"))
    write(tmp_path, text='serve_regions = ["mars"]\n')
    assert "serve_regions: mars" in refused(tmp_path).message
    directory = '[database]\ndirectory_url = "postgresql://d:hunter2@db/d"\n'
    write(tmp_path, text='serve_regions = ["us"]\n' + toml_region() + directory)
    assert "serve_regions is for embedded" in refused(tmp_path).message


def test_a_regions_store_is_told_to_nobody(tmp_path: Path) -> None:
    text = toml_region() + 'redis_url = "redis://:hunter2@cache/0"\n'
    write(tmp_path, text=text + '[database]\ndirectory_url = "postgresql://d:hunter2@db/d"\n')
    settings = load_settings(home=tmp_path)
    assert "hunter2" not in f"{settings!r}{settings}{settings.model_dump_json()}"


@pytest.mark.parametrize(
    "value", ["etag_ttl_ms = 0", "replay_window_ms = 3600001", "etag_ttl_ms = 86400001", "ttl = 1"]
)
def test_times_of_caches_are_bounded(value: str, tmp_path: Path) -> None:
    write(tmp_path, text=f"[caches]\n{value}\n")
    assert value.partition(" ")[0] in refused(tmp_path).message


@pytest.mark.parametrize(
    ("name", "kept"),
    [("Tenants.Example.COM", "tenants.example.com"), (".tenants.example.com.", "tenants.example.com")],
)
def test_a_base_domain_is_kept_as_hosts_are_compared(name: str, kept: str, tmp_path: Path) -> None:
    write(tmp_path, text=f'[server]\nbase_domain = "{name}"\n')
    assert load_settings(home=tmp_path).server.base_domain == kept


@pytest.mark.parametrize("name", ["", ".", "https://x.example", "x.example:443", "*.example", "a..b"])
def test_a_base_domain_that_could_never_match_is_refused(name: str, tmp_path: Path) -> None:
    write(tmp_path, text=f'[server]\nbase_domain = "{name}"\n')
    assert "server.base_domain" in refused(tmp_path).message


def test_an_address_of_the_wrong_type_is_refused_without_its_neighbours(tmp_path: Path) -> None:
    write(tmp_path, text=toml_region().replace(f'"{REGION["app_url"]}"', '["postgresql://x:hunter2@db"]'))
    fault = refused(tmp_path)
    assert "regions.us.app_url" in fault.message
    assert "hunter2" not in f"{fault.message}{fault.fields}{fault!r}{fault.__cause__!r}"


def test_settings_cannot_be_changed(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path)
    with pytest.raises(ValidationError):
        settings.log_level = "debug"
    with pytest.raises(ValidationError):
        settings.server.port = 1


def test_a_home_is_absolute_whatever_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TENANTRY_HOME", "state")
    assert load_settings().home == tmp_path / "state"
    assert load_settings(home=Path("other")).home == tmp_path / "other"


def test_plain_settings_hold_whatever_the_file_says(tmp_path: Path) -> None:
    write(tmp_path, text="this is not toml")
    settings = plain_settings(tmp_path, port=8123)
    assert (settings.home, settings.server.port, settings.embedded) == (tmp_path, 8123, True)
    assert settings.jobs == Settings(home=tmp_path).jobs


@pytest.mark.parametrize(
    ("days", "taken"), [(-1, False), (0, True), (1, False), (29, False), (30, True), (36_501, False)]
)
def test_audit_events_are_kept_for_a_month_at_least_or_for_ever(days: int, taken: bool, tmp_path: Path) -> None:
    write(tmp_path, text=f"[audit]\nretention_days = {days}\n")
    if taken:
        assert load_settings(home=tmp_path).audit.retention_days == days
    else:
        assert "audit.retention_days" in refused(tmp_path).message
