"""What goes between caller, judge and programs: plain data comes back as it was, and nothing else gets through."""

from __future__ import annotations

import math
import os
import random
import socket
import threading
import time

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llm.sandbox import CallTests, Limits, Sandbox, StdioTests
from llm.sandbox.inside import control, wire
from llm.sandbox.link import Link, WorkerLost, WorkerStuck

KEYS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
# Halves of surrogates are text too.
TEXT = st.text(st.characters(codec=None)) | st.just("\ud800")
VALUES = st.recursive(
    KEYS | TEXT | st.complex_numbers(allow_nan=False) | st.integers(3990, 4010).map(lambda k: (-10) ** k),
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner, inner) | st.sets(KEYS, max_size=3) | st.dictionaries(KEYS, inner)
    ),
    max_leaves=20,
)


def same(one, other):
    """Equal, and of exactly the same types at every place."""
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, (set, frozenset)):
        return one == other and sorted(type(x).__name__ for x in one) == sorted(type(x).__name__ for x in other)
    if isinstance(one, float):
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    return one == other


@given(VALUES)
@example([True, 1, 1.0, None, "1"])
@example((-0.0, math.inf, -math.inf, b"\0\xff", -(10**6000)))
def test_plain_data_comes_back_exactly(value):
    assert same(wire.loads(wire.dumps(value)), value)


def test_what_is_not_plain_is_refused():
    loop = []
    loop.append(loop)
    deep = []
    for _ in range(wire.DEPTH + 1):
        deep = [deep]
    for value in (object(), loop, deep, np.ones(2), lambda: 0, [type("A", (), {})()], type("A", (), {})):
        with pytest.raises(wire.NotPlain):
            wire.dumps(value)


def test_a_subclass_goes_by_what_it_holds():
    class Liar(list):
        def __iter__(self):
            return iter([9])

        def __len__(self):
            return 7

        def __eq__(self, other):
            return True

        __hash__ = None

    class Odd(int):
        def __int__(self):
            return 5

        def __repr__(self):
            return "5"

    assert same(wire.loads(wire.dumps([Liar([1, 2]), Odd(3), np.float64(0.5), True])), [[1, 2], 3, 0.5, True])


@given(st.text() | st.text(alphabet='[]{}",:tdsfbigkqrc0123456789.eEnulltrueNaN-'))
@example("[" * 100_000)
@example('{"t":1}')
@example('{"d":[[[1]],[2]]}')
@example('{"d":[[1],[2,3]]}')
@example('{"k":"__import__"}')
@example('{"i":"zz"}')
@example('{"b":"0"}')
@example('{"c":["nan","x"]}')
@example('{"r":[0,1,0]}')
@example("9" * 5000)
def test_text_of_anybody_is_plain_data_or_refused(text):
    try:
        value = wire.loads(text)
    except wire.NotPlain:
        return
    # What is read is of no other kind, so that it can be said again.
    wire.dumps(value)


@given(VALUES, st.data())
def test_damaged_text_is_plain_data_or_refused(value, data):
    text = list(wire.dumps(value))
    for _ in range(data.draw(st.integers(1, 4))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.sampled_from('[]{}",:tdsf0e-'))
    try:
        wire.loads("".join(text))
    except wire.NotPlain:
        pass


def test_orders_come_back():
    order = control.Order(1, 0.5, 2.5, 1 << 40, 7, 3, 9)
    assert control.Order.unpacked(order.packed()) == order
    ended = control.Ended(2, 1, 9, 0.5, 0.25, 1 << 33)
    assert control.Ended.unpacked(ended.packed()) == ended


def answers(*parts, close=True):
    """A link whose other end says these bytes, one after another."""
    ours, theirs = socket.socketpair()

    def speak():
        for part in parts:
            theirs.sendall(part)
            time.sleep(0.01)
        if close:
            theirs.close()

    thread = threading.Thread(target=speak)
    thread.start()
    link = Link(ours)
    try:
        return link.receive(time.monotonic() + 0.5)
    finally:
        thread.join()
        link.close()
        theirs.close()


