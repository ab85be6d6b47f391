"""The two clients: the same resources over two transports."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Self, TypeVar

from tenantry.client.async_transport import AsyncTransport
from tenantry.client.calls import Call, get, given, path_of, post
from tenantry.client.credentials import load
from tenantry.client.operations import Operation, Resource
from tenantry.client.proofs import ClientCertificate, SigningKey
from tenantry.client.resources.access import Bindings, Keys, ServiceAccounts
from tenantry.client.resources.audit import Audit
from tenantry.client.resources.audit_streams import AuditStreams
from tenantry.client.resources.evidence import EvidenceOfWork, LegalHolds
from tenantry.client.resources.grants import Approvals, Grants
from tenantry.client.resources.images import Images
from tenantry.client.resources.jobs import Jobs
from tenantry.client.resources.limits import Limits
from tenantry.client.resources.logins import IdentityProviders, Invitations, MemberLogins
from tenantry.client.resources.metering import Metering
from tenantry.client.resources.notifications import NotificationChannels
from tenantry.client.resources.people import Groups, Members, Roles
from tenantry.client.resources.policies import Exemptions, Policies
from tenantry.client.resources.proofs import Certificates, SigningKeys
from tenantry.client.resources.sandboxes import Sandboxes
from tenantry.client.resources.secrets import Secrets
from tenantry.client.resources.tenants import Tenants
from tenantry.client.resources.workspaces import Workspaces
from tenantry.client.retries import RetryPolicy
from tenantry.client.sync_transport import SyncTransport
from tenantry.client.types import Me

T = TypeVar("T")

_NOT_READY = 503
_DEFAULT_POLICY = RetryPolicy()


class Surface(Resource[T]):
    """Everything one can ask of a server."""

    def __init__(self, transport: T) -> None:
        super().__init__(transport)
        self.tenants = Tenants(transport)
        self.workspaces = Workspaces(transport)
        self.service_accounts = ServiceAccounts(transport)
        self.certificates = Certificates(transport)
        self.signing_keys = SigningKeys(transport)
        self.keys = Keys(transport)
        self.roles = Roles(transport)
        self.bindings = Bindings(transport)
        self.groups = Groups(transport)
        self.members = Members(transport)
        self.grants = Grants(transport)
        self.approvals = Approvals(transport)
        self.identity_providers = IdentityProviders(transport)
        self.invitations = Invitations(transport)
        self.logins = MemberLogins(transport)
        self.limits = Limits(transport)
        self.metering = Metering(transport)
        self.policies = Policies(transport)
        self.exemptions = Exemptions(transport)
        self.jobs = Jobs(transport)
        self.sandboxes = Sandboxes(transport)
        self.images = Images(transport)
        self.secrets = Secrets(transport)
        self.audit = Audit(transport)
        self.audit_streams = AuditStreams(transport)
        self.evidence = EvidenceOfWork(transport)
        self.holds = LegalHolds(transport)
        self.notification_channels = NotificationChannels(transport)

    @Operation
    def me(self) -> Call[Me]:
        """Who the credential is and what it may do where."""
        return get("me")

    @Operation
    def explain(
        self, /, *, permission: str | None = None, workspace: str | None = None, **more: Any
    ) -> Call[dict[str, Any]]:
        """Tell whether this credential may do something, by what, and what is missing; nothing is done.

        `more`: environment, labels, principal, or job, the body of one that might be made.
        """
        return post("explain", json=given(permission=permission, workspace=workspace, **more))

    @Operation
    def logout(self, *, everywhere: bool = False) -> Call[dict[str, Any]]:
        """End this login, or all of this person's; known to every process of the server within a second."""
        return Call(method="POST", path=path_of("api", "v1", "auth", "logout"), json={"everywhere": everywhere})

    @Operation
    def health(self) -> Call[dict[str, Any]]:
        """Say that the process lives."""
        return Call(method="GET", path=path_of("health"))

    @Operation
    def readiness(self) -> Call[dict[str, Any]]:
        """Whether it can serve; an answer, also when it cannot."""
        return Call(method="GET", path=path_of("readiness"), accept=frozenset({_NOT_READY}))


class Client(Surface[SyncTransport]):
    """The synchronous client; one per thread. Raises CredentialsError when it cannot log in or must not.

    Without arguments: `TENANTRY_URL` and `TENANTRY_KEY`, else `credentials.json` in `home` (`TENANTRY_HOME`). With
    `signing_key` requests are signed, with `certificate` it is shown to the server; neither goes with a key. `receipts`
    (`TENANTRY_RECEIPTS`) is a file that the receipts of what is done are appended to.
    """

    def __init__(
        self,
        *,
        url: str | None = None,
        key: str | None = None,
        home: Path | None = None,
        signing_key: SigningKey | None = None,
        certificate: ClientCertificate | None = None,
        receipts: Path | None = None,
        policy: RetryPolicy = _DEFAULT_POLICY,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        super().__init__(
            SyncTransport(
                load(url=url, key=key, home=home, proof=signing_key or certificate, receipts=receipts),
                policy=policy,
                sleep=sleep,
            )
        )

    def close(self) -> None:
        self.transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client(url={self.transport.url!r})"


class AsyncClient(Surface[AsyncTransport]):
    """The asynchronous client, for asyncio; may be shared by the tasks of one loop."""

    def __init__(
        self,
        *,
        url: str | None = None,
        key: str | None = None,
        home: Path | None = None,
        signing_key: SigningKey | None = None,
        certificate: ClientCertificate | None = None,
        receipts: Path | None = None,
        policy: RetryPolicy = _DEFAULT_POLICY,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        super().__init__(
            AsyncTransport(
                load(url=url, key=key, home=home, proof=signing_key or certificate, receipts=receipts),
                policy=policy,
                sleep=sleep,
            )
        )

    async def aclose(self) -> None:
        await self.transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"AsyncClient(url={self.transport.url!r})"
