"""The listeners of a sandbox with a network: which there are, and who is who."""

from typing import Final

from tenantry.engines.jail.launch import Address, LauncherClient
from tenantry.engines.jail.types import Listeners, Network

_INSIDE, _EVERYWHERE = "127.0.0.1", "0.0.0.0"  # noqa: S104 - every address of a namespace that has only `lo`
_DNS: Final = 53
_PROXY: Final = 3128


async def open_listeners(
    launcher: LauncherClient, network: Network, *, pid: int, inode: int, raised: bool = False
) -> Listeners:
    """Bind them in the network namespace `inode`, that of process `pid`, `raised` or as it is; raises OSError."""
    ports = network.listened
    addresses: list[Address] = [(True, _INSIDE, _DNS)]
    addresses += [(False, _INSIDE, port) for port in (_DNS, _PROXY) if port not in ports]
    addresses += [(False, _EVERYWHERE, port) for port in sorted(ports)]
    sockets = await launcher.listen(addresses, pid=pid, inode=inode, raised=raised)
    streams = {port: one for (datagrams, _, port), one in zip(addresses, sockets, strict=True) if not datagrams}
    return Listeners(
        dns=sockets[0],
        dns_tcp=streams[_DNS],
        proxy=streams[_PROXY],
        tcp={port: streams[port] for port in sorted(ports)},
    )
