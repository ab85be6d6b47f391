"""`tenantry selftest`: the escape suite of the jail, and the fence of each cell, tried on this installation."""

from pathlib import Path

from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.jail import Jail
from tenantry.engines.jail.selftest import selftest
from tenantry.entrypoints.addresses import addresses_of
from tenantry.foundation.database.context import ContextSigner, derive_context_key
from tenantry.foundation.database.selftest import examine_cell
from tenantry.foundation.errors import TenantryError
from tenantry.foundation.secrets import load_secrets
from tenantry.foundation.settings import load_settings

Result = dict[str, str | bool]


async def run(home: Path) -> list[Result]:
    """Run both; the fence only where the databases run. Starts sandboxes, changes nothing that stays."""
    async with await Jail.open(home) as jail:
        found = await selftest(jail, ImageStore(home / "images").host())
    results: list[Result] = [{"code": f"jail.{r.code}", "ok": r.ok, "detail": r.detail} for r in found]
    return results + await _fences(home)


async def _fences(home: Path) -> list[Result]:
    settings = load_settings(home=home)
    try:
        secrets = load_secrets(home)
        addresses = addresses_of(settings, secrets)
    except TenantryError as error:
        return [{"code": "fence.unknown", "ok": False, "detail": error.message}]
    results: list[Result] = []
    for region, cell in addresses.cells.items():
        signer = ContextSigner(key=derive_context_key(master=secrets.context_key, region=region))
        try:
            findings = await examine_cell(cell.app, signer=signer)
        except TenantryError as error:
            results.append({"code": f"fence.{region}", "ok": False, "detail": f"{error.message}: start the server"})
            continue
        detail = "; ".join(finding.detail for finding in findings) or "every table, role and key as it must be"
        results.append({"code": f"fence.{region}", "ok": not findings, "detail": detail})
    return results
