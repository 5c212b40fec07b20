"""What holds for all tests, whoever starts them.

A shell that runs something in the background has it ignore SIGINT, and so would every process that
a test starts and wants to interrupt.
"""

from __future__ import annotations

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
