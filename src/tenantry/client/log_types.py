"""What the audit log is told as; see types.py."""

from typing import TypedDict


class VerifierKey(TypedDict, total=False):
    """`key` is `name+id+base64` of C2SP signed-note."""

    key: str
    valid_from: str | None
    valid_until: str | None


class Checkpoint(TypedDict, total=False):
    """`root` is in base64; `note` is the signed text, to be kept byte for byte."""

    origin: str
    size: int
    root: str
    made_at: str
    note: str
    keys: list[VerifierKey]


class Root(TypedDict, total=False):
    """A region's signed root; `signed_by` names who has signed the note: the region, and regions that have seen it."""

    region: str
    origin: str
    size: int
    root: str
    made_at: str
    note: str
    signed_by: list[str]
    keys: list[VerifierKey]


class Anchor(TypedDict, total=False):
    """That a tenant's newest checkpoint is leaf `index` of its region's log; `leaf` and `path` are in base64."""

    checkpoint: Checkpoint
    index: int
    leaf: str
    path: list[str]
    root: Root


class ConsistencyProof(TypedDict, total=False):
    """`path`, in base64, shows that the checkpoint's log begins with its first `size` events."""

    size: int
    path: list[str]
    checkpoint: Checkpoint


class InclusionProof(TypedDict, total=False):
    """`leaf` and `path` are in base64; `index` counts from 0."""

    event: str
    index: int
    leaf: str
    path: list[str]
    checkpoint: Checkpoint
