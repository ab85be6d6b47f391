"""What values from outside are made of."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def printable(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError("must be printable, without space at its ends")
    return text


DisplayName = Annotated[str, Field(min_length=1, max_length=120), AfterValidator(printable)]


class Value(BaseModel):
    """What comes from outside: frozen, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
