"""A command in a running sandbox over a WebSocket: a terminal, or its streams."""

from typing import Annotated, Any, Final

from fastapi import Query, Request
from pydantic import ConfigDict, Field, ValidationError

from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.limits.types.quotas import Feature
from tenantry.capabilities.sandboxes.service import LiveExecution
from tenantry.capabilities.sandboxes.types.living import ExecWanted, LivePlace
from tenantry.engines.jail.exec_types import TerminalSize
from tenantry.foundation.errors import Invalid
from tenantry.interfaces.api.job_forms import Text
from tenantry.interfaces.api.live import SANDBOX
from tenantry.interfaces.api.routes.sandbox_exec import Workdir, end_of, prepare
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.schema import Body
from tenantry.interfaces.api.sockets import Socket, Upgrade
from tenantry.interfaces.api.streams import either
from tenantry.interfaces.api.unit import Unit, unit_of
from tenantry.kit.strict_json import NotStrictError, parse_json

routes = RouteRegistry()

_MOST_CELLS: Final = 10_000
_STREAM_OF: Final = {"stdout": b"\x01", "stderr": b"\x02"}
_OUTPUT_BYTES: Final = 1 << 40
"""A terminal may be talked with for long; what reads it holds nothing."""

Cells = Annotated[int, Field(ge=1, le=_MOST_CELLS)]


class SizeBody(Body):
    rows: Cells
    columns: Cells


class ControlBody(Body):
    """A text frame to a command: one of these."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    resize: SizeBody | None = None
    signal: Annotated[int, Field(ge=1, le=64)] | None = None
    close_stdin: bool | None = None


@routes.socket(f"{SANDBOX}/terminal", needs=Permission.SANDBOX_EXEC, feature=Feature.ORCHESTRATION, recorded=True)
async def open_terminal(
    request: Request,
    ws: str,
    sandbox: str,
    command: Annotated[list[Text], Query(max_length=1000, description="once for each word; none: `sh`")] = [],  # noqa: B006 - a default of the parameter, never changed
    tty: Annotated[bool, Query(description="false: its streams, without a terminal")] = True,
    rows: Annotated[int, Query(ge=1, le=_MOST_CELLS)] = 24,
    columns: Annotated[int, Query(ge=1, le=_MOST_CELLS)] = 80,
    term: Annotated[str, Query(pattern=r"^[A-Za-z0-9._+-]{1,64}$", description="what the terminal is, for TERM")] = (
        "xterm-256color"
    ),
    workdir: Annotated[Workdir | None, Query(description="the sandbox's own, unless told")] = None,
    timeout_seconds: Annotated[float | None, Query(gt=0, le=30 * 86400)] = None,
) -> Upgrade:
    """A WebSocket to a command. Binary frames are its bytes, both ways; without a terminal those from it begin with one
    byte, 1 for stdout and 2 for stderr. Text frames are JSON: to it `{"resize": {"rows", "columns"}}`, `{"signal": n}`,
    `{"close_stdin": true}`, from it at last `{"exit_code", "ending", …}`. It ends with the connection.
    """
    unit = unit_of(request)
    wanted = ExecWanted(
        command=tuple(command) or ("sh",),
        env={"TERM": term} if tty else {},
        workdir=workdir,
        terminal=TerminalSize(rows, columns) if tty else None,
        timeout_seconds=timeout_seconds,
        output_bytes=_OUTPUT_BYTES,
    )
    place = await prepare(unit, sandbox, wanted)

    async def serve(socket: Socket) -> None:
        await _talk(unit, place, wanted, socket)

    return Upgrade(unit, serve)


async def _talk(unit: Unit, place: LivePlace, wanted: ExecWanted, socket: Socket) -> None:
    execution = await unit.runtime.live.exec(place, wanted)
    try:
        plain = wanted.terminal is not None
        await either(_hear(execution, socket), _tell(execution, socket, plain=plain))
    finally:
        await execution.close()


async def _hear(execution: LiveExecution, socket: Socket) -> None:
    """Hand on what comes from the peer, until it has gone."""
    while (message := await socket.receive()) is not None:
        if isinstance(message, bytes):
            await execution.write(message)
            continue
        control = _control(message)
        if control.resize is not None:
            execution.resize(TerminalSize(control.resize.rows, control.resize.columns))
        if control.signal is not None:
            execution.signal(control.signal)
        if control.close_stdin:
            execution.close_stdin()


def _control(text: str) -> ControlBody:
    try:
        return ControlBody.model_validate(parse_json(text.encode()))
    except (NotStrictError, ValidationError):
        raise Invalid(
            "frame_invalid",
            'a text frame is {"resize": {"rows", "columns"}}, {"signal": n} or {"close_stdin": true}; input is binary',
            layer="api",
        ) from None


async def _tell(execution: LiveExecution, socket: Socket, *, plain: bool) -> None:
    while (piece := await execution.read()) is not None:
        stream, content = piece
        await socket.send(content if plain else _STREAM_OF[stream.value] + content)
    end: dict[str, Any] = end_of(await execution.wait())
    await socket.send(end)
