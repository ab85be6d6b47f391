"""What a seccomp filter answers, without a kernel: classic BPF over one struct seccomp_data."""

import errno
import struct
from typing import Final

_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
_JEQ, _JGT, _JGE, _JSET = 0x15, 0x25, 0x35, 0x45
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_ACTION: Final = 0xFFFF0000


def run_filter(program: bytes, *, arch: int, number: int, arguments: tuple[int, ...] = ()) -> int:
    """Return the action; raises ValueError for an instruction of no filter of ours, IndexError past the end."""
    packet = struct.pack(
        "<IIQ6Q", number & 0xFFFFFFFF, arch, 0, *(value & (1 << 64) - 1 for value in (*arguments, *[0] * 6)[:6])
    )
    code = list(struct.iter_unpack("<HBBI", program))
    at = accumulator = 0
    while True:
        operation, yes, no, value = code[at]
        at += 1
        if operation == _LOAD:
            accumulator = struct.unpack_from("<I", packet, value)[0]
        elif operation == _AND:
            accumulator &= value
        elif operation == _RETURN:
            return int(value)
        else:
            at += yes if _holds(operation, accumulator, value) else no


def _holds(operation: int, accumulator: int, value: int) -> bool:
    if operation == _JEQ:
        return accumulator == value
    if operation == _JGT:
        return accumulator > value
    if operation == _JGE:
        return accumulator >= value
    if operation == _JSET:
        return bool(accumulator & value)
    raise ValueError(f"no instruction of ours: {operation:#x}")


def answer(program: bytes, *, arch: int, number: int, arguments: tuple[int, ...] = ()) -> str:
    """Say it in words: `allow`, `kill`, or the name of the errno."""
    action = run_filter(program, arch=arch, number=number, arguments=arguments)
    if action & _ACTION == _ERRNO:
        return errno.errorcode.get(action & ~_ACTION, hex(action))
    return {_ALLOW: "allow", _KILL: "kill"}.get(action, hex(action))