def test_the_caller_takes_whole_messages_only():
    whole = wire.frame(wire.dumps({"outcome": "passed"}))
    assert answers(whole) == {"outcome": "passed"}
    assert answers(*[whole[k : k + 1] for k in range(len(whole))]) == {"outcome": "passed"}
    for broken in (b"", whole[:2], whole[:-1], b"\xff\xff\xff\xff", b"\0\0\0\1\xff", b"\0\0\0\1{", b"\0\0\0\3[1}"):
        with pytest.raises(WorkerLost):
            answers(broken)
    with pytest.raises(WorkerStuck):
        answers(whole[:-1], close=False)


def test_the_caller_survives_random_bytes():
    drawn = random.Random(0)
    for _ in range(200):
        data = bytes(drawn.choice((0, 1, 91, 93, 123, 34, drawn.randrange(256))) for _ in range(drawn.randrange(40)))
        try:
            answers(data)
        except WorkerLost:
            continue


def test_a_message_larger_than_the_buffers_is_delivered():
    ours, theirs = socket.socketpair()
    got = bytearray()

    def slowly():
        while part := theirs.recv(1 << 14):
            got.extend(part)

    thread = threading.Thread(target=slowly)
    thread.start()
    link = Link(ours)
    link.send("x" * (5 << 20), time.monotonic() + 60)
    link.close()
    thread.join()
    theirs.close()
    assert len(got) == (5 << 20) + wire.HEADER.size


FUZZ = """
import os, socket
parts = {parts!r}
def squares(n):
    return 0
for part in parts:
    os.write(3, part)
{end}
"""
TASK = CallTests("squares", ((1,), (2,), (3,)), (1, 4, 9))


@pytest.mark.parametrize("seed", range(4))
def test_whatever_a_program_writes_to_its_channel_it_never_passes(seed):
    drawn = random.Random(seed)
    frames = ['["v",0]', '["e","ValueError","x"]', '["u","x"]', '["v",', "[]", "{}", '["l","A","b"]', '["v",{"t":[1]}]']
    ends = ["", "os._exit(0)", "os.close(3)", "socket.socket(fileno=3).shutdown(1)", "raise SystemExit"]
    with Sandbox(workers=2, limits=Limits(seconds=1, output=1 << 16)) as sandbox:
        jobs = []
        for _ in range(20):
            parts = [
                wire.frame(drawn.choice(frames))[: drawn.choice((3, 4, 6, None))]
                if drawn.random() < 0.6
                else drawn.randbytes(drawn.randrange(1, 200))
                for _ in range(drawn.randrange(1, 6))
            ]
            program = FUZZ.format(parts=parts, end=drawn.choice(ends))
            jobs += [(program, TASK), (program + "\nprint(1)", StdioTests((("", "2"),)))]
        for (program, _), verdict in zip(jobs, sandbox.map(jobs), strict=True):
            assert verdict.outcome in ("failed", "crashed", "output too large", "timed out"), (program, verdict)
        assert sandbox.run("def squares(n): return n * n", TASK).passed


def test_a_program_of_many_megabytes_and_calls_of_many():
    text = "x = '" + "y" * (3 << 20) + "'\ndef f(a): return len(a)"
    check = CallTests("f", tuple(("z" * (1 << 20),) for _ in range(5)), (1 << 20,) * 5)
    with Sandbox(workers=1) as sandbox:
        assert sandbox.run(text, check).passed


def test_the_judge_ends_when_its_caller_is_gone():
    with Sandbox(workers=1) as sandbox:
        (worker,) = sandbox._all
        pids = worker.pids
        worker._link.close()
        deadline = time.monotonic() + 20
        while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not any(alive(pid) for pid in pids)


def alive(pid):
    """Running, and not only waiting to be reaped."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_alive_knows_the_living():
    assert alive(os.getpid()) and not alive(1 << 22)
