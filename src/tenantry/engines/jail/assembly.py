"""Machine code by hand: instructions, labels between them, and a static ELF of one segment around them."""

import struct
from typing import Final

BASE: Final = 0x400000
ALIGN: Final = 0x10000  # the largest page of either machine
X86_64, AARCH64 = 62, 183
#: Instructions of Arm whose distance `Arm.near` puts in: `b`, and `adr` with the register to be added.
B, ADR = 0x14000000, 0x10000000
_HEADERS: Final = 64 + 2 * 56
_LOAD, _STACK = 1, 0x6474E551  # PT_LOAD, PT_GNU_STACK
_READ_EXECUTE, _READ_WRITE = 5, 6


class _Code:
    """Instructions, and which of them point where; the distances are put in once all labels are known."""

    def __init__(self) -> None:
        self.code = bytearray()
        self.labels: dict[str, int] = {}
        self.points: list[tuple[int, str]] = []

    def label(self, name: str) -> None:
        self.labels[name] = len(self.code)


class X86(_Code):
    """Intel SDM volume 2; numbers of arch/x86/entry/syscalls/syscall_64.tbl; the stack as the x86-64 ABI has it."""

    def put(self, instruction: str) -> None:
        self.code += bytes.fromhex(instruction)

    def near(self, opcode: str, name: str) -> None:
        """Put an instruction that ends in a displacement of 32 bits from its own end."""
        self.put(opcode)
        self.points.append((len(self.code), name))
        self.put("00000000")

    def linked(self) -> bytes:
        for at, name in self.points:
            struct.pack_into("<i", self.code, at, self.labels[name] - at - 4)
        return bytes(self.code)


class Arm(_Code):
    """Arm ARM, C6.2; numbers of include/uapi/asm-generic/unistd.h; the stack as the kernel makes it."""

    def word(self, instruction: int) -> None:
        self.code += struct.pack("<I", instruction)

    def move(self, register: int, value: int) -> None:
        self.word(0xD2800000 | value << 5 | register)  # movz x<register>, #value

    def call(self, number: int) -> None:
        self.move(8, number)  # mov x8, #number
        self.word(0xD4000001)  # svc #0

    def near(self, instruction: int, name: str) -> None:
        self.points.append((len(self.code), name))
        self.word(instruction)

    def linked(self) -> bytes:
        """Put each distance where its instruction has it: 26 bits of words of `b`, 21 of `adr`, 19 of the rest."""
        for at, name in self.points:
            distance = self.labels[name] - at
            (instruction,) = struct.unpack_from("<I", self.code, at)
            if instruction == B:
                instruction |= distance // 4 & 0x3FFFFFF
            elif instruction & 0x9F000000 == ADR:
                instruction |= (distance & 3) << 29 | (distance >> 2 & 0x7FFFF) << 5
            else:
                instruction |= (distance // 4 & 0x7FFFF) << 5
            struct.pack_into("<I", self.code, at, instruction)
        return bytes(self.code)


def elf(machine: int, code: bytes) -> bytes:
    """Put a header before it, one segment to read and execute, and a stack that is not executable."""
    size = _HEADERS + len(code)
    ident = b"\x7fELF" + bytes((2, 1, 1, 0)) + bytes(8)  # 64 bits, little-endian, version 1, System V
    # an executable, version 1, its entry, where segments are told: 2 of 56 bytes after 64 of this; no sections
    header = ident + struct.pack("<HHIQQQIHHH", 2, machine, 1, BASE + _HEADERS, 64, 0, 0, 64, 56, 2) + bytes(6)
    load = struct.pack("<IIQQQQQQ", _LOAD, _READ_EXECUTE, 0, BASE, BASE, size, size, ALIGN)
    stack = struct.pack("<IIQQQQQQ", _STACK, _READ_WRITE, 0, 0, 0, 0, 0, 16)
    return header + load + stack + code
