"""What a job is given, as bodies: files and secrets."""

import base64
import binascii
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from tenantry.capabilities.sandboxes.types import Injected, JobInput, JobSecret, WantedSecret
from tenantry.capabilities.secrets.types import NAME_PATTERN
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

    @property
    def wanted(self) -> WantedSecret:
        if self.inject is None:
            return WantedSecret(self.name, self.version, self.env, self.file)
        into = Injected(self.inject.host, self.inject.header)
        return WantedSecret(self.name, self.version, self.inject.env, inject=into)


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
        inject=None if into is None else InjectionAnswer(host=into.host, env=given.env, header=into.header),
    )
