"""Refusals as problem documents (RFC 9457). The only place that knows HTTP statuses of error kinds."""

from collections.abc import Mapping
from typing import Any, Final

import structlog
from fastapi.exceptions import RequestValidationError
from starlette.responses import JSONResponse

from tenantry.foundation.errors import ErrorKind, TenantryError
from tenantry.foundation.telemetry import REFUSALS

STATUS: Final[Mapping[ErrorKind, int]] = {
    ErrorKind.INVALID: 422,
    ErrorKind.UNAUTHENTICATED: 401,
    ErrorKind.DENIED: 403,
    ErrorKind.NOT_FOUND: 404,
    ErrorKind.CONFLICT: 409,
    ErrorKind.GONE: 410,
    ErrorKind.PRECONDITION: 412,
    ErrorKind.WRONG_REGION: 421,
    ErrorKind.EXHAUSTED: 429,
    ErrorKind.UNAVAILABLE: 503,
    ErrorKind.FAULT: 500,
}
# Invalid input that could not even be read, and bodies over their limit, have statuses of their own.
_STATUS_OF_CODE: Final[Mapping[str, int]] = {
    "body_unreadable": 400,
    "address_unreadable": 400,
    "tenant_required": 400,
    "header_ambiguous": 400,
    "credential_in_query": 400,
    "credentials_disagree": 400,
    "client_cert_untrusted": 400,
    "forwarded_unreadable": 400,
    "signed_upload_unsupported": 400,
    "body_slow": 408,
    "body_too_large": 413,
    "content_type_unsupported": 415,
    "range_unsatisfiable": 416,
    "upgrade_required": 426,
}
_TITLES: Final[Mapping[int, str]] = {
    400: "Unreadable request",
    401: "Not authenticated",
    403: "Refused",
    404: "Not found",
    405: "Method not allowed",
    408: "Too slow",
    409: "Conflict",
    410: "No longer kept",
    412: "Changed since it was read",
    413: "Too large",
    415: "Unsupported content type",
    416: "No such range",
    421: "Another region's process must be asked",
    422: "Invalid",
    426: "Upgrade required",
    429: "Over a limit",
    500: "Internal error",
    503: "Unavailable, retry",
}
_HIDDEN: Final = frozenset({"retry_after"})
_log = structlog.get_logger(__name__)
HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def status_of(error: TenantryError) -> int:
    return _STATUS_OF_CODE.get(error.code, STATUS[error.kind])


def problem_of(error: TenantryError, *, trace_id: str) -> JSONResponse:
    """Render an error; its fields become members, `retry_after` (seconds) the header."""
    status = status_of(error)
    headers = {}
    if "retry_after" in error.fields:
        headers["Retry-After"] = str(error.fields["retry_after"])
    if status == 401:  # noqa: PLR2004 - RFC 9110 §11.6.1 wants the challenge
        headers["WWW-Authenticate"] = "Bearer"
    if status == 426:  # noqa: PLR2004 - RFC 9110 §15.5.22 wants to hear to what
        headers["Upgrade"] = "websocket"
    members = {name: value for name, value in error.fields.items() if name not in _HIDDEN}
    return problem(
        status, code=error.code, detail=error.message, layer=error.layer, trace_id=trace_id, headers=headers, **members
    )


def problem_of_any(error: Exception, *, route: str, ip: str | None, trace_id: str) -> JSONResponse:
    """Render whatever a handler raised, and log what somebody should look at; nothing of an error of ours is told."""
    if isinstance(error, RequestValidationError):
        return problem_of_validation(error, trace_id=trace_id)
    if isinstance(error, TenantryError):
        if error.kind is ErrorKind.FAULT:
            _log.error("api.fault", code=error.code, route=route, trace_id=trace_id)
        elif error.kind is ErrorKind.UNAUTHENTICATED:
            _log.info("api.unauthenticated", code=error.code, route=route, ip=ip, trace_id=trace_id)
        return problem_of(error, trace_id=trace_id)
    _log.error("api.unexpected", route=route, trace_id=trace_id, kind=type(error).__name__, exc_info=error)
    detail = "an error of ours; the log knows it by the trace id"
    return problem(500, code="internal", detail=detail, layer="api", trace_id=trace_id)


def problem(
    status: int,
    *,
    code: str,
    detail: str,
    layer: str,
    trace_id: str,
    headers: Mapping[str, str] | None = None,
    **members: Any,
) -> JSONResponse:
    REFUSALS.labels(layer or "api", code).inc()
    return JSONResponse(
        {
            "type": f"urn:tenantry:problem:{code}",
            "title": _TITLES.get(status, "Error"),
            "status": status,
            "detail": detail,
            "code": code,
            "layer": layer or "api",
            "trace_id": trace_id,
            **members,
        },
        status_code=status,
        headers={**HEADERS, **(headers or {})},
        media_type="application/problem+json",
    )


def problem_of_validation(error: RequestValidationError, *, trace_id: str) -> JSONResponse:
    """Name each field and the rule it breaks; what was sent is not echoed, it may be secret."""
    faults = [
        {"field": ".".join(str(part) for part in e["loc"]), "rule": e["type"], "message": e["msg"]}
        for e in error.errors()[:20]
    ]
    first = faults[0] if faults else {"field": "body", "message": "is not acceptable"}
    return problem(
        422,
        code="invalid_request",
        detail=f"{first['field']}: {first['message']}",
        layer="api",
        trace_id=trace_id,
        errors=faults,
    )
