"""Commands in a running sandbox: asked of the policies, recorded, then run; ended with whoever asked for them."""

import asyncio
import base64
import binascii
import codecs
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Annotated, Any, Final, Literal

from fastapi import Request
from pydantic import AfterValidator, Field, model_validator

from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.limits.types.quotas import Feature
from tenantry.capabilities.sandboxes.service import LiveExecution
from tenantry.capabilities.sandboxes.types.living import ExecWanted, LivePlace
from tenantry.engines.jail.exec_types import ExecOutcome
from tenantry.foundation.errors import Invalid, TenantryError
from tenantry.interfaces.api.job_forms import Number, Text, VariableName, no_nul
from tenantry.interfaces.api.live import SANDBOX, reach
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.schema import Answer, Body
from tenantry.interfaces.api.streams import (
    EVENT_STREAM,
    KEEPALIVE_LOOKS,
    Held,
    admitted,
    event,
    first_of,
    hung_up,
    refusal,
    stay,
)
from tenantry.interfaces.api.unit import Unit, unit_of

routes = RouteRegistry()

_ANSWER_BYTES: Final = 16 << 20
"""Most that one answer holds of output; a stream may have more."""
_STREAM_BYTES: Final = 1 << 30
Workdir = Annotated[str, AfterValidator(no_nul), Field(pattern="^/", max_length=4096)]


class ExecBody(Body):
    command: list[Text] = Field(min_length=1, max_length=1000)
    env: dict[VariableName, Text] = Field(default={}, max_length=200, description="over the sandbox's own")
    workdir: Workdir | None = Field(default=None, description="the sandbox's own, unless told")
    stdin: Text | None = Field(default=None, description="its input; none: it reads an empty one")
    stdin_base64: str | None = Field(default=None, description="the same, of any bytes")
    timeout_seconds: Annotated[Number, Field(gt=0, le=30 * 86400, allow_inf_nan=False)] | None = None
    output_bytes: int = Field(default=1 << 20, ge=0, le=_STREAM_BYTES, description="stdout and stderr together")
    encoding: Literal["text", "base64"] = Field(
        default="text", description="of the output; `text` replaces what is not UTF-8"
    )

    @model_validator(mode="after")
    def _one_input(self) -> "ExecBody":
        if self.stdin is not None and self.stdin_base64 is not None:
            raise ValueError("stdin or stdin_base64, not both")
        return self

    @property
    def given(self) -> bytes:
        if self.stdin_base64 is None:
            return (self.stdin or "").encode()
        try:
            return base64.b64decode(self.stdin_base64, validate=True)
        except binascii.Error:
            raise Invalid("invalid_request", "stdin_base64: is not base64", layer="api", field="stdin_base64") from None

    @property
    def wanted(self) -> ExecWanted:
        return ExecWanted(
            command=tuple(self.command),
            env=self.env,
            workdir=self.workdir,
            timeout_seconds=self.timeout_seconds,
            output_bytes=self.output_bytes,
        )


class ExecAnswer(Answer):
    exit_code: int | None = Field(description="null when it was ended by somebody else")
    ending: str = Field(description="exited, timed_out, output_limit, killed or not_started")
    detail: str
    stdout: str
    stderr: str
    truncated: bool


@routes.post(
    f"{SANDBOX}/exec", needs=Permission.SANDBOX_EXEC, replay=None, feature=Feature.ORCHESTRATION, answer=ExecAnswer
)
async def run_command(request: Request, ws: str, sandbox: str, body: ExecBody) -> Any:
    """Run one command in a running sandbox and answer at its end; with `Accept: text/event-stream` as it goes.

    It ends with the connection. It is not repeated: an `Idempotency-Key` is refused.
    """
    unit = unit_of(request)
    if "idempotency-key" in request.headers:
        raise Invalid("idempotency_unsupported", "Idempotency-Key: a command is never repeated", layer="idempotency")
    streams = EVENT_STREAM in request.headers.get("accept", "")
    if not streams and body.output_bytes > _ANSWER_BYTES:
        raise Invalid(
            "invalid_request",
            f"output_bytes: at most {_ANSWER_BYTES} in one answer: ask for {EVENT_STREAM}",
            layer="api",
            field="output_bytes",
        )
    async with AsyncExitStack() as stack:
        stack.enter_context(unit.runtime.seats.taken(unit.scope.tenant_id))
        given, place = body.given, await prepare(unit, sandbox, body.wanted)
        execution = await unit.runtime.live.exec(place, body.wanted)
        stack.push_async_callback(execution.close)
        if streams:
            events = _events(unit, execution, given, Shown(body.encoding))
            return Held(events, held=stack.pop_all(), media_type=EVENT_STREAM)
        return await first_of(_answered(execution, given, body.encoding), stay(unit), hung_up(request))


async def prepare(unit: Unit, sandbox: str, wanted: ExecWanted) -> LivePlace:
    """Find where a command runs, have it judged and recorded, and commit: nothing is held while it runs."""
    found, place = await reach(unit, sandbox)
    await unit.sandboxes.check_exec(found, wanted.command, env_names=tuple(wanted.env))
    await unit.settle()
    return place


async def _fed(execution: LiveExecution, given: bytes) -> None:
    """Give a command all of its input; one that reads no more of it goes on without."""
    await execution.write(given)
    execution.close_stdin()


async def _answered(execution: LiveExecution, given: bytes, encoding: str) -> ExecAnswer:
    feeding = asyncio.create_task(_fed(execution, given))
    found: dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
    try:
        while (piece := await execution.read()) is not None:
            found[piece[0].value] += piece[1]
        end = await execution.wait()
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
    out, err = (
        base64.b64encode(content).decode() if encoding == "base64" else content.decode(errors="replace")
        for content in (found["stdout"], found["stderr"])
    )
    return ExecAnswer(stdout=out, stderr=err, **end_of(end))


def end_of(end: ExecOutcome) -> dict[str, Any]:
    truncated = end.ending == "output_limit"
    return {"exit_code": end.exit_code, "ending": end.ending, "detail": end.detail, "truncated": truncated}


class Shown:
    """Output as events show it; a character that two pieces share comes with the second."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._decoders = {name: codecs.getincrementaldecoder("utf-8")("replace") for name in ("stdout", "stderr")}

    def piece(self, stream: str, content: bytes) -> str:
        if self._encoding == "base64":
            return event("output", {"stream": stream, "base64": base64.b64encode(content).decode()})
        return event("output", {"stream": stream, "text": self._decoders[stream].decode(content)})

    def rest(self) -> list[str]:
        """Show what of a character has come and is not followed by its end."""
        left = {name: decoder.decode(b"", final=True) for name, decoder in self._decoders.items()}
        return [event("output", {"stream": name, "text": text}) for name, text in left.items() if text]


async def _events(unit: Unit, execution: LiveExecution, given: bytes, shown: Shown) -> AsyncIterator[str]:
    feeding = asyncio.create_task(_fed(execution, given))
    quiet = 0
    try:
        async for piece in admitted(unit, execution.read):
            quiet = quiet + 1 if piece is None else 0
            if piece is not None:
                yield shown.piece(piece[0].value, piece[1])
            elif quiet % KEEPALIVE_LOOKS == 0:
                yield ": still here\n\n"
        for text in shown.rest():
            yield text
        yield event("exit", end_of(await execution.wait()))
    except TenantryError as error:
        yield event("refused", refusal(error))
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
