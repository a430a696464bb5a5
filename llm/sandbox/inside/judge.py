"""Holds the tests, asks the program's process for results, and decides. It takes the caller's jobs one by one."""

from __future__ import annotations

import ast
import contextlib
import functools
import gc
import random
import signal
import socket
import sys
import types
from collections.abc import Iterator
from typing import Any

from . import cleaning, compare, wire
from .session import Fault, Outcome, Over, Session, exception, of_end, of_exception

AHEAD = 32  # calls that are asked for at once
ORPHAN = 60.0  # seconds of processor time after which tests that nothing can interrupt end with their judge
_SHORT = 300


class _Expired(BaseException):
    """The tests themselves took too long."""


class Judge:
    """Decides about one program after another.

    Args:
        zygote: the socket to it.
    """

    def __init__(self, zygote: socket.socket) -> None:
        self._zygote = zygote

    def close(self) -> None:
        """Let the zygote go, and wait until it is gone."""
        with contextlib.suppress(OSError):
            self._zygote.shutdown(socket.SHUT_WR)
            while self._zygote.recv(256):
                pass

    def decide(self, job: list[Any]) -> dict[str, Any]:
        """A verdict as keyword arguments of `Verdict`, or ``{"fault": why}``."""
        program, limits, check = job
        try:
            return getattr(self, "_" + check[0])(program, limits, *check[1:])
        except Fault as error:
            return {"fault": str(error)}

    def _code(self, program: Any, limits: dict[str, Any], names: list[str], tests: str, setup: str) -> dict[str, Any]:
        with Session(self._zygote, program, limits) as session:
            calls = _Calls(session)
            try:
                with _clock(limits["seconds"] + 1):
                    _run_tests(calls, names, tests, setup)
                found: dict[str, Any] = {"outcome": "passed"}
            # The tests may raise anything, SystemExit included.
            except BaseException as error:
                found = _of_error(error, calls, tests)
            if session.outcome is not None:
                # Whatever the tests made of it.
                found = {**found, "outcome": session.outcome.outcome, "detail": session.outcome.detail}
            elif calls.refused:
                detail = f"the tests pass {calls.refused}, which can't be sent to a program; mend the problem"
                found = {"outcome": "sandbox error", "detail": detail}
            elif not calls.count:
                found = {"outcome": "sandbox error", "detail": "the tests never call the program; mend the problem"}
        return _with_costs(found, session)

    def _calls(
        self, program: Any, limits: dict[str, Any], name: str, calls: list[str], expected: list[str], atol: float,
        rule: str,
    ) -> dict[str, Any]:  # fmt: skip
        session, k = Session(self._zygote, program, limits), 0
        found: dict[str, Any] = {"outcome": "passed"}
        with session:
            try:
                asked = 0
                for k, (call, wanted) in enumerate(zip(calls, expected, strict=True)):
                    if k == asked:
                        session.ask(name, ",".join(calls[k : k + AHEAD]))
                        asked += AHEAD
                    reply = session.answer()
                    if reply[0] == "v":
                        if compare.same_result(reply[1], wire.loads(wanted), atol, rule, call):
                            continue
                        found = {"outcome": "failed", "detail": f"call {k}: expected {_short(wire.loads(wanted))}"}
                    elif reply[0] == "u":
                        found = {"outcome": "failed", "detail": f"call {k}: it returned {reply[1]}"}
                    else:
                        found = {"outcome": of_exception(reply[1]), "detail": f"call {k}: {reply[1]}: {reply[2]}"}
                    found |= {"test": k, "seen": _seen(reply)}
                    break
            except Over:
                assert session.outcome is not None
                found = {"outcome": session.outcome.outcome, "detail": session.outcome.detail, "test": k}
        return _with_costs(found, session)

    def _stdio(
        self, program: Any, limits: dict[str, Any], cases: list[list[str]], tolerance: float | None
    ) -> dict[str, Any]:
        total: dict[str, Any] = {"seconds": 0.0, "cpu_seconds": 0.0, "peak_memory": 0}
        found: dict[str, Any] = {"outcome": "passed"}
        for k, (stdin, expected) in enumerate(cases):
            session = Session(self._zygote, program, limits, stdin)
            with session:
                try:
                    session.finish()
                except Over:
                    pass
            outcome = session.outcome
            assert session.ended is not None  # the block waits for that
            if outcome is None and session.ended.status:
                outcome = of_end(session.ended)
            elif outcome is None:
                text = session.output.decode("utf-8", "replace")
                line = compare.same_output(text, expected, tolerance)
                if line is not None:
                    outcome = Outcome("failed", f"case {k}: line {line + 1} differs")
            costs = _with_costs({}, session)
            for name in ("seconds", "cpu_seconds"):
                total[name] += costs[name]
            total["peak_memory"] = max(total["peak_memory"], costs["peak_memory"])
            total["dirty"] = costs["dirty"] or total.get("dirty")
            if outcome is not None:
                seen = session.output[:_SHORT].decode("utf-8", "replace")
                found = {"outcome": outcome.outcome, "detail": outcome.detail, "test": k, "seen": seen}
                break
        return {**total, **found}

    def _results(self, program: Any, limits: dict[str, Any], name: str, calls: list[str]) -> dict[str, Any]:
        """What the program returns for calls, as text each, in ``results``."""
        session = Session(self._zygote, program, limits)
        results: list[str] = []
        found: dict[str, Any] = {"outcome": "passed"}
        with session:
            try:
                for first in range(0, len(calls), AHEAD):
                    part = calls[first : first + AHEAD]
                    session.ask(name, ",".join(part))
                    for _ in part:
                        reply = session.answer()
                        if reply[0] != "v":
                            found = {"outcome": "failed", "detail": f"call {len(results)}: {_seen(reply)}"}
                            raise Over
                        results.append(wire.dumps(reply[1]))
            except Over:
                if session.outcome is not None:
                    detail = f"call {len(results)}: {session.outcome.detail}"
                    found = {"outcome": session.outcome.outcome, "detail": detail}
                found["test"] = len(results)
        return {**_with_costs(found, session), "results": results}


