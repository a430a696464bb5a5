"""What judge and zygote say to each other: one message a packet, of fixed size, with file descriptors beside it."""

from __future__ import annotations

import array
import socket
import struct
from typing import Any, NamedTuple

RUN, KILL, ENDED, FAULT, READY = b"R", b"K", b"E", b"F", b"Y"
SETTLED, NOT_SETTLED = b"S", b"N"  # the first byte on the program's channel, from before the program
FUNCTIONS, SCRIPT = 0, 1  # what the process is for: answers calls, or runs once
OWN, WALL, CPU, ASKED, OUTSIDE = 0, 1, 2, 3, 4  # why a process ended

_RUN = struct.Struct("=cBddQQII")
_ENDED = struct.Struct("=cBBiddQ")


class Order(NamedTuple):
    """Fork one process."""

    mode: int
    seconds: float
    cpu_seconds: float
    memory: int
    file_size: int
    threads: int
    files: int

    def packed(self) -> bytes:
        return _RUN.pack(
            RUN, self.mode, self.seconds, self.cpu_seconds, self.memory, self.file_size, self.threads, self.files
        )  # fmt: skip

    @staticmethod
    def unpacked(data: bytes) -> Order:
        return Order(*_RUN.unpack(data)[1:])


class Ended(NamedTuple):
    """A process has ended: why, its status as of waitpid, seconds by the clock and of the processor, bytes.

    OUTSIDE: somebody else killed it, or the system did for want of memory.
    `dirty`: it left what could not be removed, so nothing else may run there.
    """

    cause: int
    dirty: int
    status: int
    seconds: float
    cpu_seconds: float
    peak_memory: int

    def packed(self) -> bytes:
        return _ENDED.pack(
            ENDED, self.cause, self.dirty, self.status, self.seconds, self.cpu_seconds, self.peak_memory
        )  # fmt: skip

    @staticmethod
    def unpacked(data: bytes) -> Ended:
        return Ended(*_ENDED.unpack(data)[1:])


def send(control: socket.socket, data: bytes, descriptors: tuple[int, ...]) -> None:
    control.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))])


def receive(control: socket.socket) -> tuple[bytes, list[int]]:
    """The next message; empty once the other side is gone."""
    data, beside, _, _ = control.recvmsg(256, 64)
    descriptors: Any = array.array("i")
    for level, kind, held in beside:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(held[: len(held) - len(held) % descriptors.itemsize])
    return data, list(descriptors)
