import ast

from scripts.reference.markdown import code, page, table
from scripts.reference.sources import calls, keyword, modules, name_of, text_of

_KINDS = {"Counter", "Gauge", "Histogram", "Summary"}
_INTRODUCTION = """
`GET /metrics` in Prometheus' text form, to callers on this machine only. No metric has a tenant as a label: how many
tenants there are, and which, is not for a scraper.
"""


def render() -> str:
    rows = [_row(module, call) for module, tree in modules() for call in calls(tree) if _is_metric(call)]
    return page("Metrics", _INTRODUCTION, table(["Metric", "Kind", "Labels", "What it says"], sorted(rows)))


def _is_metric(call: ast.Call) -> bool:
    return name_of(call.func) in _KINDS and keyword(call, "registry") is not None


def _row(module: str, call: ast.Call) -> list[str]:
    name, documentation, *labels = call.args
    if (text := text_of(name)) is None:
        raise ValueError(f"{module}:{call.lineno}: a metric's name is a literal")
    given = ast.literal_eval(labels[0]) if labels else ()
    return [code(text), name_of(call.func).lower(), ", ".join(map(code, given)), text_of(documentation) or ""]
