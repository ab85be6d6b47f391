"""The link of workers: whole or not there, each fault with its rule, and where a server may connect to."""

from ipaddress import ip_address
from pathlib import Path

import pytest

from tenantry.foundation.errors import Invalid
from tenantry.foundation.link_settings import WorkerLinkSettings, parse_listen
from tenantry.foundation.settings import load_settings

FILES = {"ca_file": Path("ca.pem"), "certificate_file": Path("it.pem"), "key_file": Path("it.key")}


def written(home: Path, **values: object) -> None:
    lines = [
        f'{name} = "{value}"' if not isinstance(value, list) else f"{name} = {value}" for name, value in values.items()
    ]
    (home / "tenantry.toml").write_text("\n".join(["[worker_link]", *lines]))


def refused(home: Path, **values: object) -> str:
    written(home, **values)
    with pytest.raises(Invalid) as error:
        load_settings(home=home)
    assert error.value.code == "settings_invalid"
    return error.value.message


def test_without_it_there_is_none(tmp_path: Path) -> None:
    assert not load_settings(home=tmp_path).worker_link.configured


def test_a_server_needs_files_alone_and_a_worker_where_to_listen(tmp_path: Path) -> None:
    written(tmp_path, **FILES)
    assert load_settings(home=tmp_path).worker_link.configured
    written(tmp_path, **FILES, listen="10.0.0.5:7443-7450", advertise="Worker-7.example.com")
    link = load_settings(home=tmp_path).worker_link
    assert (link.listen, link.advertise) == ("10.0.0.5:7443-7450", "worker-7.example.com")


@pytest.mark.parametrize("left_out", list(FILES))
def test_half_of_it_is_refused_with_what_is_missing(tmp_path: Path, left_out: str) -> None:
    half = {name: file for name, file in FILES.items() if name != left_out}
    told = refused(tmp_path, **half, listen="10.0.0.5:7443")
    assert told.startswith("worker_link: ")
    assert f"set {left_out} too" in told


@pytest.mark.parametrize("alone", [{"listen": "10.0.0.5:7443"}, {"networks": ["10.0.0.0/8"]}, {"server_name": "a.b"}])
def test_nothing_of_it_counts_without_certificates(tmp_path: Path, alone: dict[str, object]) -> None:
    assert "set ca_file and certificate_file and key_file too" in refused(tmp_path, **alone)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"listen": "7443"}, "worker_link.listen"),
        ({"listen": "worker.example.com:7443"}, "worker_link.listen"),
        ({"listen": "::1:7443"}, "worker_link.listen"),
        ({"listen": "010.0.0.5:7443"}, "worker_link.listen"),
        ({"listen": "10.0.0.5:70000"}, "worker_link.listen"),
        ({"listen": "10.0.0.5:7450-7443"}, "worker_link.listen"),
        ({"listen": "10.0.0.5:0-10"}, "worker_link.listen"),
        ({"listen": "0.0.0.0:7443"}, "advertise must name"),
        ({"listen": "[::]:7443"}, "advertise must name"),
        ({"listen": "0.0.0.0:7443", "advertise": "0.0.0.0"}, "advertise must name"),  # noqa: S104 - to be refused
        ({"listen": "10.0.0.5:7443", "advertise": "worker:7443"}, "worker_link.advertise"),
        ({"listen": "10.0.0.5:7443", "advertise": "http://worker"}, "worker_link.advertise"),
        ({"advertise": "worker.example.com"}, "advertise needs listen"),
        ({"listen": "8.8.8.8:7443"}, "add its network"),
        ({"listen": "0.0.0.0:7443", "advertise": "169.254.169.254"}, "add its network"),
        ({"listen": "10.0.0.5:7443", "networks": ["10.1.0.0/16"]}, "add its network"),
        ({"networks": ["10.1.0.5/16"]}, "worker_link.networks"),
        ({"server_name": "Worker.tenantry"}, "must differ"),
        ({"server_name": "10.0.0.5"}, "worker_link.server_name"),
        ({"worker_name": "*.tenantry"}, "worker_link.worker_name"),
    ],
)
def test_what_could_not_work_is_refused_with_its_rule(tmp_path: Path, values: dict[str, object], told: str) -> None:
    assert told in refused(tmp_path, **FILES, **values)


def test_ports_are_one_or_a_range() -> None:
    assert parse_listen("10.0.0.5:7443") == (ip_address("10.0.0.5"), range(7443, 7444))
    assert parse_listen("[fd00::5]:7443-7444") == (ip_address("fd00::5"), range(7443, 7445))
    assert parse_listen("127.0.0.1:0") == (ip_address("127.0.0.1"), range(1))


def test_a_server_connects_to_private_networks_unless_others_are_named() -> None:
    near = WorkerLinkSettings.model_validate(FILES)
    for allowed in ("10.1.2.3", "172.16.0.1", "192.168.1.1", "127.0.0.1", "fd00::1", "::1"):
        assert near.allows(ip_address(allowed)), allowed
    for other in ("8.8.8.8", "169.254.169.254", "0.0.0.0", "100.64.0.1", "::ffff:10.1.2.3", "fe80::1", "::"):  # noqa: S104 - looked at, not listened on
        assert not near.allows(ip_address(other)), other
    named = WorkerLinkSettings.model_validate({**FILES, "networks": ["203.0.113.0/28"]})
    assert named.allows(ip_address("203.0.113.5"))
    assert not named.allows(ip_address("10.1.2.3"))
