"""The SDK and the command line with a running sandbox: as if what runs there ran here."""

import fcntl
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.ending import ended
from tests.integration.sandboxes.ground import Ground, until
from tests.integration.sandboxes.living import Living, start, stop

from tenantry.client import AsyncClient, Client
from tenantry.client.channels import ChannelRefused
from tenantry.client.errors import ApiError


@pytest.fixture(scope="module")
def living(ground: Ground) -> Iterator[Living]:
    made = start(ground, "client")
    yield made
    stop(made)


@pytest.fixture(scope="module")
def client(living: Living) -> Iterator[Client]:
    with Client(url=living.ground.installation.url, key=living.key) as opened:
        yield opened


def place(living: Living) -> tuple[str, str]:
    return living.ground.workspace, living.id


def test_a_command_and_its_files(client: Client, living: Living, tmp_path: Path) -> None:
    here = place(living)
    told = client.sandboxes.exec(*here, command=["sh", "-c", "cat; exit 4"], stdin=b"given")
    assert (told["stdout"], told["exit_code"]) == ("given", 4)
    client.sandboxes.make_directory(*here, "sdk")
    client.sandboxes.upload_file(*here, "sdk/one", content=b"content", mode=0o600)
    assert [each["path"] for each in client.sandboxes.files(*here, "sdk")["items"]] == ["sdk/one"]
    client.sandboxes.move_file(*here, "sdk/one", "sdk/two")
    assert client.sandboxes.download_file(*here, "sdk/two", to=tmp_path / "two") == 7
    assert (tmp_path / "two").read_bytes() == b"content"
    client.sandboxes.delete_file(*here, "sdk", recursive=True)
    with pytest.raises(ApiError) as caught:
        client.sandboxes.files(*here, "sdk")
    assert caught.value.code == "file_not_found"


def test_a_terminal_and_a_refusal(client: Client, living: Living) -> None:
    with client.sandboxes.terminal(*place(living), command=["cat"], tty=False) as channel:
        channel.send(b"both ways")
        channel.tell(close_stdin=True)
        *pieces, end = channel
        assert isinstance(end, dict)
        assert end["exit_code"] == 0
        assert b"".join(piece[1:] for piece in pieces if isinstance(piece, bytes)) == b"both ways"
    with client.sandboxes.terminal(*place(living)) as channel:
        channel.tell(nonsense=1)
        with pytest.raises(ChannelRefused) as refused:
            list(channel)
    assert refused.value.code == "frame_invalid"
    with pytest.raises(ApiError) as absent:
        client.sandboxes.terminal(living.ground.workspace, living.id[:-4] + "aaaa")
    assert (absent.value.status, absent.value.code) == (404, "not_found")


async def test_the_same_for_asyncio(living: Living) -> None:
    async with AsyncClient(url=living.ground.installation.url, key=living.key) as client:
        told = await client.sandboxes.exec(*place(living), command=["echo", "hello"])
        assert told["stdout"] == "hello\n"
        async with await client.sandboxes.terminal(*place(living), command=["cat"], tty=False) as channel:
            await channel.send(b"both ways")
            await channel.tell(close_stdin=True)
            *pieces, end = [piece async for piece in channel]
            assert end == {"exit_code": 0, "ending": "exited", "detail": "", "truncated": False}
            assert b"".join(piece[1:] for piece in pieces if isinstance(piece, bytes)) == b"both ways"
        with pytest.raises(ApiError) as absent:
            await client.sandboxes.tunnel(living.ground.workspace, living.id[:-4] + "aaaa", 80)
        assert absent.value.status == 404


def environment(living: Living, home: Path) -> dict[str, str]:
    found = {"TENANTRY_URL": living.ground.installation.url, "TENANTRY_KEY": living.key, "TENANTRY_HOME": str(home)}
    return {**os.environ, **found, "TENANTRY_WORKSPACE": living.ground.workspace}


REVERSE = b"""
import socketserver

class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(self.rfile.read()[::-1])

server = socketserver.ThreadingTCPServer(("127.0.0.1", 9191), Handler)
print("ready", flush=True)
server.serve_forever()
"""
PROGRAM = [sys.executable, "-c", "from tenantry.entrypoints.cli import main; main()", "sandbox"]


def run(living: Living, home: Path, *words: str, given: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [*PROGRAM, *words], input=given, capture_output=True, env=environment(living, home), timeout=60, check=False
    )


def test_exec_passes_streams_input_and_exit_code_on(living: Living, tmp_path: Path) -> None:
    content = bytes(range(256)) * 1000
    done = run(living, tmp_path, "exec", "client", "--", "sh", "-c", "cat; echo err >&2; exit 9", given=content)
    assert (done.returncode, done.stdout, done.stderr) == (9, content, b"err\n")
    assert run(living, tmp_path, "exec", living.id, "--", "no-such-program").returncode == 127
    absent = run(living, tmp_path, "exec", "nobody", "--", "true")
    assert (absent.returncode, b"nobody" in absent.stderr) == (2, True)


