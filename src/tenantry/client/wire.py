"""What both transports share: how a call becomes an httpx request, and an httpx response an answer."""

import ssl
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from tenantry import __version__
from tenantry.client.calls import Answer, Call
from tenantry.client.credentials import Credentials, is_loopback
from tenantry.client.errors import ApiError, BadAnswer, CredentialsError
from tenantry.client.logins import LoginAuth, Tokens
from tenantry.client.proofs import ClientCertificate, SigningKey
from tenantry.client.retries import retry_after_seconds
from tenantry.client.signing import Signature
from tenantry.client.work_events import EVENTS

R = TypeVar("R")

_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 60.0
_PROBLEM = "application/problem+json"


def connection_options(credentials: Credentials) -> dict[str, Any]:
    """Arguments of `httpx.Client` and `httpx.AsyncClient` that show nobody who calls.

    Redirects are not followed: they would carry the key elsewhere. Proxies of the environment are not asked for this
    machine's own addresses.
    """
    host = urlsplit(credentials.url).hostname or ""
    tenant = {"X-Tenant-Id": credentials.tenant} if credentials.tenant else {}
    return {
        "base_url": credentials.url,
        "headers": {"User-Agent": f"tenantry-python/{__version__}", **tenant},
        "timeout": httpx.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS),
        "follow_redirects": False,
        "trust_env": not is_loopback(host),
        "verify": _verification(credentials),
    }


def client_options(credentials: Credentials) -> dict[str, Any]:
    """Arguments of `httpx.Client` and `httpx.AsyncClient`, with what says who calls."""
    options = connection_options(credentials)
    tokens = Tokens.of_file(credentials.login)
    if tokens is not None and credentials.file is not None:
        return {**options, "auth": LoginAuth(tokens, url=credentials.url, path=credentials.file, options=options)}
    signature = Signature(credentials.proof) if isinstance(credentials.proof, SigningKey) else None
    return {**options, "headers": {**options["headers"], **_identifying(credentials)}, "auth": signature}


def _identifying(credentials: Credentials) -> dict[str, str]:
    """Make the headers that say who calls; a signature is made for each request, a certificate shown before it."""
    match credentials.proof:
        case None:
            return {"Authorization": f"Bearer {credentials.key}"}
        case ClientCertificate(workspace=workspace):
            return {"X-Workspace-Id": workspace}
        case _:
            return {}


def _verification(credentials: Credentials) -> ssl.SSLContext | bool:
    """Say what a server's certificate must lead up to, and what to show it; raises CredentialsError for other files."""
    ca, proof = credentials.ca, credentials.proof
    if ca is None and not isinstance(proof, ClientCertificate):
        return True
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ValueError) as error:
        raise CredentialsError(
            "ca_unusable", f"{ca}: not a PEM file of root certificates", remedy="set TENANTRY_CA to one, or unset it"
        ) from error
    if isinstance(proof, ClientCertificate):
        try:
            context.load_cert_chain(proof.certificate, proof.key)
        except (OSError, ValueError) as error:
            raise CredentialsError(
                "certificate_unusable", f"{proof.certificate}, {proof.key}: no certificate in PEM with its key"
            ) from error
    return context


def request_options(call: Call[Any], *, extra: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Arguments of `build_request`, without the body of an upload or document."""
    headers = {"Accept": f"application/json, {_PROBLEM}", **call.headers, **(extra or {})}
    if call.progress is not None:
        headers |= {"Accept": f"{EVENTS}, {headers['Accept']}", "Accept-Encoding": "identity"}
    if call.document is not None:
        headers["Content-Type"] = "application/yaml"
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
