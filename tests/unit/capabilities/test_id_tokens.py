"""ID tokens: real signatures, hostile contents."""

import base64
import hmac
import json
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc import jws
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, OKPKey, RSAKey

from tenantry.capabilities.identity.service.id_tokens import (
    LARGEST,
    Expected,
    IdTokenRefusedError,
    UnknownKeyError,
    read_id_token,
)

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
SKEW = timedelta(seconds=30)
ISSUER, CLIENT, NONCE = "https://issuer.example", "tenantry", "n" * 43
EXPECTED = Expected(issuer=ISSUER, client_id=CLIENT, nonce=NONCE, now=NOW, skew=SKEW)
KEY = RSAKey.generate_key(2048, {"kid": "one", "use": "sig", "alg": "RS256"})
STRANGER = RSAKey.generate_key(2048, {"kid": "one", "use": "sig", "alg": "RS256"})
PUBLISHED: list[dict[str, Any]] = [dict(KEY.as_dict(private=False))]
CLAIMS: dict[str, Any] = {
    "iss": ISSUER,
    "aud": CLIENT,
    "sub": "ann",
    "nonce": NONCE,
    "iat": int(NOW.timestamp()),
    "exp": int(NOW.timestamp()) + 600,
}
HEADER: dict[str, Any] = {"alg": "RS256", "kid": "one", "typ": "JWT"}
ALGORITHMS = ["RS256", "PS256", "ES256", "EdDSA", "Ed25519", "HS256"]


def signed(*, header: dict[str, Any] | None = None, claims: Any = None, key: Any = KEY) -> str:
    payload = json.dumps(CLAIMS if claims is None else claims).encode()
    registry = jws.JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)
    registry.max_header_length = 1 << 20
    registry.max_payload_length = 1 << 20
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)
        return jws.serialize_compact(dict(HEADER if header is None else header), payload, key, registry=registry)


