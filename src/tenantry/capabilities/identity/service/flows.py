"""The way of a person into a tenant: to the provider and back (OpenID Connect, code flow with PKCE).

State, nonce and PKCE verifier are one secret: the state goes out with the browser, the other two follow from it under
the installation's pepper, so a dump of the database holds none of them. No call to a provider is made inside a
transaction.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.audit.types import Outcome
from tenantry.capabilities.identity.errors import (
    challenge_required,
    flows_exhausted,
    issuer_unusable,
    login_refused,
    login_unavailable,
    provider_declined,
    redirect_refused,
)
from tenantry.capabilities.identity.ports import Issuers, Memberships, Room
from tenantry.capabilities.identity.repository import logins as rows
from tenantry.capabilities.identity.repository import providers as provider_rows
from tenantry.capabilities.identity.service.arrivals import Arrivals, FlowEnd, with_query
from tenantry.capabilities.identity.service.exchange import challenge_of
from tenantry.capabilities.identity.service.hashing import KeyHasher
from tenantry.capabilities.identity.service.id_tokens import (
    Expected,
    IdTokenRefusedError,
    UnknownKeyError,
    read_id_token,
)
from tenantry.capabilities.identity.service.providers import secret_place
from tenantry.capabilities.identity.types import (
    FlowStart,
    IdentityProvider,
    IssuerMetadata,
    LoginFlow,
    LoginKind,
    ProviderStatus,
    Secret,
    make_secret,
    read_secret,
)
from tenantry.capabilities.tenants.service import Directory, TenantKeyring, TenantService, candidate_scope
from tenantry.capabilities.tenants.types import Placement, TenantStatus
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cells
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import Denied, TenantryError
from tenantry.foundation.ids import Prefix, format_id, new_id
from tenantry.foundation.scope import TenantScope
from tenantry.foundation.settings import IdentitySettings

FLOW_LIFETIME: Final = timedelta(minutes=10)
_REMEMBERED: Final = timedelta(hours=1)
"""How long a used flow is known, so that its code, used twice, ends the login."""
OPEN_FLOWS: Final = 1000
OPEN_FLOWS_OF_ADDRESS: Final = 200
_RETRY_SECONDS: Final = 60
_PATH: Final = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]{0,500}")
_LOOPBACK: Final = re.compile(r"http://(127\.0\.0\.1|\[::1\]):\d{1,5}(/[\x21\x24-\x5b\x5d-\x7e]{0,200})?")
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_ERROR: Final = re.compile(r"[a-z_]{1,60}")


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody asks for who begins. `provider` None: the tenant's only one."""

    tenant: str
    provider: str | None
    redirect: str
    challenge: str | None
    client_state: str | None


@dataclass(frozen=True, slots=True, repr=False)
class Return:
    """What the browser brings back."""

    state: str
    code: str | None
    error: str | None
    issuer: str | None
    browser: str | None


@dataclass(frozen=True, slots=True)
class _Taken:
    """A flow that has come back, with what it was begun with."""

    scope: TenantScope
    state: str
    flow: LoginFlow
    provider: IdentityProvider
    skew: timedelta


