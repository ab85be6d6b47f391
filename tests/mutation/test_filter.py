"""Without any one rule of the seccomp filter a case of the escape suite is open."""

import struct
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType

import pytest
from tests.mutation.mutants import any_bubblewrap, be_impatient, open_cases

from tenantry.engines.jail import launch, seccomp
from tenantry.engines.jail.escape.surface import RULES, Rule
from tenantry.engines.jail.interpreter import answer
from tenantry.engines.jail.syscalls import JUDGED, MACHINES, Machine

JUMPS = {0x15, 0x25, 0x35, 0x45}
RETURN, AND = 0x06, 0x54
ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000
Code = list[tuple[int, int, int, int]]
#: Refused by the kernel itself with the same answer, so only the interpreted bytes tell: everything a program without
#: capabilities is refused anyway. These are the rules whose absence the call itself must show, in a real sandbox.
SHOWN_BY_THE_CALL = {
    "call_ptrace", "call_unshare", "call_add_key", "call_keyctl",
    "call_perf_event_open", "call_process_vm_readv", "call_get_mempolicy", "call_name_to_handle_at", "call_kcmp",
    "call_memfd_secret", "call_mount", "call_setns",
    "clone_newuser", "clone3", "ioctl_tiocsti", "ioctl_tioclinux", "personality_no_randomisation", "socketpair_inet",
    "socket_inet_rdm", "socket_unix_rdm", "socket_inet_protocol_mptcp", "netlink_kobject_uevent",
    "socket_vsock", "x32_0x40000000", "int_0x80",
}  # fmt: skip


@pytest.fixture(params=sorted(MACHINES))
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def decoded(program: bytes) -> Code:
    return list(struct.iter_unpack("<HBBI", program))


def encoded(code: Code) -> bytes:
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)


def verdicts(program: bytes, machine: str) -> Iterator[tuple[Rule, str]]:
    """What each rule's call is answered, those first that a mutant most likely changes."""
    arch = MACHINES[machine].audit_arch
    for rule in RULES:
        if rule.needs <= {machine}:
            said = answer(
                program,
                arch=arch if rule.arch is None else rule.arch,
                number=rule.number(machine),
                arguments=rule.arguments,
            )
            yield rule, said


def noticed(code: Code, machine: str) -> bool:
    try:
        return any(said != rule.answer for rule, said in verdicts(encoded(code), machine))
    except IndexError:
        return True  # the kernel takes no program that does not end


def weaker(code: Code) -> Iterator[tuple[str, Code]]:
    """Every filter that differs by one instruction: a refusal that allows, a test that holds always or never."""
    for at, (operation, yes, no, value) in enumerate(code):
        others: list[tuple[str, tuple[int, int, int, int]]] = []
        if operation == RETURN and value != ALLOW:
            others = [("allows", (RETURN, 0, 0, ALLOW))]
        elif operation == RETURN:
            others = [("refuses", (RETURN, 0, 0, ERRNO | 1))]
        elif operation in JUMPS:
            others = [("always", (operation, yes, yes, value)), ("never", (operation, no, no, value))]
        elif operation == AND:
            others = [("unmasked", (AND, 0, 0, 0xFFFFFFFF))]
        for what, other in others:
            yield f"{at} {what}", [*code[:at], other, *code[at + 1 :]]


def test_the_whole_filter_answers_every_rule_as_expected(machine: str) -> None:
    wrong = [
        (rule.name, said) for rule, said in verdicts(seccomp.build_filter(machine), machine) if said != rule.answer
    ]
    assert wrong == []


def test_no_instruction_can_be_weakened_unnoticed(machine: str) -> None:
    mutants = list(weaker(decoded(seccomp.build_filter(machine))))
    assert len(mutants) > 200
    assert [name for name, code in mutants if not noticed(code, machine)] == []


def test_no_call_can_be_taken_from_the_table_unnoticed(machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cases come from the table too, as it is; the filter of one that lacks a call is built beside it."""
    whole = MACHINES[machine]
    unnoticed = []
    for call in set(whole.numbers) - JUDGED:
        fewer = MappingProxyType({name: number for name, number in whole.numbers.items() if name != call})
        mutant = Machine(audit_arch=whole.audit_arch, numbers=fewer, x32=whole.x32)
        monkeypatch.setattr(seccomp, "MACHINES", {machine: mutant})
        program = seccomp.build_filter.__wrapped__(machine)
        changed = {rule.name for rule, said in verdicts(program, machine) if said != rule.answer}
        if changed != {f"call_{call}"}:
            unnoticed.append(call)
    assert unnoticed == []


async def test_rules_that_alone_stand_between_a_program_and_the_kernel_are_seen_by_the_call_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real sandbox under a filter that allows everything, while the suite interprets the sound one."""
    be_impatient(monkeypatch)
    everything = [
        (op, yes, no, ALLOW if op == RETURN else value) for op, yes, no, value in decoded(seccomp.build_filter())
    ]
    monkeypatch.setattr(launch, "build_filter", lambda: encoded(everything))
    found = await open_cases(tmp_path, binary=any_bubblewrap(), groups={"kernel", "identity"})
    assert {f"kernel.{name}" for name in SHOWN_BY_THE_CALL} - set(found) == set()
    assert all(code.startswith(("kernel.", "identity.")) for code in found)
