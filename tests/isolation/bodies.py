"""A body for each route that takes one, found by its model: a new model without an example here fails the meta-test."""

import inspect
import json
import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, get_args, get_type_hints

from pydantic import BaseModel
from tests.isolation.grounds import Grounds, certificate_pem, public_key

from tenantry.foundation.ids import Prefix, format_id, new_id
from tenantry.interfaces.api.routes import ALL_ROUTES
from tenantry.interfaces.api.routing import RouteSpec

JSON: Final = ("Content-Type", "application/json")
UNREADABLE: Final = b"{"
"""Passes the guard, which decides before it reads, and goes no further."""
DOCUMENT: Final = b'{"blocked_images": ["docker:*-dind"]}'
"""Of a route that reads a text of YAML or JSON."""


class UnknownToTheGeneratorError(Exception):
    """A route has something that no case can be made for yet."""


def _slug() -> str:
    return f"t-{secrets.token_hex(5)}"


def _tenant(_grounds: Grounds) -> dict[str, Any]:
    slug = _slug()
    owner = {"email": f"owner@{slug}.example", "name": "Owner"}
    return {"name": slug, "slug": slug, "plan": "free", "region": "us", "owner": owner}


def provider_example() -> dict[str, Any]:
    """A provider that nobody asks."""
    return {"slug": _slug(), "name": "Corporation", "issuer": "https://issuer.example", "client_id": "tenantry"}


_EXAMPLES: Final[dict[str, Callable[[Grounds], dict[str, Any]]]] = {
    "tenants.TenantBody": _tenant,
    "tenants.TenantChanges": lambda _: {"name": f"changed {_slug()}"},
    "tenants.Reason": lambda _: {"reason": "because"},
    "workspaces.Reason": lambda _: {"reason": "because"},
    "workspaces.WorkspaceBody": lambda _: {"name": _slug(), "owner": {"type": "team", "id": "core"}},
    "workspaces.WorkspaceChanges": lambda _: {"name": f"changed {_slug()}"},
    "operations.MoveBody": lambda _: {"region": "eu"},
    "limits.LimitsBody": lambda _: {"rates": {"principal.agent_spawns": {"max_requests": 9, "window_ms": 60000}}},
    "limits.LimitChanges": lambda _: {"max_concurrent_agents": 40},
    "limits.WorkspaceLimitChanges": lambda _: {"max_concurrent_sandboxes": 4},
    "overlays.OverlayBody": lambda _: {"overlay": {}},
    "overlays.LabelsBody": lambda _: {"labels": {"env": "dev"}},
    "environments.EnvironmentBody": lambda _: {"slug": _slug(), "kind": "dev"},
    "environments.EnvironmentChanges": lambda _: {"description": "changed"},
    "service_accounts.ServiceAccountBody": lambda _: {"name": _slug()},
    "service_accounts.ServiceAccountChanges": lambda _: {"status": "active"},
    "keys.KeyBody": lambda _: {"name": _slug(), "roles": ["viewer"]},
    "proofs.CertificateBody": lambda _: {"certificate_pem": certificate_pem()},
    "proofs.SigningKeyBody": lambda _: {"public_key": public_key()},
    "keys.RotationBody": lambda _: {"grace_hours": 24},
    "bindings.BindingBody": lambda grounds: {"principal": grounds.things[grounds.own, "account"], "role": "approver"},
    "roles.RoleBody": lambda _: {"slug": f"r-{secrets.token_hex(5)}", "permissions": ["job:read"]},
    "roles.RoleChanges": lambda _: {"description": "changed"},
    "groups.GroupBody": lambda _: {"name": _slug()},
    "groups.GroupChanges": lambda _: {"description": "changed"},
    "groups.GroupMemberBody": lambda grounds: {"principal": grounds.things[grounds.own, "account"]},
    "members.MemberChanges": lambda _: {"status": "active"},
    "notifications.ChannelBody": lambda _: {
        "name": _slug(),
        "kind": "webhook",
        "address": f"https://hooks.invalid/{_slug()}",
        "topics": ["grant.*"],
    },
    "notifications.ChannelChanges": lambda _: {"name": _slug()},
    "audit_streams.StreamBody": lambda _: {"name": _slug(), "kind": "object"},
    "audit_streams.StreamChanges": lambda _: {"name": _slug()},
    "audit_forgettings.ForgettingBody": lambda _: {"principal": format_id(Prefix.USER, new_id())},
    "audit_streams.ReplayBody": lambda _: {"after": 0},
    "grants.GrantBody": lambda _: {"role": "viewer", "reason": "because"},
    "grants.ExtensionBody": lambda _: {"minutes": 5},
    "grants.RevocationBody": lambda _: {"reason": "because"},
    "grants.PrincipalBody": lambda grounds: {"principal": grounds.things[grounds.own, "account"]},
    "approvals.ApproveBody": lambda _: {"comment": "yes"},
    "approvals.RejectBody": lambda _: {"comment": "no"},
    "images.PullBody": lambda _: {"reference": "registry.invalid/app:1"},
    "jobs.JobBody": lambda _: {"command": ["true"]},
    "sandbox_exec.ExecBody": lambda _: {"command": ["true"]},
    "sandbox_files.MoveBody": lambda _: {"source": "a", "target": "b"},
    "sandbox_files.DirectoryBody": lambda _: {"path": "a"},
    "sandbox_ports.PortTokenBody": lambda _: {"expires_seconds": 60},
    "sandbox_forms.SandboxBody": lambda _: {"name": _slug(), "start": False},
    "sandbox_forms.SandboxChangesBody": lambda _: {"idle_seconds": 60},
    "sandbox_forms.ExtensionBody": lambda _: {"seconds": 60},
    "sandbox_forms.SnapshotBody": lambda _: {"name": _slug()},
    "sandbox_forms.ForkBody": lambda _: {"name": _slug(), "start": False},
    "secrets.SecretBody": lambda _: {"name": f"S_{secrets.token_hex(5).upper()}", "value": secrets.token_hex(16)},
    "evidence_forms.CollectionBody": lambda _: {"dry_run": True},
    "evidence_forms.HoldBody": lambda _: {"case_id": _slug(), "reason": "because", "label": {"none": "none"}},
    "policies.PromotionBody": lambda _: {"version": 1, "state": "shadow"},
    "policies.ExemptionBody": lambda _: {
        "kind": "image",
        "rule": "blocked_images[0]",
        "owner": "ops",
        "reason": "because",
        "expires_at": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
    },
    "policy_tests.TestBody": lambda _: {"job": {"command": ["true"]}},
    "auth.CodeBody": lambda _: {"code": "none", "code_verifier": "v" * 43},
    "auth.RefreshBody": lambda _: {"refresh_token": "none"},
    "auth.LogoutBody": lambda _: {},
    "identity_providers.ProviderBody": lambda _: provider_example(),
    "identity_providers.ProviderChanges": lambda _: {"name": f"changed {_slug()}"},
    "invitations.InvitationBody": lambda _: {"email": f"{_slug()}@example.com", "role": "viewer"},
    "explaining.Question": lambda _: {"permission": "job:read"},
}


