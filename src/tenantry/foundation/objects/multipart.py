import hashlib
from collections.abc import Callable
from typing import Any

from tenantry.foundation.objects.ports import ObjectStat


class Upload:
    """One write to a bucket: a single request when it is small, a multipart upload when not.

    `asked` calls the bucket. Nothing is visible under `key` before `finish`.
    """

    def __init__(self, asked: Callable[..., Any], key: str) -> None:
        self._asked = asked
        self._key = key
        self._held: bytes | None = None
        self._id: str | None = None
        self._parts: list[dict[str, object]] = []
        self._size = 0
        self._digest = hashlib.sha256()

    def write(self, piece: bytes) -> None:
        """Take a piece; all but the last are of one size, at least 5 MiB (the protocol's rule for parts)."""
        if self._held is not None:
            self._send(self._held)
        self._held = piece
        self._size += len(piece)
        self._digest.update(piece)

    def finish(self) -> ObjectStat:
        last = (self._held or b"") + self._digest.digest()
        if self._id is None:
            self._asked("put_object", Key=self._key, Body=last)
        else:
            self._send(last)
            parts = {"Parts": self._parts}
            self._asked("complete_multipart_upload", Key=self._key, UploadId=self._id, MultipartUpload=parts)
            self._id = None
        return ObjectStat(self._size, self._digest.hexdigest())

    def abort(self) -> None:
        """Give up what was sent; `clear_unfinished` finds what cannot be given up now."""
        if self._id is not None:
            self._asked("abort_multipart_upload", Key=self._key, UploadId=self._id)
            self._id = None

    def _send(self, part: bytes) -> None:
        if self._id is None:
            self._id = str(self._asked("create_multipart_upload", Key=self._key)["UploadId"])
        number = len(self._parts) + 1
        sent = self._asked("upload_part", Key=self._key, UploadId=self._id, PartNumber=number, Body=part)
        self._parts.append({"PartNumber": number, "ETag": sent["ETag"]})