def test_an_interrupt_reaches_the_command(living: Living, tmp_path: Path) -> None:
    script = "trap 'echo interrupted; exit 42' INT; echo ready; while :; do sleep 0.1; done"
    words = [*PROGRAM, "exec", "client", "--", "sh", "-c", script]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, env=environment(living, tmp_path)
    ) as ran:
        assert ran.stdout is not None
        assert ran.stdout.readline() == b"ready\n"
        ran.send_signal(signal.SIGINT)
        assert b"interrupted\n" in ran.stdout.read()
        assert ended(ran) == 42


def test_cp_copies_trees_both_ways_and_leaves_links_out(living: Living, tmp_path: Path) -> None:
    source = tmp_path / "tree"
    (source / "inner").mkdir(parents=True)
    (source / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (source / "run.sh").chmod(0o755)
    (source / "inner" / "data").write_bytes(bytes(300_000))
    (source / "link").symlink_to("/etc/passwd")
    assert run(living, tmp_path, "cp", str(source), "client:/copied").returncode == 0
    assert living.sh("/workspace/copied/run.sh; ls /workspace/copied")["stdout"] == "ran\ninner\nrun.sh\n"
    living.sh("ln -s /etc/passwd /workspace/copied/trap")
    done = run(living, tmp_path, "cp", f"{living.id}:copied", str(tmp_path / "back"))
    assert done.returncode == 0, done.stderr
    assert sorted(str(each.relative_to(tmp_path / "back")) for each in (tmp_path / "back").rglob("*")) == [
        "inner",
        "inner/data",
        "run.sh",
    ]
    assert os.access(tmp_path / "back" / "run.sh", os.X_OK)
    assert run(living, tmp_path, "cp", str(source / "run.sh"), "client:/copied/inner/").returncode == 0
    listed = run(living, tmp_path, "files", "client", "copied/inner")
    assert b"copied/inner/run.sh" in listed.stdout
    assert run(living, tmp_path, "cp", "a", "b").returncode == 2


def test_port_forwards_connections_here_to_there(living: Living, tmp_path: Path) -> None:
    living.put("reverse.py", REVERSE)
    with living.socket("/terminal?tty=false&command=python3&command=/workspace/reverse.py") as serving:
        assert b"ready" in serving.recv()
        words = [*PROGRAM, "port", "client", "9191", "--local", "0"]
        ran = subprocess.Popen(
            words, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=environment(living, tmp_path)
        )
        assert ran.stderr is not None
        try:
            host, _, number = ran.stderr.readline().split()[0].decode().partition(":")
            content = os.urandom(500_000)

            def give(one: socket.socket) -> None:
                one.sendall(content)
                one.shutdown(socket.SHUT_WR)

            def ask() -> None:
                with socket.create_connection((host, int(number)), timeout=30) as one:
                    threading.Thread(target=give, args=(one,)).start()
                    found = b""
                    while piece := one.recv(1 << 16):
                        found += piece
                    answers.append(found == content[::-1])

            answers: list[bool] = []
            threads = [threading.Thread(target=ask) for _ in range(3)]
            for each in threads:
                each.start()
            for each in threads:
                each.join(40)
            assert answers == [True] * 3
        finally:
            ran.send_signal(signal.SIGINT)
            ended(ran)
            ran.stderr.close()


def test_shell_is_a_terminal_as_large_as_ours_and_gives_it_back(living: Living, tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 31, 97, 0, 0))
    before = termios.tcgetattr(follower)
    ran = subprocess.Popen(
        [*PROGRAM, "shell", "client"],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env=environment(living, tmp_path),
        start_new_session=True,
    )
    seen, shown = b"", select.poll()  # of many open files the number is more than select() takes
    shown.register(leader, select.POLLIN)

    def until_shown(text: bytes) -> None:
        nonlocal seen
        deadline = time.monotonic() + 30
        while text not in seen:
            assert time.monotonic() < deadline, seen
            if shown.poll(500):
                seen += os.read(leader, 1 << 16)

    try:
        until_shown(b"$ ")
        os.write(leader, b"stty size; echo here-$((1+1))\n")
        until_shown(b"here-2")
        assert b"31 97" in seen
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 120, 0, 0))
        ran.send_signal(signal.SIGWINCH)
        sizes = "for t in /dev/pts/[0-9]*; do stty size < $t; done"
        until(lambda: "50 120" in living.sh(sizes)["stdout"])
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
        # Without a signal, as when one comes while nobody can handle it. Red once: it was told with the next output.
        until(lambda: "40 80" in living.sh(sizes)["stdout"])
        os.write(leader, b"sleep 100\n")
        until(lambda: living.sh("pgrep -f '[s]leep 100' > /dev/null")["exit_code"] == 0)
        os.write(leader, b"\x03")
        until_shown(b"^C")
        os.write(leader, b"echo after-$((2+2)); exit 6\n")
        until_shown(b"after-4")
        assert ended(ran) == 6
        assert termios.tcgetattr(follower) == before
    finally:
        ran.kill()
        ended(ran)
        os.close(leader)
        os.close(follower)
