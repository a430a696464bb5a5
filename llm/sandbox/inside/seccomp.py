"""Filters of system calls, as programs of the kernel's packet filter (seccomp(2), linux/filter.h).

Two, because a filter can only be made stricter: the zygote installs the first, which says what exists at all; each
child the second, which takes away what only the zygote needs: to fork, and to signal others.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from . import syscalls, system

_KILL, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_LD, _JEQ, _JGE, _JGT, _JSET, _RET, _AND = 0x20, 0x15, 0x35, 0x25, 0x45, 0x06, 0x54
_NR, _ARCH, _ARGS = 0, 4, 16  # offsets in struct seccomp_data; arguments have 8 bytes, the lower 4 first
_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CLONE_THREAD, _SIGKILL, _RLIMIT_STACK = 0x10000, 9, 3
# Of a file or a terminal: TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX.
_IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
# Would let it signal whoever it likes: F_SETOWN, F_SETSIG, F_SETOWN_EX, F_NOTIFY.
_FCNTLS = (8, 10, 15, 1026)
_PRCTLS = (15, 16, 0x53564D41, system.PR_SET_PDEATHSIG)  # names of threads and of memory; for the child's beginning
_AF_UNIX, _SOCK_STREAM = 1, 1
_PLACE = 0x7FFFFFF0  # no process has this number


def _op(code: int, k: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, k)


def _load(offset: int) -> bytes:
    return _op(_LD, offset)


def _argument(number: int, upper: bool = False) -> bytes:
    return _load(_ARGS + 8 * number + 4 * upper)


def _return(action: int) -> bytes:
    return _op(_RET, action)


def _error(number: int) -> bytes:
    return _return(_ERRNO | number)


def _if(name: str, body: bytes) -> bytes:
    """Run the body, which must return, for this system call."""
    if name not in syscalls.NUMBERS:
        return b""
    return _op(_JEQ, syscalls.NUMBERS[name], 0, len(body) // 8) + body


def _one_of(values: tuple[int, ...], yes: bytes, no: bytes) -> bytes:
    """What is loaded against some values; `yes` and `no` are single returns."""
    return b"".join(_op(_JEQ, value, 0, 1) + yes for value in values) + no


def base(modes: bool) -> bytes:
    """What exists at all. `modes`: files' modes and times may be changed."""
    machine = os.uname().machine
    allow, kill = _return(_ALLOW), _return(_KILL)
    parts = [_load(_ARCH), _op(_JEQ, _ARCHITECTURE[machine], 1, 0), kill, _load(_NR)]
    if machine == "x86_64":
        parts += [_op(_JGE, 0x40000000, 0, 1), kill]  # the x32 face of the same calls
    stream = _op(_AND, 0xF) + _op(_JEQ, _SOCK_STREAM, 0, 1) + allow + _error(errno.EPERM)
    parts += [
        _if("ioctl", _argument(1) + _one_of(_IOCTLS, allow, _error(errno.ENOTTY))),
        _if("fcntl", _argument(1) + _one_of(_FCNTLS, kill, allow)),
        _if("prctl", _argument(0) + _one_of(_PRCTLS, allow, _error(errno.EPERM))),
        # Datagram sockets could send to others by name.
        _if("socketpair", _argument(0) + _op(_JEQ, _AF_UNIX, 1, 0) + _error(errno.EPERM) + _argument(1) + stream),
    ]
    allowed = {**syscalls.ALLOWED, **(syscalls.MODES if modes else {})}
    parts += [_op(_JEQ, number, 0, 1) + allow for number in allowed.values()]
    parts += [_op(_JEQ, number, 0, 1) + kill for number in syscalls.FORBIDDEN.values()]
    if not modes:
        parts += [_op(_JEQ, number, 0, 1) + _error(errno.EPERM) for number in syscalls.MODES.values()]
    return b"".join([*parts, _error(errno.ENOSYS)])


def last(process: int) -> bytes:
    """For the program's process of this number: threads but no processes, signals to itself only."""
    allow, kill, deny = _return(_ALLOW), _return(_KILL), _error(errno.EPERM)

    def own(signal: int) -> bytes:
        # Nobody but the sandbox or the system ends it by SIGKILL, so that such an end is known for what it is.
        signalled = _argument(signal) + _op(_JEQ, _SIGKILL, 0, 1) + kill + allow
        return _argument(0) + _op(_JEQ, process, 1, 0) + kill + signalled

    stack = _argument(1) + _op(_JEQ, _RLIMIT_STACK, 0, 1) + allow
    reads = _argument(2) + _op(_JEQ, 0, 0, 3) + _argument(2, upper=True) + _op(_JEQ, 0, 0, 1) + allow
    parts = [
        _load(_NR),
        _if("clone", _argument(0) + _op(_JSET, _CLONE_THREAD, 0, 1) + allow + kill),
        _if("fork", kill), _if("vfork", kill), _if("kill", own(1)), _if("tgkill", own(2)),
        _if("prlimit64", _argument(0) + _op(_JEQ, 0, 1, 0) + deny + stack + reads + deny),
        _if("setrlimit", _argument(0) + _op(_JEQ, _RLIMIT_STACK, 0, 1) + allow + deny),
        _if("prctl", _argument(0) + _op(_JEQ, system.PR_SET_PDEATHSIG, 0, 1) + deny + allow),
        _if("seccomp", kill), _if("pidfd_open", _error(errno.ENOSYS)),
    ]  # fmt: skip
    return b"".join([*parts, allow])


class Filter:
    """A filter made once and installed often; it keeps the memory that the kernel reads."""

    def __init__(self, code: bytes) -> None:
        self._code = ctypes.create_string_buffer(code, len(code))

        class Program(ctypes.Structure):
            _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))

        self._program = Program(len(code) // 8, ctypes.addressof(self._code))

    def install(self) -> None:
        """On this thread and all that it starts; needs no_new_privs."""
        system.syscall("seccomp", 1, 0, ctypes.byref(self._program))


class Last(Filter):
    """`last` for any process: made once, with the number put in where it is installed."""

    def __init__(self) -> None:
        code = last(_PLACE)
        super().__init__(code)
        mark = struct.pack("=I", _PLACE)
        # Of each instruction the constant is the last four bytes.
        self._places = [at + 4 for at in range(0, len(code), 8) if code[at + 4 : at + 8] == mark]

    def install_for(self, process: int) -> None:
        for at in self._places:
            struct.pack_into("=I", self._code, at, process)
        self.install()
