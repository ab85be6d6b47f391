"""What routes that speak with a running sandbox have in common."""

from typing import NamedTuple

from tenantry.capabilities.sandboxes.types.living import LivePlace, LiveSandbox
from tenantry.foundation.ids import Prefix, format_id, parse_id
from tenantry.interfaces.api.unit import Unit

SANDBOX = "/workspaces/{ws}/sandboxes/{sandbox}"


class Reached(NamedTuple):
    sandbox: LiveSandbox
    place: LivePlace


async def reach(unit: Unit, sandbox: str) -> Reached:
    """Find a running sandbox that the caller may have to do with; raises NotFound, Denied, `sandbox_not_running`."""
    sandbox_id = parse_id(Prefix.SANDBOX, sandbox)
    found = await unit.sandboxes.get(sandbox_id, workspace_id=unit.workspace_id)
    unit.judge(environment=found.environment, labels=found.labels)
    return Reached(*await unit.sandboxes.place(sandbox_id, workspace_id=unit.workspace_id))


def note_read(unit: Unit, sandbox: LiveSandbox, *, kind: str, path: str) -> None:
    """Record that something of a sandbox was read, by the group commit: nothing was changed by it."""
    unit.runtime.trails[unit.scope.region].read(
        unit.scope,
        action="sandbox.accessed",
        resource_type="sandbox",
        resource_id=format_id(Prefix.SANDBOX, sandbox.sandbox_id),
        details={"kind": kind, "path": path[:1000]},
    )
