"""Reading what zstd has packed (RFC 8878): frame after frame, in bounded memory, with nothing left over at its end.

What a frame says of itself is not believed: a window beyond the bound is refused before there is memory for it.
"""

import sys
from types import ModuleType
from typing import IO, TYPE_CHECKING, Final

from tenantry.engines.jail.budget import Budget
from tenantry.engines.jail.errors import ImageInvalid

if TYPE_CHECKING:
    from backports.zstd import ZstdDecompressor

_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_SKIPPED: Final = b"\x2a\x4d\x18"
_SKIPPED_FIRST: Final = range(0x50, 0x60)
_WINDOW_LOG: Final = 27
"""128 MiB: what every level of `zstd` packs with, and what it unpacks unless told otherwise."""
_CHUNK: Final = 16 << 10
"""Small, as what follows a frame in it is copied at its end."""
_TOO_LARGE: Final = "too much memory"


def is_zstd(head: bytes) -> bool:
    """Tell by the first four bytes; a frame to be skipped may stand first, as pzstd writes it."""
    return head == _MAGIC or (head[1:] == _SKIPPED and head[0] in _SKIPPED_FIRST)


def _library() -> ModuleType:
    """Give what the standard library has from Python 3.14 on; a server that reads no such layer does not load it."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd


class ZstdReader:
    """Reads from where `packed` stands; what it gives is counted by whoever reads, its frames are counted here.

    `read` raises ImageInvalid: `image_layer_unsupported` for a window of more than 128 MiB, `image_too_large` for more
    frames than are left, `image_archive_malformed` for anything else that is no zstd to its very end.
    """

    def __init__(self, packed: IO[bytes], budget: Budget) -> None:
        self._packed = packed
        self._budget = budget
        self._held = b""
        self._frame: ZstdDecompressor | None = None

    def read(self, size: int) -> bytes:
        """Give at most `size` bytes (1 or more), none at the end."""
        while True:
            frame = self._frame or self._next_frame()
            if frame is None:
                return b""
            if frame.needs_input and not self._held:
                self._held = self._packed.read(_CHUNK)
                if not self._held:
                    raise ImageInvalid("image_archive_malformed", "a layer ends within a zstd frame")
            given, self._held = self._held, b""
            content = self._unpacked(frame, given, size)
            if frame.eof:
                self._held, self._frame = frame.unused_data, None
            if content:
                return content

    def _next_frame(self) -> "ZstdDecompressor | None":
        self._held = self._held or self._packed.read(_CHUNK)
        if not self._held:
            return None
        self._budget.frames -= 1
        if self._budget.frames < 0:
            raise ImageInvalid("image_too_large", "the layers have more zstd frames than an image may have files")
        zstd = _library()
        self._frame = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG})
        return self._frame

    def _unpacked(self, frame: "ZstdDecompressor", given: bytes, size: int) -> bytes:
        try:
            return frame.decompress(given, size)
        except _library().ZstdError as error:
            if _TOO_LARGE in str(error):
                raise ImageInvalid(
                    "image_layer_unsupported",
                    "a layer was packed with a zstd window of more than 128 MiB: pack it without --long, or with gzip",
                ) from None
            raise ImageInvalid("image_archive_malformed", f"a layer is no zstd: {str(error)[:200]}") from error
