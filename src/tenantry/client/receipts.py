"""Keeps the receipts of what was done: the log's signature over its events, a JSON object a line, appended to a file.

`tenantry audit verify --receipt FILE` then finds an event that was removed before it had its place in the log.
"""

import base64
import binascii
import json
import os
from pathlib import Path

import httpx

from tenantry.client.errors import CredentialsError

HEADER = "Audit-Receipt"


class Receipts:
    """The file that `TENANTRY_RECEIPTS` names, made when the first receipt comes (0600); None keeps none."""

    def __init__(self, file: Path | None) -> None:
        self._file = file

    def take(self, response: httpx.Response) -> None:
        """Append what came with an answer, at once whole; raises CredentialsError when it cannot be written."""
        if self._file is None or not (given := response.headers.get_list(HEADER)):
            return
        try:
            notes = [base64.b64decode(each, validate=True).decode() for each in given]
        except (binascii.Error, UnicodeDecodeError):
            return  # none of ours; what was done is done
        lines = "".join(json.dumps({"note": note}, ensure_ascii=False) + "\n" for note in notes).encode()
        try:
            descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, lines)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise CredentialsError(
                "receipts_unwritable",
                f"{self._file}: {error.strerror}; what was asked for is done, its receipt is not kept",
                remedy="set TENANTRY_RECEIPTS to a file that can be written, or unset it",
            ) from error
