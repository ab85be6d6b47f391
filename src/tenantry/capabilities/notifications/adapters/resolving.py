"""Resolves the host of a tenant's address, and gives only addresses that may be connected to."""

import asyncio
import ipaddress
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from tenantry.capabilities.notifications.errors import NotSentError
from tenantry.kit.public_addresses import is_public

_THREADS: Final = 32
"""As many as are sent to at once: a name that is slow to resolve holds up no other, and no other work of the server."""


class Resolver:
    """Asks the system's resolver, in threads of its own."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="resolve")

    async def resolve(self, host: str, port: int) -> list[str]:
        """Give the addresses to connect to, as they were examined; at least one.

        Raises NotSentError `name_unresolved`, and `address_private` when one of them is private: a name that means
        both is a trick or a mistake.
        """
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._threads, _ask, host, port)
        except (OSError, UnicodeError):
            raise NotSentError("name_unresolved") from None
        if not self._allow_private and not all(is_public(ipaddress.ip_address(each)) for each in found):
            raise NotSentError("address_private", lasting=True)
        return found

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _ask(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
