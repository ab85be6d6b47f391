"""Keys that something is verified by, as they are named on the command line and in files."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from tenantry.client.errors import BadRequest

if TYPE_CHECKING:
    from tenantry.engines.merkle.notes import VerifierKey

_MAX_FILE_BYTES: Final = 16 << 20

KeyOption = Annotated[
    list[str] | None, typer.Option("--key", metavar="NAME+ID+KEY", help="a key as you know it; repeat")
]
KeysFileOption = Annotated[
    Path | None, typer.Option("--keys-file", metavar="F", dir_okay=False, help="the same, one on a line")
]


def read_keys(named: Sequence[str] | None, file: Path | None) -> "list[VerifierKey] | None":
    """Read those of the options; None where neither was given. Raises BadRequest for what is no key, or no file."""
    if named is None and file is None:
        return None
    keys = [*keys_in(named or [], "--key")]
    if file is not None:
        keys += keys_in(read_file(file).decode(errors="replace").splitlines(), str(file))
    return keys


def keys_in(lines: Sequence[str], where: str) -> "Iterator[VerifierKey]":
    """Read verifier keys; raises BadRequest for what is none. Empty lines and those with a # first are passed over."""
    from tenantry.engines.merkle.errors import NoteError
    from tenantry.engines.merkle.notes import VerifierKey

    for line in lines:
        if line.strip() and not line.startswith("#"):
            try:
                yield VerifierKey.parse(line.strip())
            except NoteError as error:
                raise BadRequest("key_malformed", f"{where}: {error}") from error


def read_file(file: Path) -> bytes:
    """Read at most 16 MiB; raises BadRequest."""
    try:
        with file.open("rb") as content:
            read = content.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise BadRequest("file_unreadable", f"{file}: {error.strerror}") from error
    if len(read) > _MAX_FILE_BYTES:
        raise BadRequest("file_too_large", f"{file}: more than {_MAX_FILE_BYTES} bytes")
    return read
