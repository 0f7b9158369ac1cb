"""What the process that meets an upload gives up before it looks at it.

Limits everywhere; where libseccomp is on the machine, also the system calls that an attacker would
want.
"""

import ctypes
import os
import resource
import signal
from typing import Final, Literal

from webapp import seccomp

MEMORY_BYTES: Final = 2 * 2**30
CPU_SECONDS: Final = 20
_LIMITS: Final = (
    (resource.RLIMIT_FSIZE, 0),
    (resource.RLIMIT_NOFILE, 16),
    (resource.RLIMIT_CORE, 0),
)
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38
# It reads files, and writes to what it was given.
_REFUSED: Final = (
    "socket socketpair connect bind accept accept4 sendmmsg"
    # Its flags cannot be looked at.
    " openat2"
    " creat truncate ftruncate rename renameat renameat2 link linkat symlink symlinkat unlink"
    " unlinkat mkdir mkdirat rmdir chmod fchmod fchmodat chown fchown lchown fchownat setxattr"
    " utimensat memfd_create"
)
_WRITING: Final = (os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC)


def die_with_parent() -> None:
    """Have this process killed when the one that forked it ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def level() -> Literal["seccomp", "rlimits"]:
    """Tell what confines the judging of uploads on this machine."""
    return "seccomp" if seccomp.available() else "rlimits"


def confine(cpu_seconds: int, memory_bytes: int) -> None:
    """Confine this process for the rest of its life."""
    chosen = (resource.RLIMIT_CPU, cpu_seconds), (resource.RLIMIT_AS, memory_bytes)
    for limit, value in (*_LIMITS, *chosen):
        resource.setrlimit(limit, (value, value))
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if seccomp.available():
        rules = seccomp.Filter()
        rules.refuse(*_REFUSED.split())
        for flag in _WRITING:
            rules.refuse("open", when=seccomp.has(1, flag))
            rules.refuse("openat", when=seccomp.has(2, flag))
        rules.install()


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option} is refused")
