"""What a confined worker cannot do any more, and what it still can."""

import subprocess
import sys
from pathlib import Path

import pytest

from webapp import seccomp

# What code in a worker could do, and what its work needs; told as names, one a line.
TRYING = """
import ctypes, os, resource, signal, socket, subprocess, sys, threading
from webapp import confinement

libc = ctypes.CDLL(None, use_errno=True)
parent, signalled = os.getppid(), []
early = threading.Event()
a, b = socket.socketpair()
landlocked = libc.syscall(444, None, 0, 1) >= 2  # the version that the kernel has

def call(function, *arguments):
    if function(*arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")

def fork(): os.fork() or os._exit(0)
def vfork_and_exec(): subprocess.run(["/bin/true"])
def spawn(): os.posix_spawn("/bin/true", ["true"], {})
def execute(): os.execv("/bin/true", ["true"])
def execute_open_file(): os.execve(os.open("/bin/true", os.O_RDONLY), ["true"], {})
def clone_process(): call(libc.syscall, 56, 17, 0, 0, 0, 0)
def signal_another(): os.kill(parent, 0)
def signal_group(): os.kill(0, 0)
def signal_group_of_another(): os.killpg(os.getpgid(parent), 0)
def signal_queued(): call(libc.sigqueue, parent, 0, None)
def signal_by_descriptor(): os.pidfd_open(parent)
def trace(): call(libc.ptrace, 0x4206, parent, 0, 0)
def read_memory(): call(libc.process_vm_readv, parent, None, 0, None, 0, 0)
def write_into_another(): os.close(os.open(f"/proc/{parent}/mem", os.O_RDWR))
def share_memory(): call(libc.shmget, 0, 4096, 0o600)
def limit_another(): resource.prlimit(parent, resource.RLIMIT_CORE, (0, 0))
def new_namespace(): call(libc.unshare, 0x10000000)
def become_another(): os.setuid(os.getuid())
def make_device(): os.mkfifo("fifo")
def type_on_terminal(): call(libc.ioctl, 0, ctypes.c_ulong(0x5412), b"x")
def type_in_disguise(): call(libc.syscall, 16, 0, ctypes.c_ulong(1 << 32 | 0x5412), b"x")
def open_ring(): call(libc.syscall, 425, 1, None)
def load_program(): call(libc.syscall, 321, 0, None, 0)
def serve(): a.listen()
def packets(): socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
def connect(): socket.create_connection(("127.0.0.1", 1), timeout=1)
def resolve(): socket.getaddrinfo("localhost", 80)

def write_and_rename():
    os.mkdir("folder")
    os.mkdir("another")
    with open("folder/new", "w") as file:
        file.write("x")
    os.rename("folder/new", "folder/old")
    os.utime("folder/old", (1, 1))
    os.link("folder/old", "folder/also")
    os.truncate("folder/old", 0)
    os.rename("folder/also", "another/also")
    os.unlink("folder/old")
    os.close(os.open(f"/proc/self/fd/{os.memfd_create('lock')}", os.O_RDWR))

def send_descriptors():
    memory = os.memfd_create("facts")
    socket.send_fds(a, [b"x"], [memory])
    socket.recv_fds(b, 1, 1)

def begin_thread():
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()

def signal_itself():
    os.kill(os.getpid(), 0)
    signal.signal(signal.SIGTERM, lambda *_: signalled.append(1))
    os.kill(os.getpid(), signal.SIGTERM)
    assert signalled

def ask_for_limits(): resource.getrlimit(resource.RLIMIT_NOFILE)

def attempt(deed):
    try:
        deed()
        print("done", deed.__name__, flush=True)
    except PermissionError:
        print("refused", deed.__name__, flush=True)
    except OSError as error:
        print("tried", deed.__name__, error, flush=True)

def fork_in_old_thread():
    early.wait()
    attempt(fork)

thread = threading.Thread(target=fork_in_old_thread)
thread.start()
confinement.confine_worker(network=sys.argv[1] == "network")
assert confinement.level() == "seccomp"
early.set()
thread.join()
by_number = (clone_process, type_in_disguise, open_ring, load_program)
for deed in (
    vfork_and_exec, spawn, execute, execute_open_file, signal_another, signal_group,
    signal_group_of_another, signal_queued, signal_by_descriptor, trace, read_memory, share_memory,
    *((write_into_another,) if landlocked else ()),
    limit_another, new_namespace, become_another, make_device, type_on_terminal, serve, packets,
    connect, resolve, write_and_rename, send_descriptors, begin_thread, signal_itself,
    ask_for_limits, *(by_number if os.uname().machine == "x86_64" else ()),
):
    attempt(deed)
os.abort()
"""
WORK = {"write_and_rename", "send_descriptors", "begin_thread", "signal_itself", "ask_for_limits"}


def deeds(folder: Path, network: str) -> dict[str, set[str]]:
    """Confine a process and let it try everything; return what became of it."""
    if not seccomp.available():
        pytest.skip("libseccomp is not installed")
    tried = subprocess.run(
        [sys.executable, "-c", TRYING, network],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert tried.returncode == -6, tried.stderr  # a process that aborts itself is not kept from it
    said: dict[str, set[str]] = {}
    for line in tried.stdout.splitlines():
        outcome, name, *_ = line.split()
        said.setdefault(outcome, set()).add(name)
    return said


def test_a_worker_without_network_can_do_its_work_and_nothing_else(tmp_path: Path) -> None:
    said = deeds(tmp_path, "none")
    # A name may still be found in a file.
    assert said["done"] | {"resolve"} == WORK | {"resolve"}
    assert said.get("tried", set()) <= {"resolve"}
    assert said["refused"] >= {"connect", "fork", "vfork_and_exec", "execute", "packets"}


def test_a_worker_that_needs_the_network_keeps_it(tmp_path: Path) -> None:
    said = deeds(tmp_path, "network")
    assert said["done"] == WORK | {"resolve"}
    assert said["tried"] == {"connect"}, "nobody listens there"
    assert said["refused"] >= {"serve", "packets", "fork", "vfork_and_exec", "execute"}
