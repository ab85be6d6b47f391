"""What a tenant, a workspace and a human may be called, as the API reads it."""

from typing import Annotated

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from tenantry.capabilities.tenants.types import PATH_PATTERN, SLUG_PATTERN, Email
from tenantry.capabilities.tenants.types.values import DisplayName

SLUG: TypeAdapter[str] = TypeAdapter(Annotated[str, Field(pattern=SLUG_PATTERN)])
PATH: TypeAdapter[str] = TypeAdapter(Annotated[str, Field(pattern=PATH_PATTERN)])
EMAIL: TypeAdapter[str] = TypeAdapter(Email)
NAME: TypeAdapter[str] = TypeAdapter(DisplayName)


def accepts(kind: TypeAdapter[str], text: str) -> bool:
    try:
        return kind.validate_python(text) == text
    except ValidationError:
        return False


@pytest.mark.parametrize("text", ["ab", "acme", "acme-2", "a" * 40, "00"])
def test_a_slug(text: str) -> None:
    assert accepts(SLUG, text)


@pytest.mark.parametrize(
    "text",
    ["", "a", "a" * 41, "Acme", "a_b", "a.b", "a/b", "a b", "acme\n", "\nacme", "acmé", "a\0b", "a%2fb", "\u0430cme"],
)
def test_what_is_no_slug(text: str) -> None:
    assert not accepts(SLUG, text)


@pytest.mark.parametrize(
    "text", ["personal/ana", "teams/core", "teams/core/api", "agents/bot-7", "teams/a.b_c-d", f"agents/{'a' * 63}"]
)
def test_a_path(text: str) -> None:
    assert accepts(PATH, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "personal",
        "personal/",
        "/personal/ana",
        "personal/ana/",
        "personal/ana/more",
        "agents/a/b",
        "teams/a/b/c",
        "teams/..",
        "teams/../a",
        "teams/.hidden",
        "teams/-a",
        "teams//a",
        "teams/A",
        "teams/a-",
        "teams/a.",
        "teams/a_",
        "teams/a/b.",
        "teams/a..",
        "teams/\u0430",
        "teams/\uff41",
        "teams/a\u200b",
        "teams/a\u00ad",
        "teams/\u0131",
        "teams\u2044a",
        "teams\u2215a",
        "teams\\a",
        "teams/a/..",
        "teams/a/../../b",
        "teams/%2e%2e",
        "agents/_x",
        "team/a",
        "Personal/ana",
        "users/ana",
        "teams/a b",
        "teams/a\n",
        "teams/a\0",
        "teams/é",
        "others/a",
        f"agents/{'a' * 64}",
        "teams/a\\b",
    ],
)
def test_what_is_no_path(text: str) -> None:
    assert not accepts(PATH, text)


@pytest.mark.parametrize(
    "text",
    ["a@b.co", "ana.lima+x@example.co.uk", f"{'a' * 64}@example.com", "müller@example.com", "o'neil@example.com"],
)
def test_an_address(text: str) -> None:
    assert accepts(EMAIL, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "@b.co",
        "a@",
        "a@b",
        "a@b.c",
        "a@b@c.co",
        "a b@c.co",
        "a@b.co\n",
        "a@b.co\r\nBcc: x@y.co",
        "a\n@b.co",
        "a\0@b.co",
        "a@b_c.co",
        "a@bé.co",
        f"{'a' * 65}@example.com",
        f"a@{'b' * 190}.com",
        f"a@b.{'c' * 64}",
    ],
)
def test_what_is_no_address(text: str) -> None:
    assert not accepts(EMAIL, text)


@pytest.mark.parametrize("text", ["A", "Ana Lima", "株式会社", "x" * 120, "O'Neil & Co. <x>"])
def test_a_name(text: str) -> None:
    assert accepts(NAME, text)


@pytest.mark.parametrize(
    "text", ["", " ", " a", "a ", "a\nb", "a\tb", "a\0b", "a\x1b[2J", "a\u202eb", "\u200b", "x" * 121]
)
def test_what_is_no_name(text: str) -> None:
    assert not accepts(NAME, text)
