"""How people come in: by a browser to an identity provider and back, programs with tokens of their own."""

from typing import Annotated, Final

from fastapi import Query, Request
from pydantic import Field
from starlette.responses import RedirectResponse, Response

from tenantry.capabilities.identity.errors import login_refused, no_login
from tenantry.capabilities.identity.service import Return, Wish
from tenantry.capabilities.identity.types import TokenPair
from tenantry.foundation.errors import Invalid
from tenantry.foundation.ids import Prefix, parse_id
from tenantry.interfaces.api import cookies, problems
from tenantry.interfaces.api.proxies import client_address
from tenantry.interfaces.api.routing import PREFIX, Mark, RouteRegistry
from tenantry.interfaces.api.runtime import Runtime
from tenantry.interfaces.api.schema import Answer, Body, Moment
from tenantry.interfaces.api.unit import unit_of

routes = RouteRegistry()

_CALLBACK: Final = f"{PREFIX}/auth/callback"
_HEADERS: Final = {**problems.HEADERS, "Referrer-Policy": "no-referrer"}
"""An address with a code in it is told to no page that comes after."""
_Text = Annotated[str | None, Query(max_length=200, pattern=r"^[\x21-\x7e]+$")]
_Code = Annotated[str | None, Query(max_length=4096)]


class CodeBody(Body):
    code: str = Field(min_length=1, max_length=4096)
    code_verifier: str = Field(pattern=r"^[A-Za-z0-9._~-]{43,128}$")


class RefreshBody(Body):
    refresh_token: str = Field(min_length=1, max_length=4096)


class LogoutBody(Body):
    everywhere: bool = Field(default=False, description="end all logins of this person, not this one alone")


class Tokens(Answer):
    access_token: str
    token_type: str = "Bearer"  # noqa: S105 - the name of a scheme (RFC 6750)
    expires_in: int = Field(description="seconds")
    refresh_token: str = Field(description="used once: the answer brings the next")
    refresh_expires_at: Moment


class Goodbye(Answer):
    ended: int = Field(description="how many logins")


@routes.get("/auth/login", needs=Mark.PUBLIC, status=302, media_type="text/plain")
async def login(
    request: Request,
    tenant: Annotated[str, Query(pattern=r"^[a-z0-9_-]{2,40}$", description="its slug")],
    provider: Annotated[str | None, Query(max_length=60, pattern=r"^[a-z0-9-]+$")] = None,
    redirect: Annotated[str, Query(min_length=1, max_length=500)] = "/",
    state: _Text = None,
    code_challenge: _Text = None,
    code_challenge_method: Annotated[str | None, Query(max_length=10)] = None,
) -> Response:
    """Send the browser to the tenant's identity provider.

    `redirect` is where it ends: a path of this server (the console), or a program's address, on loopback or named by
    the provider's `redirects`, which gets a one-time `code` and the program's `state`. Programs send a PKCE challenge.
    """
    runtime = _runtime(request)
    if code_challenge is not None and code_challenge_method != "S256":
        raise Invalid("challenge_method", "code_challenge_method: S256 alone", layer="api")
    start = await runtime.flows.begin(
        Wish(tenant=tenant, provider=provider, redirect=redirect, challenge=code_challenge, client_state=state),
        callback=cookies.origin_of(request, runtime.settings) + _CALLBACK,
        ip=_ip(request),
    )
    response = RedirectResponse(start.url, status_code=302, headers=_HEADERS)
    cookies.set_cookie(response, cookies.FLOW, start.browser, seconds=cookies.FLOW_SECONDS, settings=runtime.settings)
    return response


@routes.get("/auth/callback", needs=Mark.PUBLIC, status=302, media_type="text/plain")
async def callback(
    request: Request,
    state: Annotated[str, Query(min_length=1, max_length=200)],
    code: _Code = None,
    error: Annotated[str | None, Query(max_length=200)] = None,
    iss: Annotated[str | None, Query(max_length=400)] = None,
) -> Response:
    """Take the browser back from the identity provider; it must be the one that began."""
    runtime = _runtime(request)
    settings = runtime.settings
    for name in ("state", "code", "error", "iss"):
        if len(request.query_params.getlist(name)) > 1:  # RFC 6749 §3.1
            raise login_refused()
    end = await runtime.flows.finish(
        Return(
            state=state,
            code=code,
            error=error,
            issuer=iss,
            browser=cookies.read_cookie(request, cookies.FLOW, settings),
        ),
        callback=cookies.origin_of(request, settings) + _CALLBACK,
        ip=_ip(request),
    )
    response = RedirectResponse(end.redirect, status_code=302, headers=_HEADERS)
    cookies.drop_cookie(response, cookies.FLOW, settings)
    if end.cookie is not None and end.expires_at is not None:
        # Always a new one: what a browser brought along never becomes a login.
        seconds = cookies.seconds_until(end.expires_at, runtime.clock.now())
        cookies.set_cookie(response, cookies.LOGIN, end.cookie, seconds=seconds, settings=settings)
    return response


@routes.post("/auth/token", needs=Mark.PUBLIC, replay=None)
async def token(request: Request, body: CodeBody) -> Tokens:
    """Exchange the one-time code of a program's login for its first tokens; it counts once, and for a minute."""
    desk = _runtime(request).desk
    return _shown(await desk.exchange(body.code, verifier=body.code_verifier, ip=_ip(request)))


@routes.post("/auth/refresh", needs=Mark.PUBLIC, replay=None)
async def refresh(request: Request, body: RefreshBody) -> Tokens:
    """Exchange a refresh token for the next pair. One that comes twice ends the login."""
    return _shown(await _runtime(request).desk.refresh(body.refresh_token, ip=_ip(request)))


@routes.post("/auth/logout", needs=Mark.AUTHENTICATED, replay=None)
async def logout(request: Request, body: LogoutBody) -> Goodbye:
    """End this login, or all of this person's; known to every process within a second."""
    unit = unit_of(request)
    if unit.caller.login is None:
        raise no_login()
    if body.everywhere:
        user_id = parse_id(Prefix.USER, unit.caller.principal)
        return Goodbye(ended=await unit.logins.end_all_of(user_id, reason="logout_everywhere"))
    await unit.logins.end(unit.caller.login.login_id, reason="logout")
    return Goodbye(ended=1)


def _shown(pair: TokenPair) -> Tokens:
    return Tokens(
        access_token=pair.access_token,
        expires_in=pair.expires_in,
        refresh_token=pair.refresh_token,
        refresh_expires_at=pair.refresh_expires_at,
    )


def _runtime(request: Request) -> Runtime:
    runtime: Runtime = request.state.runtime
    return runtime


def _ip(request: Request) -> str | None:
    return client_address(request, _runtime(request).settings.server.trusted_proxies)
