"""The one decision function, and what it reads."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final
from uuid import UUID

from tenantry.capabilities.access.errors import (
    grant_exceeds_own,
    permission_missing,
    permission_unknown,
    role_not_for_workspace,
    role_unknown,
)
from tenantry.capabilities.access.types import (
    BUILT_IN_ROLES,
    INCLUDES,
    TENANT_WIDE_PERMISSIONS,
    TENANT_WIDE_ROLES,
    Access,
    Circumstances,
    Condition,
    Decision,
    Effect,
    Outcome,
    Permission,
    Rule,
    Source,
)


def _denials() -> dict[Permission, Decision]:
    """One refusal a permission, made once: naming the smallest roles that would allow it."""
    denials = {}
    for permission in Permission:
        holders = sorted((len(held), role) for role, held in BUILT_IN_ROLES.items() if permission in held)
        denials[permission] = Decision(
            Outcome.DENY, f"{permission} is not held here", tuple(role for _, role in holders[:3])
        )
    return denials


_DENIALS: Final[Mapping[Permission, Decision]] = _denials()


_NOTHING_TOLD: Final = Circumstances()


def decide(
    access: Access,
    permission: Permission,
    workspace_id: UUID | None = None,
    about: Circumstances = _NOTHING_TOLD,
) -> Decision:
    """Decide, with the reason. A denial weighs more than whatever allows; what nothing allows is denied.

    Pure and without I/O, ≤ 0.5 µs: every answer was made when the credential was compiled. Only what somebody denies,
    or allows under a condition, is weighed rule by rule, and then a refusal may be `conditional` (ADR 0021).
    """
    rules = access.special.get(permission)
    if rules is not None:
        decision = _weigh(rules, permission, workspace_id, about)
    else:
        found = access.tenant.get(permission)
        if found is None and workspace_id is not None:
            local = access.workspaces.get(workspace_id)
            if local is not None:
                found = local.get(permission)
        decision = found or _DENIALS[permission]
    if access.within is None or not (decision.allowed or decision.conditional):
        return decision
    return _bounded(decision, decide(access.within, permission, workspace_id, about))


def _bounded(own: Decision, owner: Decision) -> Decision:
    """Decide what a credential may do of what it is a part of: no more than both."""
    if not owner.allowed:
        return replace(owner, reason=f"held by the credential, not by whom it acts for: {owner.reason}")
    return replace(own, grant_id=owner.grant_id) if own.grant_id is None and owner.grant_id else own


def _weigh(rules: Iterable[Rule], permission: Permission, workspace_id: UUID | None, about: Circumstances) -> Decision:
    """Weigh rule by rule: a denial that holds, else one that may hold, else what allows, else what may allow."""
    allowing = perhaps_denying = perhaps_allowing = None
    for rule in rules:
        if rule.place is not None and rule.place != workspace_id:
            continue
        holds = True if rule.condition is None else rule.condition.holds(about)
        if holds is False:
            continue
        if rule.effect is Effect.DENY:
            if holds:
                return rule.decision
            perhaps_denying = perhaps_denying or rule.decision
        elif holds:
            # What lasts is named before a grant: only what nothing else allows ends with it.
            if allowing is None or (allowing.grant_id is not None and rule.decision.grant_id is None):
                allowing = rule.decision
        else:
            perhaps_allowing = perhaps_allowing or rule.decision
    if allowing is not None and perhaps_denying is None:
        return allowing
    if allowing is None and perhaps_allowing is None:
        return _DENIALS[permission]
    depends = perhaps_denying or perhaps_allowing
    reason = f"{permission} depends here on environment or labels: {depends.reason if depends else ''}"
    return Decision(Outcome.DENY, reason, source=depends.source if depends else None, conditional=True)


def joined(first: Decision, second: Decision) -> Decision:
    """Join the answers of two questions that one piece of work asks: it is allowed by both, and ends with a grant of
    either. Work ends with one grant: where each rests on another, it is denied.
    """
    if not first.allowed or not second.allowed:
        return first if not first.allowed else second
    grants = {each.grant_id for each in (first, second) if each.grant_id is not None}
    if len(grants) > 1:
        return Decision(Outcome.DENY, "each of what this takes is held by another grant alone: one must give both")
    return second if second.grant_id is not None else first


def compile_access(sources: Iterable[Source], *, within: Access | None = None) -> Access:
    """Compile what gives and takes permissions. Of several that allow the first stays, what lasts before a grant."""
    ordered = sorted(sources, key=lambda source: source.grant_id is not None)
    rules: dict[Permission, list[Rule]] = {}
    for source in ordered:
        decision = _decision_of(source)
        condition = source.condition or None
        for permission in source.permissions:
            for included in (permission, *INCLUDES.get(permission, ())):
                rules.setdefault(included, []).append(Rule(source.place, source.effect, condition, decision))
    tenant: dict[Permission, Decision] = {}
    workspaces: dict[UUID, dict[Permission, Decision]] = {}
    special: dict[Permission, tuple[Rule, ...]] = {}
    places: set[UUID | None] = set()
    for permission, found in rules.items():
        places |= {rule.place for rule in found if rule.effect is Effect.ALLOW}
        if any(rule.effect is Effect.DENY or rule.condition is not None for rule in found):
            special[permission] = tuple(found)
            continue
        for rule in found:
            place = tenant if rule.place is None else workspaces.setdefault(rule.place, {})
            place.setdefault(permission, rule.decision)
    return Access(tenant, workspaces, special, frozenset(places), within)


def _decision_of(source: Source) -> Decision:
    reason = f"{source.reason}, {_told(source.condition)}" if source.condition else source.reason
    if source.effect is Effect.DENY:
        return Decision(Outcome.DENY, f"denied: {reason}", source=source.source)
    return Decision(Outcome.ALLOW, reason, source=source.source, grant_id=source.grant_id)


def _told(condition: Condition) -> str:
    parts = [f"{name} {', '.join(values)}" for name, values in condition.labels.items()]
    parts += [f"environment {', '.join(condition.environments)}"] if condition.environments else []
    parts += [f"path {', '.join(condition.paths)}"] if condition.paths else []
    return f"where {'; '.join(parts)}"


def held_in(
    access: Access, workspace_id: UUID | None, about: Circumstances = _NOTHING_TOLD
) -> dict[Permission, Decision]:
    """List what is allowed in a place, and why; what depends on something not told is not among it."""
    decisions = {permission: decide(access, permission, workspace_id, about) for permission in Permission}
    return {permission: decision for permission, decision in decisions.items() if decision.allowed}


RoleBook = Mapping[str, frozenset[Permission]]
"""The roles of a place by slug: those built in, and the tenant's own."""


