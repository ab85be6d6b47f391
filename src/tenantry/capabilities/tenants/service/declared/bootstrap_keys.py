"""Keys of tenants that were made by a file: in files of their own, for the operator to hand on."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from tenantry.foundation.files import replace_file

FOLDER: Final = "bootstrap-keys"
_VALID: Final = timedelta(hours=24)


def keep_key(folder: Path, *, slug: str, secret: str, now: datetime) -> Path:
    """Write the owner's key to `<slug>.key` (0600, folder 0700) for `tenantry login --key-file`; gives the file.

    Files of keys that are no longer valid go. Raises OSError; a retry is safe.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for file in folder.glob("*.key"):
        if file.lstat().st_mtime < (now - _VALID).timestamp():
            file.unlink(missing_ok=True)
    path = folder / f"{slug}.key"
    replace_file(path, f"{secret}\n")
    return path
