import ast
import inspect
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pkgutil import walk_packages

from scripts.reference.markdown import code, page, table
from scripts.reference.sources import calls, keyword, modules, name_of, text_of

import tenantry
from tenantry.capabilities.tenants.types import WorkspaceStatus
from tenantry.client.errors import ClientError
from tenantry.foundation.errors import TenantryError
from tenantry.interfaces.api.problems import STATUS, status_of

_INTRODUCTION = """
Every refusal carries a stable `code`: over HTTP in a problem document (RFC 9457,
`type` is `urn:tenantry:problem:<code>`), on the command line as `error: <code>`. Programs branch on the code or the
status, never on the message. `…` stands for what is filled in. Layer is who refused.
"""
_CLIENT = """
Raised on the caller's side, before anything is sent or when an answer is none of this API's. A refusal by the server
is an `ApiError` and carries the server's code.
"""
_SPELT_OUT = {"workspace_…": [f"workspace_{s}" for s in WorkspaceStatus if s is not WorkspaceStatus.ACTIVE]}
_BASES = {TenantryError.__name__, ClientError.__name__}


@dataclass(frozen=True)
class Coded:
    """One place that raises a code."""

    code: str
    kind: str
    status: int | None
    layer: str
    message: str
    module: str


def render() -> str:
    _import_everything()
    server, client = _classes(TenantryError), _classes(ClientError)
    kinds = [[code(kind.value), str(status)] for kind, status in STATUS.items()]
    return page(
        "Error codes",
        _INTRODUCTION,
        "## Kinds",
        table(["Kind", "HTTP"], kinds),
        "## Codes of the server",
        _table([*collect(server), *_answers_without_an_error()]),
        "## Codes of the SDK and the command line",
        _CLIENT,
        table(
            ["Code", "Error", "Message"],
            sorted({(code(each.code), each.kind, each.message) for each in collect(client)}),
        ),
    )


def _table(found: Iterable[Coded]) -> str:
    lines: dict[tuple[str, str, str, str], dict[str, None]] = {}
    spelt = (replace(each, code=name) for each in found for name in _SPELT_OUT.get(each.code, [each.code]))
    for each in sorted(spelt, key=lambda e: (e.code, e.kind, e.layer, e.message)):
        status = str(each.status or "")
        lines.setdefault((code(each.code), each.kind, status, each.layer), {})[each.message] = None
    rows = [[*heads, " / ".join(messages)] for heads, messages in lines.items()]
    return table(["Code", "Kind", "HTTP", "Layer", "Message"], rows)


def _import_everything() -> None:
    """Import every module that defines errors, so that the trees are whole."""
    for found in walk_packages(tenantry.__path__, "tenantry."):
        if found.name.rpartition(".")[2] == "errors":
            import_module(found.name)


def _classes(base: type[Exception]) -> dict[str, type[Exception]]:
    """Give the tree below `base`, by name."""
    found = {base.__name__: base}
    for below in base.__subclasses__():
        found |= _classes(below)
    return found


def collect(classes: dict[str, type[Exception]]) -> Iterator[Coded]:
    """Every construction of one of the classes; raises ValueError for a code that cannot be read from the source."""
    fixed = {name: _fixed_layer(name) for name in classes}
    for module, tree in modules():
        for holder, call in _held_calls(tree):
            if _is_super_init(call) and holder in _BASES:
                continue
            name = holder if _is_super_init(call) and holder in classes else name_of(call.func)
            if name not in classes or (name != holder and not _takes_code(classes[name])):
                continue
            first = call.args[0] if call.args else None
            text = text_of(first)
            if text is None:
                if isinstance(first, ast.Name) and holder in classes:
                    continue  # a constructor that passes on what its callers give, where it is read
                raise ValueError(f"src/tenantry/{module}.py:{call.lineno}: the code of an error is a literal")
            yield _coded(classes[name], text, call, module, layer=fixed[name])


