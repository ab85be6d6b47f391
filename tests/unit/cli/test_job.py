import asyncio
import hashlib
import json
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from starlette.responses import JSONResponse, Response, StreamingResponse
from tests.ending import line_of

from tenantry.interfaces.cli.exits import exit_for_job

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.unit.cli.conftest import Api, Run, Spawn

AT = "2030-01-01T00:00:00Z"
JOBS = "/workspaces/ws_1/jobs"


def log(seq: int, stream: str, text: str) -> tuple[str, dict[str, Any]]:
    return "log", {"seq": seq, "stream": stream, "at": AT, "text": text}


def end(status: str = "succeeded", exit_code: int | None = 0) -> tuple[str, dict[str, Any]]:
    return "end", {"status": status, "exit_code": exit_code}


@pytest.fixture
def job(api: "Api") -> str:
    api.on("POST", JOBS, {"id": "job_1", "status": "queued"}, 202)
    return "job_1"


def test_run_streams_both_outputs_and_ends_with_the_jobs_code(api: "Api", tenantry: "Run", job: str) -> None:
    api.streams(
        job, log(1, "stdout", "out\n"), log(2, "stderr", "err\n"), log(3, "stdout", "no end"), end("failed", 42)
    )
    result = tenantry("job", "run", "--", "make", "--version")
    assert result.stdout == "out\nno end"
    assert result.stderr == "err\n"
    assert result.exit_code == 42
    assert api.to("POST", JOBS).json == {"command": ["make", "--version"], "image": "host"}


def test_run_sends_what_its_options_say(api: "Api", tenantry: "Run", job: str, tmp_path: Path) -> None:
    api.streams(job, end())
    source = tmp_path / "app:1.py"
    source.write_text("print()")
    options = ["--image", "py", "--input", str(source), "--input", f"{source}:lib/b.py", "--artifact", "out/*"]
    options += [
        "--secret",
        "TOKEN",
        "--secret",
        "KEY@3=API_KEY",
        "--secret-file",
        "PEM=tls/key.pem",
        "--secret-file",
        "CA",
        "--inject",
        "OUT=api.example.com",
        "--inject",
        "KEYED@2=api.example.com,X-Api-Key",
    ]
    options += ["--env", "A=b=c", "--cpus", "0.5", "--memory-mib", "64", "--pids", "9", "--timeout", "60"]
    result = tenantry("job", "run", *options, "--label", "team=core", "python3", "app.py", "--flag", "--", "x")
    assert result.exit_code == 0
    body = api.to("POST", JOBS).json
    assert body["command"] == ["python3", "app.py", "--flag", "--", "x"]
    assert [each["path"] for each in body["inputs"]] == ["app:1.py", "lib/b.py"]
    assert body["secrets"] == [
        {"name": "TOKEN"},
        {"name": "KEY", "version": 3, "env": "API_KEY"},
        {"name": "PEM", "file": "tls/key.pem"},
        {"name": "CA", "file": "CA"},
        {"name": "OUT", "inject": {"host": "api.example.com"}},
        {"name": "KEYED", "version": 2, "inject": {"host": "api.example.com", "header": "X-Api-Key"}},
    ]
    assert body["limits"] == {"cpus": 0.5, "memory_mib": 64, "pids": 9, "timeout_seconds": 60}
    assert (body["env"], body["labels"], body["artifacts"], body["image"]) == (
        {"A": "b=c"},
        {"team": "core"},
        ["out/*"],
        "py",
    )


@pytest.mark.parametrize(
    ("status", "exit_code", "expected"),
    [
        ("succeeded", 0, 0),
        ("failed", 7, 7),
        ("failed", None, 1),
        ("failed", 0, 1),
        ("failed", -9, 137),
        ("failed", 256, 1),
        ("timed_out", None, 124),
        ("cancelled", None, 130),
        ("denied", None, 3),
    ],
)
def test_the_exit_code_tells_how_a_job_ended(status: str, exit_code: int | None, expected: int) -> None:
    assert exit_for_job(status=status, exit_code=exit_code) == expected


def test_run_with_json_keeps_stdout_for_the_job(api: "Api", tenantry: "Run", job: str) -> None:
    api.streams(job, log(1, "stdout", "out\n"), end("failed", 3))
    api.on("GET", f"{JOBS}/{job}", {"id": job, "status": "failed", "exit_code": 3})
    result = tenantry("--output", "json", "job", "run", "--", "false")
    assert json.loads(result.stdout)["exit_code"] == 3
    assert result.stderr == "out\n"
    assert result.exit_code == 3


