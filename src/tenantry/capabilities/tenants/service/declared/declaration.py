"""What a file in `tenants/` may say: the model, the JSON Schema made of it, and a fault's place in its file."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tenantry.capabilities.tenants.types import PLATFORM_SLUG, SLUG_PATTERN, Compliance, Owner, TenantSettings
from tenantry.capabilities.tenants.types.plans import Quota
from tenantry.capabilities.tenants.types.values import DisplayName
from tenantry.kit.strict_yaml import LinedDocument, Path, parse_yaml

SPELLINGS: Final = {"tenant_id": "slug", "type": "plan"}
"""Other words for the same field, one to one; a file uses either, never both."""
_FAULTS_TOLD: Final = 20
_NAME_TOLD: Final = 80
_SCHEMA_FILE: Final = "tenant.schema.json"
_RULES: Final = {
    "missing": "is required",
    "extra_forbidden": "is no field here",
    "model_type": "must be a mapping",
    "dict_type": "must be a mapping",
    "string_type": "must be text: put it in quotes if it looks like a number or a word of YAML",
}

Entry = Annotated[str, Field(max_length=500)]
EntryName = Annotated[str, Field(min_length=1, max_length=100)]
Texts = Annotated[dict[EntryName, Entry], Field(max_length=100)]
Scalars = Annotated[dict[EntryName, Entry | int | float | bool], Field(max_length=100)]
LimitName = Literal["max_qps", "max_storage_gb", "max_users", "evidence_floor_days"]
QuotaName = Literal["maxUsers", "maxProjects", "maxTokensPerMonth", "maxStorageGB", "maxConcurrentAgents"]


class DeclaredTenant(BaseModel):
    """One tenant, declared in a file of its own. What the file does not name, it does not manage."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, title="Declared tenant")

    slug: Annotated[str, Field(pattern=SLUG_PATTERN, max_length=40, description="its name in addresses; never changes")]
    name: DisplayName
    plan: Annotated[str, Field(min_length=1, max_length=40, description="a plan of the catalogue")]
    region: Annotated[str, Field(min_length=1, max_length=16, description="where its content stays; never changes")]
    owner: Annotated[Owner, Field(description="the human who answers for it")]
    status: Annotated[
        Literal["active", "suspended"],
        Field(description="suspended: everything of it is refused and what it runs is stopped"),
    ] = "active"
    isolation: Annotated[
        Literal["row_level", "schema_level", "database_level"],
        Field(description="how its rows are kept apart; only `tenant move` changes it"),
    ] = "row_level"
    settings: Annotated[TenantSettings, Field(description="for all of its workspaces, by entry")] = TenantSettings()
    limits: Annotated[dict[LimitName, Annotated[int, Field(ge=0)]], Field(description="as a whole")] = {}
    quotas: Annotated[dict[QuotaName, Quota], Field(description="in place of the plan's, by entry")] = {}
    clock_skew_ms: Annotated[
        int, Field(ge=0, le=300_000, description="how far clocks of its callers may be off, in milliseconds")
    ] = 5000
    slo_overlay: Annotated[dict[str, Any], Field(description="targets in place of the plan's, as a whole")] = {}
    label_overlay: Annotated[dict[str, Any], Field(description="labels beside the global ones, as a whole")] = {}
    billing: Annotated[Texts, Field(description="references of the billing system, as a whole; no secrets")] = {}
    contacts: Annotated[Texts, Field(description="whom to reach for what, as a whole")] = {}
    metadata: Annotated[Scalars, Field(description="notes of the operator, as a whole")] = {}
    compliance: Annotated[Compliance, Field(description="what it must comply with, as a whole")] = {}


@dataclass(frozen=True, slots=True)
class FileFault:
    """Why a file, or a part of it, does not count. `rule` never repeats a value of the file."""

    file: str
    line: int
    field: str
    rule: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {f'{self.field}: ' if self.field else ''}{self.rule}"


