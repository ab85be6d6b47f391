"""Objects in one S3-compatible bucket (one a region): `<prefix><tenant>/objects/<key>`.

boto3's calls block, so they run in threads; an object on its way in holds two parts of 8 MiB in memory.
"""

import hashlib
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from tenantry.foundation.errors import Fault, Invalid, TenantryError, Unavailable
from tenantry.foundation.objects.keys import DIGEST_BYTES, absent, damaged, folder_of, segments_of
from tenantry.foundation.objects.multipart import Upload
from tenantry.foundation.objects.ports import ObjectEntry, ObjectStat
from tenantry.foundation.objects.threads import in_thread, pieces

# 10 000 parts are the protocol's most, so an object holds at most 78 GiB.
_PART_BYTES: Final = 8 << 20
_PIECE_BYTES: Final = 256 << 10
_SECONDS_TO_CONNECT: Final = 3
_SECONDS_TO_ANSWER: Final = 30


@dataclass(frozen=True, slots=True)
class Bucket:
    """`prefix` is empty or ends in `/`. Without keys, boto3's own chain (environment, instance role) is asked."""

    name: str
    region: str
    prefix: str = ""
    endpoint_url: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.prefix and not self.prefix.endswith("/"):
            raise Invalid("bucket_prefix_malformed", "a bucket's prefix is empty or ends in '/'", field="prefix")


