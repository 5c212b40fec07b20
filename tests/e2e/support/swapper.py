"""Runs in a container: makes a directory of files, then swaps it for a link, again and again.

``swapper.py VOLUME OUTSIDE COUNT``. ``VOLUME/d`` and ``VOLUME/link``, which leads to OUTSIDE,
change places in one step (renameat2), so that one of them always stands at ``d``. It begins when
``/tmp/swap`` is there, rests when it is gone, and says how often it swapped in ``/tmp/swaps``.
"""

import ctypes
import os
import platform
import sys
import time

_RENAMEAT2 = {"x86_64": 316, "aarch64": 276}[platform.machine()]
_AT_FDCWD, _EXCHANGE = -100, 2
_GO, _SWAPS = "/tmp/swap", "/tmp/swaps"

volume, outside, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
os.chdir(volume)
if not os.path.exists("d"):
    os.mkdir("d")
    for number in range(count):
        with open(f"d/f{number}", "w") as file:
            file.write("the pod's own\n")
        os.chmod(f"d/f{number}", 0o4755)
    os.symlink(outside, "link")
print("ready", flush=True)
libc = ctypes.CDLL(None, use_errno=True)
swaps, real = 0, True


def swap():
    if libc.syscall(_RENAMEAT2, _AT_FDCWD, b"d", _AT_FDCWD, b"link", _EXCHANGE) == 0:
        return True
    # A restore may have removed the link, or put a directory in its place.
    if not os.path.lexists("link"):
        os.symlink(outside, "link")
    return False


while True:
    if os.path.exists(_GO):
        for _ in range(100):
            if swap():
                swaps, real = swaps + 1, not real
            time.sleep(0.0005)
        with open(_SWAPS + ".new", "w") as file:
            file.write(str(swaps))
        os.replace(_SWAPS + ".new", _SWAPS)
    else:
        time.sleep(0.05)