@dataclass(frozen=True, slots=True)
class Declaration:
    """A valid file: what it says, and where."""

    file: str
    tenant: DeclaredTenant
    content: bytes
    """As it was read: lines are looked up when there is something to tell, not held of every file."""

    @property
    def named(self) -> dict[str, Any]:
        """The fields that the file names, as JSON; in `settings` and `owner` the entries that it names."""
        return self.tenant.model_dump(exclude_unset=True)

    def fault(self, field: str, rule: str) -> FileFault:
        """Make a fault of a field, where the file names it."""
        document = parse_yaml(self.content)
        spelt = next((other for other, own in SPELLINGS.items() if own == field and (other,) in document.lines), field)
        return FileFault(self.file, document.line_of(tuple(spelt.split("."))), field, rule)


def validate(file: str, document: LinedDocument, content: bytes) -> Declaration | list[FileFault]:
    """Read a parsed file as a tenant, or tell every rule it breaks (at most 20)."""
    if not isinstance(document.value, dict):
        return [FileFault(file, document.line_of(()), "", "must be a mapping of a tenant's fields")]
    members: dict[str, Any] = {}
    for name, value in document.value.items():
        own = SPELLINGS.get(str(name), str(name))
        if own in members:
            words = " and ".join(word for word in document.value if SPELLINGS.get(word, word) == own)
            return [FileFault(file, document.line_of((name,)), name, f"{words} say the same: leave one of them out")]
        members[own] = value
    try:
        tenant = DeclaredTenant.model_validate(members)
    except ValidationError as error:
        return list(_faults(file, document, error))[:_FAULTS_TOLD]
    if tenant.slug == PLATFORM_SLUG:
        return [Declaration(file, tenant, content).fault("slug", "is the name of the installation itself")]
    return Declaration(file, tenant, content)


def _faults(file: str, document: LinedDocument, error: ValidationError) -> Iterator[FileFault]:
    known = {own: other for other, own in SPELLINGS.items() if (other,) in document.lines}
    rules: dict[str, list[str]] = {}
    lines: dict[str, int] = {}
    for each in error.errors(include_input=False, include_url=False, include_context=False):
        head, *rest = each["loc"] or ("",)
        path: Path = (known.get(str(head), head), *rest)
        # What follows the last name that the file has is pydantic's own: a branch of a union, or `[key]`.
        while len(path) > 1 and path not in document.lines and each["type"] != "missing":
            path = path[:-1]
        field = ".".join(str(part)[:_NAME_TOLD] for part in path)
        lines.setdefault(field, document.line_of(path))
        rules.setdefault(field, []).append(_RULES.get(each["type"], each["msg"].removeprefix("Value error, ")))
    yield from (FileFault(file, lines[field], field, " or ".join(told)) for field, told in rules.items())


def make_schema() -> dict[str, Any]:
    """Make the JSON Schema (2020-12) of a file; `tenant.schema.json` is this, written out."""
    schema = DeclaredTenant.model_json_schema()
    properties: dict[str, Any] = schema["properties"]
    for described in properties.values():
        # What a file leaves out stays as it is: there is no default.
        described.pop("default", None)
    for other, own in SPELLINGS.items():
        properties[other] = {**properties[own], "title": other, "description": f"the same as {own}"}
        schema["required"].remove(own)
    either = [{"oneOf": [{"required": [own]}, {"required": [other]}]} for other, own in SPELLINGS.items()]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "description": DeclaredTenant.__doc__,
        "allOf": either,
    }


def schema_text() -> str:
    """Give the shipped JSON Schema, as it stands in the package."""
    return resources.files("tenantry.capabilities.tenants").joinpath(_SCHEMA_FILE).read_text(encoding="utf-8")


def render_schema() -> str:
    """Write the schema out as the package ships it."""
    return json.dumps(make_schema(), indent=2, ensure_ascii=False) + "\n"


def examples() -> Mapping[str, str]:
    """Give the shipped example files by name; none is ever applied by itself."""
    folder = resources.files("tenantry.capabilities.tenants").joinpath("examples")
    names = ("default.yaml", "acme-corp.yaml")
    return {name: folder.joinpath(name).read_text(encoding="utf-8") for name in names}
