"""What reaches a real terminal (a pseudo-terminal here), and what a pipe."""

import os
import pty
import subprocess
from typing import TYPE_CHECKING

import pytest

from tenantry.interfaces.cli.terminal import many_lines, one_line

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Api, Run, Spawn

EVIL = "\x1b]0;owned\x07\x1b[2J[red]x[/red]\u202egnp.exe\x9b31m\t\r\n"
AT = "2030-01-01T00:00:00Z"


def on_a_terminal(spawn: "Spawn", *arguments: str, stream: str = "stdout") -> str:
    """Everything the command showed on one of its streams, a terminal."""
    controller, terminal = pty.openpty()
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL) | {stream: terminal}
    process = spawn(*arguments, **streams)
    os.close(terminal)
    shown = b""
    try:
        while portion := os.read(controller, 65536):
            shown += portion
    except OSError:
        pass  # Linux ends a pseudo-terminal with EIO
    finally:
        os.close(controller)
    assert process.wait(timeout=30) == 0
    return shown.decode()


def test_text_from_elsewhere_cannot_steer_the_terminal_from_a_table(api: "Api", spawn: "Spawn") -> None:
    api.lists("/workspaces", {"id": "ws_1", "name": EVIL, "path": "p" * 150, "status": "active", "region": "eu"})
    shown = on_a_terminal(spawn, "workspace", "list")
    assert "WORKSPACE" not in shown
    assert "NAME" in shown
    assert r"\x1b]0;owned\x07\x1b[2J[red]x[/red]\u202egnp.exe\x9b31m\t\r\n" in shown.replace("\r\n", "")
    for steering in ("\x1b]0", "\x07", "\x1b[2J", "\u202e", "\x9b"):
        assert steering not in shown


def test_a_jobs_output_is_shown_escaped_on_a_terminal_and_raw_when_asked(api: "Api", spawn: "Spawn") -> None:
    line = {"seq": 1, "stream": "stdout", "at": AT, "text": "a\tb\x1b[31mred\r\nnext\n"}
    api.lists("/workspaces/ws_1/jobs/job_1/logs", line)
    assert on_a_terminal(spawn, "job", "logs", "job_1") == "a\tb\\x1b[31mred\r\nnext\r\n"
    assert "\x1b[31m" in on_a_terminal(spawn, "job", "logs", "--raw", "job_1")


def test_text_from_elsewhere_cannot_break_a_line_of_a_pipe(api: "Api", tenantry: "Run") -> None:
    api.lists("/workspaces", {"id": "ws_1", "name": "a\tb\nws_9\tforged"})
    assert tenantry("workspace", "list").stdout == "ws_1\ta\\tb\\nws_9\\tforged\t\t\t\n"


def test_json_holds_nothing_a_terminal_would_obey(api: "Api", tenantry: "Run") -> None:
    api.on("GET", "/tenants/acme", {"name": EVIL + "\x7f"})
    stdout = tenantry("tenant", "get", "acme", "-o", "json").stdout
    assert all(character == "\n" or " " <= character <= "~" for character in stdout)


def test_an_error_cannot_steer_the_terminal(api: "Api", tenantry: "Run") -> None:
    api.refuses("GET", "/tenants/acme", 403, code="c\x1b", detail=EVIL, layer="\x07", trace_id="\x9b", allow_with=EVIL)
    stderr = tenantry("tenant", "get", "acme").stderr
    assert all(character == "\n" or character.isprintable() for character in stderr)
    assert len(stderr.splitlines()) == 4


@pytest.mark.parametrize("code", [*range(0x20), *range(0x7F, 0xA0), 0x202E, 0x2066, 0x2028, 0xE0041])
def test_no_steering_character_is_left(code: int) -> None:
    assert chr(code) not in one_line(f"a{chr(code)}b")
    assert (chr(code) in many_lines(f"a{chr(code)}b")) == (chr(code) in "\t\n")


def test_other_scripts_are_left_alone() -> None:
    text = "żółw 北京 👩‍🚀 עברית"
    assert one_line(text) == many_lines(text) == text