def test_a_detached_job_is_printed_and_left(api: "Api", tenantry: "Run", job: str) -> None:
    result = tenantry("job", "run", "--detach", "-o", "json", "--", "sleep", "9")
    assert json.loads(result.stdout) == {"id": job, "status": "queued"}
    assert [each.method for each in api.asked] == ["GET", "POST"]


def test_a_denied_job_names_rule_remedy_and_the_recorded_denial(api: "Api", tenantry: "Run") -> None:
    api.refuses(
        "POST", JOBS, 403, code="command_denied", layer="policies", detail="rm is blocked", job="job_9", trace_id="t1",
        allow_with="an exemption for command-policy",
    )  # fmt: skip
    result = tenantry("job", "run", "--", "rm", "-rf", "/")
    assert result.exit_code == 3
    assert result.stdout == ""
    assert result.stderr == (
        "error: command_denied (policies)\n"
        "  what:   rm is blocked\n"
        "  job:    job_9\n"
        "  remedy: an exemption for command-policy\n"
        "  trace:  t1\n"
    )


def test_logs_that_are_gone_do_not_hide_how_the_job_ended(api: "Api", tenantry: "Run", job: str) -> None:
    api.refuses("GET", f"{JOBS}/{job}/logs", 410, code="content_gone", detail="12 bytes, sha256:ab")
    api.on("GET", f"{JOBS}/{job}", {"id": job, "status": "failed", "exit_code": 5})
    result = tenantry("job", "run", "--", "x")
    assert result.exit_code == 5
    assert "no longer kept" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_cancels_the_job(api: "Api", spawn: "Spawn", job: str, number: signal.Signals) -> None:
    cancelled = asyncio.Event()

    async def running() -> "AsyncIterator[bytes]":
        _, started = log(1, "stdout", "started\n")
        yield f"event: log\ndata: {json.dumps(started)}\n\n".encode()
        await cancelled.wait()

    def cancel() -> Response:
        cancelled.set()
        return JSONResponse({"id": job, "status": "cancelled"})

    api.responds("GET", f"{JOBS}/{job}/logs", lambda: StreamingResponse(running(), media_type="text/event-stream"))
    api.responds("POST", f"{JOBS}/{job}/cancel", cancel)
    process = spawn("job", "run", "--", "sleep", "inf", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert line_of(process) == b"started\n"
    process.send_signal(number)
    assert process.wait(timeout=30) == 130
    assert cancelled.is_set()


def test_artifacts_are_fetched_into_the_directory_named(api: "Api", tenantry: "Run", job: str, tmp_path: Path) -> None:
    api.streams(job, end())
    digest = hashlib.sha256(b"<xml/>").hexdigest()
    artifact = {"id": "art_1", "path": "out/report.xml", "size_bytes": 6, "sha256": digest}
    api.lists(f"{JOBS}/{job}/artifacts", artifact)
    api.responds("GET", f"{JOBS}/{job}/artifacts/art_1/content", lambda: Response(b"<xml/>"))
    directory = tmp_path / "results"
    result = tenantry("job", "run", "--artifact", "out/*", "--download", str(directory), "--", "make")
    assert result.exit_code == 0
    assert (directory / "out" / "report.xml").read_bytes() == b"<xml/>"
    listed = tenantry("job", "artifacts", job, "--only", "*.xml", "--download", str(tmp_path / "again"))
    assert listed.stdout == f"art_1\tout/report.xml\t6\t{digest}\n"
    assert (tmp_path / "again" / "out" / "report.xml").exists()


def test_an_artifact_named_to_leave_the_directory_fetches_nothing(api: "Api", tenantry: "Run", tmp_path: Path) -> None:
    api.lists(
        f"{JOBS}/job_1/artifacts",
        {"id": "art_1", "path": "good", "size_bytes": 1},
        {"id": "art_2", "path": "../evil", "size_bytes": 1},
    )
    api.responds("GET", f"{JOBS}/job_1/artifacts/art_1/content", lambda: Response(b"x"))
    api.responds("GET", f"{JOBS}/job_1/artifacts/art_2/content", lambda: Response(b"x"))
    result = tenantry("job", "artifacts", "job_1", "--download", str(tmp_path / "out"))
    assert result.exit_code == 1
    assert "path_outside" in result.stderr
    assert not (tmp_path / "evil").exists()
    assert not (tmp_path / "out").exists()


def test_logs_are_printed_or_followed(api: "Api", tenantry: "Run") -> None:
    api.lists(f"{JOBS}/job_1/logs", {"seq": 1, "stream": "system", "at": AT, "text": "[tenantry] started\n"})
    assert tenantry("job", "logs", "job_1").stderr == "[tenantry] started\n"
    assert api.to("GET", f"{JOBS}/job_1/logs").query["follow"] == "false"
    api.streams("job_1", log(1, "stdout", "a\x1b[31m\n"), end())
    assert tenantry("job", "logs", "--follow", "job_1").stdout == "a\x1b[31m\n"
    lines = tenantry("job", "logs", "-f", "job_1", "--output", "json").stdout.splitlines()
    assert [json.loads(line).get("status") for line in lines] == [None, "succeeded"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--env", "NOVALUE"),
        ("--env", "A=1", "--env", "A=2"),
        ("--input", "/nowhere/at/all"),
        ("--detach", "--download", "x"),
        ("--memory-mib", "0"),
        (),
    ],
)
def test_arguments_that_make_no_job_are_refused_before_anything_is_sent(
    api: "Api", tenantry: "Run", arguments: tuple[str, ...]
) -> None:
    result = tenantry("job", "run", "--workspace", "ws_1", *arguments, *(("--", "true") if arguments else ()))
    assert result.exit_code == 2
    assert api.asked == []


