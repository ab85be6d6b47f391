"""The content of jobs: sealed under a key of the job, which is wrapped by the tenant's, before it is written anywhere.

What a job is given and its output lie in rows, beside the job; artifacts, which may be large, in the object store.
"""

import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import BinaryIO, Final
from uuid import UUID

from tenantry.capabilities.sandboxes.errors import content_gone
from tenantry.capabilities.sandboxes.service.transient import TransientKeys
from tenantry.capabilities.sandboxes.types import Job, JobInput, LogLine, SealedLine
from tenantry.engines.envelope.keyring import Keyring
from tenantry.engines.envelope.keyset import Keyset
from tenantry.engines.envelope.keyset_wrapper import KeysetWrapper
from tenantry.engines.envelope.streams import open_stream, seal_stream
from tenantry.engines.rules.types import Phase
from tenantry.foundation.errors import Gone
from tenantry.foundation.objects.ports import ObjectStore
from tenantry.foundation.objects.threads import in_thread

_CHUNK: Final = 256 << 10
_HEAD_LENGTH: Final = 4


class JobContent:
    """Seals and opens; one for each cell."""

    def __init__(self, *, keyring: Keyring, objects: ObjectStore, transient: TransientKeys) -> None:
        self._keyring = keyring
        self._objects = objects
        self.transient = transient

    async def make_key(self, *, tenant_id: UUID, job_id: UUID) -> tuple[Keyset, bytes]:
        """Make the job's key; gives it and its wrapped form."""
        keyset = Keyset.create()
        wrapper = KeysetWrapper(await self._keyring.keyset(tenant_id))
        return keyset, await keyset.wrapped(wrapper=wrapper, context=_context(tenant_id, job_id))

    async def make_transient_key(self, *, tenant_id: UUID, job_id: UUID) -> tuple[bytes, UUID]:
        """Make a key that only this process and those it tells can open; gives its wrapped form and the holder."""
        wrapper = KeysetWrapper(self.transient.own)
        wrapped = await Keyset.create().wrapped(wrapper=wrapper, context=_context(tenant_id, job_id))
        return wrapped, self.transient.holder

    async def open_given_key(self, *, tenant_id: UUID, job: Job) -> Keyset:
        """Open the key of what the job was given; raises Gone `content_gone` when it is no longer kept."""
        if job.content_key is None:
            raise _gone(job)
        wrapper = KeysetWrapper(await self._keyring.keyset(tenant_id))
        return await Keyset.unwrap(job.content_key, wrapper=wrapper, context=_context(tenant_id, job.job_id))

    async def open_key(self, *, tenant_id: UUID, job: Job) -> Keyset:
        """Open the key of what the job leaves; raises Gone `content_gone`, Unavailable `content_key_away`."""
        if job.transient_key is None or job.transient_holder is None:
            return await self.open_given_key(tenant_id=tenant_id, job=job)
        wrapper = KeysetWrapper(await self.transient.get(job.transient_holder, tenant_id=tenant_id))
        return await Keyset.unwrap(job.transient_key, wrapper=wrapper, context=_context(tenant_id, job.job_id))

    def seal_given(self, key: Keyset, environments: Mapping[Phase, Mapping[str, str]], *, job_id: UUID) -> bytes | None:
        """Seal the environment of each program, which go at the job's end: they may hold secrets."""
        return key.seal(_framed(environments, ()), b"given/" + job_id.bytes) if any(environments.values()) else None

    def open_given(
        self, key: Keyset, sealed: bytes | None, *, job_id: UUID
    ) -> tuple[dict[Phase, dict[str, str]], list[JobInput]]:
        """Open the environments, and inputs that an older version put beside them; raises Fault for another job's."""
        return _unframed(key.open(sealed, b"given/" + job_id.bytes)) if sealed is not None else ({}, [])

    def seal_inputs(self, key: Keyset, inputs: Sequence[JobInput], *, job_id: UUID) -> bytes | None:
        """Seal the inputs alone, which outlive the environment."""
        return key.seal(_framed({}, inputs), b"inputs/" + job_id.bytes) if inputs else None

    def open_inputs(self, key: Keyset, sealed: bytes | None, *, job_id: UUID) -> list[JobInput]:
        return _unframed(key.open(sealed, b"inputs/" + job_id.bytes))[1] if sealed is not None else []

    async def open_inputs_key(self, *, tenant_id: UUID, job: Job) -> Keyset:
        """Open the key of the inputs as they lie: what it was given until its end, then what it left."""
        if job.content_key is not None:
            return await self.open_given_key(tenant_id=tenant_id, job=job)
        return await self.open_key(tenant_id=tenant_id, job=job)

    async def put_artifact(
        self, key: Keyset, source: BinaryIO, *, tenant_id: UUID, job: Job, artifact_id: UUID, limit: int
    ) -> tuple[int, bytes]:
        """Store at most `limit` bytes of an open file; gives size and SHA-256 of what it held."""
        digest = hashlib.sha256()
        size = 0

        async def chunks() -> AsyncIterator[bytes]:
            nonlocal size
            while size < limit and (chunk := await in_thread(source.read, min(_CHUNK, limit - size))):
                size += len(chunk)
                digest.update(chunk)
                yield chunk

        sealed = seal_stream(chunks(), keyset=key, associated=b"artifact/" + artifact_id.bytes)
        await self._objects.put(tenant_id, artifact_key(job.place, job.job_id, artifact_id), sealed)
        return size, digest.digest()

    def get_artifact(self, key: Keyset, *, tenant_id: UUID, job: Job, artifact_id: UUID) -> AsyncGenerator[bytes, None]:
        stored = self._objects.get(tenant_id, artifact_key(job.place, job.job_id, artifact_id))
        return open_stream(stored, keyset=key, associated=b"artifact/" + artifact_id.bytes)

    def seal_line(self, key: Keyset, line: LogLine, *, job_id: UUID) -> SealedLine:
        sealed = key.seal(line.text.encode(), _line_place(line.seq, line.stream, job_id))
        return SealedLine(line.seq, line.stream, line.at, sealed)

    def open_line(self, key: Keyset, line: SealedLine, *, job_id: UUID) -> LogLine:
        text = key.open(line.sealed, _line_place(line.seq, line.stream, job_id)).decode()
        return LogLine(line.seq, line.stream, line.at, text)

    async def purge(self, *, tenant_id: UUID, job: Job) -> None:
        """Delete the job's objects; idempotent."""
        keys = [entry.key async for entry in self._objects.list_objects(tenant_id, _folder(job.place, job.job_id))]
        for key in keys:
            await self._objects.delete(tenant_id, key)


