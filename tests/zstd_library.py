"""The zstd of the standard library, or what brings it to a Python that has none."""

import sys

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["zstd"]
