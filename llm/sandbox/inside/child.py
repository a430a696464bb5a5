"""The process of one program, from the fork to its end. Whatever it says is the program's word, and nobody's else.

It gets the program, and calls if it is to answer some, as frames on one socket, and answers there:
``["v", result]``, ``["e", type, text]`` for an exception in a call, ``["u", text]`` for a result that is no plain
data, ``["l", type, text]`` for an exception while the program was loaded.
"""

from __future__ import annotations

import builtins
import gc
import os
import resource
import sys
import types
from typing import Any, NamedTuple

from . import control, layers, seccomp, system, wire

CHANNEL = 3
# Bound now: the program may put anything in their places, and would only fool itself, but honest ones do it by mistake.
_read, _write, _exit, _dumps, _loads, _frame = os.read, os.write, os._exit, wire.dumps, wire.loads, wire.frame
_type, _str, _len, _BaseException = type, str, len, BaseException


class Setting(NamedTuple):
    """What the zygote has made ready: the layers, whether threads can be counted, the last filter."""

    layers: tuple[str, ...]
    threads: bool
    last: seccomp.Last | None


def main(order: control.Order, descriptors: list[int], setting: Setting) -> None:
    """Never returns."""
    try:
        _settle(order, descriptors, setting)
    except _BaseException as error:
        # That is no fault of the program, which is not even read; afterwards nobody can say so any more.
        _write(CHANNEL, control.NOT_SETTLED + f"{_type(error).__name__}: {_text(error)}".encode())
        _exit(1)
    try:
        _write(CHANNEL, control.SETTLED)
        program = _receive()
        if isinstance(program, str):
            program = program.removeprefix("\ufeff")  # a mark that editors put there, which files may have
        if order.mode == control.SCRIPT:
            _script(program)
        else:
            _functions(program)
    except _BaseException as error:
        _say(["l", _type(error).__name__, _text(error)])
        _exit(1)


def _settle(order: control.Order, descriptors: list[int], setting: Setting) -> None:
    """Only what the program is to have: descriptors, limits, the last layer."""
    high = [os.dup2(one, 50 + k) for k, one in enumerate(descriptors)]
    for one, place in zip(high, (CHANNEL, 0, 1), strict=False):
        os.dup2(one, place)
    os.closerange(CHANNEL + 1, 1 << 16)
    for what, limit in layers.limits(order, setting.layers, setting.threads):
        resource.setrlimit(what, (limit, limit))
    if "namespaces" not in setting.layers:
        # Else it would outlive a zygote that is killed.
        system.prctl(system.PR_SET_PDEATHSIG, 9)
    if setting.last is None:
        os.setsid()
    else:
        setting.last.install_for(os.getpid())
    gc.enable()


def _functions(program: str | bytes) -> None:
    """Load it, then answer calls until nobody asks."""
    module = _module("program")
    try:
        exec(compile(program, "<program>", "exec", dont_inherit=True), module)
    except SystemExit:
        pass  # what was defined before it is there
    while True:
        name, calls, named = _receive()
        for call in calls:
            try:
                function = _find(module, name)
            except _BaseException as error:
                _say(["l", _type(error).__name__, _text(error)])
                break
            try:
                result = ["v", function(*call, **named)]
            except _BaseException as error:
                result = ["e", _type(error).__name__, _text(error)]
            try:
                _say(result)
            except (wire.NotPlain, RecursionError) as error:
                _say(["u", _text(error)])


def _script(program: str | bytes) -> None:
    """As ``python program.py`` runs it, to the end of its threads and of what it registered for the end."""
    module, status = _module("__main__"), 0
    try:
        exec(compile(program, "<program>", "exec", dont_inherit=True), module)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except _BaseException as error:
        _say(["l", _type(error).__name__, _text(error)])
        status = 1
    import atexit
    import threading

    threading._shutdown()  # type: ignore[attr-defined]  # the interpreter's own, and what it does at its end
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            status = status or 120
    _exit(status & 0xFF)


def _module(name: str) -> dict[str, Any]:
    module = types.ModuleType(name)
    module.__dict__["__builtins__"] = builtins
    sys.modules[name] = module
    sys.argv = ["program.py"]
    return module.__dict__


def _find(module: dict[str, Any], name: str) -> Any:
    first, _, method = name.partition(".")
    if first not in module and not method:
        raise NameError(f"name {first!r} is not defined")
    return getattr(module[first](), method) if method else module[first]


def _text(error: BaseException) -> str:
    try:
        return _str(error)[:500]
    except _BaseException:
        return ""


def _receive() -> Any:
    (length,) = wire.HEADER.unpack(_exactly(wire.HEADER.size))
    return _loads(_str(_exactly(length), "ascii"))


def _exactly(count: int) -> bytes:
    parts = []
    while count:
        part = _read(CHANNEL, min(count, 1 << 20))
        if not part:
            _exit(0)  # nobody asks any more
        parts.append(part)
        count -= _len(part)
    return b"".join(parts)


def _say(reply: list[Any]) -> None:
    data = memoryview(_frame(_dumps(reply)))
    while data:
        data = data[_write(CHANNEL, data) :]
