"""What all layers of one image together may still unpack to."""

from dataclasses import dataclass
from typing import Final

_MOST_FRAMES: Final = 1 << 20
"""Of zstd: one for each file or piece of one where a layer is made to be fetched in parts; each costs about 30 µs."""


@dataclass(slots=True)
class Budget:
    """Counted down by what reads layers; one layer that is named many times is unpacked as often, and counts so."""

    bytes: int
    frames: int = _MOST_FRAMES
