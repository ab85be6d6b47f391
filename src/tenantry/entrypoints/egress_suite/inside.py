"""What runs in the sandbox: tries each line of its plan, and prints what came of it. The standard library alone."""

import contextlib
import errno
import json
import socket
import ssl
import struct
from pathlib import Path
from typing import Any

_PROXY = ("127.0.0.1", 3128)
_SECONDS = 3.0


def connect(host: str, port: int) -> socket.socket:
    return socket.create_connection((host, port), timeout=_SECONDS)


def talk(host: str, port: int, *parts: str) -> str:
    """Send the parts one after the other, end, and say how it ended: status, errno, or the first bytes."""
    with connect(host, port) as made:
        return _said(made, *(part.encode("latin-1") for part in parts))


def _said(made: socket.socket, *parts: bytes) -> str:
    got = b""
    for number, part in enumerate(parts):
        if number:
            got = made.recv(1 << 16)
        made.sendall(part)
    with contextlib.suppress(OSError):
        made.shutdown(socket.SHUT_WR)
    while more := made.recv(1 << 16):
        got = more
    return _word(got)


def _word(got: bytes) -> str:
    return got[9:12].decode() if got.startswith(b"HTTP/1.1 ") else got[:7].hex() or "closed"


def ask(name: str, kind: int, stream: bool = False) -> str:
    """Code and count of answers of one query."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".") if label)
    packet = struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", kind, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM) as made:
        made.settimeout(_SECONDS)
        made.connect(("127.0.0.1", 53))
        made.sendall(struct.pack(">H", len(packet)) + packet if stream else packet)
        answer = made.recv(4096)[2 if stream else 0 :]
    _, flags, _, answers, _, _ = struct.unpack(">HHHHHH", answer[:12])
    return f"{flags & 15} {answers}"


def hello(name: str, extension: int = 0) -> bytes:
    """Make what a real client sends first, with one more extension if one is named."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    sent = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname=name or None)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    made = sent.read()
    if not extension:
        return made
    body = bytearray(made[9:])
    at = 35 + body[34]
    at += 2 + int.from_bytes(body[at : at + 2], "big")
    at += 1 + body[at]
    body += struct.pack(">HH", extension, 4) + b"hide"
    body[at : at + 2] = (int.from_bytes(body[at : at + 2], "big") + 8).to_bytes(2, "big")
    message = b"\x01" + len(body).to_bytes(3, "big") + bytes(body)
    return made[:3] + len(message).to_bytes(2, "big") + message


def tls(host: str, port: int, name: str, extension: int = 0) -> str:
    with connect(host, port) as made:
        return _said(made, hello(name, extension))


def tunnel(target: str, *parts: str) -> str:
    """Through the explicit proxy; the last part may be `tls:NAME`."""
    with connect(*_PROXY) as made:
        made.sendall(f"CONNECT {target} HTTP/1.1\r\n\r\n".encode())
        answer = made.recv(1 << 16)
        if not answer.startswith(b"HTTP/1.1 200"):
            return _word(answer)
        return _said(made, *(hello(p[4:]) if p.startswith("tls:") else p.encode("latin-1") for p in parts))


def datagram(host: str, port: int) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.settimeout(0.2)
        made.connect((host, port))
        made.send(b"x" * 20)
        return made.recv(100).hex()


def hold(host: str, port: int, text: str) -> str:
    """Keep a connection, say that it is there, and wait for its end."""
    with connect(host, port) as made:
        made.sendall(text.encode("latin-1"))
        made.recv(1 << 16)
        print(json.dumps(["", "held"]), flush=True)
        return _word(made.recv(1 << 16))


_TRIES: dict[str, Any] = {
    "talk": talk, "ask": ask, "tls": tls, "tunnel": tunnel, "datagram": datagram, "hold": hold,
}  # fmt: skip


def main() -> None:
    for name, kind, arguments in json.loads(Path("/inputs/plan.json").read_text()):
        try:
            met = _TRIES[kind](*arguments)
        except OSError as error:
            met = errno.errorcode.get(error.errno or 0, type(error).__name__)
        print(json.dumps([name, met]), flush=True)


if __name__ == "__main__":
    main()
