from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from tenantry.client.archives import ArchiveUpload, Progress
from tenantry.client.calls import Call, delete, etag_of, get, given, patch, post, put
from tenantry.client.operations import Download, Listing, Operation, Resource
from tenantry.client.pages import Plan
from tenantry.client.saving import Saving
from tenantry.client.types import (
    Labels,
    Owner,
    QuotaStatus,
    ReloadedTenants,
    Slos,
    Tenant,
    TenantExport,
    TenantImport,
    TenantOperation,
    Usage,
)

T = TypeVar("T")

_EXAMINING_SECONDS = 600


class Tenants(Resource[T]):
    """Organisations. `tenant` is an id or a slug."""

    @Operation
    def create(
        self,
        /,
        *,
        name: str,
        slug: str,
        plan: str,
        region: str,
        owner: Owner,
        idempotency_key: str | None = None,
        **more: Any,
    ) -> Call[Tenant]:
        """Answer with `bootstrap_key`, the owner's way in, shown only here.

        `more`: isolation, settings, quotas, limits, billing, contacts, metadata, clock_skew_ms, compliance,
        slo_overlay, label_overlay.
        """
        body = given(name=name, slug=slug, plan=plan, region=region, owner=owner, **more)
        return post("tenants", json=body, idempotency_key=idempotency_key)

    @Operation
    def get(self, tenant: str) -> Call[Tenant]:
        return get("tenants", tenant)

    @Operation
    def etag(self, tenant: str) -> Call[str | None]:
        """Its version now, for `if_match`."""
        return replace(get("tenants", tenant), parse=etag_of)

    @Listing
    def list(self, *, limit: int | None = None, cursor: str | None = None) -> Plan[Tenant]:
        return Plan(call=get("tenants"), limit=limit, cursor=cursor)

    @Operation
    def update(self, tenant: str, changes: Mapping[str, object], *, if_match: str | None = None) -> Call[Tenant]:
        """Raise ApiError 412 when `if_match` is not its version any more."""
        return patch("tenants", tenant, json=changes, if_match=if_match)

    @Operation
    def suspend(self, tenant: str, *, reason: str) -> Call[Tenant]:
        """Refuse its requests and stop what it runs."""
        return post("tenants", tenant, "suspend", json={"reason": reason})

    @Operation
    def resume(self, tenant: str) -> Call[Tenant]:
        return post("tenants", tenant, "resume")

    @Operation
    def delete(self, tenant: str, *, if_match: str | None = None) -> Call[Tenant | None]:
        """Soft: schedules erasure; `restore` takes it back until then."""
        return delete("tenants", tenant, if_match=if_match)

    @Operation
    def restore(self, tenant: str) -> Call[Tenant]:
        return post("tenants", tenant, "restore")

    @Operation
    def move(
        self,
        tenant: str,
        *,
        isolation: str | None = None,
        region: str | None = None,
        grace_seconds: int | None = None,
        idempotency_key: str | None = None,
    ) -> Call[TenantOperation]:
        """Move to another isolation strategy, or to another region once a second administrator has confirmed it."""
        body = given(isolation=isolation, region=region, grace_seconds=grace_seconds)
        return post("tenants", tenant, "move", json=body, idempotency_key=idempotency_key)

    @Listing
    def operations(self, tenant: str, *, limit: int | None = None, cursor: str | None = None) -> Plan[TenantOperation]:
        """List moves, exports, imports and erasures, newest first."""
        return Plan(call=get("tenants", tenant, "operations"), limit=limit, cursor=cursor)

    @Operation
    def operation(self, tenant: str, operation: str) -> Call[TenantOperation]:
        return get("tenants", tenant, "operations", operation)

    @Operation
    def confirm(self, tenant: str, operation: str) -> Call[TenantOperation]:
        """Agree to what another administrator has asked for."""
        return post("tenants", tenant, "operations", operation, "confirm")

    @Operation
    def cancel(self, tenant: str, operation: str) -> Call[TenantOperation]:
        """Call off a move that waits, or have one put back that runs; raises ApiError 409 once it has switched."""
        return post("tenants", tenant, "operations", operation, "cancel")

    @Operation
    def export(self, tenant: str, *, idempotency_key: str | None = None) -> Call[TenantOperation]:
        """Have everything of the tenant collected into one archive."""
        return post("tenants", tenant, "export", idempotency_key=idempotency_key)

    @Operation
    def export_key(self, tenant: str, operation: str) -> Call[TenantExport]:
        """Read size, digest and key of an archive; raises ApiError 409 until it is ready, 410 when it is gone."""
        return get("tenants", tenant, "exports", operation)

    @Download
    def download_export(self, tenant: str, operation: str, *, to: Path, sha256: str | None = None) -> Saving:
        """Write the archive to the file `to`, whole or not at all."""
        return Saving(call=get("tenants", tenant, "exports", operation, "content"), to=to, sha256=sha256)

    @Operation
    def import_archive(
        self,
        /,
        *,
        path: Path,
        key: str,
        region: str,
        isolation: str | None = None,
        slug: str | None = None,
        progress: Progress | None = None,
    ) -> Call[TenantImport]:
        """Put a tenant back from its archive; answers with its owner's key, valid once that has succeeded."""
        upload = ArchiveUpload(path=path, progress=progress) if progress else ArchiveUpload(path=path)
        query = {"region": region, "isolation": isolation, "slug": slug}
        call = post("tenants", "import", query=query, upload=upload, wait_seconds=_EXAMINING_SECONDS)
        return replace(call, headers={**call.headers, "X-Export-Key": key})

    @Operation
    def import_operation(self, operation: str) -> Call[TenantOperation]:
        """Read how far an import has come: until it has succeeded there is no tenant to ask for it."""
        return get("imports", operation)

    @Operation
    def certificate(self, tenant: str) -> Call[dict[str, Any]]:
        """Read what is shown of a tenant that was erased."""
        return get("tenants", tenant, "certificate")

    @Operation
    def slos(self, tenant: str, *, explain: bool = False) -> Call[Slos]:
        """Read what holds in the whole tenant; with `explain` also which layer gave each value."""
        return get("tenants", tenant, "slos", query={"explain": explain or None})

    @Operation
    def set_slos(self, tenant: str, overlay: Mapping[str, object], *, if_match: str | None = None) -> Call[Slos]:
        """Replace this layer whole; raise ApiError 412 when `if_match` is not the tenant's version any more."""
        return put("tenants", tenant, "slos", json={"overlay": overlay}, if_match=if_match)

    @Operation
    def labels(self, tenant: str, *, explain: bool = False) -> Call[Labels]:
        """Read the label catalogue that holds in the whole tenant; `explain` as for `slos`."""
        return get("tenants", tenant, "labels", query={"explain": explain or None})

    @Operation
    def set_labels(self, tenant: str, overlay: Mapping[str, object], *, if_match: str | None = None) -> Call[Labels]:
        """Replace this layer whole, as `set_slos`."""
        return put("tenants", tenant, "labels", json={"overlay": overlay}, if_match=if_match)

    @Operation
    def quotas(self, tenant: str) -> Call[dict[str, QuotaStatus]]:
        """Each quota: what of it is used, and whether more fits."""
        return get("tenants", tenant, "quotas")

    @Operation
    def usage(self, tenant: str) -> Call[Usage]:
        """Count what the tenant uses now."""
        return get("tenants", tenant, "usage")

    @Operation
    def reload(self) -> Call[ReloadedTenants]:
        """Have the server read its declared tenants anew; it applies them only where its settings say so."""
        return post("platform", "tenants", "reload")
