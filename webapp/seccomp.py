"""Filters of system calls, which a process installs for the rest of its life, by libseccomp.

What is refused fails with an error, so that a library that tries can go on without. Processes that
meet models refuse what is in the table here, and more that each names itself: what gives power over
other processes or the machine, and never has a part in serving or judging a model.
"""

import ctypes
import errno
import os
from functools import cache
from typing import Any, Final

_NEVER: Final = (
    # Other programs and processes; signals, clone and prlimit64 are below.
    "execve execveat fork vfork ptrace process_vm_readv process_vm_writev process_madvise kcmp"
    " tkill pidfd_open pidfd_send_signal pidfd_getfd setrlimit"
    # Memory and queues that any process of this user may join.
    " shmget shmat shmctl semget semop semtimedop semctl msgget msgsnd msgrcv msgctl"
    " mq_open mq_unlink"
    # Serving under a false flag.
    " listen"
    # Past the names of files, and what the file system shows of itself.
    " open_by_handle_at mknod mknodat mount umount2 pivot_root chroot swapon swapoff open_tree"
    " move_mount fsopen fsconfig fsmount fspick mount_setattr"
    # Other rights.
    " setuid setgid setreuid setregid setresuid setresgid setgroups setfsuid setfsgid capset"
    " unshare setns personality"
    # Large parts of the kernel that have often been the way out, and that nothing here uses.
    " bpf io_uring_setup io_uring_enter io_uring_register userfaultfd perf_event_open fanotify_init"
    " keyctl add_key request_key"
    # The machine.
    " init_module finit_module delete_module kexec_load kexec_file_load reboot acct syslog"
    " settimeofday clock_settime clock_adjtime adjtimex sethostname setdomainname iopl ioperm"
)
_SIGNALS: Final = ("kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo")
# To type on the terminal that somebody started the server from.
_TERMINAL_INPUT: Final = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX

_PR_GET_SECCOMP: Final = 21
_ALLOW: Final = 0x7FFF0000
_FAIL: Final = 0x00050000
_CLONE_THREAD: Final = 0x10000
_INT: Final = 0xFFFFFFFF
_NOT_EQUAL, _GREATER, _MASKED_EQUAL = 1, 6, 7
# Attributes of a filter, by their numbers in seccomp.h. An older library does not know the last
# two, which only make a filter cheaper.
_ALL_THREADS: Final = (4, 1)
_NO_SLOWER_MEMORY: Final = (7, 1)
_BINARY_TREE: Final = (8, 2)


class Comparison(ctypes.Structure):
    """What an argument of a call must be like for a rule to hold."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operation", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


def differs(argument: int, value: int) -> Comparison:
    """Compare all 64 bits: what differs in bits that the kernel ignores is refused as well."""
    return Comparison(argument, _NOT_EQUAL, value, 0)


def exceeds(argument: int, value: int) -> Comparison:
    """Compare all 64 bits."""
    return Comparison(argument, _GREATER, value, 0)


def has(argument: int, bits: int) -> Comparison:
    """Ask for bits that are all set."""
    return Comparison(argument, _MASKED_EQUAL, bits, bits)


def lacks(argument: int, bits: int) -> Comparison:
    """Ask for bits of which none is set."""
    return Comparison(argument, _MASKED_EQUAL, bits, 0)


def is_int(argument: int, value: int) -> Comparison:
    """Compare the 32 bits that the kernel looks at."""
    return Comparison(argument, _MASKED_EQUAL, _INT, value)


class Filter:
    """What this process will not be able to do; only where ``available`` says so."""

    def __init__(self) -> None:
        self._library = _library()
        self._rules = ctypes.c_void_p(self._library.seccomp_init(ctypes.c_uint32(_ALLOW)))
        self.refuse(*_NEVER.split())
        # Threads, but no processes. Of clone3, whose flags cannot be looked at, glibc then knows
        # nothing and falls back to clone.
        self.refuse("clone", when=lacks(0, _CLONE_THREAD))
        self.refuse("clone3", error=errno.ENOSYS)
        # Signals to itself only: that is how a process ends itself. The same for limits: to ask.
        self.refuse(*_SIGNALS, when=differs(0, os.getpid()))
        self.refuse("prlimit64", when=differs(2, 0))
        for command in _TERMINAL_INPUT:
            self.refuse("ioctl", when=is_int(1, command))

    def refuse(self, *names: str, when: Comparison | None = None, error: int = errno.EPERM) -> None:
        """Let these calls fail, always or when an argument is like that."""
        comparisons = () if when is None else (when,)
        array = (Comparison * len(comparisons))(*comparisons)
        action = ctypes.c_uint32(_FAIL | error)
        for name in names:
            number = self._library.seccomp_syscall_resolve_name(name.encode())
            if number < 0:
                continue  # of another architecture, or newer than the library
            code = self._library.seccomp_rule_add_array(
                self._rules, action, number, len(comparisons), array
            )
            _check(code, f"seccomp does not take a rule for {name}")

    def install(self) -> None:
        """Begin to refuse, in all threads of this process and for ever.

        Raises
        ------
        OSError : the kernel does not take it; nothing is refused
        """
        for attribute, value in (_NO_SLOWER_MEMORY, _BINARY_TREE):
            self._library.seccomp_attr_set(self._rules, attribute, ctypes.c_uint32(value))
        attribute, value = _ALL_THREADS
        code = self._library.seccomp_attr_set(self._rules, attribute, ctypes.c_uint32(value))
        _check(code, "seccomp cannot cover all threads")
        _check(self._library.seccomp_load(self._rules), "seccomp rules are refused")
        self._library.seccomp_release(self._rules)


def available() -> bool:
    """Tell whether this machine has libseccomp, and a kernel that knows of it."""
    return _library() is not None and ctypes.CDLL(None).prctl(_PR_GET_SECCOMP, 0, 0, 0, 0) >= 0


def _check(code: int, trouble: str) -> None:
    if code < 0:
        raise OSError(-code, f"{trouble}: {os.strerror(-code)}")


@cache
def _library() -> Any:
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return None
    library.seccomp_init.restype = ctypes.c_void_p
    return library