@contextlib.contextmanager
def _clock(seconds: float) -> Iterator[None]:
    """Interrupt the tests after so long, again and again if they swallow it."""
    running = True

    def expire(*_: Any) -> None:
        if running:
            raise _Expired

    signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.1)
    # If it is busy in code that can't be interrupted, the caller replaces it; without a caller it ends by this.
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds + ORPHAN)
    try:
        yield
    finally:
        running = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _run_tests(calls: _Calls, names: list[str], tests: str, setup: str) -> None:
    """Set-up and tests in a namespace of their own, which is gone afterwards."""
    module, depth = types.ModuleType("tests"), sys.getrecursionlimit()
    sys.modules["tests"] = module
    random.seed(0)
    try:
        exec(_compiled(setup, "<setup>"), module.__dict__)
        for name in names:
            calls.bind(module, name)
        exec(_compiled(tests, "<tests>"), module.__dict__)
    finally:
        sys.modules.pop("tests", None)
        module.__dict__.clear()
        sys.setrecursionlimit(depth)


class _Calls:
    """The functions that stand for the program's in the namespace of the tests."""

    def __init__(self, session: Session) -> None:
        self._session, self.count = session, 0
        self.raised: BaseException | None = None
        self.refused = ""
        self.last: list[Any] | None = None

    def bind(self, module: types.ModuleType, name: str) -> None:
        def call(*args: Any, **named: Any) -> Any:
            self.count += 1
            try:
                self._session.ask(name, wire.dumps(list(args)), wire.dumps(named))
            except wire.OtherType as error:
                # Results of the program are plain, so this is of the tests' own making.
                self.refused = str(error)
                raise
            self.last = None
            self.last = self._session.answer()
            if self.last[0] == "v":
                return self.last[1]
            self.raised = exception(self.last)
            raise self.raised

        first, _, method = name.partition(".")
        call.__name__ = call.__qualname__ = method or first
        if method:
            setattr(module, first, type(first, (), {method: staticmethod(call)}))
        else:
            setattr(module, first, call)


