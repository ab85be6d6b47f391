"""What globex runs next: makes processes until the kernel refuses one, and stays."""

import os
import time

made = 1
while True:
    try:
        child = os.fork()
    except BlockingIOError as error:
        print(f"process {made + 1} was refused: {error.strerror}", flush=True)
        break
    if child == 0:
        break
    made += 1
time.sleep(3600)
