"""The files in a living sandbox's /workspace, for whoever is outside."""

from collections.abc import AsyncIterator, Iterable
from typing import BinaryIO

from tenantry.engines.jail.file_types import FileChange, FileInfo


class SandboxFiles:
    """Every call but `watch` blocks, so give it a thread. Paths are relative to /workspace, or begin with it.

    Nothing is reached through a link. Raises SpecInvalid for no path, FileMissing, FileConflict, FileRefused, FileFull,
    and SandboxEnded once the sandbox was closed.
    """

    def list(self, path: str = "") -> list[FileInfo]:
        """Tell what lies in a directory, by name; names that are no text or hold control characters are left out.

        Raises FileFull `directory_too_large` for more than 10 000.
        """
        raise NotImplementedError

    def stat(self, path: str) -> FileInfo:
        raise NotImplementedError

    def open(self, path: str) -> BinaryIO:
        """Open a regular file for reading; the caller's to close, and good when the sandbox is gone."""
        raise NotImplementedError

    def write(self, path: str, content: BinaryIO | Iterable[bytes], *, mode: int = 0o644, most_bytes: int) -> FileInfo:
        """Put a file there at once, in place of one that was; nothing is changed when it fails.

        Raises FileFull `file_too_large` above `most_bytes`, `workspace_full` when there is no room for it.
        """
        raise NotImplementedError

    def make_directory(self, path: str) -> FileInfo:
        """Make a directory and those above it; one that is there is no error."""
        raise NotImplementedError

    def delete(self, path: str, *, recursive: bool = False) -> None:
        """Delete a file, a link or an empty directory, or all of one: not at once, and a retry is safe."""
        raise NotImplementedError

    def move(self, source: str, target: str) -> FileInfo:
        """Give it another name; raises FileConflict `file_exists` when that is taken."""
        raise NotImplementedError

    def watch(self, path: str = "") -> AsyncIterator[FileChange]:
        """Tell what happens below a directory of /workspace from the first step on, until the sandbox is dead.

        At most 512 directories are watched: beyond, and when more happens than is read, an `overflow` says so.
        Close the iterator to end it. Raises at the first step what `files` raises.
        """
        raise NotImplementedError
