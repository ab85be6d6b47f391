"""What is signed: a Statement of in-toto (v1), whose predicate says what ran, under which rules, with which result.

Its bytes are RFC 8785 JSON, for ever: a member is only ever added, under another `predicateType`. Its subjects are the
work itself, by the digest of `execution` in RFC 8785, and what it left. Hashes are hexadecimal, times RFC 3339.
"""

import hashlib
import json
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from tenantry.capabilities.evidence.errors import EvidenceRefused
from tenantry.kit.canonical_json import canonical_json
from tenantry.kit.strict_json import NotStrictError, parse_json

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "urn:tenantry:evidence:v1"

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


def _moment(text: str) -> str:
    datetime.fromisoformat(text)
    return text


Moment = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00$"), AfterValidator(_moment)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Digest(_Part):
    sha256: Sha256


class ResourceDescriptor(_Part):
    """The work itself, by its id; and what it left: an artifact by its id, its output as `log`."""

    name: str
    digest: Digest


class Named(_Part):
    kind: str
    id: str


class Actor(_Part):
    """Who had it accepted, and on whose behalf, nearest first."""

    type: str
    id: str
    chain: list[str]


class Event(_Part):
    """An event of the tenant's log: the leaf at `sequence`, from 1, is SHA-256(0x00 ‖ its canonical bytes)."""

    id: str
    sequence: Annotated[int, Field(ge=1)]
    action: str
    leaf: Sha256


class SignedTree(_Part):
    """A checkpoint that has all of these events in it: size, root, and the signed note (C2SP) that says so."""

    size: Annotated[int, Field(ge=1)]
    root: Sha256
    note: str


class AuditRange(_Part):
    first: Annotated[int, Field(ge=1)]
    last: Annotated[int, Field(ge=1)]
    events: list[Event]
    checkpoint: SignedTree


class Predicate(_Part):
    evidence: str
    tenant: str
    workspace: str
    region: str
    subject: Named
    persistence_mode: Literal["metadata_only", "full"]
    """With `metadata_only` nothing here is content: digests, sizes, ids."""
    labels: dict[str, str]
    actor: Actor
    policies: dict[str, Any]
    """What was asked when it was accepted (name with version, digest), and what it said."""
    authority: dict[str, Any]
    """The just-in-time grant that alone allowed it, with its approvals and their votes; empty where none was needed."""
    execution: dict[str, Any]
    """What the capability says that ran it: for a job `docs/how-to/evidence.md`."""
    audit: AuditRange
    created_at: Moment
    ended_at: Moment
    locked_at: Moment


class Statement(_Part):
    """A whole statement."""

    type: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: Annotated[list[ResourceDescriptor], Field(min_length=1)]
    predicate_type: Literal["urn:tenantry:evidence:v1"] = Field(alias="predicateType")
    predicate: Predicate

    @classmethod
    def make(cls, predicate: dict[str, Any], *, products: list[tuple[str, bytes]]) -> bytes:
        """Write it; `products` are names and digests of what was left. Raises ValidationError for what has no form."""
        work = (predicate["subject"]["id"], execution_digest(predicate["execution"]))
        statement: dict[str, Any] = {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": name, "digest": {"sha256": each.hex()}} for name, each in (work, *products)],
            "predicateType": PREDICATE_TYPE,
            "predicate": predicate,
        }
        cls.model_validate(statement)
        return canonical_json(statement)

    @classmethod
    def read(cls, payload: bytes) -> Self:
        """Read exactly what `make` writes; raises EvidenceRefused `statement_malformed`."""
        try:
            form = parse_json(payload)
            statement = cls.model_validate(form)
            whole = canonical_json(form) == payload
        except (NotStrictError, ValidationError, ValueError) as error:
            raise EvidenceRefused("statement_malformed", "what is signed is no statement of this kind") from error
        predicate = statement.predicate
        named = {one.name for one in statement.subject}
        consistent = (
            statement.subject[0].name == predicate.subject.id
            and statement.subject[0].digest.sha256 == execution_digest(predicate.execution).hex()
            and len(named) == len(statement.subject)
        )
        if not whole or not consistent:
            raise EvidenceRefused("statement_malformed", "what is signed contradicts itself")
        return statement

    @property
    def locked_at(self) -> datetime:
        return datetime.fromisoformat(self.predicate.locked_at)


def execution_digest(execution: dict[str, Any]) -> bytes:
    return hashlib.sha256(canonical_json(execution)).digest()


def written(at: datetime) -> str:
    """Write a moment as statements do: UTC, microseconds."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def render_schema() -> str:
    """Write the JSON Schema (2020-12) of a statement."""
    schema = Statement.model_json_schema(by_alias=True)
    return json.dumps({"$id": PREDICATE_TYPE, **schema}, indent=2, ensure_ascii=False) + "\n"
