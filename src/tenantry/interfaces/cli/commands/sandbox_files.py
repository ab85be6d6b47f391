"""`sandbox files` and `sandbox cp`: what lies in a running sandbox, and copies of it."""

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated

import typer

from tenantry.client.errors import BadRequest
from tenantry.interfaces.cli.commands.sandbox_exec import SandboxName
from tenantry.interfaces.cli.commands.sandbox_place import remote_path, sandbox_id
from tenantry.interfaces.cli.invocation import Invocation
from tenantry.interfaces.cli.output import say

if TYPE_CHECKING:
    from tenantry.client.sandbox_types import FileEntry

_ROOT = PurePosixPath("/workspace")


def files(
    cli: Invocation,
    sandbox: SandboxName,
    path: Annotated[str, typer.Argument(metavar="[PATH]", help="below /workspace")] = "",
) -> None:
    """List what lies in a directory of a running sandbox, or tell of one file."""
    found = cli.client.sandboxes.files(cli.workspace, sandbox_id(cli, sandbox), path)
    file = found["file"]
    items = found["items"] if file is None or file["kind"] == "directory" else [file]
    columns = (
        ("PATH", "path"),
        ("KIND", "kind"),
        ("BYTES", "size_bytes"),
        ("MODE", "mode"),
        ("CHANGED", "modified_at"),
    )
    cli.show_items(items, columns)


def copy(
    cli: Invocation,
    source: Annotated[str, typer.Argument(metavar="FROM", help="a path here, or SANDBOX:/path")],
    target: Annotated[str, typer.Argument(metavar="TO", help="the other one")],
) -> None:
    """Copy files and directories into a running sandbox, or out of it.

    One of the two is SANDBOX:/path, below /workspace. A target that is a directory, or ends in a slash, takes the
    source's name. Links are left out, so nothing outside of what is named is read or written.
    """
    ours, theirs = remote_path(source), remote_path(target)
    if (ours is None) == (theirs is None):
        raise BadRequest("copy_ambiguous", "one of the two lies in a sandbox: SANDBOX:/path")
    if theirs is not None:
        copied = _Copy(cli, sandbox_id(cli, theirs.sandbox)).up(Path(source), theirs.path)
    elif ours is not None:
        copied = _Copy(cli, sandbox_id(cli, ours.sandbox)).down(ours.path, Path(target), named=target)
    say(f"{copied} file{'' if copied == 1 else 's'} copied")


class _Copy:
    def __init__(self, cli: Invocation, sandbox: str) -> None:
        self._files = cli.client.sandboxes
        self._at = (cli.workspace, sandbox)

    def up(self, source: Path, target: str) -> int:
        if source.is_symlink() or not source.exists():
            raise BadRequest("source_unreadable", f"{source} is no file or directory")
        to = _inside(target)
        if target.endswith("/") or self._is_directory(to):
            to /= source.resolve().name
        return self._put(source, to)

    def _put(self, source: Path, to: PurePosixPath) -> int:
        if source.is_file():
            self._files.upload_file(*self._at, str(to), content=source, mode=source.stat().st_mode & 0o777)
            return 1
        self._files.make_directory(*self._at, str(to))
        inside = [each for each in sorted(source.iterdir()) if not each.is_symlink()]
        return sum(self._put(each, to / each.name) for each in inside if each.is_file() or each.is_dir())

    def _is_directory(self, path: PurePosixPath) -> bool:
        from tenantry.client.errors import ApiError

        try:
            found = self._files.files(*self._at, str(path))["file"]
        except ApiError as error:
            if error.status == 404:  # noqa: PLR2004 - nothing is there yet
                return False
            raise
        return found is None or found["kind"] == "directory"

    def down(self, source: str, target: Path, *, named: str) -> int:
        path = _inside(source)
        found = self._files.files(*self._at, str(path))
        if target.is_dir() or named.endswith("/"):
            target /= path.name
        file = found["file"]
        if file is not None and file["kind"] != "directory":
            return self._get(file, target)
        return self._get_all(found["items"], target)

    def _get_all(self, items: "list[FileEntry]", target: Path) -> int:
        target.mkdir(parents=True, exist_ok=True)
        copied = 0
        for each in items:
            name = PurePosixPath(each["path"]).name
            if name in ("", ".", "..") or "/" in name or "\0" in name:
                raise BadRequest("name_unusable", f"a file there is called {name!r}")
            if each["kind"] == "directory":
                copied += self._get_all(self._files.files(*self._at, each["path"])["items"], target / name)
            elif each["kind"] == "file":
                copied += self._get(each, target / name)
            else:
                say(f"{each['path']} is left out: {each['kind']}")
        return copied

    def _get(self, file: "FileEntry", target: Path) -> int:
        if file["kind"] != "file":
            raise BadRequest("source_unreadable", f"{file['path']} is a {file['kind']}, and not copied")
        target.parent.mkdir(parents=True, exist_ok=True)
        self._files.download_file(*self._at, file["path"], to=target)
        target.chmod(int(file["mode"], 8) & 0o777)
        return 1


def _inside(path: str) -> PurePosixPath:
    """Give a path below /workspace, which may be left out before it."""
    plain = PurePosixPath("/", path)
    return plain if plain.is_relative_to(_ROOT) else _ROOT / plain.relative_to("/")
