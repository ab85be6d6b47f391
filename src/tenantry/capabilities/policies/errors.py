"""What policies refuse."""

from collections.abc import Sequence

from tenantry.capabilities.policies.types import Reason
from tenantry.engines.rules.errors import DocumentFault
from tenantry.foundation.errors import Conflict, Denied, Fault, Invalid, NotFound, Precondition, Unavailable


def policy_not_found() -> NotFound:
    return NotFound("not_found", "no such policy", layer="policies")


def exemption_not_found() -> NotFound:
    return NotFound("not_found", "no such exemption", layer="policies")


def policy_version_mismatch() -> Precondition:
    return Precondition("version_mismatch", "the policy has a newer version: read it again", layer="policies")


def state_conflict() -> Conflict:
    return Conflict(
        "state_conflict",
        "the policy: this version is in force; retire it, or put another in its place",
        layer="policies",
    )


def policy_invalid(faults: Sequence[DocumentFault]) -> Invalid:
    """Refuse a document; the one in force stays in force."""
    first = faults[0]
    return Invalid(
        "policy_invalid",
        f"{first}; what is in force stays in force",
        layer="policies",
        errors=[{"field": fault.path, "line": fault.line, "rule": fault.rule} for fault in faults],
    )


def settings_invalid(name: str, rule: str) -> Invalid:
    return Invalid("image_glob_invalid", f"settings.{name}: {rule}", layer="policies", field=f"settings.{name}")


def policy_files_invalid(faults: Sequence[str]) -> Invalid:
    return Invalid("policies_invalid", "; ".join(faults), layer="policies", field="policies_dir", faults=[*faults])


def policy_denied(detail: str, *, job: str | None = None, reason: Reason | None, current: str | None) -> Denied:
    """Tell which layer and rule, what the present value is, and what would allow it."""
    about = {} if job is None else {"job": job}
    if reason is None:  # long ago, so no more is known of it
        return Denied("policy_denied", detail, layer="policies", **about)
    return Denied(
        "policy_denied",
        detail,
        layer="policies",
        denied_by=reason.layer.value,
        policy_kind=reason.kind.value,
        rule=reason.rule,
        allow_with=(reason.remedy,) if reason.remedy else (),
        **about,
        **({"current": current} if current is not None else {}),
    )


def exemption_invalid(field: str, rule: str) -> Invalid:
    return Invalid("exemption_invalid", f"{field}: {rule}", layer="policies", field=field)


def nothing_to_compare(kind: str) -> Invalid:
    return Invalid(
        "proof_unsupported", f"kind: documents of the kind {kind} are not compared", layer="policies", field="kind"
    )


def unproven(why: str) -> Unavailable:
    return Unavailable("unproven", f"it is neither wider nor proven not to be: {why}", layer="policies")


def prover_missing() -> Fault:
    return Fault(
        "prover_missing", "this server was installed without the extra `proof`: its operator adds it", layer="policies"
    )