@functools.lru_cache(maxsize=64)
def _compiled(source: str, name: str) -> Any:
    """Several programs for one problem come one after another."""
    return compile(source, name, "exec", dont_inherit=True)


def _of_error(error: BaseException, calls: _Calls, tests: str) -> dict[str, Any]:
    """What it means that the tests ended with this exception."""
    test, line = _assertion(error, tests)
    seen = None if calls.last is None else _seen(calls.last)
    if isinstance(error, Over):
        return {"outcome": "crashed", "test": test}  # the session knows better
    if isinstance(error, _Expired):
        return {"outcome": "timed out", "detail": f"in the tests: {line}", "test": test}
    if error is calls.raised:
        kind = calls.last[1] if calls.last and calls.last[0] == "e" else ""
        outcome = "failed" if calls.last and calls.last[0] == "u" else of_exception(kind)
        return {"outcome": outcome, "detail": f"{line}: {seen}"[:_SHORT], "test": test, "seen": seen}
    detail = line if isinstance(error, AssertionError) else f"{line}: {type(error).__name__}: {error}"
    return {"outcome": "failed", "detail": detail[:_SHORT], "test": test, "seen": seen}


def _assertion(error: BaseException, tests: str) -> tuple[int | None, str]:
    """Which assertion of the tests, from 0, an exception came through, and its line."""
    trace, number = error.__traceback__, None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<tests>":
            number = trace.tb_lineno
        trace = trace.tb_next
    if number is None:
        return None, "in the set-up"
    asserts = sorted(
        (one.lineno, one.end_lineno or one.lineno) for one in ast.walk(ast.parse(tests)) if isinstance(one, ast.Assert)
    )
    inside = [k for k, (first, last) in enumerate(asserts) if first <= number <= last]
    return (inside[-1] if inside else None), tests.splitlines()[number - 1].strip()


def _seen(reply: list[Any]) -> str:
    return _short(reply[1]) if reply[0] == "v" else f"{reply[1]}: {reply[2]}"[:_SHORT] if reply[0] == "e" else reply[1]


def _short(value: Any) -> str:
    """Its text, cut; of large values only the beginning is made."""
    try:
        if isinstance(value, (str, bytes, list, tuple)) and len(value) > _SHORT:
            return repr(value[:_SHORT])[:_SHORT] + " ..."
        text = repr(value)
    except (ValueError, RecursionError) as error:
        return f"{type(value).__name__} ({error})"[:_SHORT]
    return text if len(text) <= _SHORT else text[:_SHORT] + " ..."


def _with_costs(found: dict[str, Any], session: Session) -> dict[str, Any]:
    ended = session.ended
    assert ended is not None
    costs = {"seconds": ended.seconds, "cpu_seconds": ended.cpu_seconds, "peak_memory": ended.peak_memory}
    return {**costs, "dirty": ended.dirty, **found}


def main(caller: int, zygote: int, scratch: str) -> None:
    """Serve jobs that come on one socket, with the zygote on another, until the caller is gone.

    A caller that was killed could not remove the scratch folder.
    """
    link = socket.socket(fileno=caller)
    judge = Judge(socket.socket(fileno=zygote))
    gc.freeze()
    try:
        _serve(link, judge)
    except OSError:
        pass  # the caller went while it was told a verdict
    judge.close()
    if scratch:
        cleaning.remove(scratch)


def _serve(link: socket.socket, judge: Judge) -> None:
    stream = link.makefile("rb")
    link.sendall(wire.frame('"ready"'))
    while True:
        header = stream.read(wire.HEADER.size)
        if len(header) < wire.HEADER.size:
            return
        job = wire.loads(stream.read(wire.HEADER.unpack(header)[0]).decode("ascii"))
        link.sendall(wire.frame(wire.dumps(judge.decide(job))))
