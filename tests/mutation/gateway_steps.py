"""Runs the gateway without each of its checks; prints the first case that noticed, as JSON.

A program of its own because it leaves for a network of its own, where port 53, 80 and 443 are free.
"""

import ast
import asyncio
import contextlib
import json
import signal
import sys
import types
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import CodeType, SimpleNamespace
from typing import Any

from tests.mutation.gateway_cases import all_cases
from tests.mutation.gateway_stage import PATIENCE, be_apart

from tenantry.engines import egress
from tenantry.kit.hosts import parse_host

_MOST_SECONDS = 1.0
_IMPATIENCE_SECONDS = 0.7
_NOES = {"return -1", "return False", "return decision", "return named"}
PACKAGE = "tenantry.engines.egress"
MODULES = (
    "certificates",
    "dns",
    "hello",
    "masking",
    "requests",
    "tls",
    "types",
    "addresses",
    "answers",
    "bodies",
    "injection",
    "gate",
    "connection",
    "names",
    "web",
    "interception",
    "passages",
    "gateway",
)
#: What puts values in has its own tests, and is loaded as it is: no case of the table comes there.
WHOLE = frozenset({"answers", "certificates", "injection", "interception", "masking", "tls"})
#: A call is a check when one of these words is in it.
CHECKS = ("_judge(", "_hold_against(", "count_sent(", "count_received(", "count(size)", "cut(", "deny(", "tell_barred(",
          "_learned.append(", "tell(", "aim(", "refuse(", "count_connection(", "alarm(", "expect(")  # fmt: skip
#: What no statement left out shows: (module, what is there, what is there instead).
INSTEAD = {
    "a second resolution is dialled": (
        "gate",
        "return await dial(addresses, port)",
        "return await dial([__import__('ipaddress').ip_address(a) for a in await self._resolve(host.name)], port)",
    ),
    "addresses are not looked at": (
        "addresses",
        "if address is not None and may_dial(address, host=host, decision=decision)]",
        "if address is not None]",
    ),
    "a name is asked of others": (
        "names",
        "decision = self._gate.judge_name(host, self._ports)",
        "asyncio.ensure_future(self._gate._resolve(host.name)); decision = self._gate.judge_name(host, self._ports)",
    ),
    "AAAA has the address": ("names", "if query.kind == A else None", "if query.kind in {A, AAAA} else None"),
    "later requests are not decided about": (
        "web",
        "connection.decision = connection.expect(way.kind, host, port)\n    way",
        "pass\n    way",
    ),
    "narrowing is not heard later": ("gateway", "self._gate.decide = decide", "pass"),
    "a rule that fails allows": (
        "gate",
        'return refusal("error", "the rules could not be asked")',
        "return Decision(allowed=True)",
    ),
    "any port is the first": ("gate", "return self.decide(host.name, port)", "return self.decide(host.name, 80)"),
    "a request goes on as it came": ("requests", 'lowered != b"connection" and lowered not in _HOPS', "True"),
    "ECH of old drafts alone": ("hello", "{_ENCRYPTED_HELLO, _OLD_ENCRYPTED_NAMES}", "{_OLD_ENCRYPTED_NAMES}"),
    "bytes are counted after they went": (
        "gate", "self._sent + count > self.caps.bytes_out", "self._sent > self.caps.bytes_out"),
}  # fmt: skip


class Engine:
    """The package under another name, compiled once; `load` makes it anew, one module of another code."""

    def __init__(self) -> None:
        folder = Path(str(egress.__file__)).parent
        self.sources = {name: (folder / f"{name}.py").read_text().replace(PACKAGE, "mutant") for name in MODULES}
        self._codes = {name: compile(source, f"mutant/{name}.py", "exec") for name, source in self.sources.items()}

    def load(self, changed: dict[str, CodeType]) -> Any:
        for name in [name for name in sys.modules if name == "mutant" or name.startswith("mutant.")]:
            del sys.modules[name]
        package = sys.modules["mutant"] = types.ModuleType("mutant")
        package.__path__ = []
        for name in MODULES:
            module = sys.modules[f"mutant.{name}"] = types.ModuleType(f"mutant.{name}")
            exec(changed.get(name, self._codes[name]), module.__dict__)  # noqa: S102 - our own source, one check less
            setattr(package, name, module)
        parts = {name: sys.modules[f"mutant.{name}"] for name in MODULES}
        return SimpleNamespace(
            **parts,
            Gateway=parts["gateway"].Gateway,
            Caps=parts["types"].Caps,
            Decision=parts["types"].Decision,
            parse_host=parse_host,
        )


