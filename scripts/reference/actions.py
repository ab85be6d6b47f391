import ast
from collections.abc import Iterator, Sequence

from scripts.reference.markdown import code, page, table
from scripts.reference.sources import calls, keyword, modules, name_of, text_of

from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.sandboxes.types import JobStatus
from tenantry.interfaces.api.routes import ALL_ROUTES
from tenantry.interfaces.api.routing import RouteSpec

_INTRODUCTION = """
What the audit trail can say, in `action`. `GET /audit?action=job.` finds all that begin so.
"""
_EFFECTS = """
Recorded in the transaction of the effect: both are there, or neither. `actor` is the key; `actor.chain` says for whom.
"""
_OTHERS = """
Recorded by the group commit, under the permission that the route asks for, with a dot. An allowed read has outcome
`success`; a refusal (denied, not found, or whatever the guard says once it knows who asks) has outcome `denied` and the
error's code as `reason`. Reads are refused under the same action.
"""
_RECORDERS = {"record", "_record", "_enter"}
_ENDS = [status.value for status in JobStatus if status.ended]


def render() -> str:
    effects = sorted({(code(action), code(kind), code(module)) for action, kind, module in _effects()})
    asked = [spec for spec in ALL_ROUTES if isinstance(spec.needs, Permission)]
    others = [
        [code(action), _paths(asked, action, "GET"), _paths(asked, action, "POST", "PUT", "PATCH", "DELETE")]
        for action in sorted({spec.needs.replace(":", ".") for spec in asked})
    ]
    return page(
        "Audit actions",
        _INTRODUCTION,
        "## Effects",
        _EFFECTS,
        table(["Action", "Resource", "Recorded by"], effects),
        "## Reads and refusals",
        _OTHERS,
        table(["Action", "Reads", "Refusals of changes"], others),
        "## Others, of the group commit",
        table(["Action", "Resource", "Recorded by"], sorted({(code(a), code(k), code(m)) for a, k, m in _noted()})),
    )


def _paths(asked: Sequence[RouteSpec], action: str, *methods: str) -> str:
    return ", ".join(
        code(f"{spec.method} {spec.path}")
        for spec in asked
        if spec.needs.replace(":", ".") == action and spec.method in methods
    )


def _effects() -> Iterator[tuple[str, str, str]]:
    for module, tree in modules():
        if not any(name_of(call.func) in _RECORDERS for call in calls(tree)):
            continue
        kind = _kind_in(tree)
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            for call in calls(function):
                if name_of(call.func) not in _RECORDERS:
                    continue
                own = text_of(keyword(call, "resource_type")) or kind
                for argument in call.args:
                    yield from ((action, own, module) for action in _spelt_out(argument, function))


def _noted() -> Iterator[tuple[str, str, str]]:
    for module, tree in modules():
        for call in calls(tree):
            action = text_of(keyword(call, "action"))
            if name_of(call.func) == "note" and action:
                yield action, text_of(keyword(call, "resource_type")) or "", module


def _kind_in(tree: ast.Module) -> str:
    """Find the one kind of resource that a module's recorder names, for calls that leave it to it."""
    kinds = {text for call in calls(tree) if (text := text_of(keyword(call, "resource_type")))}
    return kinds.pop() if len(kinds) == 1 else ""


def _spelt_out(argument: ast.expr, function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Tell the actions that an argument can be: a literal, or one filled in from what the function itself assigns."""
    match argument:
        case ast.Constant(value=str(text)) if _is_action(text):
            return [text]
        case ast.JoinedStr(values=[ast.Constant(value=str(head)), ast.FormattedValue(value=inner)]):
            return [f"{head}{word}" for word in _words(inner, function)] if head.endswith(".") else []
    return []


def _is_action(text: str) -> bool:
    noun, dot, verb = text.partition(".")
    return bool(dot) and noun.replace("_", "").isalpha() and verb.replace("_", "").isalpha()


def _words(inner: ast.expr, function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    if isinstance(inner, ast.Name):
        return sorted(
            {
                word
                for node in ast.walk(function)
                if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == inner.id
                for word in _values(node.value)
            }
        )
    if ast.unparse(inner) == "end.status":
        return _ENDS
    raise ValueError(f"an audit action filled in by {ast.unparse(inner)} cannot be spelt out")


def _values(value: ast.expr) -> Iterator[str]:
    match value:
        case ast.Constant(value=str(text)):
            yield text
        case ast.Subscript(value=ast.Dict(values=values)):
            yield from (word for each in values if (word := text_of(each)))
