"""What globex runs: `look_around.py PLAN` tries to reach what is not its own, and says of each what came of it.

PLAN is a JSON list of {"kind", "target", "what"}. Prints `refused` or `OPEN`, what, and why; the exit code is 1 if
anything was open. Needs the standard library alone.
"""

import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

_SECONDS = 2.0


def connect(address: str) -> None:
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), timeout=_SECONDS).close()


def connect_unix(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as opened:
        opened.settimeout(_SECONDS)
        opened.connect(path)


def send(address: str) -> None:
    host, _, port = address.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.sendto(b"hello", (host, int(port)))


def read(path: str) -> None:
    with Path(path).open("rb") as opened:
        opened.read(1)


def write(path: str) -> None:
    with Path(path).open("ab"):
        pass


def find_interface(allowed: str) -> None:
    """Succeed when there is a way out; raises OSError when there is none."""
    names = [name for _, name in socket.if_nameindex()]
    if names == [allowed]:
        raise OSError(0, f"there is only {allowed}")


def find_text(text: str) -> None:
    """Succeed when a file or an environment here holds the text; the plan, which names it, does not count."""
    tops = ("/workspace", "/inputs", "/tmp", "/run", "/dev/shm", "/var")  # noqa: S108 - places to look in
    below = (Path(folder, name) for top in tops for folder, _, names in os.walk(top) for name in names)
    for path in (*below, *Path("/proc").glob("[0-9]*/environ")):
        try:
            found = path.name != "plan.json" and text.encode() in path.read_bytes()
        except OSError:
            continue
        if found:
            return
    raise OSError(0, "no file and no environment here holds it")


ATTEMPTS: dict[str, Callable[[str], object]] = {
    "read": read,
    "list": os.listdir,
    "write": write,
    "unix": connect_unix,
    "connect": connect,
    "send": send,
    "resolve": lambda name: socket.getaddrinfo(name, 443),
    "signal": lambda pid: os.kill(int(pid), 0),
    "uid": lambda uid: os.setuid(int(uid)),
    "interface": find_interface,
    "text": find_text,
}


def main(plan: Path) -> int:
    opened = 0
    for entry in json.loads(plan.read_text()):
        try:
            ATTEMPTS[entry["kind"]](entry["target"])
        except OSError as error:
            print(f"refused  {entry['what']}: {error.strerror or error}", flush=True)
        else:
            opened += 1
            print(f"OPEN     {entry['what']}", flush=True)
    return 1 if opened else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
