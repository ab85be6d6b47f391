"""What a running job may connect to, and what it did: its own list, behind the gateway of the engine.

The list is what it asked for and every layer of policies allowed; the worker knows of no policies. Whatever a name
leads to, private addresses are reached only where the installation's own settings say so.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from tenantry.capabilities.sandboxes.errors import egress_authorities_unreadable
from tenantry.engines.egress import (
    Authority,
    Caps,
    Decision,
    Event,
    Gateway,
    Injection,
    Injector,
    trusting_context,
)
from tenantry.engines.jail.types import CERTIFICATES, Listeners, Network
from tenantry.engines.rules.network import NetworkRule, NetworkTable
from tenantry.engines.rules.types import Connection, Effect, Phase
from tenantry.foundation.settings import JobSettings
from tenantry.kit.hosts import parse_host

_TRUSTING: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO")
_SETUP_SECONDS: Final = 300.0
_MOST_TOLD: Final = 100
"""Different lines about connections in one job's log; the counts go on."""


class JobEgress:
    """Made for one attempt with a list; `attach` is the jail's to call, `close` comes with the sandbox's end.

    With `injections` its sandbox must trust `authority`, which lasts as long as the job may: `seconds`.
    """

    def __init__(
        self,
        asked: Sequence[Connection],
        *,
        settings: JobSettings,
        say: Callable[[str], None],
        injections: Sequence[Injection] = (),
        seconds: float = 0.0,
    ) -> None:
        self.network = Network(tcp_ports=frozenset(each.port for each in asked))
        self._asked = tuple(asked)
        self._table = table_of(asked)
        self._settings = settings
        self._say = say
        self._gateway: Gateway | None = None
        self._told: set[str] = set()
        self._injections = tuple(injections)
        hosts = list(dict.fromkeys(each.host for each in injections))
        self._authority = Authority(hosts, seconds=seconds + _SETUP_SECONDS) if hosts else None

    @property
    def authority(self) -> bytes | None:
        """The certificate (PEM) that the sandbox must trust, where TLS of some host ends at the gateway."""
        return None if self._authority is None else self._authority.pem

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which programs find the certificates they are to trust."""
        return {} if self._authority is None else dict.fromkeys(_TRUSTING, CERTIFICATES)

    async def attach(self, listeners: Listeners) -> None:
        """Serve what the sandbox connects to; called before its program begins.

        Raises Unavailable `egress_authorities_unreadable`.
        """
        settings = self._settings
        injector = await self._injector()
        most = settings.egress_mib << 20
        self._gateway = Gateway.open(
            listeners,
            decide=self._decide,
            on_event=self._note,
            caps=Caps(connections=settings.egress_connections, bytes_out=most, bytes_in=most),
            injector=injector,
        )

    async def _injector(self) -> Injector | None:
        if self._authority is None:
            return None
        try:
            trust = await asyncio.to_thread(trusting_context, self._settings.egress_ca_file)
        except OSError as error:
            raise egress_authorities_unreadable(error.strerror or str(error)) from None
        return Injector(self._injections, authority=self._authority, trust=trust)

    def narrow(self, asked: Sequence[Connection]) -> None:
        """Allow of what is allowed no more than this from now on; what is open and not in it ends at once."""
        self._asked = tuple(each for each in self._asked if each in asked)
        self._table = table_of(self._asked)
        if self._gateway is not None:
            self._gateway.narrow(self._decide)

    async def close(self) -> None:
        if self._gateway is not None:
            await self._gateway.close()

    def used(self) -> dict[str, int]:
        """Tell for the usage of the job: bytes either way, connections made and refused."""
        if self._gateway is None:
            return {}
        usage = self._gateway.usage
        return {
            "sent_bytes": usage.bytes_sent,
            "received_bytes": usage.bytes_received,
            "connections": usage.connections,
            "denied_connections": usage.denials,
        }

    def _decide(self, host: str, port: int) -> Decision:
        finding = self._table.decide(Phase.RUN, host, port).findings[0]
        return Decision(
            allowed=finding.effect is Effect.ALLOW,
            rule=finding.rule,
            reason=finding.message,
            remedy=finding.remedy,
            private=self._settings.egress_networks,
        )

    def _note(self, event: Event) -> None:
        """Tell in the job's log what was denied or failed, or had a secret, each once: who tries for ever must not
        fill it.
        """
        if event.injected:
            line = f"network: {', '.join(event.injected)} was injected into requests to {event.host}:{event.port}"
        elif event.allowed and event.kind != "failed":
            return
        else:
            line = event.line()
        if line not in self._told and len(self._told) < _MOST_TOLD:
            self._told.add(line)
            self._say(line)


def table_of(asked: Sequence[Connection]) -> NetworkTable:
    """Make the table that allows exactly what was asked for."""
    rules = tuple(
        NetworkRule(
            f"network[{at}]: {each.host}:{each.port}",
            Effect.ALLOW,
            host=parse_host(each.host, wildcard=True),
            ports=frozenset({each.port}),
        )
        for at, each in enumerate(asked)
    )
    return NetworkTable({Phase.FETCH: (), Phase.RUN: rules, Phase.PUBLISH: ()})