def _coded(kind: type[Exception], text: str, call: ast.Call, module: str, *, layer: str) -> Coded:
    told = text_of(keyword(call, "layer")) or layer or _layer_of(module)
    message = _message(call)
    if not issubclass(kind, TenantryError):
        return Coded(text, kind.__name__, None, told, message, module)
    status = status_of(_instance(kind, text))
    return Coded(text, kind.kind.value, status, told, message, module)


def _instance(kind: type[TenantryError], text: str) -> TenantryError:
    """Make an error of that kind and code, past whatever constructor its class has."""
    error = kind.__new__(kind)
    error.code = text
    return error


def _message(call: ast.Call) -> str:
    if len(call.args) > 1 and (text := text_of(call.args[1])) is not None:
        return text
    given = call.args[1:2]
    return "…" if given else ""


def _layer_of(module: str) -> str:
    """Who refuses where nothing else is said: the room the module is in."""
    storey, room, *_ = (*module.split("/"), "")
    return room if storey in {"engines", "foundation", "capabilities"} else storey


def _takes_code(kind: type[Exception]) -> bool:
    """Whether the constructor's first argument is the code."""
    return list(inspect.signature(kind).parameters)[:1] == ["code"]


@cache
def _held_calls(tree: ast.Module) -> tuple[tuple[str, ast.Call], ...]:
    """Give calls with the name of the class they stand in, empty outside of one."""
    found: list[tuple[str, ast.Call]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            found += [(node.name, call) for call in calls(node)]
    inside = {call for _, call in found}
    return (*found, *(("", call) for call in calls(tree) if call not in inside))


def _is_super_init(call: ast.Call) -> bool:
    match call.func:
        case ast.Attribute(value=ast.Call(func=ast.Name(id="super")), attr="__init__"):
            return True
    return False


def _fixed_layer(name: str) -> str:
    """Find the layer that a class's own constructor sets."""
    return _fixed_layers().get(name, "")


@cache
def _fixed_layers() -> dict[str, str]:
    found: dict[str, str] = {}
    for _, tree in modules():
        for holder, call in _held_calls(tree):
            if holder and _is_super_init(call) and (layer := text_of(keyword(call, "layer"))):
                found.setdefault(holder, layer)
    return found


def _answers_without_an_error() -> Iterator[Coded]:
    """Find what is answered without one: bodies that break their schema, unknown addresses, heads without end."""
    kinds = {status: kind.value for kind, status in STATUS.items()}
    for module, tree in modules():
        if not module.startswith("interfaces/api/"):
            continue
        for node in ast.walk(tree):
            for status, name, detail, layer in _answers_of(node):
                yield Coded(name, kinds.get(status or 0, ""), status, layer, detail, module)


def _answers_of(node: ast.AST) -> Iterator[tuple[int | None, str, str, str]]:
    """Read status, code, detail, layer of a call of `problem`, of literals {status: (code, detail)}, of raw bytes."""
    match node:
        case ast.Call(args=[ast.Constant(value=int(status))]) if name_of(node.func) == "problem":
            told = [text_of(keyword(node, name)) or "" for name in ("code", "detail", "layer")]
            yield status, told[0], told[1], told[2] or "api"
        case ast.Dict(keys=keys, values=values):
            for key, value in zip(keys, values, strict=True):
                match key, value:
                    case ast.Constant(value=int(status)), ast.Tuple(elts=[name, detail]):
                        yield status, text_of(name) or "", text_of(detail) or "", "api"
        case ast.Call(func=ast.Attribute(value=ast.Dict(), attr="get"), args=[_, ast.Tuple(elts=[name, detail])]):
            yield None, text_of(name) or "", text_of(detail) or "", "api"
        case ast.Constant(value=bytes(raw)) if raw.startswith(b'{"type":"urn:tenantry:problem:'):
            body = json.loads(raw)
            yield body["status"], body["code"], body.get("detail", ""), body["layer"]
