"""What is said with a vote: masked, then sealed under a key of the approval that the tenant's keyset wraps."""

import hashlib
from typing import ClassVar
from uuid import UUID

from tenantry.capabilities.approvals import repository
from tenantry.capabilities.approvals.types import COMMENTS, Approval, Ballot
from tenantry.engines.envelope.keyring import Keyring
from tenantry.engines.envelope.keyset import Keyset
from tenantry.engines.envelope.keyset_wrapper import KeysetWrapper
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.kit.masking.stream import Mask


class ApprovalComments:
    """Seals and opens; one for each cell."""

    def __init__(self, *, keyring: Keyring) -> None:
        self._keyring = keyring
        self._mask = Mask()

    async def make_key(self, *, tenant_id: UUID, approval_id: UUID) -> bytes:
        """Make the key of an approval's comments; gives its wrapped form."""
        wrapper = KeysetWrapper(await self._keyring.keyset(tenant_id))
        return await Keyset.create().wrapped(wrapper=wrapper, context=_context(tenant_id, approval_id))

    async def seal(
        self, comment: str, *, tenant_id: UUID, approval: Approval, principal_id: str
    ) -> tuple[bytes, int, bytes]:
        """Mask and seal; gives what is stored with its size and digest, which remain."""
        key = await self._open_key(tenant_id, approval)
        text = self._mask.text(comment).encode()
        return key.seal(text, _place(approval, principal_id)), len(text), hashlib.sha256(text).digest()

    async def open(self, ballots: list[Ballot], *, tenant_id: UUID, approval: Approval) -> dict[str, str]:
        """Open what is still kept, by the principal who said it."""
        if approval.content_key is None:
            return {}
        key = await self._open_key(tenant_id, approval)
        return {
            ballot.principal_id: key.open(ballot.comment, _place(approval, ballot.principal_id)).decode()
            for ballot in ballots
            if ballot.comment is not None
        }

    async def _open_key(self, tenant_id: UUID, approval: Approval) -> Keyset:
        wrapper = KeysetWrapper(await self._keyring.keyset(tenant_id))
        context = _context(tenant_id, approval.approval_id)
        return await Keyset.unwrap(approval.content_key or b"", wrapper=wrapper, context=context)


class CommentKind:
    """The comments of an approval (`ContentKind`)."""

    name: ClassVar[str] = COMMENTS
    columns: ClassVar[frozenset[str]] = frozenset({"approvals.content_key", "approval_decisions.comment"})

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock

    async def remove_objects(self, session: TenantSession, item_id: UUID) -> None:
        """Nothing of them lies outside of the database."""

    async def forget(self, session: TenantSession, item_id: UUID) -> None:
        await repository.purge_comments(session, item_id, now=self._clock.now())


def _context(tenant_id: UUID, approval_id: UUID) -> bytes:
    return b"tenantry/approval/" + tenant_id.bytes + approval_id.bytes


def _place(approval: Approval, principal_id: str) -> bytes:
    return b"comment/" + approval.approval_id.bytes + principal_id.encode()
