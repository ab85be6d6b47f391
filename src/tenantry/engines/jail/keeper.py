"""The program of a sandbox that is kept, assembled here as a static ELF of a few hundred bytes; it needs no image.

Alone it ignores SIGCHLD and waits for ever. With arguments it is the door of `Sandbox.exec`, the last step before
somebody's program: by then it is all that program will be, and lies below /run on a read-only mount, so /proc/self/exe
leads to nothing of the host (CVE-2019-5736). It says `+` on descriptor 3, and when it has read one byte there it
becomes `argv[1]`, with the arguments from `argv[2]` on and its own environment. What the kernel answers if it will not
is written to descriptor 3, which a program that runs does not have.
"""

import platform
import struct
from functools import cache
from typing import Final

from tenantry.engines.jail.assembly import AARCH64, ADR, X86, X86_64, Arm, B, elf
from tenantry.engines.jail.errors import JailUnavailable

#: Where it lies inside.
PLACE: Final = "/run/keeper"
CHANNEL_FD: Final = 3
HERE: Final = b"+"
#: struct sigaction of the kernel: the handler SIG_IGN, no flags, no restorer, nothing masked; then what the door says.
_CONSTANTS: Final = struct.pack("<QQQQ", 1, 0, 0, 0) + HERE
_ACTION, _HERE = "action", "here"


def _end(code: X86 | Arm) -> bytes:
    code.label(_ACTION)
    code.labels[_HERE] = code.labels[_ACTION] + 32
    code.code += _CONSTANTS
    return code.linked()


@cache
def build_keeper(machine: str = "") -> bytes:
    """Assemble it for `machine` (as uname says; this one by default).

    Raises JailUnavailable `architecture_unsupported` for any but x86_64 and aarch64.
    """
    name = machine or platform.machine()
    if name == "x86_64":
        return elf(X86_64, _x86_64())
    if name == "aarch64":
        return elf(AARCH64, _aarch64())
    raise JailUnavailable("architecture_unsupported", f"no keeper for {name}", remedy="run on one of x86_64, aarch64")


def _x86_64() -> bytes:
    code = X86()
    _x86_64_keeper(code)
    _x86_64_door(code)
    return _end(code)


def _x86_64_keeper(code: X86) -> None:
    code.put("488b1c24")  # mov rbx, [rsp]          argc
    code.put("4883fb01")  # cmp rbx, 1
    code.near("0f8f", "door")  # jg door
    code.put("b80d000000")  # mov eax, 13           rt_sigaction
    code.put("bf11000000")  # mov edi, 17           SIGCHLD
    code.near("488d35", _ACTION)  # lea rsi, [rip+action]
    code.put("31d2")  # xor edx, edx                the old one is not wanted
    code.put("41ba08000000")  # mov r10d, 8         bytes of a mask
    code.put("0f05")  # syscall
    code.label("wait")
    code.put("b80f010000")  # mov eax, 271          ppoll
    code.put("31ff")  # xor edi, edi                no descriptors
    code.put("31f6")  # xor esi, esi                none
    code.put("31d2")  # xor edx, edx                no end
    code.put("4531d2")  # xor r10d, r10d            no mask
    code.put("0f05")  # syscall
    code.near("e9", "wait")  # jmp wait


