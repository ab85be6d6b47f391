"""Text from elsewhere, on a terminal.

A name, a reason or a job's output may hold escape sequences that retitle windows, overwrite lines, answer as if typed,
or bidirectional controls that show a text in another order (CVE-2021-42574). They are shown as escapes instead.
"""

from typing import Final, TextIO

_BIDIRECTIONAL: Final = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_SEPARATORS: Final = (0x2028, 0x2029)
_TAGS: Final = range(0xE0000, 0xE0080)
_STEERING: Final = (*range(0x20), *range(0x7F, 0xA0), *_BIDIRECTIONAL, *_SEPARATORS, *_TAGS)


_ON_ONE_LINE: Final = {code: chr(code).encode("unicode_escape").decode("ascii") for code in _STEERING}
_ON_MANY_LINES: Final = {code: shown for code, shown in _ON_ONE_LINE.items() if code not in {0x09, 0x0A}}


def one_line(text: str) -> str:
    """For a cell or a message: nothing steers, nothing breaks the line or the column."""
    return text.translate(_ON_ONE_LINE)


def many_lines(text: str) -> str:
    """For output that has lines and tabs of its own."""
    return text.replace("\r\n", "\n").translate(_ON_MANY_LINES)


def is_terminal(stream: TextIO) -> bool:
    return stream.isatty()


def write(stream: TextIO, text: str) -> None:
    """Write and flush; what the stream's encoding lacks, and lone surrogates, become `?`."""
    stream.flush()
    encoding = stream.encoding if is_terminal(stream) else "utf-8"
    stream.buffer.write(text.encode(encoding, "replace"))
    stream.buffer.flush()