def read(text: str, *, keys: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return read_id_token(text, keys=PUBLISHED if keys is None else keys, expected=EXPECTED)


def with_claims(**changes: Any) -> str:
    return signed(claims={name: value for name, value in {**CLAIMS, **changes}.items() if value is not None})


def refusal(text: str, *, keys: list[dict[str, Any]] | None = None) -> str:
    with pytest.raises(IdTokenRefusedError) as caught:
        read(text, keys=keys)
    return caught.value.reason


def test_a_sound_token_is_read() -> None:
    assert read(signed())["sub"] == "ann"
    assert read(signed(header={"alg": "RS256"}))["sub"] == "ann"
    assert read(_by(KEY))["sub"] == "ann"


@pytest.mark.parametrize(
    ("alg", "key"),
    [
        ("PS256", RSAKey.generate_key(2048, {"kid": "k"})),
        ("ES256", ECKey.generate_key("P-256", {"kid": "k"})),
        ("EdDSA", OKPKey.generate_key("Ed25519", {"kid": "k"})),
        ("Ed25519", OKPKey.generate_key("Ed25519", {"kid": "k"})),
    ],
)
def test_every_algorithm_of_private_keys_is_read(alg: str, key: Any) -> None:
    published = [dict(key.as_dict(private=False))]
    assert read(signed(header={"alg": alg, "kid": "k"}, key=key), keys=published)["sub"] == "ann"


def _by_hand(header: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
    """Sign what no library would."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, CLAIMS)]
    signature = base64.urlsafe_b64encode(sign(b".".join(parts))).rstrip(b"=")
    return b".".join([*parts, signature]).decode()


def _confused() -> str:
    """HS256, with the issuer's public key, which everybody has, for the secret."""
    return _by_hand({**HEADER, "alg": "HS256"}, lambda text: hmac.digest(KEY.as_pem(private=False), text, "sha256"))


def _by(key: RSAKey, **more: Any) -> str:
    return _by_hand({**HEADER, **more}, lambda text: key.private_key.sign(text, PKCS1v15(), SHA256()))  # type: ignore[union-attr]


def _none() -> str:
    head = base64.urlsafe_b64encode(json.dumps({**HEADER, "alg": "none"}).encode()).rstrip(b"=").decode()
    return f"{head}.{signed().split('.')[1]}."


_FORGED: dict[str, tuple[Callable[[], str], str]] = {
    "alg none": (_none, "algorithm"),
    "HS256 with the public key": (_confused, "algorithm"),
    "another's key of the same name": (lambda: signed(key=STRANGER), "signature"),
    "a key in the header": (
        lambda: _by(STRANGER, jwk=dict(STRANGER.as_dict(private=False))),
        "signature",
    ),
    "a place of keys in the header": (
        lambda: signed(header={**HEADER, "jku": "https://evil.example/jwks"}, key=STRANGER),
        "signature",
    ),
    "a certificate's place in the header": (
        lambda: signed(header={**HEADER, "x5u": "https://evil.example/x5u"}, key=STRANGER),
        "signature",
    ),
    "an access token": (lambda: signed(header={**HEADER, "typ": "at+jwt"}), "type"),
    "a logout token": (lambda: signed(header={**HEADER, "typ": "logout+jwt"}), "type"),
    "something critical": (lambda: _by(KEY, crit=["exp"], exp=1), "type"),
    "kid traversal": (lambda: signed(header={**HEADER, "kid": "../../dev/null"}), "key_unknown"),
    "no JSON object": (lambda: signed(claims=["x"]), "malformed"),
    "two parts": (lambda: "a.b", "malformed"),
    "no base64": (lambda: "!.!.!", "malformed"),
    "giant": (lambda: with_claims(x="y" * LARGEST), "malformed"),
}


@pytest.mark.parametrize("name", _FORGED)
def test_a_forged_token_is_refused(name: str) -> None:
    make, reason = _FORGED[name]
    assert refusal(make()) == reason


def test_a_key_that_is_not_published_is_one_to_be_asked_for_anew() -> None:
    with pytest.raises(UnknownKeyError):
        read(signed(header={**HEADER, "kid": "two"}))
    with pytest.raises(UnknownKeyError):
        read(signed(), keys=[])


@pytest.mark.parametrize(
    "changes",
    [{"use": "enc"}, {"alg": "PS256"}, {"key_ops": ["encrypt"]}, {"kty": "oct", "k": "AAAA"}, {"kty": "EC"}],
    ids=str,
)
def test_a_published_key_verifies_only_what_it_is_for(changes: dict[str, Any]) -> None:
    assert refusal(signed(), keys=[{**PUBLISHED[0], **changes}]) == "key_unknown"


def test_a_weak_key_verifies_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)
        weak = RSAKey.generate_key(1024, {"kid": "one"})
        token = signed(key=weak)
    assert refusal(token, keys=[dict(weak.as_dict(private=False))]) == "key_unknown"


def test_with_several_keys_a_token_names_its_own() -> None:
    other = {**dict(STRANGER.as_dict(private=False)), "kid": "two"}
    assert refusal(signed(header={"alg": "RS256"}), keys=[*PUBLISHED, other]) == "key_unnamed"
    assert read(signed(), keys=[other, *PUBLISHED])["sub"] == "ann"


_MEANT_OTHERWISE: dict[str, tuple[dict[str, Any], str]] = {
    "another issuer": ({"iss": "https://evil.example"}, "issuer"),
    "nearly the issuer": ({"iss": ISSUER + "/"}, "issuer"),
    "no issuer": ({"iss": None}, "issuer"),
    "another client": ({"aud": "other"}, "audience"),
    "no audience": ({"aud": None}, "audience"),
    "a part of the client's name": ({"aud": "tenantry-other"}, "audience"),
    "several audiences, no azp": ({"aud": [CLIENT, "other"]}, "authorized_party"),
    "azp another": ({"aud": [CLIENT, "other"], "azp": "other"}, "authorized_party"),
    "azp another, alone": ({"azp": "other"}, "authorized_party"),
    "another nonce": ({"nonce": "m" * 43}, "nonce"),
    "no nonce": ({"nonce": None}, "nonce"),
    "no subject": ({"sub": None}, "subject"),
    "an empty subject": ({"sub": ""}, "subject"),
    "a number for a subject": ({"sub": 1}, "subject"),
    "a subject of lines": ({"sub": "a\nb"}, "subject"),
    "a long subject": ({"sub": "a" * 256}, "subject"),
    "no end": ({"exp": None}, "moments"),
    "no beginning": ({"iat": None}, "moments"),
    "a text for an end": ({"exp": "tomorrow"}, "moments"),
    "true for an end": ({"exp": True}, "moments"),
    "an end beyond all calendars": ({"exp": 1e308}, "moments"),
}


@pytest.mark.parametrize("name", _MEANT_OTHERWISE)
def test_a_token_that_is_not_for_this_flow_is_refused(name: str) -> None:
    changes, reason = _MEANT_OTHERWISE[name]
    assert refusal(with_claims(**changes)) == reason


def test_several_audiences_are_fine_where_we_are_the_party() -> None:
    assert read(with_claims(aud=[CLIENT, "other"], azp=CLIENT))["sub"] == "ann"


def _at(seconds: float) -> float:
    return NOW.timestamp() + seconds


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"exp": _at(-29)}, None),
        ({"exp": _at(-30)}, "expired"),
        ({"iat": _at(30)}, None),
        ({"iat": _at(31)}, "not_yet"),
        ({"nbf": _at(30)}, None),
        ({"nbf": _at(31)}, "not_yet"),
        ({"iat": _at(-929)}, None),
        ({"iat": _at(-931)}, "stale"),
    ],
)
def test_the_tenants_skew_counts_to_the_second(changes: dict[str, Any], reason: str | None) -> None:
    token = with_claims(**changes)
    if reason is None:
        assert read(token)["sub"] == "ann"
    else:
        assert refusal(token) == reason
