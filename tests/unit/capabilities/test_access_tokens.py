"""Our own access tokens: only what we signed, as we sign it, counts, and for exactly as long as it says."""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from tenantry.capabilities.identity.service.access_tokens import AUDIENCE, LARGEST, AccessTokens, looks_like_token
from tenantry.capabilities.identity.types import Login, LoginKind
from tenantry.foundation.ids import Prefix, format_id, new_id

KEY = bytes(range(32))
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
TOKENS = AccessTokens(KEY)
TENANT = new_id()


def login(**fields: Any) -> Login:
    values: dict[str, Any] = {
        "login_id": new_id(),
        "user_id": new_id(),
        "provider_id": new_id(),
        "kind": LoginKind.PROGRAM,
        "auth_time": NOW,
        "created_at": NOW,
        "last_seen_at": NOW,
        "expires_at": NOW + timedelta(days=7),
        "revoked_at": None,
        "revoked_reason": None,
    }
    return Login(**{**values, **fields})


LOGIN = login()
TOKEN, SECONDS = TOKENS.issue(LOGIN, tenant_id=TENANT, region="us", now=NOW)


def part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def parts_of(token: str) -> list[dict[str, Any]]:
    return [json.loads(base64.urlsafe_b64decode(each + "==")) for each in token.split(".")[:2]]


HEADER, CLAIMS = parts_of(TOKEN)
PUBLIC = TOKENS._jose.public


def signed(header: dict[str, Any], claims: dict[str, Any], key: Any = None) -> str:
    """Sign by our own key, or another, whatever is asked for: the attacker who has more than an attacker has."""
    payload = json.dumps(claims).encode()
    registry = jws.JWSRegistry(algorithms=["Ed25519", "HS256", "RS256", "ES256"], strict_check_header=False)
    return jws.serialize_compact(header, payload, key or TOKENS._jose.private, registry=registry)


def with_claims(**changes: Any) -> str:
    return signed(HEADER, {name: value for name, value in {**CLAIMS, **changes}.items() if value is not None})


def test_a_token_of_ours_is_read() -> None:
    found = TOKENS.read(TOKEN, now=NOW)
    assert found is not None
    assert (found.tenant_id, found.region, found.user_id, found.login_id) == (
        TENANT,
        "us",
        LOGIN.user_id,
        LOGIN.login_id,
    )
    assert SECONDS == 900
    assert looks_like_token(TOKEN)
    assert HEADER["typ"] == "at+jwt"
    assert {"iss", "aud", "sub", "client_id", "iat", "exp", "jti"} <= set(CLAIMS)


def test_the_control_of_what_follows_is_accepted() -> None:
    assert TOKENS.read(with_claims(), now=NOW) is not None


def test_another_process_of_the_installation_reads_it_and_another_installation_does_not() -> None:
    assert AccessTokens(KEY).read(TOKEN, now=NOW) is not None
    assert AccessTokens(bytes(32)).read(TOKEN, now=NOW) is None


def test_it_holds_to_the_second_before_its_end() -> None:
    assert TOKENS.read(TOKEN, now=NOW + timedelta(seconds=899, milliseconds=999)) is not None
    assert TOKENS.read(TOKEN, now=NOW + timedelta(seconds=900)) is None


def test_it_ends_with_its_login() -> None:
    text, seconds = TOKENS.issue(login(expires_at=NOW + timedelta(seconds=30)), tenant_id=TENANT, region="us", now=NOW)
    assert seconds == 30
    assert TOKENS.read(text, now=NOW + timedelta(seconds=30)) is None


def test_nothing_in_it_says_what_anybody_may_do() -> None:
    assert not {"roles", "scope", "permissions", "groups", "email"} & set(CLAIMS)


_HEADERS: dict[str, dict[str, Any]] = {
    "alg none": {**HEADER, "alg": "none"},
    "alg None": {**HEADER, "alg": "None"},
    "no alg": {name: value for name, value in HEADER.items() if name != "alg"},
    "typ JWT": {**HEADER, "typ": "JWT"},
    "no typ": {name: value for name, value in HEADER.items() if name != "typ"},
    "kid traversal": {**HEADER, "kid": "../../../../dev/null"},
    "kid sql": {**HEADER, "kid": "x' or '1'='1"},
    "jku": {**HEADER, "jku": "https://evil.example/keys"},
    "x5u": {**HEADER, "x5u": "https://evil.example/cert"},
    "x5c": {**HEADER, "x5c": ["AAAA"]},
    "crit": {**HEADER, "crit": ["exp"]},
    "b64": {**HEADER, "b64": False},
    "duplicate order": dict(reversed(HEADER.items())),
}


