"""`tenantry selftest`: the escape suite of the jail and its network, and the fence of each cell, tried right here."""

from pathlib import Path
from typing import Final, Literal, TypedDict

from tenantry.engines.jail.escape.catalogue import NOT_APPLICABLE
from tenantry.engines.jail.escape.under_gvisor import why_not
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.selftest import SelftestResult, selftest
from tenantry.entrypoints.addresses import addresses_of
from tenantry.entrypoints.backends import open_backend
from tenantry.entrypoints.egress_suite.cases import CASES
from tenantry.entrypoints.egress_suite.stage import try_egress
from tenantry.foundation.database.context import ContextSigner, derive_context_key
from tenantry.foundation.database.selftest import examine_cell
from tenantry.foundation.errors import TenantryError
from tenantry.foundation.sandbox_settings import SandboxSettings
from tenantry.foundation.secrets import load_secrets
from tenantry.foundation.settings import load_settings

_GVISOR: Final = "gvisor"
_WHOLE: Final = "every table, role and key as it must be"
_EXPECTED: Final = "no row, table, role or key outside the fence"


class Result(TypedDict):
    """`verdict` is `held`, `open`, or `skipped`, which `detail` then explains: what the case needs is not here."""

    group: str
    case: str
    verdict: Literal["held", "open", "skipped"]
    expected: str
    detail: str


async def run(home: Path, *, backend: str | None = None) -> list[Result]:
    """Run all; the fence only where the databases run. Starts sandboxes, changes nothing that stays.

    `backend` is tried instead of the one that is set.
    """
    settings = load_settings(home=home)
    if backend is not None:
        settings = settings.model_copy(
            update={"sandboxes": SandboxSettings(**settings.sandboxes.model_dump() | {"backend": backend})}
        )
    async with await open_backend(settings) as jail:
        image = ImageStore(home / "images").host()
        networked = jail.name != _GVISOR or settings.sandboxes.docker_network_runtime is not None
        found = await selftest(jail, image) + (await try_egress(jail, image) if networked else _without_network())
    return [_judged(result) for result in found] + await _fences(home)


def _without_network() -> list[SelftestResult]:
    return [
        SelftestResult(case.code, True, "", case.group, case.name, case.expected, f"{NOT_APPLICABLE}: {why_not(case)}")
        for case in CASES
    ]


def summary(results: list[Result]) -> dict[str, int]:
    """Count each verdict."""
    return {verdict: sum(one["verdict"] == verdict for one in results) for verdict in ("held", "open", "skipped")}


def _judged(result: SelftestResult) -> Result:
    verdict: Literal["held", "open", "skipped"] = "skipped" if result.skipped else "held" if result.ok else "open"
    needed = result.skipped if result.skipped.startswith(NOT_APPLICABLE) else f"needs {result.skipped}"
    detail = needed if result.skipped else result.detail
    return Result(
        group=result.group, case=result.case, verdict=verdict, expected=result.expected, detail=" ".join(detail.split())
    )


def _fence(region: str, detail: str, *, held: bool) -> Result:
    return Result(group="fence", case=region, verdict="held" if held else "open", expected=_EXPECTED, detail=detail)


async def _fences(home: Path) -> list[Result]:
    settings = load_settings(home=home)
    try:
        secrets = load_secrets(home)
        addresses = addresses_of(settings, secrets)
    except TenantryError as error:
        return [_fence("unknown", error.message, held=False)]
    results: list[Result] = []
    for region, cell in addresses.cells.items():
        signer = ContextSigner(key=derive_context_key(master=secrets.context_key, region=region))
        try:
            findings = await examine_cell(cell.app, signer=signer)
        except TenantryError as error:
            results.append(_fence(region, f"{error.message}: start the server", held=False))
            continue
        detail = "; ".join(finding.detail for finding in findings) or _WHOLE
        results.append(_fence(region, detail, held=not findings))
    return results
