"""A Landlock domain: what seccomp cannot refuse, because it does not see what a path leads to.

By ``/proc/PID/mem`` a process could write its own code into any other of the same user, and have
that one do what it may not. From inside a domain that file opens for no process outside; what is
only read, such as ``environ``, still does. It takes Linux 5.19 or later, built with it.

The numbers are those of ``linux/landlock.h``; the C library has no functions for them.
"""

import ctypes
import os
import struct
from typing import Final

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_EXECUTE: Final = 1 << 0
# A domain forbids moving files from folder to folder unless it says otherwise.
_REFER: Final = 1 << 13
_PATH_BENEATH: Final = 1


def enter_domain() -> None:
    """Execute no file and write into no other process, in this thread and all that it begins.

    Raises
    ------
    OSError : this kernel has no Landlock, or refuses; nothing is given up
    """
    handled = struct.pack("=Q", _EXECUTE | _REFER)
    ruleset = _call(_CREATE_RULESET, handled, ctypes.c_size_t(len(handled)), 0)
    root = os.open("/", os.O_PATH | os.O_CLOEXEC)
    try:
        _call(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", _REFER, root), 0)
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(root)
        os.close(ruleset)


def _call(number: int, *arguments: object) -> int:
    result: int = ctypes.CDLL(None, use_errno=True).syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