def name_of(model: type[BaseModel]) -> str:
    return f"{model.__module__.rpartition('.')[2]}.{model.__name__}"


def model_of(spec: RouteSpec) -> type[BaseModel] | None:
    """The model of the body that a route reads."""
    hints = get_type_hints(spec.endpoint)
    models = [
        hints[name]
        for name in inspect.signature(spec.endpoint).parameters
        if inspect.isclass(hints[name]) and issubclass(hints[name], BaseModel)
    ]
    return models[0] if models else None


def example_of(model: type[BaseModel], grounds: Grounds) -> dict[str, Any]:
    make = _EXAMPLES.get(name_of(model))
    if make is None:
        raise UnknownToTheGeneratorError(f"{name_of(model)}: no example of this body in tests/isolation/bodies.py")
    return make(grounds)


def body_of(spec: RouteSpec, grounds: Grounds) -> bytes | None:
    """A body that would do the thing, where the route is allowed."""
    if spec.document:
        return DOCUMENT
    model = model_of(spec)
    return json.dumps(example_of(model, grounds)).encode() if model else None


def body_models() -> dict[str, type[BaseModel]]:
    return {name_of(model): model for spec in ALL_ROUTES if (model := model_of(spec))}


def fields_of(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], type[BaseModel]]]:
    """The model and each one nested in it, with the way there; of a list the first element is meant."""
    yield path, model
    for name, info in model.model_fields.items():
        for nested in _models_in(info.annotation):
            yield from fields_of(nested, (*path, name))


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]
