"""The keys that checkpoints of a region's logs are signed with, in `log-keys.json` of the home (0600).

The newest key of a region signs; those before it are kept with the moment at which they ended, so that what they signed
still verifies. Every process that seals for a region needs the file, as it needs `secrets.json`; one that was rotated
elsewhere is read anew.
"""

import fcntl
import json
import os
import secrets as random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from tenantry.foundation.errors import Fault
from tenantry.foundation.files import replace_file

FILE: Final = "log-keys.json"
_SEED_BYTES: Final = 32
_OVERLAP: Final = timedelta(minutes=1)
"""How long a key counts on after its successor was made: others sign with it until they have read the file."""


@dataclass(frozen=True, slots=True)
class LogKey:
    """An Ed25519 key by its seed of 32 bytes; it counts from `valid_from` until before `valid_until`."""

    seed: bytes = field(repr=False)
    valid_from: datetime
    valid_until: datetime | None = None


class LogKeys:
    """The file, read when it has changed."""

    def __init__(self, home: Path) -> None:
        self._file = home / FILE
        self._seen: tuple[int, int] | None = None
        self._keys: dict[str, tuple[LogKey, ...]] = {}

    def of(self, region: str, *, now: datetime) -> tuple[LogKey, ...]:
        """Give a region's keys, oldest first; the first is made when there is none. Raises Fault."""
        self._read()
        if region not in self._keys:
            with self._alone():
                self._read()
                if region not in self._keys:
                    self._write(region, (LogKey(random.token_bytes(_SEED_BYTES), now),))
        return self._keys[region]

    def rotate(self, region: str, *, now: datetime) -> LogKey:
        """Make the region's next key, which signs from now on; the one before it ends a minute later. Raises Fault."""
        with self._alone():
            self._read()
            known = self._keys.get(region, ())
            ended = [LogKey(last.seed, last.valid_from, now + _OVERLAP) for last in known[-1:]]
            made = LogKey(random.token_bytes(_SEED_BYTES), now)
            self._write(region, (*known[:-1], *ended, made))
        return made

    @contextmanager
    def _alone(self) -> Iterator[None]:
        descriptor = os.open(f"{self._file}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _read(self) -> None:
        try:
            status = self._file.stat()
        except FileNotFoundError:
            self._seen, self._keys = None, {}
            return
        if status.st_mode & 0o077 or status.st_uid != os.geteuid():
            raise Fault("log_keys_open", f"{self._file} must belong to this user alone: chown it and chmod 0600")
        if (seen := (status.st_mtime_ns, status.st_ino)) == self._seen:
            return
        try:
            found = json.loads(self._file.read_text())
            self._keys = {region: tuple(map(_key, keys)) for region, keys in found.items()}
        except (ValueError, TypeError, KeyError, AttributeError):
            # The cause is not told on: the text of a JSON error is that of the file.
            raise Fault("log_keys_damaged", f"{self._file} is damaged: restore it; no checkpoint is signed") from None
        self._seen = seen

    def _write(self, region: str, keys: tuple[LogKey, ...]) -> None:
        known = self._keys | {region: keys}
        replace_file(self._file, json.dumps({name: [_record(key) for key in each] for name, each in known.items()}))
        self._read()


def _key(record: dict[str, str | None]) -> LogKey:
    seed, until = bytes.fromhex(str(record["seed"])), record["valid_until"]
    if len(seed) != _SEED_BYTES:
        raise ValueError("a seed is 32 bytes")
    return LogKey(
        seed, datetime.fromisoformat(str(record["valid_from"])), datetime.fromisoformat(until) if until else None
    )


def _record(key: LogKey) -> dict[str, str | None]:
    until = key.valid_until.isoformat() if key.valid_until else None
    return {"seed": key.seed.hex(), "valid_from": key.valid_from.isoformat(), "valid_until": until}
