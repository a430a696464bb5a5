"""One process of a program, as the judge sees it: it is asked, it may answer, and in the end it is gone."""

from __future__ import annotations

import builtins
import os
import select
import signal
import socket
import time
from typing import Any, NamedTuple, NoReturn

from . import control, wire

GRACE = 5.0  # seconds after which a zygote that does not say that a process has ended counts as broken
CLOSED = 1.0  # seconds within which a process that has closed its channel must have ended
_CHUNK = 1 << 16


class Fault(Exception):
    """The sandbox itself failed."""


class Over(BaseException):
    """The program's process is gone or can't be talked to; `Session.outcome` says why."""


class Outcome(NamedTuple):
    outcome: str
    detail: str


class Session:
    """A process from its fork to its end. Use as a context manager; afterwards `ended` is known.

    Args:
        zygote: the socket to it.
        program: its source.
        limits: as `Limits.plain` gives them.
        stdin: run it once as a script with this input; None: it answers calls.

    Raises:
        Fault: the zygote is gone, or can't fork.
    """

    def __init__(
        self, zygote: socket.socket, program: str | bytes, limits: dict[str, Any], stdin: str | None = None
    ) -> None:
        self._zygote, self._limit = zygote, limits["output"]
        self.ended: control.Ended | None = None
        self.outcome: Outcome | None = None
        self.seen: str | None = None
        self.output = bytearray()
        self._deadline = time.monotonic() + limits["seconds"] + GRACE
        self._unsent, self._unread = bytearray(), bytearray()
        self._closed, self._patience, self._settled = False, 0.0, False
        self._channel, theirs = socket.socketpair()
        self._channel.setblocking(False)
        self._waiting = select.poll()
        self._out = -1
        give = [theirs.fileno()]
        if stdin is not None:
            self._out, out = os.pipe()
            give += [_file_of(stdin), out]
            os.set_blocking(self._out, False)
            self._waiting.register(self._out, select.POLLIN)
        self._waiting.register(self._channel, select.POLLIN)
        self._waiting.register(zygote, select.POLLIN)
        order = control.Order(
            control.FUNCTIONS if stdin is None else control.SCRIPT, limits["seconds"], limits["cpu_seconds"],
            limits["memory"], limits["file_size"], limits["threads"], limits["files"],
        )  # fmt: skip
        try:
            control.send(zygote, order.packed(), tuple(give))
        except OSError as error:
            self._close()
            raise Fault(f"the zygote is gone ({error.strerror})") from None
        finally:
            theirs.close()
            for one in give[1:]:
                os.close(one)
        self._send(wire.dumps(program))

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: Any) -> None:
        """Kill it if it lives, and wait until it is gone."""
        try:
            if not self._closed:
                self._waiting.unregister(self._channel)
            if self._out >= 0:
                self._waiting.unregister(self._out)
            if self.ended is None:
                self._zygote.send(control.KILL)
            while self.ended is None:
                self._hear(self._deadline + GRACE)
        except OSError as error:
            raise Fault(f"the zygote is gone ({error.strerror})") from None
        finally:
            self._close()

    def ask(self, name: str, call: str, named: str = '{"d":[[],[]]}') -> None:
        """Have it call a function; `call` and `named` are the arguments as text."""
        self._send(f"[{wire.dumps(name)},[{call}],{named}]")

    def answer(self) -> list[Any]:
        """The next answer: ``["v", result]``, ``["e", type, text]`` or ``["u", text]``.

        Raises:
            Over: there is none.
        """
        while True:
            text = self._frame()
            if text is not None:
                break
            self._wait()
        try:
            reply = wire.loads(text)
        except wire.NotPlain as error:
            self._give_up("crashed", f"it answered with {error}")
        except MemoryError:
            self._give_up("output too large", "its answer is too large to be read")
        if type(reply) is list and reply:
            tag, held = reply[0], reply[1:]
            if tag == "v" and len(held) == 1:
                return reply
            if all(type(one) is str for one in held):
                if (tag == "e" and len(held) == 2) or (tag == "u" and len(held) == 1):
                    return reply
                if tag == "l" and len(held) == 2:
                    self._give_up(of_exception(held[0]), f"{held[0]}: {held[1]}"[:300])
        self._give_up("crashed", "it answered with what is no answer")

    def finish(self) -> None:
        """Let it run to its end, and keep what it writes.

        Raises:
            Over: it wrote too much.
        """
        while self.ended is None:
            self._wait(until_over=False)
        self._drain()
        text = self._frame()
        if not self._settled:
            raise Fault("the process ended before the program began")
        if text is not None:
            try:
                tag, kind, told = wire.loads(text)
            except (wire.NotPlain, ValueError, TypeError):
                return
            if tag == "l" and type(kind) is str and type(told) is str:
                self.outcome = Outcome(of_exception(kind), f"{kind}: {told}"[:300])

    def _give_up(self, outcome: str, detail: str) -> NoReturn:
        if self.outcome is None:
            self.outcome = Outcome(outcome, detail)
        raise Over

    def _send(self, text: str) -> None:
        self._unsent += wire.frame(text)
        self._flush()

    def _flush(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self._channel.send(self._unsent)]
        except BlockingIOError:
            if not self._closed:
                self._waiting.modify(self._channel, select.POLLIN | select.POLLOUT)
            return
        except OSError:
            self._unsent.clear()  # it reads no more; that it is gone is found when it is asked
        if not self._closed:
            self._waiting.modify(self._channel, select.POLLIN)

    def _frame(self) -> str | None:
        """A whole frame of what was read, if there is one."""
        if not self._settled and self._unread:
            self._settled = self._unread.startswith(control.SETTLED)
            if not self._settled:
                raise Fault(self._unread[1:200].decode("utf-8", "replace"))
            del self._unread[:1]
        if len(self._unread) < wire.HEADER.size:
            return None
        (length,) = wire.HEADER.unpack_from(self._unread)
        if length > self._limit:
            self._give_up("output too large", f"its answer has {length} bytes; the limit is {self._limit}")
        end = wire.HEADER.size + length
        if len(self._unread) < end:
            return None
        text = self._unread[wire.HEADER.size : end].decode("ascii", "replace")
        del self._unread[:end]
        return text

    def _wait(self, until_over: bool = True) -> None:
        """Until there is something to read, or the end."""
        if self.ended is not None and until_over:
            if not self._settled:
                raise Fault("the process ended before the program began")
            self._give_up(*of_end(self.ended))
        if until_over and self._closed and self.ended is None and time.monotonic() > self._patience:
            self._give_up("crashed", "it closed its channel")
        readable = self._hear(self._patience if until_over and self._closed else self._deadline)
        # What it wrote before its end comes first.
        if self.ended is not None:
            while self._read():
                pass
        elif readable:
            self._read()

    def _hear(self, deadline: float) -> bool:
        """Wait for whatever comes first; whether the channel has something to read."""
        left = deadline - time.monotonic()
        if time.monotonic() > self._deadline + GRACE:
            raise Fault("the zygote does not end a process that is over its time")
        readable = False
        for number, event in self._waiting.poll(max(1000 * left, 0) + 1):
            if number == self._channel.fileno():
                if event & select.POLLOUT:
                    self._flush()
                readable = bool(event & ~select.POLLOUT)
            elif number == self._out:
                self._drain()
            else:
                self._hear_end()
        return readable

    def _hear_end(self) -> None:
        data = self._zygote.recv(256)
        if data[:1] == control.ENDED:
            self.ended = control.Ended.unpacked(data)
        else:
            raise Fault(data[1:].decode("utf-8", "replace") or "the zygote is gone")

    def _read(self) -> bool:
        try:
            data = self._channel.recv(_CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data and not self._closed:
            # Either it is about to end, or it has closed the channel and will never answer.
            self._closed = True
            self._waiting.unregister(self._channel)
            self._patience = time.monotonic() + CLOSED
        self._unread += data
        if len(self._unread) > self._limit + _CHUNK + wire.HEADER.size:
            # Frames that nobody asked for pile up.
            self._give_up("output too large", f"it sent more than {self._limit} bytes")
        return bool(data)

    def _drain(self) -> None:
        while self._out >= 0:
            try:
                data = os.read(self._out, _CHUNK)
            except BlockingIOError:
                return
            if not data:
                self._waiting.unregister(self._out)
                os.close(self._out)
                self._out = -1
            self.output += data
            if len(self.output) > self._limit:
                self._give_up("output too large", f"it wrote more than {self._limit} bytes")

    def _close(self) -> None:
        self._channel.close()
        if self._out >= 0:
            os.close(self._out)
            self._out = -1


def _file_of(text: str) -> int:
    """A file in memory with this text that can only be read."""
    number = os.memfd_create("stdin", os.MFD_CLOEXEC)
    data = memoryview(text.encode("utf-8", "surrogatepass"))
    while data:
        data = data[os.write(number, data) :]
    os.lseek(number, 0, os.SEEK_SET)
    return number


def exception(reply: list[Any]) -> BaseException:
    """The exception that an answer names, as one of the judge's own."""
    if reply[0] == "u":
        return TypeError(f"the program returned {reply[1]}")
    kind = getattr(builtins, reply[1], None)
    if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, UnicodeError):
        return kind(reply[2])
    return RuntimeError(f"{reply[1]}: {reply[2]}")


def of_exception(kind: str) -> str:
    return {"MemoryError": "out of memory", "PermissionError": "forbidden"}.get(kind, "crashed")


def of_end(ended: control.Ended) -> Outcome:
    """What the end of a process means that should have answered.

    Raises:
        Fault: nobody knows.
    """
    if ended.cause == control.OUTSIDE:
        raise Fault("the program's process was killed from outside, or there was no memory left")
    if ended.cause == control.WALL:
        return Outcome("timed out", f"after {ended.seconds:.1f} s")
    if ended.cause == control.CPU:
        return Outcome("timed out", f"after {ended.cpu_seconds:.1f} s of processor time")
    if os.WIFSIGNALED(ended.status):
        number = os.WTERMSIG(ended.status)
        if number == signal.SIGSYS:
            return Outcome("forbidden", "it made a system call that programs may not make")
        if number == signal.SIGXFSZ:
            return Outcome("output too large", "it wrote a file over the limit")
        try:
            return Outcome("crashed", f"ended by {signal.Signals(number).name}")
        except ValueError:
            return Outcome("crashed", f"ended by signal {number}")
    return Outcome("crashed", f"it ended (status {os.waitstatus_to_exitcode(ended.status)}) before it answered")
