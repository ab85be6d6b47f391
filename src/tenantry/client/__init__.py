"""The Python SDK: speaks HTTP, imports nothing of the server.

    from tenantry.client import Client

    with Client() as client:                      # $TENANTRY_HOME/credentials.json, as `tenantry login` left it
        job = client.jobs.create("ws_…", command=["uname", "-a"], wait_seconds=30)

`AsyncClient` has the same resources with the same arguments; what `Client` returns, it returns awaitable, and what
`Client` iterates, it iterates asynchronously. Names load on first use: `httpx` takes a third of a second to import and
a command that only prints its help has no need of it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenantry.client.credentials import Credentials
    from tenantry.client.errors import ApiError, BadAnswer, BadRequest, ClientError, ConnectionFailed, CredentialsError
    from tenantry.client.logs import JobEnd, LogLine
    from tenantry.client.proofs import ClientCertificate, SigningKey
    from tenantry.client.retries import RetryPolicy
    from tenantry.client.surface import AsyncClient, Client

__all__ = [
    "ApiError",
    "AsyncClient",
    "BadAnswer",
    "BadRequest",
    "Client",
    "ClientCertificate",
    "ClientError",
    "ConnectionFailed",
    "Credentials",
    "CredentialsError",
    "JobEnd",
    "LogLine",
    "RetryPolicy",
    "SigningKey",
]

_HOMES = {
    "ApiError": "errors",
    "AsyncClient": "surface",
    "BadAnswer": "errors",
    "BadRequest": "errors",
    "Client": "surface",
    "ClientCertificate": "proofs",
    "ClientError": "errors",
    "ConnectionFailed": "errors",
    "Credentials": "credentials",
    "CredentialsError": "errors",
    "JobEnd": "logs",
    "LogLine": "logs",
    "RetryPolicy": "retries",
    "SigningKey": "proofs",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
