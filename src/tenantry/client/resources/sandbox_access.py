"""What one does with a sandbox that runs: commands, files, ports."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from tenantry.client.archives import ArchiveUpload, BytesUpload
from tenantry.client.calls import API, Call, QueryValue, delete, get, given, path_of, query_of
from tenantry.client.operations import Connecting, Download, Operation, Resource
from tenantry.client.sandbox_types import ExecResult, FileEntry, FileListing, PortToken
from tenantry.client.saving import Saving

T = TypeVar("T")


def _place(workspace: str, sandbox: str, *rest: str) -> tuple[str, ...]:
    return ("workspaces", workspace, "sandboxes", sandbox, *rest)


class SandboxAccess(Resource[T]):
    """Of a running sandbox. None of these is repeated by itself: whether a command has run, only its effects tell."""

    @Operation
    def exec(
        self,
        workspace: str,
        sandbox: str,
        /,
        *,
        command: Sequence[str],
        env: Mapping[str, str] | None = None,
        workdir: str | None = None,
        stdin: bytes | None = None,
        timeout_seconds: float | None = None,
        output_bytes: int | None = None,
        encoding: str | None = None,
    ) -> Call[ExecResult]:
        """Run a command and answer at its end; it ends with the connection.

        `encoding` is `text` or `base64`, of the output. Raises ApiError 403 when a policy denies it.
        """
        body = given(
            command=list(command),
            env=env,
            workdir=workdir,
            stdin_base64=base64.b64encode(stdin).decode("ascii") if stdin is not None else None,
            timeout_seconds=timeout_seconds,
            output_bytes=output_bytes,
            encoding=encoding,
        )
        path = path_of(*API, *_place(workspace, sandbox, "exec"))
        # Without an end of its own it may take as long as the sandbox lives.
        return Call(method="POST", path=path, json=body, wait_seconds=timeout_seconds or 30 * 86400)

    @Connecting
    def terminal(
        self,
        workspace: str,
        sandbox: str,
        /,
        *,
        command: Sequence[str] = (),
        tty: bool = True,
        rows: int | None = None,
        columns: int | None = None,
        term: str | None = None,
        workdir: str | None = None,
    ) -> Call[object]:
        """Connect to a command, `sh` unless told: what comes are its bytes, at last `{"exit_code": …, "ending": …}`.

        Without a terminal (`tty`) the first byte of each piece says of which stream it is: 1 stdout, 2 stderr.
        """
        query: dict[str, QueryValue] = {"command": list(command), "tty": tty, "rows": rows, "columns": columns}
        query |= {"term": term, "workdir": workdir}
        return get(*_place(workspace, sandbox, "terminal"), query=query)

    @Connecting
    def tunnel(self, workspace: str, sandbox: str, port: int) -> Call[object]:
        """Connect to what listens at 127.0.0.1:port inside: bytes, both ways."""
        return get(*_place(workspace, sandbox, "tunnels", str(port)))

    @Operation
    def make_port_token(
        self, workspace: str, sandbox: str, port: int, *, expires_seconds: int | None = None
    ) -> Call[PortToken]:
        """Make a token that opens one port by HTTP, for an hour at most."""
        path = path_of(*API, *_place(workspace, sandbox, "ports", str(port), "token"))
        return Call(method="POST", path=path, json=given(expires_seconds=expires_seconds))

    @Operation
    def files(self, workspace: str, sandbox: str, path: str = "") -> Call[FileListing]:
        """Tell what a path below /workspace is, and what lies in it."""
        return get(*_place(workspace, sandbox, "files"), query={"path": path})

    @Download
    def download_file(self, workspace: str, sandbox: str, path: str, *, to: Path) -> Saving:
        """Write one file of the sandbox to the file `to`, whole or not at all."""
        query: dict[str, QueryValue] = {"path": path, "content": True}
        return Saving(call=get(*_place(workspace, sandbox, "files"), query=query), to=to)

    @Operation
    def upload_file(
        self, workspace: str, sandbox: str, path: str, *, content: bytes | Path, mode: int = 0o644
    ) -> Call[FileEntry]:
        """Write a file of the sandbox, whole or not at all, in place of one that was."""
        upload = BytesUpload(content) if isinstance(content, bytes) else ArchiveUpload(path=content)
        return Call(
            method="PUT",
            path=path_of(*API, *_place(workspace, sandbox, "files")),
            query=query_of({"path": path, "mode": f"{mode & 0o777:03o}"}),
            upload=upload,
        )

    @Operation
    def delete_file(self, workspace: str, sandbox: str, path: str, *, recursive: bool = False) -> Call[None]:
        """Delete a file, a link or an empty directory, or with `recursive` all that lies in one."""
        plain = delete(*_place(workspace, sandbox, "files"))
        return Call(method=plain.method, path=plain.path, query=query_of({"path": path, "recursive": recursive}))

    @Operation
    def move_file(self, workspace: str, sandbox: str, source: str, target: str) -> Call[FileEntry]:
        """Give a file or directory another name, which must be free."""
        path = path_of(*API, *_place(workspace, sandbox, "files", "move"))
        return Call(method="POST", path=path, json={"source": source, "target": target})

    @Operation
    def make_directory(self, workspace: str, sandbox: str, path: str) -> Call[FileEntry]:
        """Make a directory and those above it; one that is there stays as it is."""
        return Call(
            method="POST",
            path=path_of(*API, *_place(workspace, sandbox, "files", "directory")),
            json={"path": path},
        )
