"""Holds a log's newest checkpoint against one that was kept: whether the one's log begins with the other's."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from tenantry.capabilities.audit.errors import BundleRefused
from tenantry.engines.merkle.checkpoints import Checkpoint
from tenantry.engines.merkle.errors import NoteError, ProofError
from tenantry.engines.merkle.notes import Note, VerifierKey, canonical_base64
from tenantry.engines.merkle.proofs import verify_consistency


@dataclass(frozen=True, slots=True)
class KeptCheckpoint:
    """A checkpoint that somebody has kept, as it was signed."""

    note: Note
    checkpoint: Checkpoint

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Read a signed note; raises BundleRefused `checkpoint_malformed`."""
        try:
            note = Note.parse(raw)
            return cls(note, Checkpoint.parse(note.text))
        except NoteError as error:
            raise BundleRefused("checkpoint_malformed", f"no signed checkpoint: {error}") from error

    @property
    def size(self) -> int:
        return self.checkpoint.size

    def require_within(self, newest: bytes, path: Sequence[str], *, keys: Sequence[VerifierKey]) -> int:
        """Return the size of the `newest` checkpoint, a note, if its log begins with this one's by a proof in base64.

        Both must be signed by one of `keys`, whenever it counted: a note says not when it was signed. Raises
        BundleRefused: `checkpoint_forged`, `checkpoint_foreign`, `log_rolled_back`, `log_forked`.
        """
        later = self.parse(newest)
        for which, one in (("the checkpoint that was kept", self), ("the newest checkpoint", later)):
            try:
                one.note.verify(keys=keys, at=None)
            except NoteError as error:
                raise BundleRefused("checkpoint_forged", f"{which} is not signed by the log: {error}") from error
        if later.checkpoint.origin != self.checkpoint.origin:
            raise BundleRefused("checkpoint_foreign", f"the newest checkpoint is of {later.checkpoint.origin}")
        if later.size < self.size:
            raise BundleRefused("log_rolled_back", f"the log had {self.size} events and has {later.size}")
        self._require_begun(later, path)
        return later.size

    def _require_begun(self, later: Self, path: Sequence[str]) -> None:
        hashes = [canonical_base64(one) or b"" for one in path]
        roots = self.checkpoint.root, later.checkpoint.root
        try:
            verify_consistency(size1=self.size, root1=roots[0], size2=later.size, root2=roots[1], proof=hashes)
        except ProofError as error:
            raise BundleRefused(
                "log_forked",
                f"the log does not begin with the {self.size} events that it had: it was rewritten ({error})",
                first=1,
                last=self.size,
            ) from error
