"""What the process that meets an upload gives up before it looks at it.

Limits everywhere; where libseccomp is on the machine, also the system calls that an attacker would
want. The rules refuse with an error, so that a library that tries can go on without.
"""

import ctypes
import errno
import os
import resource
import signal
from functools import cache
from typing import Any, Final, Literal

MEMORY_BYTES: Final = 2 * 2**30
CPU_SECONDS: Final = 20
_LIMITS: Final = (
    (resource.RLIMIT_FSIZE, 0),
    (resource.RLIMIT_NOFILE, 16),
    (resource.RLIMIT_CORE, 0),
)
_PR_SET_PDEATHSIG: Final = 1
_PR_GET_SECCOMP: Final = 21
_PR_SET_NO_NEW_PRIVS: Final = 38
_ALLOW: Final = 0x7FFF0000
_REFUSE: Final = 0x00050000 | errno.EPERM
# glibc then falls back to clone, whose flags can be looked at.
_UNKNOWN: Final = 0x00050000 | errno.ENOSYS
_NOT_EQUAL: Final = 1
_MASKED_EQUAL: Final = 7
_CLONE_THREAD: Final = 0x10000
_DENIED: Final = (
    "execve execveat fork vfork ptrace kill tkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open"
    " pidfd_send_signal pidfd_getfd process_vm_readv process_vm_writev shmget semget msgget mq_open"
    " setrlimit socket socketpair connect bind listen accept accept4 sendmmsg"
    " open_by_handle_at openat2 creat truncate ftruncate rename renameat renameat2 link linkat"
    " symlink symlinkat unlink unlinkat mkdir mkdirat rmdir mknod mknodat chmod fchmod fchmodat"
    " chown fchown lchown fchownat setxattr utimensat mount umount2 pivot_root chroot swapon"
    " setuid setgid setreuid setregid setresuid setresgid setgroups capset unshare setns bpf"
    " io_uring_setup userfaultfd perf_event_open keyctl add_key request_key init_module"
    " finit_module delete_module kexec_load reboot memfd_create"
)


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operation", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


def die_with_parent() -> None:
    """Have this process killed when the one that forked it ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def level() -> Literal["seccomp", "rlimits"]:
    """Tell what confines the judging of uploads on this machine."""
    return "rlimits" if _library() is None else "seccomp"


def confine(cpu_seconds: int, memory_bytes: int) -> None:
    """Confine this process for the rest of its life."""
    chosen = (resource.RLIMIT_CPU, cpu_seconds), (resource.RLIMIT_AS, memory_bytes)
    for limit, value in (*_LIMITS, *chosen):
        resource.setrlimit(limit, (value, value))
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    library = _library()
    if library is not None:
        _deny(library)


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option} is refused")


@cache
def _library() -> Any:
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return None
    if ctypes.CDLL(None).prctl(_PR_GET_SECCOMP, 0, 0, 0, 0) < 0:
        return None  # a kernel without it
    library.seccomp_init.restype = ctypes.c_void_p
    return library


def _deny(library: Any) -> None:
    rules = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(_ALLOW)))

    def refuse(name: str, *comparisons: _Comparison, action: int = _REFUSE) -> None:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number < 0:
            return  # of another architecture
        array = (_Comparison * len(comparisons))(*comparisons)
        code = library.seccomp_rule_add_array(
            rules, ctypes.c_uint32(action), number, len(comparisons), array
        )
        if code < 0:
            raise OSError(-code, f"seccomp does not take a rule for {name}")

    for name in _DENIED.split():
        refuse(name)
    refuse("clone3", action=_UNKNOWN)
    refuse("clone", _Comparison(0, _MASKED_EQUAL, _CLONE_THREAD, 0))
    # The way of a process to end itself, and how it asks for its limits.
    refuse("tgkill", _Comparison(0, _NOT_EQUAL, os.getpid(), 0))
    refuse("prlimit64", _Comparison(2, _NOT_EQUAL, 0, 0))
    for flag in (os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC):
        refuse("open", _Comparison(1, _MASKED_EQUAL, flag, flag))
        refuse("openat", _Comparison(2, _MASKED_EQUAL, flag, flag))
    code = library.seccomp_load(rules)
    if code < 0:
        raise OSError(-code, "seccomp rules are refused")
