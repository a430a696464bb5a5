"""The caller's end of the line to a judge: whole messages, each by a deadline, whatever comes back."""

from __future__ import annotations

import select
import socket
import time
from typing import Any

from llm.sandbox.inside import wire

MOST = 1 << 30  # bytes of one message; a judge that announces more is broken


class WorkerLost(RuntimeError):
    """The worker broke, or was killed; it says nothing about the program."""


class WorkerStuck(RuntimeError):
    """The worker did not answer in time."""


class Link:
    """A connected socket, which it takes over."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._socket.setblocking(False)

    def close(self) -> None:
        self._socket.close()

    def send(self, text: str, deadline: float) -> None:
        """One message, by then (`time.monotonic`).

        Raises:
            WorkerLost, WorkerStuck: it can't be delivered.
        """
        left = memoryview(wire.frame(text))
        while left:
            try:
                left = left[self._socket.send(left) :]
            except BlockingIOError:
                self._wait(select.POLLOUT, deadline)
            except OSError as error:
                raise WorkerLost(f"the judge is gone ({error.strerror})") from None

    def receive(self, deadline: float) -> Any:
        """The next message as plain data.

        Raises:
            WorkerLost, WorkerStuck: there is none, or it makes no sense.
        """
        (length,) = wire.HEADER.unpack(self._exactly(wire.HEADER.size, deadline))
        if length > MOST:
            raise WorkerLost(f"the judge announced a message of {length} bytes")
        try:
            return wire.loads(self._exactly(length, deadline).decode("ascii"))
        except (wire.NotPlain, UnicodeDecodeError) as error:
            raise WorkerLost(f"the judge sent what makes no sense ({error})") from None

    def _exactly(self, count: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < count:
            try:
                part = self._socket.recv(min(count - len(data), 1 << 20))
            except BlockingIOError:
                self._wait(select.POLLIN, deadline)
                continue
            except OSError as error:
                raise WorkerLost(f"the judge is gone ({error.strerror})") from None
            if not part:
                raise WorkerLost("the judge is gone")
            data += part
        return bytes(data)

    def _wait(self, event: int, deadline: float) -> None:
        waiting = select.poll()
        waiting.register(self._socket, event)
        left = deadline - time.monotonic()
        if left <= 0 or not waiting.poll(1000 * left + 1):
            raise WorkerStuck("the judge gave no answer in time")
