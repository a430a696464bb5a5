"""The corpus of hostile, broken and odd programs, at every level of isolation."""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hostile import LEVELS, Case, broken, escaping, greedy, lying

from llm.sandbox import CallTests, CodeTests, Limits, Sandbox, StdioTests, Verdict
from llm.sandbox.inside import layers
from llm.sandbox.isolation import OPEN, probe

CASES = [*lying.CASES, *escaping.CASES, *greedy.CASES, *broken.CASES]
CALLS = CallTests("squares", ((0,), (3,), (10,)), (0, 5, 285))
CODE = CodeTests(("squares",), "assert squares(0) == 0\nassert squares(3) == 5\nassert squares(10) == 285")
SCRIPT = StdioTests((("2\n", "4\n"), ("-5\n", "-10\n")))
# Long enough for honest programs on a busy machine; those that never end need not wait so long.
LIMITS, SHORT = Limits(seconds=20, memory=2 << 30, output=4 << 20), Limits(seconds=0.6, memory=2 << 30, output=4 << 20)
OFFERED = {one.level: one for one in probe()}
# Without the level above, only what is asked for is tested; where the strongest is missing, the reason is shown.
STRONG = LEVELS[:2]


@dataclass
class World:
    """What is outside, and the verdicts of programs that tried to touch it."""

    folder: Path
    verdicts: dict[str, Verdict]
    by_calls: dict[str, Verdict]
    own_user: bool


def all_levels() -> list[Any]:
    return [pytest.param(level, marks=[pytest.mark.slow] * (level != "full")) for level in LEVELS]


@pytest.fixture(scope="module", params=all_levels())
def world(request):
    level = request.param
    if OFFERED[level].missing:
        pytest.skip(f"{level} is not to be had here: {OFFERED[level].missing}")
    folder = Path(tempfile.mkdtemp(prefix="ra3-outside-"))
    os.environ["RA3_SECRET"] = "secret"
    try:
        yield level, run_all(level, folder)
    finally:
        del os.environ["RA3_SECRET"]
        shutil.rmtree(folder)


def run_all(level: str, folder: Path, names: tuple[str, ...] = ()) -> World:
    """With all programs that can be run at this level, or those of these names."""
    for name in ("secret", "victim"):
        (folder / name).write_text("secret")
        (folder / name).chmod(0o666)
    folder.chmod(0o777)
    cases = [case for case in CASES if (case.name in names if names else case.runs_at(level))]
    with (
        socket.create_server(("127.0.0.1", 0), backlog=99) as server,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log,
        Sandbox(workers=5, isolation=level) as sandbox,
    ):
        log.bind(str(folder / "log"))
        (folder / "log").chmod(0o777)
        words = {
            "@FILE@": folder / "secret", "@FOLDER@": folder, "@PID@": os.getpid(), "@PORT@": server.getsockname()[1],
        }  # fmt: skip
        start = time.monotonic()
        verdicts = list(sandbox.map(job(case, words, SCRIPT if case.script else CODE) for case in cases))
        functions = [case for case in cases if not case.script] if level == "full" else []
        by_calls = list(sandbox.map(job(case, words, CALLS) for case in functions))
        # What wanted to outlive its time would have come back by now.
        time.sleep(max(0.0, 4 - (time.monotonic() - start)))
    return World(
        folder,
        {case.name: verdict for case, verdict in zip(cases, verdicts, strict=True)},
        {case.name: verdict for case, verdict in zip(functions, by_calls, strict=True)},
        level in OFFERED and OFFERED[level].about["user"] == os.geteuid(),
    )


def job(case: Case, words: dict[str, Any], check: Any) -> tuple[str | bytes, Any, Limits]:
    program = case.program
    if isinstance(program, str) and "@" in program:
        for word, value in words.items():
            program = program.replace(word, str(value))
    return program, check, SHORT if "timed out" in case.outcomes.split("|") else LIMITS


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_what_becomes_of_it(world, case):
    level, found = world
    if not case.runs_at(level):
        pytest.skip("nothing at this level would stop it")
    verdicts = [found.verdicts[case.name]]
    if case.name in found.by_calls:
        verdicts.append(found.by_calls[case.name])
    for verdict in verdicts:
        escaped = "ESCAPED" in (verdict.seen or "")
        if case.escapes_at(level):
            assert not verdict.passed
            as_root = level == "rlimits" and os.geteuid() == 0 and case.name in escaping.NOT_AS_ROOT
            assert escaped or not found.own_user or as_root, verdict
        else:
            assert verdict.outcome in case.outcomes.split("|"), verdict
            assert not escaped, verdict


