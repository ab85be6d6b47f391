"""What a job is given, as bodies: files, secrets, connections, programs."""

import base64
import binascii
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from tenantry.capabilities.sandboxes.types import Injected, JobInput, JobPhase, JobSecret, NewPhase, WantedSecret
from tenantry.capabilities.secrets.types import NAME_PATTERN
from tenantry.capabilities.tenants.types import ENVIRONMENT_PATTERN
from tenantry.engines.rules.types import Connection, Phase
from tenantry.foundation.errors import Invalid
from tenantry.foundation.ids import Prefix, format_id
from tenantry.interfaces.api.schema import Answer, Body

_MAX_NAME = 200


def _relative(path: str) -> str:
    parts = path.split("/")
    if path.startswith("/") or "\0" in path or any(part in ("", ".", "..") or len(part) > _MAX_NAME for part in parts):
        raise ValueError("a relative path without empty, `.` or `..` parts")
    return path


RelativePath = Annotated[str, AfterValidator(_relative), Field(max_length=1000)]


def _number(value: object) -> object:
    """Whole numbers are fine where seconds or cores are asked for; booleans are not."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def no_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not hold NUL")
    return text


Text = Annotated[str, AfterValidator(no_nul), Field(max_length=100_000)]
Number = Annotated[float, BeforeValidator(_number)]
Slug = Annotated[str, Field(pattern=ENVIRONMENT_PATTERN)]
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,199}$")]


class InputBody(Body):
    path: RelativePath
    content_base64: str

    @property
    def given(self) -> JobInput:
        """Decode it; raises Invalid `base64_invalid`."""
        try:
            return JobInput(self.path, base64.b64decode(self.content_base64, validate=True))
        except (binascii.Error, ValueError):
            raise Invalid(
                "base64_invalid", "inputs: content_base64 is not base64", layer="api", field="inputs"
            ) from None


class InjectionBody(Body):
    """Requests in TLS to `host`:443 have the secret; the sandbox has a placeholder."""

    host: str = Field(min_length=1, max_length=253, description="the one host whose requests have the secret")
    env: VariableName | None = Field(
        default=None, description="variable that holds the placeholder; the secret's name, unless told"
    )
    header: str | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description="header that the gateway sets; unless told, it replaces the placeholder in any",
    )


class SecretUseBody(Body):
    name: str = Field(pattern=NAME_PATTERN)
    version: int | None = Field(default=None, ge=1, le=1 << 53, description="the newest, unless told")
    env: VariableName | None = Field(default=None, description="variable that holds it; its name, unless told")
    file: RelativePath | None = Field(default=None, description="file below /run/secrets, readable by the job alone")

    inject: InjectionBody | None = Field(
        default=None, description="gives the sandbox a placeholder alone, which the gateway replaces for one host"
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if sum(place is not None for place in (self.env, self.file, self.inject)) > 1:
            raise ValueError("one of env, file and inject")
        return self

    def wanted(self, phase: Phase = Phase.RUN) -> WantedSecret:
        if self.inject is None:
            return WantedSecret(self.name, self.version, self.env, self.file, phase)
        into = Injected(self.inject.host, self.inject.header)
        return WantedSecret(self.name, self.version, self.inject.env, phase=phase, inject=into)


class ReachBody(Body):
    host: str = Field(min_length=1, max_length=253, description="a name, `*.name`, or an address")
    port: int = Field(ge=1, le=65535)


class ConnectionBody(ReachBody):
    phase: Annotated[Phase, Field(strict=False)] = Phase.RUN

    @property
    def connection(self) -> Connection:
        return Connection(self.phase, self.host, self.port)


class PhaseBody(Body):
    """One program, in a sandbox of its own."""

    command: list[Text] = Field(min_length=1, max_length=1000)
    image: str | None = Field(default=None, min_length=1, max_length=300, description="the job's, unless told")
    env: dict[VariableName, Text] = Field(default={}, max_length=200)
    network: list[ReachBody] = Field(
        default=[], max_length=64, description="what it may connect to, where a network policy allows it in this phase"
    )
    secrets: list[SecretUseBody] = Field(default=[], max_length=32, description="asks for `secret:use`; fetch has none")
    timeout_seconds: Annotated[Number, Field(gt=0, le=30 * 86400, allow_inf_nan=False)] | None = Field(
        default=None, description="at most; all phases together have `limits.timeout_seconds`"
    )
    workspace: Literal["write", "read"] | None = Field(
        default=None, description="what it may do with /workspace; unless told publish reads, the others write"
    )
    inputs: bool | None = Field(default=None, description="whether it is given /inputs; unless told run alone is")

    def phase(self, phase: Phase) -> NewPhase:
        return NewPhase(
            phase,
            tuple(self.command),
            self.image,
            self.env,
            self.timeout_seconds,
            writable=phase is not Phase.PUBLISH if self.workspace is None else self.workspace == "write",
            inputs=phase is Phase.RUN if self.inputs is None else self.inputs,
        )


class PhasesBody(Body):
    """Programs one after the other, each in a fresh sandbox; /workspace goes from one to the next."""

    fetch: PhaseBody | None = None
    run: PhaseBody
    publish: PhaseBody | None = None

    @property
    def given(self) -> dict[Phase, PhaseBody]:
        named = {Phase.FETCH: self.fetch, Phase.RUN: self.run, Phase.PUBLISH: self.publish}
        return {phase: body for phase, body in named.items() if body is not None}


class PhaseAnswer(Answer):
    phase: str
    command: list[str]
    image: str
    image_digest: str | None
    timeout_seconds: float | None
    workspace: str
    inputs: bool


def render_phase(phase: JobPhase) -> PhaseAnswer:
    return PhaseAnswer(
        phase=phase.phase,
        command=list(phase.command),
        image=phase.image,
        image_digest=phase.image_digest,
        timeout_seconds=phase.timeout_seconds,
        workspace="write" if phase.writable else "read",
        inputs=phase.inputs,
    )


class InjectionAnswer(Answer):
    host: str
    env: str | None
    header: str | None


class JobSecretAnswer(Answer):
    id: str
    name: str
    version: int
    env: str | None
    file: str | None
    phase: str
    inject: InjectionAnswer | None


def render_secret(given: JobSecret) -> JobSecretAnswer:
    """Show which secret a job was given, and where; its value is nobody's to show."""
    into = given.inject
    return JobSecretAnswer(
        id=format_id(Prefix.SECRET, given.secret.secret_id),
        name=given.secret.name,
        version=given.secret.version,
        env=None if into else given.env,
        file=given.file,
        phase=given.phase,
        inject=None if into is None else InjectionAnswer(host=into.host, env=given.env, header=into.header),
    )