class LoginFlows:
    """Begins and ends flows; one for each process. `callback` is the address that providers send browsers back to."""

    def __init__(
        self,
        *,
        cells: Cells,
        directory: Directory,
        keyrings: Mapping[str, TenantKeyring],
        issuers: Issuers,
        memberships: Callable[[TenantSession], Memberships],
        room: Callable[[TenantSession], Room],
        hasher: KeyHasher,
        settings: IdentitySettings,
        clock: Clock,
    ) -> None:
        self._cells = cells
        self._directory = directory
        self._keyrings = keyrings
        self._issuers = issuers
        self._hasher = hasher
        self._clock = clock
        self._arrivals = Arrivals(
            cells=cells, memberships=memberships, room=room, hasher=hasher, settings=settings, clock=clock
        )

    async def begin(self, wish: Wish, *, callback: str, ip: str | None) -> FlowStart:
        """Begin; raises NotFound `login_unavailable`, Invalid `redirect_refused` or `challenge_required`, Exhausted."""
        placement = _active(await self._directory.find(wish.tenant))
        scope = candidate_scope(placement, region=next(iter(self._cells)).region, ip=ip)
        async with self._cells.session(scope) as session:
            found = await provider_rows.find_active_providers(session, slug=wish.provider)
        if placement is None or len(found) != 1:
            raise login_unavailable()
        provider = found[0]
        kind = _kind_of(wish, provider)
        metadata = await self._issuers.metadata(provider.issuer)
        state = make_secret(Secret.STATE, region=scope.region, tenant_id=scope.tenant_id).text
        browser = make_secret(Secret.STATE, region=scope.region, tenant_id=scope.tenant_id).text
        now = self._clock.now()
        flow = LoginFlow(
            flow_id=new_id(),
            provider_id=provider.provider_id,
            kind=kind,
            browser=self._hasher.verifier(browser),
            redirect=wish.redirect,
            challenge=wish.challenge if kind is LoginKind.PROGRAM else None,
            client_state=wish.client_state if kind is LoginKind.PROGRAM else None,
            ip=ip,
            created_at=now,
            expires_at=now + FLOW_LIFETIME,
        )
        async with self._cells.session(scope) as session:
            await rows.delete_old_flows(session, before=now - _REMEMBERED)
            everywhere, of_address = await rows.count_open_flows(session, ip=ip, now=now)
            if everywhere >= OPEN_FLOWS or of_address >= OPEN_FLOWS_OF_ADDRESS:
                limit = OPEN_FLOWS if everywhere >= OPEN_FLOWS else OPEN_FLOWS_OF_ADDRESS
                raise flows_exhausted(limit, _RETRY_SECONDS)
            await rows.insert_flow(session, flow, state=self._hasher.verifier(state))
        return FlowStart(self._address(metadata, provider, state=state, callback=callback), browser)

    async def finish(self, back: Return, *, callback: str, ip: str | None) -> FlowEnd:
        """End the flow that a browser comes back with; a program hears of a refusal by its redirect.

        Raises Unauthenticated `login_refused` for whatever is wrong with state, browser or what the provider said;
        Denied `no_membership`, `provider_declined`.
        """
        taken = await self._take(back, ip=ip)
        try:
            claims = await self._claims(taken, back, callback=callback)
            return await self._arrivals.admit(taken.scope, provider=taken.provider, flow=taken.flow, claims=claims)
        except IdTokenRefusedError as error:
            refusal: TenantryError = login_refused()
            reason = f"id_token_{error.reason}"
        except TenantryError as error:
            refusal, reason = error, error.code
        await self._record_refusal(taken, reason)
        if taken.flow.kind is LoginKind.WEB:
            raise refusal
        told = "access_denied" if isinstance(refusal, Denied) else "server_error"
        query = {"error": told, "error_description": refusal.code, "state": taken.flow.client_state}
        return FlowEnd(with_query(taken.flow.redirect, query), cookie=None, expires_at=None)

    def _address(self, metadata: IssuerMetadata, provider: IdentityProvider, *, state: str, callback: str) -> str:
        challenge = challenge_of(self._hasher.derive("pkce", state))
        query = {
            "response_type": "code",
            "client_id": provider.client_id,
            "redirect_uri": callback,
            "scope": " ".join(dict.fromkeys(("openid", *provider.scopes))),
            "state": state,
            "nonce": self._hasher.derive("nonce", state),
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return with_query(metadata.authorization_endpoint, query)

    async def _take(self, back: Return, *, ip: str | None) -> _Taken:
        """Use up the flow of a state, which the browser that began it must bring."""
        secret = read_secret(back.state, Secret.STATE)
        if secret is None:
            raise login_refused()
        placement = _active(await self._directory.find(secret.tenant_id))
        scope = candidate_scope(placement, region=secret.region, ip=ip)
        async with self._cells.session(scope) as session:
            flow = await rows.use_flow(session, state=self._hasher.verifier(secret.text), now=self._clock.now())
            if flow is None:
                raise login_refused()
            provider = await provider_rows.find_provider(session, flow.provider_id)
            audit = AuditService(session=session, clock=self._clock)
            tenant = await TenantService(session=session, audit=audit, clock=self._clock).get()
        if provider is None:
            raise login_refused()
        taken = _Taken(scope, secret.text, flow, provider, timedelta(milliseconds=tenant.clock_skew_ms))
        if back.browser is None or not self._hasher.matches(back.browser, flow.browser):
            await self._record_refusal(taken, "another_browser")
            raise login_refused()
        if provider.status is not ProviderStatus.ACTIVE:
            await self._record_refusal(taken, "provider_disabled")
            raise login_refused()
        return taken

    async def _claims(self, taken: _Taken, back: Return, *, callback: str) -> dict[str, Any]:
        """Ask the provider who it is; raises IdTokenRefusedError for an answer that is not for this flow."""
        provider = taken.provider
        metadata = await self._issuers.metadata(provider.issuer)
        if (back.issuer is not None or metadata.names_itself) and back.issuer != provider.issuer:
            raise IdTokenRefusedError("response_issuer")
        if back.error is not None:
            raise provider_declined(back.error if _ERROR.fullmatch(back.error) else "unreadable")
        if not back.code:
            raise login_refused()
        redemption = await self._issuers.redeem(
            metadata,
            client_id=provider.client_id,
            secret=await self._secret_of(taken),
            code=back.code,
            verifier=self._hasher.derive("pkce", taken.state),
            callback=callback,
        )
        expected = Expected(
            issuer=provider.issuer,
            client_id=provider.client_id,
            nonce=self._hasher.derive("nonce", taken.state),
            now=self._clock.now(),
            skew=taken.skew,
        )
        keys = await self._issuers.keys(metadata)
        try:
            claims = read_id_token(redemption.id_token, keys=keys, expected=expected)
        except UnknownKeyError:
            keys = await self._issuers.keys(metadata, anew=True)
            claims = read_id_token(redemption.id_token, keys=keys, expected=expected)
        more = await self._issuers.userinfo(metadata, access_token=redemption.access_token)
        if more and more.get("sub") != claims["sub"]:  # OpenID Connect Core 1.0 §5.3.2
            raise issuer_unusable("told of somebody else")
        return {**more, **claims}

    async def _secret_of(self, taken: _Taken) -> str | None:
        provider, tenant_id = taken.provider, taken.scope.tenant_id
        if provider.sealed_secret is None:
            return None
        keyset = await self._keyrings[taken.scope.region].keyset(tenant_id)
        return keyset.open(provider.sealed_secret, secret_place(tenant_id, provider.provider_id)).decode()

    async def _record_refusal(self, taken: _Taken, reason: str) -> None:
        async with self._cells.session(taken.scope) as session:
            await AuditService(session=session, clock=self._clock).record(
                "login.refused",
                resource_type="identity_provider",
                resource_id=format_id(Prefix.PROVIDER, taken.provider.provider_id),
                outcome=Outcome.DENIED,
                reason=reason,
            )


def _active(placement: Placement | None) -> Placement | None:
    """Take a tenant that is suspended or going for none: there is no way in."""
    return placement if placement is not None and placement.status is TenantStatus.ACTIVE else None


def _kind_of(wish: Wish, provider: IdentityProvider) -> LoginKind:
    """Tell by where it shall end: a path of ours is the console, all else is a program's. Raises Invalid."""
    if _PATH.fullmatch(wish.redirect):
        return LoginKind.WEB
    if not _LOOPBACK.fullmatch(wish.redirect) and wish.redirect not in provider.redirects:
        raise redirect_refused()
    if wish.challenge is None or not _CHALLENGE.fullmatch(wish.challenge):
        raise challenge_required()
    return LoginKind.PROGRAM
