"""How servers and workers of one installation reach each other, by what is set."""

from pathlib import Path

from tenantry.capabilities.sandboxes.service import Door, LinkCaller, LinkIdentity, TlsDoor, UnixDoor
from tenantry.foundation.errors import Invalid
from tenantry.foundation.link_settings import WorkerLinkSettings, parse_listen
from tenantry.foundation.settings import Settings


def link_door(settings: WorkerLinkSettings, path: Path) -> Door:
    """Make where a worker is to listen; raises Invalid `tls_unusable`."""
    if settings.listen is None:
        return UnixDoor(path)
    return TlsDoor(LinkIdentity(settings, serves=True), settings)


def link_caller(settings: WorkerLinkSettings) -> LinkCaller | None:
    """Make a server's way to workers of other machines, None where there are none; raises Invalid `tls_unusable`."""
    return LinkCaller(LinkIdentity(settings, serves=False), settings) if settings.configured else None


def check_link(settings: Settings) -> None:
    """Look whether a server, and the workers that it starts, could use what is set; raises Invalid."""
    link = settings.worker_link
    link_caller(link)
    if link.listen is None:
        return
    LinkIdentity(link, serves=True)
    _, ports = parse_listen(link.listen)
    if 0 not in ports and len(ports) < len(settings.region_names):
        told = ", ".join(settings.region_names)
        wanted = f"{ports.start}-{ports.start + len(settings.region_names) - 1}"
        raise Invalid(
            "link_ports_short",
            f"worker_link.listen: each worker of this machine, {told}, needs a port: write {wanted}, or 0",
            layer="settings",
        )
