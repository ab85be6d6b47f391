"""The only way out of a sandbox: listeners its host owns, names that are judged, and addresses that were looked at.

`Gateway` serves the listeners of one sandbox by a `decide` of its owner. README.md tells how and why.

Invariants: one canonical name decides, is resolved, dialled and told; a name is resolved once a connection, and only an
address that was checked is connected to; a query of a sandbox is forwarded to nobody; what cannot be read is denied.
"""

from tenantry.engines.egress.certificates import Authority, trusting_context
from tenantry.engines.egress.gateway import Gateway
from tenantry.engines.egress.injection import PORT, Injection, Injector, is_injectable, is_injectable_header
from tenantry.engines.egress.types import Caps, Decision, Event, Usage

__all__ = [
    "PORT",
    "Authority",
    "Caps",
    "Decision",
    "Event",
    "Gateway",
    "Injection",
    "Injector",
    "Usage",
    "is_injectable",
    "is_injectable_header",
    "trusting_context",
]
