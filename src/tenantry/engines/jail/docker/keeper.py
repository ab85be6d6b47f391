"""Process 1 of a container: a static program of a few instructions that waits and collects the dead.

It ignores SIGCHLD, so that the kernel reaps what is left to it, and reads its input to the end. The supervisor holds
the other end through the engine: when it dies the engine closes that, the keeper ends, and the kernel kills whatever is
in its pid namespace.
"""

import platform
import struct
from functools import cache
from typing import Final

from tenantry.engines.jail.errors import JailUnavailable

#: Where the keeper lies in the image of every container; a file system of the sandbox's own is mounted over it.
PLACE: Final = "run/keeper"
_BASE: Final = 0x400000
_HEADERS: Final = 64 + 56
#: struct sigaction of the kernel: SIG_IGN, no flags, no restorer, nothing masked.
_IGNORE: Final = struct.pack("<4Q", 1, 0, 0, 0)
_X86_64, _AARCH64 = 62, 183


@cache
def keeper(machine: str = "") -> bytes:
    """Assemble it for `machine` (this one by default); raises JailUnavailable `architecture_unsupported`."""
    name = machine or platform.machine()
    if name not in _MACHINES:
        raise JailUnavailable(
            "architecture_unsupported", f"no keeper for {name}", remedy=f"run on one of {', '.join(_MACHINES)}"
        )
    number, code = _MACHINES[name]
    body = code + _IGNORE
    entry = _BASE + _HEADERS
    identity = b"\x7fELF" + bytes((2, 1, 1)) + bytes(9)
    header = identity + struct.pack("<HHIQQQIHHHHHH", 2, number, 1, entry, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    size = _HEADERS + len(body)
    return header + struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x10000) + body


def _intel() -> bytes:
    begin = bytes.fromhex(
        "b80d000000"  # mov eax, 13: rt_sigaction
        "bf11000000"  # mov edi, 17: SIGCHLD
        "488d3530000000"  # lea rsi, [rip + 48]: the structure behind the code
        "31d2"  # xor edx, edx
        "41ba08000000"  # mov r10d, 8
        "0f05"  # syscall
        "4883ec40"  # sub rsp, 64
    )
    loop = bytes.fromhex(
        "31c0"  # xor eax, eax: read
        "31ff"  # xor edi, edi
        "4889e6"  # mov rsi, rsp
        "ba40000000"  # mov edx, 64
        "0f05"  # syscall
        "4885c0"  # test rax, rax
        "7fed"  # jg: again
        "4883f8fc"  # cmp rax, -EINTR
        "74e7"  # je: again
    )
    end = bytes.fromhex("b8e700000031ff0f05")  # exit_group(0)
    return begin + loop + end


def _arm() -> bytes:
    def move(register: int, value: int) -> int:
        return 0xD2800000 | value << 5 | register

    call, words = 0xD4000001, []
    words += [move(8, 134), move(0, 17), 0, move(2, 0), move(3, 8), call]  # rt_sigaction; its structure is found below
    words += [0xD10103FF]  # sub sp, sp, #64
    again = len(words)
    words += [move(8, 63), move(0, 0), 0x910003E1, move(2, 64), call]  # read(0, sp, 64)
    words += [0xF100001F, 0x5400000C | (again - len(words) - 1 & 0x7FFFF) << 5]  # cmp x0, #0; b.gt
    words += [0xB100101F, 0x54000000 | (again - len(words) - 1 & 0x7FFFF) << 5]  # cmn x0, #EINTR; b.eq
    words += [move(8, 94), move(0, 0), call]  # exit_group(0)
    words[2] = 0x10000000 | (len(words) - 2) << 5 | 1  # adr x1, the structure behind the code
    return struct.pack(f"<{len(words)}I", *words)


_MACHINES: Final = {"x86_64": (_X86_64, _intel()), "aarch64": (_AARCH64, _arm())}
