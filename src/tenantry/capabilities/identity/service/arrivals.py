"""What happens once a provider has said who somebody is: the user, their roles, and the login."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.identity import repository
from tenantry.capabilities.identity.errors import login_refused, no_membership
from tenantry.capabilities.identity.ports import Memberships, Room
from tenantry.capabilities.identity.repository import logins as rows
from tenantry.capabilities.identity.service.claims import roles_given, verified_email
from tenantry.capabilities.identity.service.hashing import KeyHasher
from tenantry.capabilities.identity.service.invitations import InvitationService
from tenantry.capabilities.identity.types import (
    IdentityProvider,
    Login,
    LoginFlow,
    LoginKind,
    PrincipalStatus,
    Secret,
    User,
    make_secret,
)
from tenantry.capabilities.tenants.service import announce_revocation
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cells
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id, new_id
from tenantry.foundation.scope import Actor, ActorType, TenantScope
from tenantry.foundation.settings import IdentitySettings

CODE_LIFETIME: Final = timedelta(seconds=60)
_LONGEST_NAME: Final = 120
_REMEMBERED: Final = timedelta(days=30)
"""How long the row of a login stays that has ended; a later login of the same user forgets it."""


@dataclass(frozen=True, slots=True, repr=False)
class FlowEnd:
    """Where the browser goes; for the console with the cookie of its login."""

    redirect: str
    cookie: str | None
    expires_at: datetime | None


class Arrivals:
    """Admits people in a transaction of their tenant, in their own name."""

    def __init__(
        self,
        *,
        cells: Cells,
        memberships: Callable[[TenantSession], Memberships],
        room: Callable[[TenantSession], Room],
        hasher: KeyHasher,
        settings: IdentitySettings,
        clock: Clock,
    ) -> None:
        self._cells = cells
        self._memberships = memberships
        self._room = room
        self._hasher = hasher
        self._settings = settings
        self._clock = clock

    async def admit(
        self, scope: TenantScope, *, provider: IdentityProvider, flow: LoginFlow, claims: Mapping[str, Any]
    ) -> FlowEnd:
        """Settle what they are given, then let them in; raises Denied `no_membership`, Exhausted `quota_exceeded`.

        Roles that claims gave before and give no more are taken away even from one who is refused.
        """
        subject = str(claims["sub"])
        async with self._cells.session(scope) as session:
            known = await repository.find_user_by_subject(session, issuer=provider.issuer, subject=subject)
        user_id = known.user_id if known else new_id()
        actor = Actor(ActorType.USER, format_id(Prefix.USER, user_id))
        async with self._cells.session(replace(scope, actor=actor)) as session:
            audit = AuditService(session=session, clock=self._clock)
            if known is None:
                await self._add_user(session, audit, user_id, provider=provider, claims=claims)
            elif known.status is not PrincipalStatus.ACTIVE:
                raise no_membership()
            else:
                email, name = _profile(claims)
                await repository.update_profile(session, user_id, email=email, name=name)
            if not await self._settle(session, audit, user_id, provider=provider, claims=claims):
                if known is not None:
                    await session.commit()
                raise no_membership()
            return await self._open(session, audit, user_id, provider=provider, flow=flow, claims=claims)

    async def _add_user(
        self,
        session: TenantSession,
        audit: AuditService,
        user_id: UUID,
        *,
        provider: IdentityProvider,
        claims: Mapping[str, Any],
    ) -> None:
        await self._room(session).take(repository.count_active_users)
        email, name = _profile(claims)
        user = User(
            user_id=user_id,
            issuer=provider.issuer,
            subject=str(claims["sub"]),
            email=email,
            name=name,
            status=PrincipalStatus.ACTIVE,
            version=1,
            created_at=self._clock.now(),
        )
        if not await repository.insert_user(session, user):
            raise login_refused()  # the same person came in at the same moment, by another window
        await audit.record("user.created", resource_type="user", resource_id=format_id(Prefix.USER, user_id))

    async def _settle(
        self,
        session: TenantSession,
        audit: AuditService,
        user_id: UUID,
        *,
        provider: IdentityProvider,
        claims: Mapping[str, Any],
    ) -> bool:
        """Make their roles what rules and invitations give; tells whether they hold any, whoever gave it."""
        memberships = self._memberships(session)
        source = format_id(Prefix.PROVIDER, provider.provider_id)
        await memberships.replace(user_id=user_id, source=source, roles=roles_given(provider.rules, claims))
        email = verified_email(claims)
        if email is not None and provider.accepts_invitations:
            invitations = InvitationService(session=session, audit=audit, clock=self._clock)
            await invitations.take_up(email=email, user_id=user_id, memberships=memberships)
        return await memberships.holds_any(user_id=user_id)

    async def _open(
        self,
        session: TenantSession,
        audit: AuditService,
        user_id: UUID,
        *,
        provider: IdentityProvider,
        flow: LoginFlow,
        claims: Mapping[str, Any],
    ) -> FlowEnd:
        """Store the login. A program's holds as long as its code, until that is exchanged."""
        now = self._clock.now()
        web = flow.kind is LoginKind.WEB
        login = Login(
            login_id=new_id(),
            user_id=user_id,
            provider_id=provider.provider_id,
            kind=flow.kind,
            auth_time=_auth_time(claims, now),
            created_at=now,
            last_seen_at=now,
            expires_at=now + (timedelta(hours=self._settings.web_login_hours) if web else CODE_LIFETIME),
            revoked_at=None,
            revoked_reason=None,
        )
        await rows.delete_old_logins(session, user_id, before=now - _REMEMBERED)
        scope = session.scope
        secret = make_secret(Secret.COOKIE if web else Secret.CODE, region=scope.region, tenant_id=scope.tenant_id).text
        if web:
            lookup, verifier = self._hasher.lookup(secret), self._hasher.verifier(secret)
            await rows.insert_login(session, login, lookup=lookup, verifier=verifier)
            end = FlowEnd(flow.redirect, cookie=secret, expires_at=login.expires_at)
        else:
            await rows.insert_login(session, login)
            await rows.set_code(session, flow.flow_id, code=self._hasher.verifier(secret), login_id=login.login_id)
            query = {"code": secret, "state": flow.client_state}
            end = FlowEnd(with_query(flow.redirect, query), cookie=None, expires_at=None)
        await announce_revocation(session)
        await audit.record(
            "login.created",
            resource_type="login",
            resource_id=format_id(Prefix.LOGIN, login.login_id),
            details={"kind": flow.kind.value, "provider": format_id(Prefix.PROVIDER, provider.provider_id)},
        )
        return end


def with_query(address: str, query: Mapping[str, str | None]) -> str:
    """Add parameters to an address; those that are None are left out."""
    joint = "&" if "?" in address else "?"
    return address + joint + urlencode({name: value for name, value in query.items() if value is not None})


def _profile(claims: Mapping[str, Any]) -> tuple[str, str]:
    """Tell the verified address, or none, and a name to show."""
    email = verified_email(claims) or ""
    name = claims.get("name")
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        name = email or str(claims["sub"])
    return email[:320], name.strip()[:_LONGEST_NAME]


def _auth_time(claims: Mapping[str, Any], now: datetime) -> datetime:
    said = claims.get("auth_time")
    if isinstance(said, bool) or not isinstance(said, int) or not 0 < said <= now.timestamp():
        return now
    return datetime.fromtimestamp(said, UTC)
