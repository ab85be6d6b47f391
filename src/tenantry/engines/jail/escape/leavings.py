"""Files: what a program leaves in /workspace to lead astray the reader, or the program that has it next, and inputs
that would be written elsewhere.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from tenantry.engines.jail.backend import Backend, Running
from tenantry.engines.jail.errors import SpecInvalid
from tenantry.engines.jail.escape.cases import Case, Verdict
from tenantry.engines.jail.trees import Fill
from tenantry.engines.jail.types import Ending, ImageRoot, InputFile, Limits, Spec, Stream

#: What a program does in a directory of its own, none of which may be collected.
_LEFT: Final = {
    "link_to_a_file": "ln -s /etc/passwd a",
    "link_up": "ln -s ../../../../etc/passwd a",
    "link_to_a_directory": "ln -s /etc a",
    "link_to_the_root": "ln -s / a",
    "link_to_the_parent": "ln -s .. a",
    "link_to_its_own_file": "echo x > /tmp/own; ln -s /tmp/own a",
    "link_to_itself": "ln -s a a",
    "links_in_a_circle": "ln -s b a; ln -s a b",
    "link_to_a_link": "ln -s /etc/passwd b; ln -s b a",
    "link_to_nothing": "ln -s /absent a",
    "link_to_a_process": "ln -s /proc/1/environ a",
    "link_to_a_root_of_a_process": "ln -s /proc/self/root/etc/passwd a",
    "link_to_a_descriptor": "ln -s /proc/self/fd/0 a",
    "link_to_a_device": "ln -s /dev/zero a",
    "link_to_shared_memory": "echo x > /dev/shm/own; ln -s /dev/shm/own a",
    "pipe": "mkfifo a",
    "hard_linked_pipe": "mkfifo /workspace/p; ln /workspace/p a",
    "name_with_a_line_break": "echo x > \"$(printf 'a\\nb')\"",
    "name_with_an_escape": "echo x > \"$(printf '\\033[31m')\"",
    "name_that_is_no_text": "echo x > \"$(printf 'a\\377')\"",
    "name_with_a_carriage_return": "echo x > \"$(printf 'a\\rb')\"",
    "file_without_a_mode": "echo x > a; chmod 000 a",
    "directory_without_a_mode": "mkdir a; echo x > a/b; chmod 000 a",
    "tree_too_deep": "i=0; while [ $i -lt 70 ]; do mkdir d; cd d; i=$((i+1)); done; echo x > a",
    "sparse_giant": "truncate -s 12M a",
}  # fmt: skip
#: What a second sandbox, which may read only what the first has left, must not be able to do with it.
_CARRIED: Final = {
    "setuid_bit": "[ -u outputs/bits/a ]",
    "setgid_bit": "[ -g outputs/bits/a ]",
    "pipe": "[ -e outputs/pipe/a ] || [ -e p ]",
    "link_to_a_process": '[ "$(readlink outputs/link_to_a_process/a)" != /proc/1/environ ]',
    "new_file": "(: > new)",
    "new_file_in_outputs": "(: > /outputs/new)",
    "change": "(echo x >> outputs/plain_file/a)",
    "change_by_a_link": "(echo x >> outputs/link_inside/a)",
    "removal": "rm outputs/plain_file/a",
    "mode": "chmod 777 outputs/plain_file/a",
    "rename": "mv outputs/plain_file/a outputs/plain_file/b",
}
_BESIDE: Final = (
    "mkdir /outputs/bits /outputs/link_inside; cp /bin/true /outputs/bits/a; chmod 6755 /outputs/bits/a\n"
    "ln -s ../plain_file/a /outputs/link_inside/a\n"
)
#: Shown for what it is: a file without a mode belongs to the reader's uid, who may not read it, and is listed so.
_UNREADABLE: Final = frozenset({"file_without_a_mode"})
_PATHS: Final = {
    "empty": "", "absolute": "/etc/passwd", "parent": "..", "climbing": "../x", "climbing_inside": "a/../../x",
    "dot": "./x", "double_slash": "a//b", "trailing_slash": "a/", "nul": "a\0b", "long": "x" * 2000,
    "long_name": "x" * 300,
}  # fmt: skip
_LIMITS: Final = Limits(memory_mib=64, pids=32, timeout_seconds=30, disk_mib=16, tmp_mib=4, shm_mib=4)
_MOST_BYTES: Final = 1 << 20

CASES: Final = (
    *(Case("files", name, "not collected") for name in _LEFT),
    Case("files", "plain_file", "collected: the reader does work"),
    *(Case("files", f"carried_{name}", "not for the next") for name in _CARRIED),
    Case("files", "carried_plain_file", "there for the next: it does arrive"),
    Case("files", "outputs_replaced_by_a_link", "nothing of what it leads to"),
    Case("files", "workspace_full_of_names", "no more than asked for"),
    *(Case("files", f"input_path_{name}", "refused") for name in _PATHS),
    Case("files", "input_twice", "refused"),
    Case("files", "input_below_a_file", "not started"),
)


async def try_files(jail: Backend, image: ImageRoot) -> list[tuple[str, Verdict]]:
    results = [*_inputs()]
    script = "".join(f"mkdir /outputs/{name}; (cd /outputs/{name}; {what})\n" for name, what in _LEFT.items())
    script += "mkdir /outputs/plain_file; echo mine > /outputs/plain_file/a\n" + _BESIDE
    async with await jail.start(_spec(image, script), lambda *_: None) as sandbox:
        await sandbox.wait()
        results += [await _judge(sandbox, name) for name in _LEFT]
        plain = await sandbox.artifacts(["outputs/plain_file/**"])
        results.append(("files.plain_file", ([item.read() for item in plain] == [b"mine\n"], str(len(plain)))))
        results += await _carried(jail, image, sandbox)
    results.append(await _replaced(jail, image))
    results.append(await _many(jail, image))
    return [*results, await _below_a_file(jail, image)]


def _spec(image: ImageRoot, script: str, inputs: tuple[InputFile, ...] = ()) -> Spec:
    return Spec(image=image, command=("sh", "-c", script), limits=_LIMITS, inputs=inputs)


async def _judge(sandbox: Running, name: str) -> tuple[str, Verdict]:
    """Ask for all below the directory, and for what lies behind the link by name."""
    below = f"outputs/{name}"
    patterns = [f"{below}/**", f"{below}/a/passwd", f"{below}/a/etc/passwd", f"{below}/a"]
    found = await sandbox.artifacts(patterns, max_bytes=_MOST_BYTES)
    readable = []
    for item in found:
        try:
            readable.append((item.path, item.read()))
        except OSError:
            continue
    taken = found if name not in _UNREADABLE else []
    hidden = any(item.path.startswith(below) for item in found.skipped) or name in _UNREADABLE
    return f"files.{name}", (not readable and not taken and hidden, f"{[path for path, _ in readable]}")


async def _carried(jail: Backend, image: ImageRoot, left: Running) -> list[tuple[str, Verdict]]:
    """Start another with all of that in a /workspace it may only read, and have it say what it could do."""
    said: list[bytes] = []
    tries = "".join(f"if {what}; then echo {name}; fi\n" for name, what in _CARRIED.items())
    spec = replace(
        _spec(image, f"{tries}cat outputs/plain_file/a"), workspace=Fill.from_sandbox(left), workspace_writable=False
    )
    outcome, _ = await jail.run(spec, lambda stream, text: said.append(text) if stream is Stream.STDOUT else None)
    could = b"".join(said).decode(errors="replace").splitlines()
    ran = outcome.ending is Ending.EXITED
    told = f"{outcome.ending} {outcome.detail} {could}"
    return [
        *((f"files.carried_{name}", (ran and name not in could, told)) for name in _CARRIED),
        ("files.carried_plain_file", (could[-1:] == ["mine"], told)),
    ]


async def _replaced(jail: Backend, image: ImageRoot) -> tuple[str, Verdict]:
    script = "rmdir /workspace/outputs; ln -s /etc /workspace/outputs"
    async with await jail.start(_spec(image, script), lambda *_: None) as sandbox:
        await sandbox.wait()
        found = await sandbox.artifacts(["outputs/**", "outputs/passwd", "**/passwd"])
    return "files.outputs_replaced_by_a_link", (list(found) == [], f"{len(found)} files")


async def _many(jail: Backend, image: ImageRoot) -> tuple[str, Verdict]:
    script = "cd /outputs; i=0; while [ $i -lt 300 ]; do : > f$i; i=$((i+1)); done"
    async with await jail.start(_spec(image, script), lambda *_: None) as sandbox:
        await sandbox.wait()
        found = await sandbox.artifacts(["**"], max_files=7)
    bounded = len(found) == 7 and {item.reason for item in found.skipped} == {"too_many"}  # noqa: PLR2004 - as asked
    return "files.workspace_full_of_names", (bounded, f"{len(found)} files")


async def _below_a_file(jail: Backend, image: ImageRoot) -> tuple[str, Verdict]:
    inputs = (InputFile("a", b"file"), InputFile("a/b", b"below it"))
    outcome, _ = await jail.run(_spec(image, "true", inputs), lambda *_: None)
    return "files.input_below_a_file", (outcome.ending is Ending.NOT_STARTED, f"{outcome.ending} {outcome.detail}")


def _inputs() -> Iterator[tuple[str, Verdict]]:
    for name, path in _PATHS.items():
        try:
            InputFile(path, b"x")
        except SpecInvalid as error:
            yield f"files.input_path_{name}", (True, error.message)
        else:
            yield f"files.input_path_{name}", (False, "it was taken")
    try:
        _spec(ImageRoot(path=Path("/"), digest=""), "true", (InputFile("a", b""), InputFile("a", b"")))
    except SpecInvalid as error:
        yield "files.input_twice", (True, error.message)
    else:
        yield "files.input_twice", (False, "it was taken")
