"""What can be wrong, as one tree.

MerkleError(ValueError)
├── Malformed      no hash of 32 bytes, no frontier, ranges that do not fit a plan
├── OutOfTree      an index or size that the tree does not have
├── ProofError     a proof that does not verify, for whatever reason
├── NoteError      a note or checkpoint that cannot be read, or is signed by nobody who counts
└── LogMismatch    lines that are not what the root stands for

What is handed in by strangers raises these and nothing else; a message holds none of it.
"""


class MerkleError(ValueError):
    """Base of what this engine raises on purpose."""


class Malformed(MerkleError):
    pass


class OutOfTree(MerkleError):
    pass


class ProofError(MerkleError):
    pass


class NoteError(MerkleError):
    pass


class LogMismatch(MerkleError):
    """Lines and root disagree. `index` counts from 0: the first bad leaf is one of `width` from there.

    None when nothing beside the lines tells which. Without a doubt the log is another one than was signed; where it is
    so follows from the hashes given beside, which for that purpose are believed.
    """

    def __init__(self, message: str, *, index: int | None = None, width: int = 1) -> None:
        super().__init__(message)
        self.index = index
        self.width = width