def _framed(environments: Mapping[Phase, Mapping[str, str]], inputs: Sequence[JobInput]) -> bytes:
    """Write that of `run` where the only one was written before there were phases."""
    others = {phase.value: dict(each) for phase, each in environments.items() if phase is not Phase.RUN and each}
    told = {"env": dict(environments.get(Phase.RUN, {})), "inputs": [[i.path, len(i.content)] for i in inputs]}
    head = json.dumps(told | ({"others": others} if others else {})).encode()
    return b"".join((len(head).to_bytes(_HEAD_LENGTH, "big"), head, *(item.content for item in inputs)))


def _unframed(framed: bytes) -> tuple[dict[Phase, dict[str, str]], list[JobInput]]:
    opened = memoryview(framed)
    at = _HEAD_LENGTH + int.from_bytes(opened[:_HEAD_LENGTH], "big")
    head = json.loads(bytes(opened[_HEAD_LENGTH:at]))
    inputs = []
    for path, size in head["inputs"]:
        inputs.append(JobInput(path, bytes(opened[at : at + size])))
        at += size
    others = {Phase(name): each for name, each in head.get("others", {}).items()}
    return {Phase.RUN: head["env"], **others}, inputs


def _context(tenant_id: UUID, job_id: UUID) -> bytes:
    return b"tenantry/job/" + tenant_id.bytes + job_id.bytes


def artifact_key(place: str, job_id: UUID, artifact_id: UUID) -> str:
    """Name the object of an artifact."""
    return f"{_folder(place, job_id)}/artifacts/{artifact_id.hex}"


def _folder(place: str, job_id: UUID) -> str:
    return f"{place}/jobs/{job_id.hex}"


def _gone(job: Job) -> Gone:
    return content_gone(size_bytes=job.log_bytes, sha256=job.log_sha256.hex() if job.log_sha256 else None)


def _line_place(seq: int, stream: str, job_id: UUID) -> bytes:
    return b"line/%d/%s/" % (seq, stream.encode()) + job_id.bytes
