"""What a running job may connect to, and what it did: its own list, behind the gateway of the engine.

The list is what it asked for and every layer of policies allowed; the worker knows of no policies. Whatever a name
leads to, private addresses are reached only where the installation's own settings say so.
"""

from collections.abc import Callable, Sequence
from typing import Final

from tenantry.engines.egress import Caps, Decision, Event, Gateway
from tenantry.engines.jail.types import Listeners, Network
from tenantry.engines.rules.network import NetworkRule, NetworkTable
from tenantry.engines.rules.types import Connection, Effect, Phase
from tenantry.foundation.settings import JobSettings
from tenantry.kit.hosts import parse_host

_MOST_TOLD: Final = 100
"""Different lines about connections in one job's log; the counts go on."""


class JobEgress:
    """Made for one attempt with a list; `attach` is the jail's to call, `close` comes with the sandbox's end."""

    def __init__(self, asked: Sequence[Connection], *, settings: JobSettings, say: Callable[[str], None]) -> None:
        self.network = Network(tcp_ports=frozenset(each.port for each in asked))
        self._asked = tuple(asked)
        self._table = table_of(asked)
        self._settings = settings
        self._say = say
        self._gateway: Gateway | None = None
        self._told: set[str] = set()

    async def attach(self, listeners: Listeners) -> None:
        """Serve what the sandbox connects to; called before its program begins."""
        settings = self._settings
        most = settings.egress_mib << 20
        self._gateway = Gateway.open(
            listeners,
            decide=self._decide,
            on_event=self._note,
            caps=Caps(connections=settings.egress_connections, bytes_out=most, bytes_in=most),
        )

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
        """Tell in the job's log what was denied or failed, each once: who tries for ever must not fill it."""
        if event.allowed and event.kind != "failed":
            return
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
