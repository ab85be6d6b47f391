"""Files that another process may read at any moment: written whole or not at all."""

import os
from pathlib import Path


def replace_file(path: Path, content: str, *, mode: int = 0o600) -> None:
    """Put `content` in the file's place in one step, durably; a reader meets the old text or the new, never a part.

    The mode is that of the file from its first byte. One process at a time: what a killed one left beside the file is
    taken for nobody's. Raises OSError, and then the old file still stands; a retry is safe.
    """
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
