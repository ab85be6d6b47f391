"""A sandbox under gVisor: as any, but for how programs are put into it, and its ports, which are nobody's to reach."""

import asyncio
import socket

from tenantry.engines.jail.bringing import files_of
from tenantry.engines.jail.errors import JailUnavailable
from tenantry.engines.jail.exec_types import ExecSpec
from tenantry.engines.jail.execution import Execution
from tenantry.engines.jail.gvisor.rooms import Room
from tenantry.engines.jail.gvisor.visiting import Hall
from tenantry.engines.jail.launch import LauncherClient
from tenantry.engines.jail.parts import Parts
from tenantry.engines.jail.receipt import Receipt
from tenantry.engines.jail.sandbox import Sandbox
from tenantry.engines.jail.types import Outcome


class GvisorSandbox(Sandbox):
    """Made by `GvisorBackend.start`."""

    def __init__(self, room: Room, *, parts: Parts, launcher: LauncherClient) -> None:
        super().__init__(room.container, parts=parts, launcher=launcher)
        self._room = room
        self._hall: Hall | None = None

    async def dial(self, port: int) -> socket.socket:
        """Raise JailUnavailable `gvisor_no_ports`: its network is its kernel's own."""
        raise JailUnavailable(
            "gvisor_no_ports",
            f"port {port} of a sandbox under gVisor cannot be reached: its network is its kernel's own",
            remedy="have it run by a worker with sandboxes.backend = 'jail' or 'docker'",
        )

    async def _enter(self, wanted: ExecSpec, receipt: Receipt, life: asyncio.Task[Outcome]) -> Execution:
        if self._hall is None:
            parts = self._parts
            self._hall = Hall(self._room, parts.spec, cgroup=parts.cgroup, rlimits=parts.rlimits, files=files_of(parts))
            self._hall.receipt = receipt
        execution = await Execution.start(self._hall, wanted, over=life, on_close=self._executions.discard)
        self._executions.add(execution)
        return execution

    async def _close(self) -> None:
        if self._life is not None and not self._life.done():
            self.kill("closed")
            await asyncio.wait([self._life])
        if self._hall is not None:
            await self._hall.close()
        await super()._close()
