"""`sandbox port`: what listens in a running sandbox, at an address of this machine's own."""

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from tenantry.client.errors import ApiError, BadRequest, ClientError
from tenantry.interfaces.cli.commands.sandbox_exec import SandboxName
from tenantry.interfaces.cli.commands.sandbox_place import sandbox_id
from tenantry.interfaces.cli.invocation import Invocation
from tenantry.interfaces.cli.output import say

if TYPE_CHECKING:
    from tenantry.client.channels import Channel

_PIECE = 64 << 10


def port(
    cli: Invocation,
    sandbox: SandboxName,
    number: Annotated[int, typer.Argument(metavar="PORT", min=1, max=65535, help="what listens at 127.0.0.1 inside")],
    *,
    local: Annotated[
        int | None, typer.Option("--local", min=0, max=65535, help="port here; the same unless told, 0 for a free one")
    ] = None,
) -> None:
    """Listen on 127.0.0.1 and hand each connection on to a port of a running sandbox, until interrupted.

    Everybody on this machine can connect to it.
    """
    found = sandbox_id(cli, sandbox)
    with _listening(number if local is None else local) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        say(f"{address} leads to port {number} of {sandbox}; an interrupt ends it")
        if cli.output == "json":
            cli.show({"address": address, "port": number, "sandbox": found})
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_serve, args=(cli, found, number, connection), daemon=True).start()


def _listening(number: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", number))
    except OSError as error:
        raise BadRequest("port_taken", f"127.0.0.1:{number}: {error.strerror}", remedy="--local PORT, or 0") from error


def _serve(cli: Invocation, sandbox: str, number: int, connection: socket.socket) -> None:
    with connection:
        try:
            channel = cli.client.sandboxes.tunnel(cli.workspace, sandbox, number)
        except ClientError as error:
            say(f"port {number}: {error.message if isinstance(error, ApiError) else error}")
            return
        with channel:
            threading.Thread(target=_in, args=(channel, connection), daemon=True).start()
            _out(channel, connection)


def _in(channel: "Channel", connection: socket.socket) -> None:
    """Hand on what comes from here, and its end."""
    with contextlib.suppress(OSError, ClientError):
        while content := connection.recv(_PIECE):
            channel.send(content)
        channel.tell(close_stdin=True)


def _out(channel: "Channel", connection: socket.socket) -> None:
    """Hand on what comes from there; its end is the connection's."""
    with contextlib.suppress(OSError):
        try:
            for piece in channel:
                if isinstance(piece, bytes):
                    connection.sendall(piece)
        except ClientError as error:
            say(str(error))
        connection.shutdown(socket.SHUT_RDWR)
