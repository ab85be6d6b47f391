"""Logs as JSON lines (structlog), metrics (Prometheus), trace ids (W3C Trace Context).

A log line carries ids, never content: no command, no body, no header. Values are escaped by JSON, so no line can be
forged by CR or LF; keys that look like secrets are masked whatever they hold, and whatever has the form of a key.
"""

import logging
import re
import secrets
import sys
from collections.abc import MutableMapping
from typing import Any, Final

import structlog
import structlog.stdlib
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from structlog.typing import Processor

from tenantry.foundation.scope import current_scope
from tenantry.kit.masking.stream import Mask

_SECRET_NAMES: Final = re.compile(r"(secret|password|token|authorization|api_?key|credential|cookie)", re.IGNORECASE)
_KEYS: Final = Mask()
_ADDRESS_PASSWORD: Final = re.compile(r"(://[^:/@\s]*:)[^@\s]+@")
_TRACEPARENT: Final = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

REGISTRY: Final = CollectorRegistry()
REQUESTS: Final = Counter(
    "tenantry_requests_total", "Requests by route, method and status.", ("route", "method", "status"), registry=REGISTRY
)
REQUEST_SECONDS: Final = Histogram(
    "tenantry_request_seconds",
    "Time to answer, without streams.",
    ("route",),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=REGISTRY,
)
REFUSALS: Final = Counter(
    "tenantry_refusals_total", "Refusals by layer and code.", ("layer", "code"), registry=REGISTRY
)
AUDIT_WAITING: Final = Gauge(
    "tenantry_audit_waiting",
    "Events of reads and refusals waiting for their group commit.",
    ("region",),
    registry=REGISTRY,
)
ERASURES_REFUSED: Final = Counter(
    "tenantry_audit_erasures_refused_total",
    "Times that events of a log were old enough to leave and stay, since they are not what was sealed.",
    ("region",),
    registry=REGISTRY,
)
RATES_UNCOUNTED: Final = Counter(
    "tenantry_rates_uncounted_total",
    "Requests that passed uncounted because the key-value store was away.",
    registry=REGISTRY,
)
RATE_REFUSALS: Final = Counter(
    "tenantry_rate_refusals_total",
    "Requests over a rate, by whose it was and of which action.",
    ("holder", "action"),
    registry=REGISTRY,
)
QUOTA_REFUSALS: Final = Counter(
    "tenantry_quota_refusals_total",
    "Work that a quota had no room for, by quota and by whose it was.",
    ("quota", "holder"),
    registry=REGISTRY,
)
QUOTA_REPAIRS: Final = Counter(
    "tenantry_quota_repairs_total",
    "Counters and reservations that did not agree with what they stand for, and were set right.",
    registry=REGISTRY,
)
POLICY_DENIALS: Final = Counter(
    "tenantry_policy_denials_total",
    "Work that a policy denied, by the kind of policy and the layer.",
    ("kind", "layer"),
    registry=REGISTRY,
)
POLICY_SHADOW_DIFFERENCES: Final = Counter(
    "tenantry_policy_shadow_differences_total",
    "Work that policies in shadow would have decided otherwise, by what they would have said.",
    ("verdict",),
    registry=REGISTRY,
)
JOBS_RUNNING: Final = Gauge("tenantry_jobs_running", "Jobs running in this worker.", registry=REGISTRY)


def configure_logging(level: str = "info") -> None:
    """Write JSON lines to standard error; the standard library's loggers join them, from `warning` up."""
    first: list[Processor] = [structlog.stdlib.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True)]
    last: list[Processor] = [
        structlog.processors.format_exc_info,
        _add_scope,
        mask_secrets,
        structlog.processors.JSONRenderer(sort_keys=True),
    ]
    structlog.configure(
        processors=[*first, *last],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*first, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


def trace_id_of(traceparent: str | None) -> str:
    """Take the caller's trace id (32 hex) when it is well formed, else make one."""
    if traceparent and (match := _TRACEPARENT.fullmatch(traceparent)):
        return match.group(1)
    return secrets.token_hex(16)


def mask_secrets(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in event.items():
        event[name] = "***" if _SECRET_NAMES.search(name) else _masked(value)
    return event


def _masked(value: Any) -> Any:
    """Mask what is inside; a value of another kind is shown by its repr, so it is masked in that form."""
    if isinstance(value, str):
        value = _KEYS.text(value)
        return _ADDRESS_PASSWORD.sub(r"\1***@", value) if "://" in value else value
    if isinstance(value, dict):
        return {
            name: "***" if isinstance(name, str) and _SECRET_NAMES.search(name) else _masked(inner)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked(inner) for inner in value]
    return value if isinstance(value, int | float | None) else _masked(repr(value))


def _add_scope(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if scope := current_scope():
        event.setdefault("tenant", str(scope.tenant_id))
        event.setdefault("trace_id", scope.trace_id)
    return event
