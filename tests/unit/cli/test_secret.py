"""Values of secrets on their way in: from a file, standard input or a terminal, never an argument, never shown."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tenantry.client.calls import post

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Api, Run

SECRETS = "/workspaces/ws_1/secrets"
MADE = {"id": "sec_1", "name": "TOKEN", "version": 1}


def test_a_file_is_the_value_byte_for_byte(api: "Api", tenantry: "Run", tmp_path: Path) -> None:
    api.on("POST", SECRETS, MADE, 201)
    file = tmp_path / "key.pem"
    file.write_bytes(b" -----BEGIN-----\r\nx\n-----END-----\n\n")
    shown = tenantry("secret", "set", "TOKEN", "--file", str(file))
    assert shown.exit_code == 0
    assert "BEGIN" not in shown.output
    assert api.to("POST", SECRETS).json == {"name": "TOKEN", "value": " -----BEGIN-----\r\nx\n-----END-----\n\n"}


@pytest.mark.parametrize(("given", "value"), [("a b\n", "a b"), ("a\nb\n\n", "a\nb\n"), ("a", "a")])
def test_standard_input_is_the_value_without_the_newline_of_a_shell(
    api: "Api", tenantry: "Run", given: str, value: str
) -> None:
    api.on("POST", SECRETS, MADE, 201)
    assert tenantry("secret", "set", "TOKEN", given=given).exit_code == 0
    assert api.to("POST", SECRETS).json == {"name": "TOKEN", "value": value}


def test_what_is_no_value_is_sent_nowhere(api: "Api", tenantry: "Run", tmp_path: Path) -> None:
    file = tmp_path / "raw"
    file.write_bytes(b"\xff\xfe")
    for result, code in (
        (tenantry("secret", "set", "TOKEN", given="\n"), "value_missing"),
        (tenantry("secret", "set", "TOKEN", given="x" * 65537), "value_too_large"),
        (tenantry("secret", "set", "TOKEN", "--file", str(file)), "value_unreadable"),
    ):
        assert (result.exit_code, code in result.stderr) == (2, True), result.stderr
    assert api.asked == []


def test_a_secret_is_deleted_by_its_name(api: "Api", tenantry: "Run") -> None:
    api.lists(SECRETS, {"id": "sec_0", "name": "OTHER"}, MADE)
    api.on("DELETE", f"{SECRETS}/sec_1", None, 204)
    assert tenantry("secret", "delete", "TOKEN", "--yes").exit_code == 0
    assert "no secret NONE" in tenantry("secret", "delete", "NONE", "--yes").stderr


@pytest.mark.parametrize("text", ["", "=A", "TOKEN@", "TOKEN@x", "TOKEN@-1=A"])
def test_an_unreadable_wish_is_told_before_anything_is_sent(tenantry: "Run", text: str) -> None:
    result = tenantry("job", "run", "--secret", text, "--", "true")
    assert (result.exit_code, "secret_malformed" in result.stderr) == (2, True)


@pytest.mark.parametrize("text", ["", "TOKEN", "TOKEN=", "TOKEN@x=api.example.com", "TOKEN=,X", "TOKEN=a.example,"])
def test_an_injection_that_names_no_host_is_told_before_anything_is_sent(tenantry: "Run", text: str) -> None:
    result = tenantry("job", "run", "--inject", text, "--", "true")
    assert (result.exit_code, "secret_malformed" in result.stderr) == (2, True)


def test_a_call_does_not_show_what_it_carries() -> None:
    call = post("workspaces", "ws_1", "secrets", json={"name": "TOKEN", "value": "canary-of-a-call"})
    assert "canary-of-a-call" not in repr(call)
