"""A static program that makes the system calls it is told, one after the other; assembled here, it needs no image.

It is how a program comes into a sandbox whose kernel is not this one: no fork of ours can join that, but whatever the
runtime starts there can make of itself what the jail's launcher makes of its fork (containing.py), and then become the
program. What it is told (steps.py) comes over its input, a socket, and lies at a fixed address, so that it can be
written with all its pointers beforehand: a length of eight bytes, then steps of 64 bytes, then what they point to.

A step is a number and a mode of 32 bits each, six arguments, and the answer that is wanted. One that is answered
otherwise is told to descriptor 3, its address and its answer in 16 bytes, and then ends it, unless its mode is GO_ON;
with IGNORE it is not looked at.
"""

import platform
import struct
from functools import cache
from typing import Final

from tenantry.engines.jail.assembly import AARCH64, X86, X86_64, Arm, B, elf
from tenantry.engines.jail.errors import JailUnavailable

#: Where the steps lie, by the address of the first.
ADDRESS: Final = 0x20000000
STEP_BYTES: Final = 64
REPORT: Final = struct.Struct("<Qq")
REPORT_FD: Final = 3
STOP, GO_ON, IGNORE = 0, 1, 2
#: How it ends when a step has ended it.
STOPPED: Final = 125


@cache
def build_stepper(machine: str = "") -> bytes:
    """Assemble it for `machine` (as uname says; this one by default).

    Raises JailUnavailable `architecture_unsupported` for any but x86_64 and aarch64.
    """
    name = machine or platform.machine()
    if name == "x86_64":
        return elf(X86_64, _x86_64())
    if name == "aarch64":
        return elf(AARCH64, _aarch64())
    raise JailUnavailable("architecture_unsupported", f"no stepper for {name}", remedy="run on one of x86_64, aarch64")


def _x86_64() -> bytes:
    code = X86()
    _x86_64_read(code)
    _x86_64_step(code)
    return code.linked()


def _x86_64_read(code: X86) -> None:
    address = struct.pack("<I", ADDRESS).hex()
    code.put("4883ec10")  # sub rsp, 16
    code.put("31c0")  # xor eax, eax                read
    code.put("31ff")  # xor edi, edi
    code.put("4889e6")  # mov rsi, rsp
    code.put("ba08000000")  # mov edx, 8
    code.put("0f05")  # syscall
    code.put("4883f808")  # cmp rax, 8
    code.near("0f85", "leave")  # jne leave
    code.put("4c8b3424")  # mov r14, [rsp]          bytes that are to come
    code.put("b809000000")  # mov eax, 9            mmap
    code.put(f"bf{address}")  # mov edi, ADDRESS
    code.put("4c89f6")  # mov rsi, r14
    code.put("ba03000000")  # mov edx, 3            PROT_READ | PROT_WRITE
    code.put("41ba32000000")  # mov r10d, 0x32      MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS
    code.put("49c7c0ffffffff")  # mov r8, -1
    code.put("4531c9")  # xor r9d, r9d
    code.put("0f05")  # syscall
    code.put(f"41bc{address}")  # mov r12d, ADDRESS
    code.put("4c39e0")  # cmp rax, r12
    code.near("0f85", "leave")  # jne leave
    code.put("4d89e5")  # mov r13, r12
    code.label("more")
    code.put("4d85f6")  # test r14, r14
    code.near("0f84", "step")  # jz step
    code.put("31c0")  # xor eax, eax                read
    code.put("31ff")  # xor edi, edi
    code.put("4c89ee")  # mov rsi, r13
    code.put("4c89f2")  # mov rdx, r14
    code.put("0f05")  # syscall
    code.put("4885c0")  # test rax, rax
    code.near("0f8e", "leave")  # jle leave
    code.put("4901c5")  # add r13, rax
    code.put("4929c6")  # sub r14, rax
    code.near("e9", "more")  # jmp more