def test_run_with_a_command_that_fetches_asks_for_phases(api: "Api", tenantry: "Run", job: str) -> None:
    api.streams(job, end())
    options = ["--fetch", "pip download x", "--fetch-connect", "pypi.org:443", "--env", "A=b", "--secret", "TOKEN"]
    result = tenantry("job", "run", *options, "--connect", "db:5432", "--", "python3", "app.py")
    assert result.exit_code == 0, result.stderr
    body = api.to("POST", JOBS).json
    assert body == {
        "image": "host",
        "phases": {
            "fetch": {"command": ["sh", "-c", "pip download x"], "network": [{"host": "pypi.org", "port": 443}]},
            "run": {
                "command": ["python3", "app.py"],
                "env": {"A": "b"},
                "network": [{"host": "db", "port": 5432}],
                "secrets": [{"name": "TOKEN"}],
            },
        },
    }


def test_run_takes_its_phases_from_a_file(api: "Api", tenantry: "Run", job: str, tmp_path: Path) -> None:
    api.streams(job, end())
    file = tmp_path / "phases.yaml"
    file.write_text("run:\n  command: [make]\npublish:\n  command: [push]\n  secrets: [{name: TOKEN}]\n")
    result = tenantry("job", "run", "--phases", str(file), "--timeout", "60")
    assert result.exit_code == 0, result.stderr
    assert api.to("POST", JOBS).json == {
        "image": "host",
        "limits": {"timeout_seconds": 60},
        "phases": {"run": {"command": ["make"]}, "publish": {"command": ["push"], "secrets": [{"name": "TOKEN"}]}},
    }


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ([], "command_missing"),
        (["--fetch", "x"], "command_missing"),
        (["--phases", "PHASES", "--", "make"], "options_conflict"),
        (["--phases", "PHASES", "--connect", "a:1"], "options_conflict"),
        (["--fetch-connect", "a:1", "--", "make"], "options_conflict"),
        (["--fetch", "x", "--fetch-connect", "a", "--", "make"], "connection_malformed"),
        (["--phases", "/absent/file"], "file_unreadable"),
        (["--phases", "EMPTY"], "phases_unreadable"),
    ],
)
def test_run_refuses_programs_that_make_no_job(tenantry: "Run", tmp_path: Path, options: list[str], code: str) -> None:
    (tmp_path / "phases").write_text("run: {command: [make]}")
    (tmp_path / "empty").write_text("fetch: {command: [make]}")
    places = {"PHASES": str(tmp_path / "phases"), "EMPTY": str(tmp_path / "empty")}
    result = tenantry("job", "run", *(places.get(word, word) for word in options))
    assert result.exit_code != 0
    assert code in result.stderr
