"""An event in the Open Cybersecurity Schema Framework, version 1.5.0 (https://schema.ocsf.io/1.5.0).

The class follows from the noun of the action, the activity from its verb. What the framework has no place for stands
in `unmapped`, so that nothing is lost.
"""

from dataclasses import dataclass
from typing import Any, Final

from tenantry.capabilities.audit.types import AuditEvent, Outcome
from tenantry.foundation.ids import Prefix, format_id
from tenantry.foundation.scope import ActorType

VERSION: Final = "1.5.0"
_OTHER: Final = 99
_INFORMATIONAL, _LOW, _MEDIUM = 1, 2, 3
_SEVERITY: Final = {Outcome.SUCCESS: _INFORMATIONAL, Outcome.ERROR: _LOW, Outcome.DENIED: _MEDIUM}
_USER_TYPES: Final = {ActorType.USER: 1, ActorType.SYSTEM: 3}


@dataclass(frozen=True, slots=True)
class OcsfClass:
    """A class of events: `activities` by the verb of an action; what is not among them is activity 99, Other."""

    uid: int
    name: str
    category_uid: int
    category_name: str
    activities: dict[str, tuple[int, str]]


_IAM: Final = (3, "Identity & Access Management")
_CREATE, _READ, _UPDATE, _DELETE = (1, "Create"), (2, "Read"), (3, "Update"), (4, "Delete")
_CHANGES: Final = {
    **dict.fromkeys(("create", "created", "added", "registered", "written", "drafted", "imported"), _CREATE),
    "read": _READ,
    **dict.fromkeys(("update", "updated", "changed", "rotated", "replayed"), _UPDATE),
    **dict.fromkeys(("delete", "deleted", "removed", "revoked", "retired"), _DELETE),
}
API_ACTIVITY: Final = OcsfClass(6003, "API Activity", 6, "Application Activity", _CHANGES)
ACCOUNT_CHANGE: Final = OcsfClass(3001, "Account Change", *_IAM, {"created": (1, "Create"), "deleted": (6, "Delete")})
AUTHENTICATION: Final = OcsfClass(
    3002,
    "Authentication",
    *_IAM,
    {
        "created": (1, "Logon"),
        "refused": (1, "Logon"),
        "revoked": (2, "Logoff"),
        "refreshed": (5, "Service Ticket Renew"),
    },
)
ENTITY_MANAGEMENT: Final = OcsfClass(
    3004,
    "Entity Management",
    *_IAM,
    {
        **_CHANGES,
        "suspended": (12, "Suspend"),
        "paused": (12, "Suspend"),
        "resumed": (13, "Resume"),
        "moved": (5, "Move"),
    },
)
USER_ACCESS: Final = OcsfClass(
    3005,
    "User Access Management",
    *_IAM,
    {
        **dict.fromkeys(("created", "activated"), (1, "Assign Privileges")),
        **dict.fromkeys(("deleted", "revoked", "expired"), (2, "Revoke Privileges")),
    },
)
GROUP_MANAGEMENT: Final = OcsfClass(
    3006,
    "Group Management",
    *_IAM,
    {
        "member_added": (3, "Add User"),
        "member_removed": (4, "Remove User"),
        "deleted": (5, "Delete"),
        "created": (6, "Create"),
    },
)
_ENTITIES: Final = (
    *("audit_stream", "certificate", "environment", "exemption", "identity_provider", "invitation", "key"),
    *("notification_channel", "policy", "role", "secret", "signing_key", "tenant", "workspace"),
)
CLASSES: Final[dict[str, OcsfClass]] = {
    **dict.fromkeys(("login", "credential"), AUTHENTICATION),
    **dict.fromkeys(("user", "service_account"), ACCOUNT_CHANGE),
    **dict.fromkeys(("binding", "grant"), USER_ACCESS),
    "group": GROUP_MANAGEMENT,
    **dict.fromkeys(_ENTITIES, ENTITY_MANAGEMENT),
}
"""By the noun of an action; every other is API Activity."""


def ocsf_document(event: AuditEvent) -> dict[str, Any]:
    """Tell an event in the class of its action's noun. `metadata.uid` is the event's id, the same at each sending."""
    noun, _, verb = event.action.partition(".")
    shape = CLASSES.get(noun, API_ACTIVITY)
    activity, activity_name = shape.activities.get(verb, (_OTHER, verb or noun))
    succeeded = event.outcome is Outcome.SUCCESS
    return {
        "activity_id": activity,
        "activity_name": activity_name,
        "category_uid": shape.category_uid,
        "category_name": shape.category_name,
        "class_uid": shape.uid,
        "class_name": shape.name,
        "type_uid": shape.uid * 100 + activity,
        "time": int(event.occurred_at.timestamp() * 1000),
        "severity_id": _SEVERITY[event.outcome],
        "status_id": 1 if succeeded else 2,
        "status": "Success" if succeeded else "Failure",
        **({"status_detail": event.reason} if event.reason else {}),
        "message": event.action,
        "metadata": _metadata(event),
        "actor": {"user": _user(event)},
        **({"src_endpoint": {"ip": event.ip}} if event.ip else {}),
        **_particulars(event, shape),
        "unmapped": {
            "action": event.action,
            "workspace": format_id(Prefix.WORKSPACE, event.workspace_id) if event.workspace_id else None,
            "actor_chain": list(event.actor.chain),
            "resource": {"type": event.resource_type, "id": event.resource_id},
            "details": dict(event.details),
            "withheld": list(event.withheld),
        },
    }


def _metadata(event: AuditEvent) -> dict[str, Any]:
    return {
        "version": VERSION,
        "uid": format_id(Prefix.AUDIT_EVENT, event.event_id),
        "sequence": event.sequence or 0,
        "tenant_uid": format_id(Prefix.TENANT, event.tenant_id),
        "event_code": event.action,
        "product": {"name": "Tenantry", "vendor_name": "Tenantry"},
        **({"correlation_uid": event.trace_id} if event.trace_id else {}),
    }


def _user(event: AuditEvent) -> dict[str, Any]:
    kind = event.actor.type
    return {"uid": event.actor.id or "unknown", "type_id": _USER_TYPES.get(kind, _OTHER), "type": kind.value}


def _particulars(event: AuditEvent, shape: OcsfClass) -> dict[str, Any]:
    """Give what the class demands beyond what all classes do."""
    resource = {"uid": event.resource_id or event.resource_type, "type": event.resource_type}
    if shape is API_ACTIVITY:
        here = {} if event.ip else {"src_endpoint": {"svc_name": "tenantry"}}
        return {"api": {"operation": event.action, "service": {"name": "tenantry"}}, "resources": [resource], **here}
    if shape is ENTITY_MANAGEMENT:
        return {"entity": resource}
    if shape is GROUP_MANAGEMENT:
        return {"group": {"uid": resource["uid"]}}
    subject = event.details.get("principal")
    user = {"uid": subject if isinstance(subject, str) and subject else resource["uid"]}
    if shape is USER_ACCESS:
        role = event.details.get("role")
        return {"user": user, "privileges": [role if isinstance(role, str) and role else event.action]}
    return {"user": user, **({"service": {"name": "tenantry"}} if shape is AUTHENTICATION else {})}
