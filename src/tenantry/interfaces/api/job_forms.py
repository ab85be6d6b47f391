"""What a job is given, as bodies: files and secrets."""

import base64
import binascii
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from tenantry.capabilities.sandboxes.types import JobInput, JobSecret, WantedSecret
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


class SecretUseBody(Body):
    name: str = Field(pattern=NAME_PATTERN)
    version: int | None = Field(default=None, ge=1, le=1 << 53, description="the newest, unless told")
    env: VariableName | None = Field(default=None, description="variable that holds it; its name, unless told")
    file: RelativePath | None = Field(default=None, description="file below /run/secrets, readable by the job alone")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.env is not None and self.file is not None:
            raise ValueError("env or file, not both")
        return self

    @property
    def wanted(self) -> WantedSecret:
        return WantedSecret(self.name, self.version, self.env, self.file)


class JobSecretAnswer(Answer):
    id: str
    name: str
    version: int
    env: str | None
    file: str | None


def render_secret(given: JobSecret) -> JobSecretAnswer:
    """Show which secret a job was given, and where; its value is nobody's to show."""
    return JobSecretAnswer(
        id=format_id(Prefix.SECRET, given.secret.secret_id),
        name=given.secret.name,
        version=given.secret.version,
        env=given.env,
        file=given.file,
    )
