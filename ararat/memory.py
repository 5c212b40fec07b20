"""What a process that will run for months gives back after its start.

Imports and the first reading of the API leave garbage behind, and the allocator keeps what was
freed (up to 8 MiB by our images' setting, which downloads are faster with). Limits: glibc's
allocator only; another one keeps what it keeps.
"""

from __future__ import annotations

import ctypes
import gc


def give_back() -> None:
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