@pytest.mark.parametrize("name", _HEADERS)
def test_a_token_with_another_header_is_none_even_if_our_key_signed_it(name: str) -> None:
    """The signature is over what was sent, so it is right: the header alone is what refuses."""
    payload = part(CLAIMS)
    head = part(_HEADERS[name])
    native = TOKENS._jose.private.raw_value
    signature = base64.urlsafe_b64encode(native.sign(f"{head}.{payload}".encode())).rstrip(b"=").decode()  # type: ignore[union-attr]
    assert TOKENS.read(f"{head}.{payload}.{signature}", now=NOW) is None
    assert TOKENS.read(f"{head}.{payload}.", now=NOW) is None


def _hmac_with_public_key() -> str:
    public = PUBLIC.as_dict(private=False)["x"]
    return signed({**HEADER, "alg": "HS256"}, CLAIMS, OctKey.import_key(str(public)))


def _own_jwk() -> str:
    key = OKPKey.generate_key("Ed25519")
    return signed({**HEADER, "jwk": key.as_dict(private=False)}, CLAIMS, key)


_FORGED: dict[str, Callable[[], str]] = {
    "HS256 with the public key": _hmac_with_public_key,
    "a key of its own": lambda: signed(HEADER, CLAIMS, OKPKey.generate_key("Ed25519")),
    "a jwk in the header": _own_jwk,
    "RS256": lambda: signed({**HEADER, "alg": "RS256"}, CLAIMS, RSAKey.generate_key(2048)),
    "ES256": lambda: signed({**HEADER, "alg": "ES256"}, CLAIMS, ECKey.generate_key("P-256")),
    "no signature": lambda: TOKEN.rpartition(".")[0] + ".",
    "another's signature": lambda: TOKEN.rpartition(".")[0] + "." + with_claims(jti="x").rpartition(".")[2],
    "changed payload": lambda: f"{TOKEN.split('.')[0]}.{part({**CLAIMS, 'x': 1})}.{TOKEN.split('.')[2]}",
    "two dots alone": lambda: "..",
    "four parts": lambda: TOKEN + ".x",
    "spaces": lambda: TOKEN + " ",
    "not ascii": lambda: TOKEN[:-1] + "é",
    "NUL": lambda: TOKEN + "\0",
    "giant": lambda: signed(HEADER, {**CLAIMS, "x": "y" * LARGEST}),
    "half a megabyte": lambda: TOKEN + "A" * (1 << 19),
    "JWE form": lambda: "a.b.c.d.e",
}


@pytest.mark.parametrize("name", _FORGED)
def test_a_forged_token_is_none(name: str) -> None:
    assert TOKENS.read(_FORGED[name](), now=NOW) is None


_BAD_CLAIMS: dict[str, dict[str, Any]] = {
    "another issuer": {"iss": "urn:tenantry:installation:0000000000000000"},
    "no issuer": {"iss": None},
    "another audience": {"aud": "urn:tenantry:other"},
    "a list of audiences": {"aud": [AUDIENCE]},
    "an id token's audience": {"aud": "tenantry-test"},
    "no end": {"exp": None},
    "an end that is text": {"exp": str(CLAIMS["exp"])},
    "an end that is true": {"exp": True},
    "an end in fractions": {"exp": CLAIMS["exp"] + 0.5},
    "an end far away": {"exp": CLAIMS["iat"] + 901},
    "an end in a million years": {"exp": 1 << 60},
    "an end below zero": {"exp": -1},
    "no beginning": {"iat": None},
    "no tenant": {"tid": None},
    "a tenant that is none": {"tid": "ten_x"},
    "a tenant by slug": {"tid": "acme"},
    "a workspace for a tenant": {"tid": format_id(Prefix.WORKSPACE, TENANT)},
    "no login": {"lgn": None},
    "a key for a login": {"lgn": format_id(Prefix.KEY, LOGIN.login_id)},
    "a service account for a user": {"sub": format_id(Prefix.SERVICE_ACCOUNT, LOGIN.user_id)},
    "a number for a user": {"sub": 7},
    "no region": {"reg": None},
}


@pytest.mark.parametrize("name", _BAD_CLAIMS)
def test_claims_that_are_not_ours_are_none_though_our_key_signed_them(name: str) -> None:
    assert TOKENS.read(with_claims(**_BAD_CLAIMS[name]), now=NOW) is None


def test_claims_that_stand_twice_are_none() -> None:
    text = json.dumps(CLAIMS)[:-1] + f', "sub": "{CLAIMS["sub"]}"}}'
    token = jws.serialize_compact(dict(HEADER), text.encode(), TOKENS._jose.private, algorithms=["Ed25519"])
    assert TOKENS.read(token, now=NOW) is None