def _x86_64_step(code: X86) -> None:
    code.label("step")
    code.put("418b0424")  # mov eax, [r12]          number
    code.put("418b5c2404")  # mov ebx, [r12+4]      mode
    code.put("498b7c2408")  # mov rdi, [r12+8]
    code.put("498b742410")  # mov rsi, [r12+16]
    code.put("498b542418")  # mov rdx, [r12+24]
    code.put("4d8b542420")  # mov r10, [r12+32]
    code.put("4d8b442428")  # mov r8, [r12+40]
    code.put("4d8b4c2430")  # mov r9, [r12+48]
    code.put("0f05")  # syscall
    code.put("83fb02")  # cmp ebx, 2                IGNORE
    code.near("0f84", "next")  # je next
    code.put("493b442438")  # cmp rax, [r12+56]
    code.near("0f84", "next")  # je next
    code.put("4c892424")  # mov [rsp], r12
    code.put("4889442408")  # mov [rsp+8], rax
    code.put("b801000000")  # mov eax, 1            write
    code.put("bf03000000")  # mov edi, 3
    code.put("4889e6")  # mov rsi, rsp
    code.put("ba10000000")  # mov edx, 16
    code.put("0f05")  # syscall
    code.put("85db")  # test ebx, ebx               STOP
    code.near("0f84", "leave")  # jz leave
    code.label("next")
    code.put("4983c440")  # add r12, 64
    code.near("e9", "step")  # jmp step
    code.label("leave")
    code.put("b8e7000000")  # mov eax, 231          exit_group
    code.put("bf7d000000")  # mov edi, 125
    code.put("0f05")  # syscall


def _aarch64() -> bytes:
    code = Arm()
    _aarch64_read(code)
    _aarch64_step(code)
    return code.linked()


def _aarch64_read(code: Arm) -> None:
    address = ADDRESS >> 16 << 5
    code.word(0xD10043FF)  # sub sp, sp, #16
    code.move(0, 0)  # mov x0, #0
    code.word(0x910003E1)  # mov x1, sp
    code.move(2, 8)  # mov x2, #8
    code.call(63)  # read
    code.word(0xF100201F)  # cmp x0, #8
    code.near(0x54000001, "leave")  # b.ne leave
    code.word(0xF94003F4)  # ldr x20, [sp]          bytes that are to come
    code.word(0xD2A00000 | address)  # movz x0, #ADDRESS
    code.word(0xAA1403E1)  # mov x1, x20
    code.move(2, 3)  # mov x2, #3                        PROT_READ | PROT_WRITE
    code.move(3, 0x32)  # mov x3, #0x32                  MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS
    code.word(0x92800004)  # mov x4, #-1
    code.move(5, 0)  # mov x5, #0
    code.call(222)  # mmap
    code.word(0xD2A00013 | address)  # movz x19, #ADDRESS
    code.word(0xEB13001F)  # cmp x0, x19
    code.near(0x54000001, "leave")  # b.ne leave
    code.word(0xAA1303F5)  # mov x21, x19
    code.label("more")
    code.near(0xB4000014, "step")  # cbz x20, step
    code.move(0, 0)  # mov x0, #0
    code.word(0xAA1503E1)  # mov x1, x21
    code.word(0xAA1403E2)  # mov x2, x20
    code.call(63)  # read
    code.word(0xF100001F)  # cmp x0, #0
    code.near(0x5400000D, "leave")  # b.le leave
    code.word(0x8B0002B5)  # add x21, x21, x0
    code.word(0xCB000294)  # sub x20, x20, x0
    code.near(B, "more")  # b more


def _aarch64_step(code: Arm) -> None:
    code.label("step")
    code.word(0xB9400268)  # ldr w8, [x19]          number
    code.word(0xB9400676)  # ldr w22, [x19, #4]     mode
    code.word(0xA9408660)  # ldp x0, x1, [x19, #8]
    code.word(0xA9418E62)  # ldp x2, x3, [x19, #24]
    code.word(0xA9429664)  # ldp x4, x5, [x19, #40]
    code.word(0xD4000001)  # svc #0
    code.word(0x71000ADF)  # cmp w22, #2            IGNORE
    code.near(0x54000000, "next")  # b.eq next
    code.word(0xF9401E69)  # ldr x9, [x19, #56]
    code.word(0xEB09001F)  # cmp x0, x9
    code.near(0x54000000, "next")  # b.eq next
    code.word(0xA90003F3)  # stp x19, x0, [sp]
    code.move(0, REPORT_FD)  # mov x0, #3
    code.word(0x910003E1)  # mov x1, sp
    code.move(2, REPORT.size)  # mov x2, #16
    code.call(64)  # write
    code.near(0x34000016, "leave")  # cbz w22, leave     STOP
    code.label("next")
    code.word(0x91010273)  # add x19, x19, #64
    code.near(B, "step")  # b step
    code.label("leave")
    code.move(0, STOPPED)  # mov x0, #125
    code.call(94)  # exit_group