def _x86_64_door(code: X86) -> None:
    code.label("door")
    code.put("b801000000")  # mov eax, 1            write
    code.put("bf03000000")  # mov edi, 3
    code.near("488d35", _HERE)  # lea rsi, [rip+here]
    code.put("ba01000000")  # mov edx, 1
    code.put("0f05")  # syscall
    code.put("31c0")  # xor eax, eax                read
    code.put("bf03000000")  # mov edi, 3
    code.put("488d7424f0")  # lea rsi, [rsp-16]
    code.put("ba01000000")  # mov edx, 1
    code.put("0f05")  # syscall
    code.put("4883f801")  # cmp rax, 1
    code.near("0f85", "leave")  # jne leave
    code.put("b848000000")  # mov eax, 72           fcntl
    code.put("bf03000000")  # mov edi, 3
    code.put("be02000000")  # mov esi, 2            F_SETFD
    code.put("ba01000000")  # mov edx, 1            FD_CLOEXEC
    code.put("0f05")  # syscall
    code.put("4885c0")  # test rax, rax
    code.near("0f85", "leave")  # jnz leave
    code.put("b83b000000")  # mov eax, 59           execve
    code.put("488b7c2410")  # mov rdi, [rsp+16]     argv[1]
    code.put("488d742418")  # lea rsi, [rsp+24]     from argv[2] on
    code.put("488d54dc10")  # lea rdx, [rsp+rbx*8+16]    behind argv and its null
    code.put("0f05")  # syscall
    code.put("f7d8")  # neg eax                     it failed: errno
    code.put("884424f0")  # mov [rsp-16], al
    code.put("b801000000")  # mov eax, 1            write
    code.put("bf03000000")  # mov edi, 3
    code.put("488d7424f0")  # lea rsi, [rsp-16]
    code.put("ba01000000")  # mov edx, 1
    code.put("0f05")  # syscall
    code.label("leave")
    code.put("b8e7000000")  # mov eax, 231          exit_group
    code.put("bf7f000000")  # mov edi, 127
    code.put("0f05")  # syscall


def _aarch64() -> bytes:
    code = Arm()
    _aarch64_keeper(code)
    _aarch64_door(code)
    return _end(code)


def _aarch64_keeper(code: Arm) -> None:
    code.word(0xF94003F3)  # ldr x19, [sp]          argc
    code.word(0xF100067F)  # cmp x19, #1
    code.near(0x5400000C, "door")  # b.gt door
    code.move(0, 17)  # mov x0, #17                      SIGCHLD
    code.near(ADR | 1, _ACTION)  # adr x1, action
    code.move(2, 0)  # mov x2, #0                        the old one is not wanted
    code.move(3, 8)  # mov x3, #8                        bytes of a mask
    code.call(134)  # rt_sigaction
    code.label("wait")
    code.move(0, 0)  # mov x0, #0                        no descriptors
    code.move(1, 0)  # mov x1, #0                        none
    code.move(2, 0)  # mov x2, #0                        no end
    code.move(3, 0)  # mov x3, #0                        no mask
    code.call(73)  # ppoll
    code.near(B, "wait")  # b wait


def _aarch64_door(code: Arm) -> None:
    code.label("door")
    code.move(0, CHANNEL_FD)  # mov x0, #3
    code.near(ADR | 1, _HERE)  # adr x1, here
    code.move(2, 1)  # mov x2, #1
    code.call(64)  # write
    code.move(0, CHANNEL_FD)  # mov x0, #3
    code.word(0xD10043E1)  # sub x1, sp, #16
    code.move(2, 1)  # mov x2, #1
    code.call(63)  # read
    code.word(0xF100041F)  # cmp x0, #1
    code.near(0x54000001, "leave")  # b.ne leave
    code.move(0, CHANNEL_FD)  # mov x0, #3
    code.move(1, 2)  # mov x1, #2                        F_SETFD
    code.move(2, 1)  # mov x2, #1                        FD_CLOEXEC
    code.call(25)  # fcntl
    code.near(0xB5000000, "leave")  # cbnz x0, leave
    code.word(0xF9400BE0)  # ldr x0, [sp, #16]      argv[1]
    code.word(0x910063E1)  # add x1, sp, #24        from argv[2] on
    code.word(0x8B336FE2)  # add x2, sp, x19, lsl #3
    code.word(0x91004042)  # add x2, x2, #16        behind argv and its null
    code.call(221)  # execve
    code.word(0xCB0003E0)  # neg x0, x0             it failed: errno
    code.word(0x381F03E0)  # sturb w0, [sp, #-16]
    code.move(0, CHANNEL_FD)  # mov x0, #3
    code.word(0xD10043E1)  # sub x1, sp, #16
    code.move(2, 1)  # mov x2, #1
    code.call(64)  # write
    code.label("leave")
    code.move(0, 127)  # mov x0, #127
    code.call(94)  # exit_group
