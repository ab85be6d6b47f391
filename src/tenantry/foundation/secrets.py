"""The installation's own secrets, in `secrets.json` of the home (0600): made once, at the first start.

Every process of the installation needs the same file; an operator of several machines distributes it as any secret.
Nothing in here is ever logged, sent, or put into an environment or an argument.
"""

import json
import os
import secrets as random
from dataclasses import dataclass
from pathlib import Path

from tenantry.foundation.errors import Fault
from tenantry.foundation.files import replace_file

_NAMES = ("pepper", "context_key", "cursor_key", "signing_key")
_KEY_LENGTH = 32


@dataclass(frozen=True, slots=True, repr=False)
class Secrets:
    """`pepper` hashes API keys, `context_key` signs tenant contexts, `cursor_key` signs cursors; 32 bytes each.

    `signing_key`, 32 bytes for Ed25519, signs certificates of erasure. `passwords` are those of the embedded server's
    roles.
    """

    pepper: bytes
    context_key: bytes
    cursor_key: bytes
    signing_key: bytes
    passwords: dict[str, str]


def load_secrets(home: Path, *, roles: tuple[str, ...] = (), create: bool = False) -> Secrets:
    """Read the secrets; with `create`, make what is missing. Raises Fault for a missing, open, foreign or torn file."""
    path = home / "secrets.json"
    if not path.exists():
        if not create:
            raise Fault("secrets_missing", f"{path} is missing: start the server once, or copy it from its machine")
        made = {name: random.token_hex(32) for name in _NAMES}
        replace_file(path, json.dumps(made | {"passwords": {}}))
    status = path.stat()
    if status.st_mode & 0o077 or status.st_uid != os.geteuid():
        raise Fault("secrets_open", f"{path} must belong to this user alone: chown it and chmod 0600")
    values, secrets = _read(path)
    if create and (missing := [role for role in roles if role not in secrets.passwords]):
        secrets.passwords.update({role: random.token_urlsafe(32) for role in missing})
        replace_file(path, json.dumps(values))
    return secrets


def _read(path: Path) -> tuple[dict[str, object], Secrets]:
    """Give the file's values and what they mean; the two share the passwords."""
    try:
        values = json.loads(path.read_text())
        keys = {name: bytes.fromhex(values[name]) for name in _NAMES}
        passwords = {**values["passwords"]}
        whole = all(len(key) == _KEY_LENGTH for key in keys.values())
    except (ValueError, TypeError, KeyError):
        whole = False
    if not whole:
        # The cause is not told on: the text of a JSON error is that of the file.
        raise Fault("secrets_damaged", f"{path} is damaged: restore it; without it no key and no context is valid")
    values["passwords"] = passwords
    return values, Secrets(**keys, passwords=passwords)
