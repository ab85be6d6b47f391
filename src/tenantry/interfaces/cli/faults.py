"""How an error is told: what happened, what would help, and the trace that finds it in the server's log."""

import json
import sys
from collections.abc import Iterator

from tenantry.client.errors import ApiError, ClientError
from tenantry.foundation.errors import TenantryError
from tenantry.interfaces.cli.output import Format, cell
from tenantry.interfaces.cli.terminal import one_line, write


def report(error: ClientError | TenantryError, *, output: Format) -> None:
    """To standard error; the problem document itself with `--output json`."""
    if output is Format.JSON:
        write(sys.stderr, json.dumps(_members(error), ensure_ascii=True, default=str) + "\n")
        return
    write(sys.stderr, "".join(f"{one_line(line)}\n" for line in _lines(error)))


def _members(error: ClientError | TenantryError) -> dict[str, object]:
    if isinstance(error, ApiError):
        return {"status": error.status, "code": error.code, "detail": error.detail, **error.members}
    if isinstance(error, ClientError):
        return {"code": error.code, "detail": error.message, "allow_with": error.remedy or None}
    return {"code": error.code, "detail": error.message, "layer": error.layer, **error.fields}


def _lines(error: ClientError | TenantryError) -> Iterator[str]:
    members = _members(error)
    layer = f" ({members['layer']})" if members.get("layer") else ""
    yield f"error: {members['code']}{layer}"
    # Our own text may have lines; what a server says is one, whatever is in it.
    first, *more = str(members["detail"]).splitlines() if isinstance(error, TenantryError) else [members["detail"]]
    yield f"  what:   {first}"
    yield from (f"          {line}" for line in more)
    if members.get("limit") is not None:
        yield f"  limit:  {cell(members['limit'])}, now {cell(members.get('current'))}"
    for fault in _further(members.get("errors")):
        yield f"  also:   {fault}"
    if members.get("job") is not None:
        yield f"  job:    {cell(members['job'])}"
    if remedy := _remedy(error, members):
        yield f"  remedy: {remedy}"
    if members.get("trace_id"):
        yield f"  trace:  {cell(members['trace_id'])}"


def _further(faults: object) -> Iterator[str]:
    """Faults of a form beside the first, which the detail names."""
    if isinstance(faults, list):
        for fault in faults[1:]:
            if isinstance(fault, dict):
                yield f"{fault.get('field')}: {fault.get('message')}"


def _remedy(error: ClientError | TenantryError, members: dict[str, object]) -> str:
    if members.get("allow_with"):
        return cell(members["allow_with"])
    if isinstance(error, ApiError):
        if error.status == 401:  # noqa: PLR2004 - RFC 9110
            return "tenantry login"
        if error.retry_after_seconds is not None:
            return f"try again in {error.retry_after_seconds:g} s"
    return ""