def permissions_of(roles: Iterable[str], book: RoleBook = BUILT_IN_ROLES) -> frozenset[Permission]:
    """All permissions of some roles; raises Invalid `role_unknown`."""
    found: set[Permission] = set()
    for role in roles:
        held = book.get(role)
        if held is None:
            raise role_unknown(role, book)
        found |= held
    return frozenset(found)


def spelled_out(permissions: Iterable[Permission]) -> frozenset[Permission]:
    """Add what each of them includes."""
    return frozenset(included for one in permissions for included in (one, *INCLUDES.get(one, ())))


class Grantor:
    """Judges what one caller may give to others: never more than it holds in that place, and holds for good."""

    def __init__(self, access: Access, book: RoleBook = BUILT_IN_ROLES) -> None:
        self._access = access
        self.book = book

    def holds(self, permission: Permission, workspace_id: UUID | None, *, lasting: bool = True) -> bool:
        """Say whether it may give it: what a grant alone allows for a time would outlive that in other hands."""
        decision = decide(self._access, permission, workspace_id)
        return decision.allowed and not (lasting and decision.grant_id is not None)

    def require_permission(self, permission: Permission, workspace_id: UUID | None) -> None:
        """Raise Denied `permission_missing`, as the guard does."""
        decision = decide(self._access, permission, workspace_id)
        if not decision.allowed:
            raise permission_missing(permission, decision)

    def require_grantable(
        self, *, roles: tuple[str, ...], permissions: tuple[str, ...], workspace_id: UUID | None
    ) -> None:
        """Raise Invalid `role_unknown`, `permission_unknown`, `role_not_for_workspace`; Denied `grant_exceeds_own`."""
        wanted = set(permissions_of(roles, self.book))
        for name in permissions:
            if name not in Permission.__members__.values():
                raise permission_unknown(name)
            wanted.add(Permission(name))
        if workspace_id is not None:
            for role in roles:
                if role in TENANT_WIDE_ROLES or self.book[role] & TENANT_WIDE_PERMISSIONS:
                    raise role_not_for_workspace(role)
        self.require_held(spelled_out(wanted), workspace_id)

    def require_held(self, wanted: Iterable[Permission], workspace_id: UUID | None, *, lasting: bool = True) -> None:
        """Raise Denied `grant_exceeds_own`, naming what the caller itself does not hold in that place.

        Not `lasting` is what ends with a grant by itself.
        """
        missing = [p for p in wanted if not self.holds(p, workspace_id, lasting=lasting)]
        if missing:
            raise grant_exceeds_own(missing)