def mutants(sources: dict[str, str]) -> Iterator[tuple[str, str, CodeType]]:
    """Name, module and code of the package without each guard, each part of one, and each call that checks."""
    for module, source in sources.items():
        if module in WHOLE:
            continue
        tree = ast.parse(source)
        met: dict[str, int] = {}
        for function in [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]:
            for name, undo in _changes(function):
                met[name] = met.get(name, 0) + 1
                told = f"{module}.{function.name}: {name}" + (f" #{met[name]}" if met[name] > 1 else "")
                code = compile(ast.fix_missing_locations(tree), f"mutant/{module}.py", "exec")
                undo()
                yield told, module, code
    for name, (module, there, instead) in INSTEAD.items():
        if sources[module].count(there) != 1:
            raise LookupError(f"{name}: the source has changed")
        yield name, module, compile(sources[module].replace(there, instead), f"mutant/{module}.py", "exec")


def _changes(function: ast.AST) -> Iterator[tuple[str, Any]]:
    """Change the tree in one place at a time; the second of a pair takes it back."""
    for node in ast.walk(function):
        if isinstance(node, ast.If) and _refuses(node):
            kept = node.test
            node.test = ast.Constant(value=False)
            yield ast.unparse(kept), partial(setattr, node, "test", kept)
            if isinstance(kept, ast.BoolOp):
                for at, part in enumerate(list(kept.values)):
                    kept.values[at] = ast.Constant(value=isinstance(kept.op, ast.And))
                    yield (
                        f"{ast.unparse(part)}, of {len(kept.values)}",
                        lambda at=at, part=part, k=kept: k.values.__setitem__(at, part),
                    )
        for block in blocks_of(node):
            for at, statement in enumerate(block):
                if isinstance(statement, ast.Expr) and any(word in ast.unparse(statement) for word in CHECKS):
                    block[at] = ast.Pass()
                    yield ast.unparse(statement)[:70], partial(block.__setitem__, at, statement)


def blocks_of(node: ast.AST) -> list[list[ast.stmt]]:
    found = (getattr(node, name, None) for name in ("body", "orelse", "finalbody"))
    return [block for block in found if isinstance(block, list)]


def _refuses(node: ast.If) -> bool:
    """Whether the branch turns something away: it raises, answers no, or makes a refusal."""
    words = " ".join(ast.unparse(statement) for statement in node.body)
    last = node.body[-1]
    return (
        isinstance(last, ast.Raise)
        or any(word in words for word in ("refusal(", "_refuse(", "Barred(", "_BROKEN"))
        or (
            isinstance(last, ast.Return)
            and ast.unparse(last) in {"return -1", "return False", "return decision", "return named"}
        )
    )


class HungError(Exception):
    """A reader that lacks a check may go on for ever."""


def give_up(*_: object) -> None:
    raise HungError


async def first_red(engine: Any, inside: int) -> str:
    """Name of the first case that does not hold, empty when all do."""
    begun, last = asyncio.all_tasks(), "the first case"
    try:
        async with asyncio.timeout(30):
            async with contextlib.aclosing(all_cases(engine, inside)) as cases:
                async for name, held in cases:
                    last = name
                    if not held:
                        return name
    except Exception as error:  # noqa: BLE001 - whatever a gateway that lacks a check does
        return f"after {last}: {error!r}"
    finally:
        for task in asyncio.all_tasks() - begun:
            task.cancel()
    return ""


def main() -> None:
    signal.signal(signal.SIGVTALRM, give_up)
    inside, package, verdicts = be_apart(), Engine(), {}
    todo = [("", "", None), *mutants(package.sources)]
    only = sys.argv[1:]
    for name, module, code in todo:
        if name and only and not any(word in name for word in only):
            continue
        if name:
            PATIENCE.set(_IMPATIENCE_SECONDS)
        engine = package.load({module: code} if code else {})
        signal.setitimer(signal.ITIMER_VIRTUAL, _MOST_SECONDS)
        with asyncio.Runner() as runner:
            runner.get_loop().set_exception_handler(lambda *_: None)
            verdicts[name] = runner.run(first_red(engine, inside))
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    sys.stdout.write(json.dumps(verdicts))


if __name__ == "__main__":
    main()