def test_nothing_outside_is_touched(world):
    level, found = world
    if level not in STRONG:
        pytest.skip("this level does not keep programs from files")
    assert sorted(os.listdir(found.folder)) == ["log", "secret", "victim"]
    for name in ("secret", "victim"):
        assert (found.folder / name).read_text() == "secret"
        assert os.stat(found.folder / name).st_mode & 0o777 == 0o666
        assert os.stat(found.folder / name).st_mtime > 1


def test_nothing_outlives_its_time(world):
    _, found = world
    assert not (found.folder / "late").exists()


# What each layer stops with no other beside it.
ALONE = {
    "namespaces": (
        "reads a file", "reads a file by a link", "reads the users", "writes a file", "removes a file", "calls home",
        "asks whether a file is there", "goes up and out", "packages of others", "lists the processes",
        "signals the tests", "reads the environment of the tests", "sends datagrams",
    ),
    "landlock": (
        "reads a file", "reads a file by a link", "makes a file its own", "reads the users", "lists a folder",
        "writes a file", "removes a file", "calls home", "listens", "lists the processes",
    ),
    "seccomp": (
        "calls home", "listens", "sends datagrams", "asks for a name", "sees its parent", "kills its parent",
        "kills everybody", "signals the tests", "signals the tests by a pipe", "forks", "starts a program",
        "starts a shell", "becomes another program", "starts one quietly", "outlives its time", "forks without end",
        "traces its parent", "makes a user namespace", "makes a process by hand", "makes a process the new way",
        "calls as on another machine", "mounts", "changes its root", "becomes root", "rings", "asks for keys",
        "shares memory", "makes files in memory", "more filters", "kills itself without a word",
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("layer", ALONE)
def test_each_layer_stops_something_by_itself(layer, monkeypatch):
    if OFFERED["full"].missing:
        pytest.skip(f"not all layers are to be had here: {OFFERED['full'].missing}")
    monkeypatch.setitem(layers.LEVELS, "alone", (layer,))
    with tempfile.TemporaryDirectory(prefix="ra3-outside-") as folder:
        found = run_all("alone", Path(folder), ALONE[layer])
        assert sorted(os.listdir(folder)) == ["log", "secret", "victim"]
    assert len(found.verdicts) == len(ALONE[layer])
    for name, verdict in found.verdicts.items():
        assert verdict.outcome in ("failed", "crashed", "forbidden"), (name, verdict)
        assert "ESCAPED" not in (verdict.seen or ""), (name, verdict)


@pytest.mark.parametrize("level", STRONG)
def test_packages_of_others_can_t_be_read(level):
    """They may hold anything, published tests and their answers included."""
    if OFFERED[level].missing:
        pytest.skip(f"{level} is not to be had here: {OFFERED[level].missing}")
    folder = Path(os.__file__).resolve().parent / "site-packages"
    file = next((one for one in sorted(folder.rglob("*")) if one.is_file() and os.access(one, os.R_OK)), None)
    if file is None:
        pytest.skip("this Python has none beside its standard library")
    program = "def f(path): return open(path, 'rb').read(1)"
    with Sandbox(workers=1, isolation=level) as sandbox:
        assert sandbox.results(program, "f", [(json.__file__,)]) == [Path(json.__file__).read_bytes()[:1]]
        with pytest.raises(ValueError, match=r"FileNotFoundError|PermissionError"):
            sandbox.results(program, "f", [(str(file),)])


def test_every_kind_of_outcome_is_there():
    """The corpus has each outcome but the one that is not the program's."""
    kinds = {kind for case in CASES for kind in case.outcomes.split("|")}
    assert kinds == {"passed", "failed", "timed out", "out of memory", "output too large", "crashed", "forbidden"}
    hostile = [case for case in CASES if "passed" not in case.outcomes]
    assert len(hostile) >= 60 and len({case.name for case in CASES}) == len(CASES)


def test_what_a_level_cant_stop_is_listed():
    """Where something escapes that the level above stops, the level says what it leaves open."""
    for weaker, level in enumerate(LEVELS):
        if any(case.escapes == len(LEVELS) - weaker for case in CASES):
            assert OPEN[level], level