class S3Objects:
    """Connects at the first use."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._made: Any = None
        self._making = threading.Lock()

    async def close(self) -> None:
        if self._made is not None:
            await in_thread(self._made.close)
            self._made = None

    async def put(self, tenant_id: UUID, key: str, content: AsyncIterator[bytes] | bytes) -> ObjectStat:
        upload = Upload(self._asked, self._key(tenant_id, key))
        try:
            async for piece in pieces(content, size=_PART_BYTES):
                await in_thread(upload.write, piece)
            return await in_thread(upload.finish)
        except BaseException:
            with suppress(TenantryError):
                await in_thread(upload.abort)
            raise

    async def get(self, tenant_id: UUID, key: str) -> AsyncGenerator[bytes, None]:
        answer = await in_thread(self._asked, "get_object", Key=self._key(tenant_id, key))
        body = answer["Body"]
        try:
            if answer["ContentLength"] < DIGEST_BYTES:
                raise damaged()
            left = answer["ContentLength"] - DIGEST_BYTES
            seen = hashlib.sha256()
            piece = b""
            while left > 0:
                if piece:
                    yield piece
                piece = await in_thread(_read, body, min(left, _PIECE_BYTES))
                left -= len(piece)
                seen.update(piece)
            # The last piece waits for the verdict: damaged content never ends as if it were whole.
            if await in_thread(_read, body, DIGEST_BYTES) != seen.digest():
                raise damaged()
            if piece:
                yield piece
        finally:
            body.close()

    async def stat(self, tenant_id: UUID, key: str) -> ObjectStat:
        return await in_thread(self._stat, self._key(tenant_id, key))

    async def delete(self, tenant_id: UUID, key: str) -> None:
        await in_thread(self._asked, "delete_object", Key=self._key(tenant_id, key))

    async def list_objects(self, tenant_id: UUID, prefix: str = "") -> AsyncGenerator[ObjectEntry, None]:
        home = self._home(tenant_id)
        below = home + "/".join([*segments_of(prefix), ""]) if prefix else home
        pages = self._pages("list_objects_v2", ("ContinuationToken",), Prefix=below)
        while (page := await in_thread(next, pages, None)) is not None:
            for found in page.get("Contents", []):
                if found["Size"] >= DIGEST_BYTES:
                    yield ObjectEntry(found["Key"].removeprefix(home), found["Size"] - DIGEST_BYTES)

    async def delete_all(self, tenant_id: UUID) -> None:
        await in_thread(self._delete_all, self._home(tenant_id))

    async def clear_unfinished(self, tenant_id: UUID, before: datetime) -> int:
        return await in_thread(self._abort_uploads, self._home(tenant_id), before)

    def _home(self, tenant_id: UUID) -> str:
        return f"{self._bucket.prefix}{folder_of(tenant_id)}/objects/"

    def _key(self, tenant_id: UUID, key: str) -> str:
        return self._home(tenant_id) + "/".join(segments_of(key))

    def _stat(self, key: str) -> ObjectStat:
        # One request tells both: the digest is the object's end, the range's total its size.
        answer = self._asked("get_object", Key=key, Range=f"bytes=-{DIGEST_BYTES}")
        digest = _read(answer["Body"], DIGEST_BYTES)
        if len(digest) != DIGEST_BYTES:
            raise damaged()
        return ObjectStat(int(answer["ContentRange"].rpartition("/")[2]) - DIGEST_BYTES, digest.hex())

    def _delete_all(self, home: str) -> None:
        self._abort_uploads(home, None)
        # Versions, not keys: in a versioned bucket deleting a key keeps the content.
        for page in self._pages("list_object_versions", ("KeyMarker", "VersionIdMarker"), Prefix=home):
            found = page.get("Versions", []) + page.get("DeleteMarkers", [])
            names = [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in found]
            if names and self._asked("delete_objects", Delete={"Objects": names, "Quiet": True}).get("Errors"):
                raise Unavailable("object_store_unavailable", "the bucket kept some of the objects; try again")

    def _abort_uploads(self, home: str, before: datetime | None) -> int:
        aborted = 0
        for page in self._pages("list_multipart_uploads", ("KeyMarker", "UploadIdMarker"), Prefix=home):
            for one in page.get("Uploads", []):
                if before is None or one["Initiated"] < before:
                    self._asked("abort_multipart_upload", Key=one["Key"], UploadId=one["UploadId"])
                    aborted += 1
        return aborted

    def _pages(self, operation: str, markers: tuple[str, ...], **fields: object) -> Iterator[dict[str, Any]]:
        while True:
            page = self._asked(operation, **fields)
            yield page
            if not page.get("IsTruncated"):
                return
            fields |= {marker: page[f"Next{marker}"] for marker in markers if f"Next{marker}" in page}

    def _asked(self, operation: str, **fields: object) -> Any:
        """Call the bucket, in the calling thread."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return getattr(self._client(), operation)(Bucket=self._bucket.name, **fields)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code == "NoSuchKey":
                raise absent() from None
            if code == "InvalidRange":
                raise damaged() from None
            if code == "NoSuchBucket":
                raise Fault("object_bucket_absent", f"bucket {self._bucket.name} does not exist; create it") from None
            raise Unavailable("object_store_unavailable", f"the bucket refused {operation} ({code})") from None
        except BotoCoreError as error:
            raise Unavailable(
                "object_store_unavailable", f"the bucket does not answer ({type(error).__name__})"
            ) from None

    def _client(self) -> Any:
        with self._making:
            if self._made is None:
                self._made = _connected(self._bucket)
            return self._made


def _connected(bucket: Bucket) -> Any:
    # 30 MiB and 0.3 s: only a server that is pointed at a bucket pays for it.
    import boto3
    from botocore.config import Config

    return boto3.session.Session().client(
        "s3",
        region_name=bucket.region,
        endpoint_url=bucket.endpoint_url,
        aws_access_key_id=bucket.access_key_id,
        aws_secret_access_key=bucket.secret_access_key,
        config=Config(
            connect_timeout=_SECONDS_TO_CONNECT,
            read_timeout=_SECONDS_TO_ANSWER,
            retries={"mode": "standard", "total_max_attempts": 3},
            # Not every compatible store knows the newer checksums; the digest at the end is ours.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


def _read(body: Any, size: int) -> bytes:
    from botocore.exceptions import BotoCoreError

    try:
        piece: bytes = body.read(size)
    except BotoCoreError as error:
        raise Unavailable("object_store_unavailable", f"the bucket broke off ({type(error).__name__})") from None
    if not piece:
        raise damaged()
    return piece
