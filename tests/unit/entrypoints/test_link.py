"""The link by what is set: a Unix socket or TLS, and what neither server nor workers could use is a fault."""

from pathlib import Path

import pytest
from tests.unit.capabilities.link_ends import SERVER, WORKER, Ends

from tenantry.capabilities.sandboxes.service import TlsDoor, UnixDoor
from tenantry.entrypoints.link import check_link, link_caller, link_door
from tenantry.foundation.errors import Invalid
from tenantry.foundation.link_settings import WorkerLinkSettings
from tenantry.foundation.settings import Settings


def test_without_certificates_a_worker_has_its_socket_and_a_server_no_other_way(tmp_path: Path) -> None:
    assert isinstance(link_door(WorkerLinkSettings(), tmp_path / "one.sock"), UnixDoor)
    assert link_caller(WorkerLinkSettings()) is None
    check_link(Settings(home=tmp_path))


def test_a_server_may_go_to_other_machines_while_its_own_worker_keeps_its_socket(tmp_path: Path) -> None:
    ends = Ends(tmp_path)
    settings = ends.settings(ends.server())
    assert isinstance(link_door(settings, tmp_path / "one.sock"), UnixDoor)
    assert link_caller(settings) is not None


def test_a_server_and_its_workers_need_both_names_and_a_port_each(tmp_path: Path) -> None:
    ends = Ends(tmp_path)
    both = ends.authority.issue("both", both=True, names=[SERVER, WORKER])
    for listen in ("127.0.0.1:7443-7444", "127.0.0.1:0"):
        link = ends.settings(both, listen=listen)
        check_link(Settings(home=tmp_path, worker_link=link))
        assert isinstance(link_door(link, tmp_path / "one.sock"), TlsDoor)
    with pytest.raises(Invalid, match="write 7443-7444, or 0") as refused:
        check_link(Settings(home=tmp_path, worker_link=ends.settings(both, listen="127.0.0.1:7443")))
    assert refused.value.code == "link_ports_short"
    with pytest.raises(Invalid, match=WORKER):
        check_link(Settings(home=tmp_path, worker_link=ends.settings(ends.server(), listen="127.0.0.1:0")))
