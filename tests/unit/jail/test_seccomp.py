"""The filter's bytes are golden, and every rule is run through an interpreter."""

import errno
import hashlib
import struct

import pytest

from tenantry.engines.jail.errors import JailUnavailable
from tenantry.engines.jail.interpreter import run_filter
from tenantry.engines.jail.seccomp import NEXT_CALL, build_filter
from tenantry.engines.jail.syscalls import JUDGED, MACHINES

ALLOW, KILL = 0x7FFF0000, 0x80000000
GOLDEN = {
    "x86_64": "81fa6d370405f5a2e1820cbbcd0f7c54773d5e8515225b8d4bb2ea27429e976a",
    "aarch64": "418acc0a44bfebcb827e4e30c77ef6772caee7e197e5317a6452e7e262db4f20",
}


def answer(machine: str, call: str, *arguments: int) -> str:
    target = MACHINES[machine]
    action = run_filter(build_filter(machine), arch=target.audit_arch, number=target.numbers[call], arguments=arguments)
    if action == ALLOW:
        return "allow"
    assert action & 0xFFFF0000 == 0x00050000, hex(action)
    return errno.errorcode[action & 0xFFFF]


@pytest.fixture(params=sorted(MACHINES))
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_bytes_are_the_reviewed_ones(machine: str) -> None:
    assert hashlib.sha256(build_filter(machine)).hexdigest() == GOLDEN[machine]


def test_the_program_is_one_the_kernel_takes(machine: str) -> None:
    code = list(struct.iter_unpack("<HBBI", build_filter(machine)))
    assert len(code) <= 4096
    for at, (operation, yes, no, _) in enumerate(code):
        if operation in {0x15, 0x25, 0x35, 0x45}:
            assert at + 1 + max(yes, no) < len(code)


def test_every_named_call_is_refused_unless_its_arguments_are_judged(machine: str) -> None:
    for call in set(MACHINES[machine].numbers) - JUDGED:
        assert answer(machine, call) == "EPERM", call


def test_another_architecture_kills(machine: str) -> None:
    for arch in {0x40000003, 0xC000003E, 0xC00000B7, 0} - {MACHINES[machine].audit_arch}:
        assert run_filter(build_filter(machine), arch=arch, number=1) == KILL


def test_the_x32_table_kills() -> None:
    for number in (0x40000000, 0x40000000 + 39, 0xFFFFFFFF):
        assert run_filter(build_filter("x86_64"), arch=0xC000003E, number=number) == KILL


def test_calls_nobody_has_reviewed_do_not_exist(machine: str) -> None:
    for number in (NEXT_CALL, NEXT_CALL + 100, 0x3FFFFFFF):
        action = run_filter(build_filter(machine), arch=MACHINES[machine].audit_arch, number=number)
        assert action == 0x00050000 | errno.ENOSYS


@pytest.mark.parametrize("flag", [0x80, *(1 << bit for bit in (17, 25, 26, 27, 28, 29, 30))])
def test_clone_makes_no_namespace(machine: str, flag: int) -> None:
    assert answer(machine, "clone", flag | 17) == "EPERM"
    assert answer(machine, "clone", 17) == "allow"
    assert answer(machine, "clone", 0x3D0F00) == "allow"  # what a thread takes
    assert answer(machine, "clone3") == "ENOSYS"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((1, 1), "allow"),
        ((1, 2 | 0o4000 | 0o2000000), "allow"),
        ((1, 3), "EPERM"),
        ((2, 1, 6), "allow"),
        ((2, 2, 17), "allow"),
        ((10, 1, 0), "allow"),
        ((2, 3, 1), "EPERM"),
        ((2, 3 | 0o2000000, 255), "EPERM"),
        ((10, 3, 58), "EPERM"),
        ((2, 10), "EPERM"),
        ((2, 2, 1), "EPROTONOSUPPORT"),
        ((2, 1, 262), "EPROTONOSUPPORT"),
        ((2, 1, 132), "EPROTONOSUPPORT"),
        ((16, 3, 0), "allow"),
        ((16, 2, 0), "allow"),
        ((16, 3, 12), "EPROTONOSUPPORT"),
        ((16, 1, 0), "EPERM"),
        ((17, 3), "EAFNOSUPPORT"),
        ((40, 1), "EAFNOSUPPORT"),
        ((38, 5), "EAFNOSUPPORT"),
        ((0, 1), "EAFNOSUPPORT"),
        ((45, 1), "EAFNOSUPPORT"),
        ((1 << 32 | 40, 1), "EAFNOSUPPORT"),
    ],
)
def test_sockets_are_of_known_families_and_ordinary_kinds(
    machine: str, arguments: tuple[int, ...], expected: str
) -> None:
    assert answer(machine, "socket", *arguments) == expected


def test_no_pair_but_of_local_sockets(machine: str) -> None:
    assert answer(machine, "socketpair", 1, 1) == "allow"
    assert {answer(machine, "socketpair", family, 1) for family in (0, 2, 10, 16, 30, 40)} == {"EAFNOSUPPORT"}


def test_nothing_types_into_a_terminal(machine: str) -> None:
    assert answer(machine, "ioctl", 0, 0x5412) == "EPERM"
    assert answer(machine, "ioctl", 0, 0x541C) == "EPERM"
    assert answer(machine, "ioctl", 0, 0x1_0000_5412) == "EPERM"  # the kernel looks at 32 bits, and so do we
    assert answer(machine, "ioctl", 0, 0x5401) == "allow"


def test_address_randomisation_stays_on(machine: str) -> None:
    assert answer(machine, "personality", 0x0040000) == "EPERM"
    assert answer(machine, "personality", 0xFFFFFFFF) == "allow"
    assert answer(machine, "personality", 0) == "allow"


def test_ordinary_work_is_allowed() -> None:
    for number in (0, 1, 2, 9, 39, 57, 59, 60, 202, 231, 257, 262, 302, 318, 332, 334, 434, 439, 449):
        assert run_filter(build_filter("x86_64"), arch=0xC000003E, number=number) == ALLOW


def test_a_machine_without_a_table_is_refused() -> None:
    with pytest.raises(JailUnavailable) as refused:
        build_filter("s390x")
    assert refused.value.code == "architecture_unsupported"
