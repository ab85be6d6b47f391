"""Which worker of its machine a process is: the id that a dead one had is taken up by the next.

So what a killed worker had claimed is decided on when its successor starts, not only when the leases end.
"""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4, uuid5

_MOST: Final = 1000


@contextmanager
def worker_identity(directory: Path) -> Iterator[UUID]:
    """Hold the first id below `directory` that no living process holds; blocking, for a moment.

    The host's name is part of it: a copied or shared directory makes no two workers one.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for number in range(_MOST):
        place = os.open(directory / str(number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with contextlib.closing(os.fdopen(place, "r+")) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            text = file.read(64)
            if not text:
                text = str(uuid4())
                file.write(text)
                file.flush()
            yield uuid5(UUID(text), socket.gethostname())
            return
    raise OSError(f"more than {_MOST} workers in {directory}")
