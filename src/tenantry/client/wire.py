"""What both transports share: how a call becomes an httpx request, and an httpx response an answer."""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from tenantry import __version__
from tenantry.client.calls import Answer, Call
from tenantry.client.credentials import Credentials, is_loopback
from tenantry.client.errors import ApiError, BadAnswer, CredentialsError
from tenantry.client.retries import retry_after_seconds

R = TypeVar("R")

_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 60.0
_PROBLEM = "application/problem+json"


def client_options(credentials: Credentials) -> dict[str, Any]:
    """Arguments of `httpx.Client` and `httpx.AsyncClient`.

    Redirects are not followed: they would carry the key elsewhere. Proxies of the environment are not asked for this
    machine's own addresses.
    """
    host = urlsplit(credentials.url).hostname or ""
    return {
        "base_url": credentials.url,
        "headers": {"Authorization": f"Bearer {credentials.key}", "User-Agent": f"tenantry-python/{__version__}"},
        "timeout": httpx.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS),
        "follow_redirects": False,
        "trust_env": not is_loopback(host),
        "verify": _verification(credentials.ca),
    }


def _verification(ca: Path | None) -> ssl.SSLContext | bool:
    """Say what a server's certificate must lead up to; raises CredentialsError for a file that tells no roots."""
    if ca is None:
        return True
    try:
        return ssl.create_default_context(cafile=ca)
    except (OSError, ValueError) as error:
        raise CredentialsError(
            "ca_unusable", f"{ca}: not a PEM file of root certificates", remedy="set TENANTRY_CA to one, or unset it"
        ) from error


def request_options(call: Call[Any], *, extra: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Arguments of `build_request`, without the body of an upload."""
    headers = {"Accept": f"application/json, {_PROBLEM}", **call.headers, **(extra or {})}
    if call.upload is not None:
        headers["Content-Type"] = "application/x-tar"
        if call.upload.size_bytes is not None:
            headers["Content-Length"] = str(call.upload.size_bytes)
    return {
        "method": call.method,
        "url": call.path,
        "params": call.query or None,
        "json": call.json,
        "headers": headers,
        "timeout": httpx.Timeout(_ANSWER_SECONDS + call.wait_seconds, connect=_CONNECT_SECONDS),
    }


def result_of(call: Call[R], response: httpx.Response) -> R:
    """Parse an answer that was read; raises ApiError for a refusal, BadAnswer for what is no JSON."""
    if not response.is_success and response.status_code not in call.accept:
        raise refusal(response)
    try:
        body = response.json() if response.content else None
    except ValueError as error:
        raise BadAnswer("json_expected", f"{call.method} {call.path} was not answered with JSON") from error
    headers = {name.lower(): value for name, value in response.headers.items()}
    return call.parse(Answer(response.status_code, headers, body))


def refusal(response: httpx.Response) -> ApiError:
    """Read the problem document; anything else (a proxy's page) gives code `http_<status>` and none of its text."""
    members: Any = None
    if response.headers.get("content-type", "").split(";")[0].strip() in {_PROBLEM, "application/json"}:
        try:
            members = response.json()
        except ValueError:
            members = None
    return ApiError(
        status=response.status_code,
        members=members if isinstance(members, dict) else {},
        retry_after_seconds=retry_after_seconds(response),
    )
