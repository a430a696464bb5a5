"""LineWorld: the interpreter, the table and Python itself agree; tasks, corpora and tests are what they promise."""

from functools import partial
from itertools import product
from math import gcd

import gymnasium
import numpy as np
import pytest
from agreement import assert_frequencies, assert_mean
from hypothesis import given
from hypothesis import strategies as st

from ra3sim import OptionEnv, OptionSet, solve
from ra3sim.envs import LineTable, LineTask, LineWorld, LineWorldEnv
from ra3sim.envs.lineworld.machine import REGISTER_NAMES, Machine, alphabet
from ra3sim.envs.lineworld.skills import _match

TINY = LineWorld.preset("tiny")
TABLE = LineWorld.preset("table")
TEXT = LineWorld.preset("text")
MODES = LineWorld.preset("tiny", modes=3, depth=3, lines=5, registers=3, modulus=4, seed=1)
WORLDS = {"tiny": TINY, "table": TABLE, "text": TEXT, "modes": MODES}


@pytest.fixture(params=WORLDS)
def world(request):
    return WORLDS[request.param]


def python(text, inputs, modulus):
    """What Python itself makes of a text, reduced at the end."""
    outputs = []
    for values in inputs:
        names = dict(zip(REGISTER_NAMES, values, strict=False))
        exec(text, {}, names)
        outputs.append(tuple(value % modulus for value in names.values()))
    return tuple(outputs)


# The machine


@pytest.mark.parametrize("registers, modulus", [(1, 3), (1, 7), (2, 2), (2, 4), (2, 5), (3, 3), (5, 10)])
def test_alphabet(registers, modulus):
    """Every line is what Python says, can be undone, does something, and nothing that another line does."""
    lines = alphabet(registers, modulus)
    every = list(product(range(modulus), repeat=registers))[:200]
    machine = Machine(registers, modulus, len(lines))
    seen = set()
    for number, (text, _) in enumerate(lines):
        results = python(text, every, modulus)
        assert results == tuple(map(tuple, machine.run([[number]], every)[0].tolist()))
        assert results == tuple(map(tuple, machine.step(np.array(every))[number].tolist()))
        if len(every) == modulus**registers:
            assert len(set(results)) == len(every)
            assert results != tuple(every) and results not in seen
        seen.add(results)
        determinant = round(np.linalg.det(machine.matrices[number]))
        assert gcd(determinant, modulus) == 1


def test_short_alphabets_use_all_registers():
    for registers in (2, 3):
        text = " ".join(Machine(registers, 5, 3).statements)
        assert all(name in text for name in REGISTER_NAMES[:registers])


def test_effects_are_the_affine_maps():
    machine = Machine(3, 4, 10)
    rng = np.random.default_rng(0)
    programs, inputs = rng.integers(10, size=(50, 7)), rng.integers(4, size=(20, 3))
    effects = machine.effects(programs)
    mapped = inputs @ effects[:, :, :3].transpose(0, 2, 1) + effects[:, :, 3][:, None]
    np.testing.assert_array_equal(mapped % 4, machine.run(programs, inputs))


def test_python_runs_the_texts(world):
    for program in world.pretraining(60, seed=0) + world.expert(20, seed=1):
        assert python(program.text, world.inputs, world.modulus) == program.task.outputs
        assert world.parse(program.text) == program.lines
        assert world.verify(program.task, program.text).passed


# The table


def test_table_agrees_with_python(world):
    """Every state a program goes through holds the registers that Python has there."""
    table = world.table()
    for program in world.pretraining(5, seed=2):
        states, actions = table.trajectory(program)
        assert tuple(actions.tolist()) == program.lines
        mdp = table.mdp(program.task, sparse=True)
        assert mdp.start[states[0]] == 1
        for position, state in enumerate(states):
            so_far = "\n".join(world.machine.statements[a] for a in actions[:position])
            registers = python(so_far, world.inputs, world.modulus)
            mode = program.task.requests[position // world.length][1]
            assert state == table.state_of(position, mode, registers)
            assert table.position[state] == position and table.mode[state] == mode
            assert table.registers[state].tolist() == [list(r) for r in registers]
            assert table.classes[state] == position % world.length * world.modes + mode
        rows = mdp.transitions[states * world.lines + actions]
        np.testing.assert_array_equal(rows.indices[:-1], states[1:])
        last = table.state_of(world.horizon, 0, program.task.outputs)
        assert rows.indices[-1] == last and mdp.terminal[last]


def test_states_are_those_that_lines_reach(world):
    """No state is missing, and none is there that no lines and no task reach."""
    table = world.table()
    found = np.zeros(table.num_states, bool)
    for mode in range(world.modes):
        mdp = table.mdp(world.task([(0, mode)] * world.depth), sparse=True)
        found |= mdp.reachable()
    assert found.all()
    keys = set(zip(table.position.tolist(), table.mode.tolist(), map(bytes, table.registers), strict=True))
    assert len(keys) == table.num_states == len(set(table.state_names))
    assert table.num_classes == world.length * world.modes == len(set(table.classes.tolist()))
    assert not table.mode[table.terminal].any()


def test_tasks_share_all_but_rewards_and_boundaries():
    table = MODES.table()
    tasks = [MODES.task(requests) for requests in ([(0, 0)] * 3, [(1, 0), (2, 2), (0, 1)])]
    one, two = (table.mdp(task) for task in tasks)
    assert one.state_names == two.state_names and one.action_names == two.action_names
    assert one.discount == two.discount and (one.terminal == two.terminal).all()
    # Where the next segment begins, the modes differ: 0 in one task, 2 and 1 in the other.
    difference = table.mode[table.successors(tasks[1])] - table.mode[table.successors(tasks[0])]
    turns = np.select([table.position == 1, table.position == 3], [2, 1], 0)
    np.testing.assert_array_equal(difference, np.tile(turns, (MODES.lines, 1)).T)
    same = turns == 0
    np.testing.assert_array_equal(table.successors(tasks[1])[same], table.successors(tasks[0])[same])
    # Beside the last step there is nothing to earn.
    for mdp in (one, two):
        pays = mdp.rewards > 0
        assert pays.any() and (table.position[np.nonzero(pays)[0]] == MODES.horizon - 1).all()
        assert set(np.unique(mdp.rewards)) == {0, 1}
    dense, sparse = (TABLE.table().mdp(TABLE.task_at(7), sparse) for sparse in (False, True))
    assert sparse.is_sparse and not dense.is_sparse
    np.testing.assert_array_equal(sparse.to_dense().transitions, dense.transitions)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("changes", [{}, {"modes": 2}])
def test_solution_equals_brute_force(seed, changes):
    """V*(s0) is that of the programs that pass, found by running every program there is; all tasks can be solved."""
    world = LineWorld.preset("tiny", seed=seed, **changes)
    programs = world.all_programs()
    assert len(np.unique(programs, axis=0)) == len(programs) == 3**4
    texts = ["\n".join(world.machine.statements[line] for line in lines) for lines in programs]
    results = [python(text, world.inputs, world.modulus) for text in texts]
    np.testing.assert_array_equal(results, world.machine.run(programs, world.inputs))
    # Outputs that no program gives, too: all pairs of registers.
    tasks = list(world.tasks())
    wanted = [LineTask(tasks[0].requests, world.inputs, (pair,)) for pair in product(range(5), repeat=2)]
    solved = []
    for task in tasks + wanted:
        mdp = world.table().mdp(task)
        solved.append(any(outputs == task.outputs for outputs in results))
        value = solve(mdp, tolerance=1e-10).values @ mdp.start
        assert value == pytest.approx(0.95**3 if solved[-1] else 0, abs=1e-9)
    assert all(solved[: len(tasks)]) and not all(solved)


@pytest.mark.parametrize("world", [TINY, TABLE, MODES], ids=["tiny", "table", "modes"])
def test_skills_lose_nothing(world):
    """Over the experts' skills, begun only at boundaries, the start is worth what it is worth over lines."""
    table = world.table()
    for task in list(world.tasks())[:: max(1, world.num_tasks // 4)]:
        mdp = table.mdp(task)
        for skills in (None, sorted(set(world.rule.tolist()))):
            model = table.smdp(task, table.skill_options(skills))
            assert model.gamma_bar == pytest.approx(0.95**world.length, rel=1e-12)
            np.testing.assert_array_equal(model.available.any(0), table.boundary & ~table.terminal)
            gap = (solve(mdp, tolerance=1e-10).values - solve(model, tolerance=1e-10).values) @ mdp.start
            assert abs(gap) < 1e-9
    assert world.horizon > world.length


def test_skill_model_is_that_of_running_it():
    table = MODES.table()
    task = MODES.task([(0, 1), (1, 2), (2, 0)])
    model, to = table.smdp(task), table.successors(task)
    for state in np.flatnonzero(table.boundary & ~table.terminal)[::7]:
        for skill in range(MODES.skills):
            after = state
            for line in MODES.templates[table.mode[state], skill]:
                after = to[after, line]
            row = model.option_matrix(skill)[[state]]
            assert row.indices.tolist() == [after] and row.data == pytest.approx([0.95**MODES.length], rel=1e-12)


def test_skills_run_as_options():
    env = LineWorldEnv(MODES, task=100)
    skills = MODES.table().skill_options()
    env = OptionEnv(env, skills)
    state, info = env.reset(seed=0)
    for segment, (word, _) in enumerate(env.unwrapped.task.requests):
        assert info["action_mask"].all()
        state, reward, terminated, _, info = env.step(MODES.rule[word])
        assert info["duration"] == MODES.length and MODES.table().position[state] == (segment + 1) * MODES.length
    assert terminated and reward == pytest.approx(0.95 ** (MODES.length - 1))


def test_learned_options_must_end_at_boundaries():
    table = TINY.table()
    lines = OptionSet.primitives(table.mdp(TINY.task_at(0)))
    with pytest.raises(ValueError, match="options: one may end in the middle of a segment"):
        table.smdp(TINY.task_at(0), lines)
    ends = np.broadcast_to(table.boundary.astype(float), (3, table.num_states))
    model = table.smdp(TINY.task_at(0), OptionSet(lines.policy, ends))  # each line over and over, to the boundary
    assert model.gamma_bar == pytest.approx(0.95**2)


# Skills and rules


@pytest.mark.parametrize("seed", range(8))
def test_rules_never_agree(seed):
    for skills, words in ((2, 1), (2, 2), (3, 3), (10, 10), (10, 4)):
        world = LineWorld(skills=skills, words=words, ambiguity=2, depth=2, modes=4, seed=seed)
        for rule in (world.rule, world.wrong_rule):
            assert rule.shape == (words,) and len(set(rule.tolist())) == words
            assert rule.min() >= 0 and rule.max() < skills
        assert not (world.rule == world.wrong_rule).any()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("skills, ambiguity, lines, sizes", [
    (10, 5, 6, [5, 5]), (10, 4, 6, [4, 4, 2]), (6, 1, 6, [1] * 6), (10, 1, 6, [2, 2, 2, 2, 1, 1]), (3, 3, 3, [3]),
    (8, 4, 6, [4, 4]), (10, 2, 3, [4, 4, 2]),
])  # fmt: skip
def test_ambiguity(seed, skills, ambiguity, lines, sizes):
    """Groups of skills with one first line are as large as promised, in each mode; templates and effects differ."""
    world = LineWorld(skills=skills, words=3, ambiguity=ambiguity, lines=lines, seed=seed)
    assert world.templates.shape == (4, skills, 3)
    for templates in world.templates:
        counts = np.unique(templates[:, 0], return_counts=True)[1]
        assert sorted(counts.tolist(), reverse=True) == sizes
        assert len(np.unique(templates, axis=0)) == skills
        assert len(np.unique(world.machine.effects(templates), axis=0)) == skills
    assert (world.templates[0] != world.templates[1]).any()


def test_effects_differ_as_far_as_possible():
    """With as many skills as templates every effect there is occurs, and every template once."""
    every = np.array(list(product(range(3), repeat=2)))
    small = partial(LineWorld, words=3, lines=3, length=2, registers=1, modulus=5)
    for seed in range(5):
        world = small(skills=9, ambiguity=3, modes=2, seed=seed)
        effects = np.unique(world.machine.effects(every), axis=0)
        assert len(effects) < 9
        for templates in world.templates:
            assert len(np.unique(templates, axis=0)) == 9
            assert len(np.unique(world.machine.effects(templates), axis=0)) == len(effects)
    # A skill gives way to one that has no other choice.
    assert _match([{0: 10, 1: 11}, {0: 12}, {1: 13, 2: 14}]) == {0: 11, 1: 12, 2: 14}
    assert len(_match([{0: 10}, {0: 11}, {0: 12, 1: 13}])) == 2


def test_templates_are_spread_over_all():
    """Over many modes every template is drawn about equally often where effects do not decide."""
    world = LineWorld(skills=2, words=1, ambiguity=1, lines=3, length=1, depth=1, modes=400)
    assert_frequencies(np.bincount(world.templates[:, 0, 0], minlength=3), np.full(3, 1 / 3))
    long = LineWorld(length=9, lines=6, depth=1, modes=8)  # too many templates to list
    assert len(np.unique(long.templates.reshape(-1, 9), axis=0)) == 80


def test_a_world_is_its_arguments():
    assert LineWorld(seed=5) == LineWorld(seed=5) != LineWorld(seed=6)
    assert hash(LineWorld(skills=np.int64(10))) == hash(LineWorld())
    again = LineWorld(seed=0, held_out=0.5, discount=0.5)
    np.testing.assert_array_equal(again.templates, TEXT.templates)
    assert again.inputs == TEXT.inputs and not again.templates.flags.writeable
    assert (LineWorld(seed=1).templates != TEXT.templates).any()
    # A larger share keeps what was held out.
    assert set(TEXT.split("held out")) < set(again.split("held out"))


# Tasks and their split


def test_tasks_are_numbered(world):
    indices = np.unique(np.linspace(0, world.num_tasks - 1, 50).astype(int))
    tasks = world.tasks_at(indices)
    assert [world.task_index(task.requests) for task in tasks] == indices.tolist()
    assert tasks == [world.task(task.requests) for task in tasks]
    for task in tasks[:5]:
        program = world.program(task)
        assert program.skills == tuple(world.rule[word] for word, _ in task.requests)
        assert world.verify(task, program.text).passed
    assert world.num_tasks == (world.words * world.modes) ** world.depth


@pytest.mark.parametrize("world", [TINY, TABLE, MODES], ids=["tiny", "table", "modes"])
def test_split(world):
    requests = {name: [task.requests for task in world.tasks(name)] for name in ("expert", "held out", "all")}
    assert len(requests["held out"]) == round(0.2 * world.num_tasks)
    assert sorted(requests["expert"] + requests["held out"]) == requests["all"] == sorted(set(requests["all"]))
    shown = {program.task.requests for program in world.expert(2000, seed=0)}
    assert not shown & set(requests["held out"]) and shown <= set(requests["expert"])
    assert [task.requests for task in world.held_out_tasks()] == requests["held out"]


def test_split_of_many_tasks():
    held, shown = TEXT.split("held out"), TEXT.split("expert")
    assert len(held) == 12_800 and len(shown) == 51_200
    assert (np.sort(np.concatenate([held, shown])) == np.arange(64_000)).all()
    # A random subset: its share does not depend on the first word.
    assert_frequencies(np.bincount(held // 6400, minlength=10), np.full(10, 0.1))
    assert not {TEXT.task_index(p.task.requests) for p in TEXT.expert(3000, seed=4)} & set(held.tolist())


def test_held_out_tasks_repeat_none_too_early():
    indices = [TABLE.task_index(task.requests) for task in TABLE.held_out_tasks(30, seed=3)]
    held = TABLE.split("held out").tolist()
    assert sorted(indices[:13]) == held == sorted(indices[13:26]) and indices[:13] != held
    assert TABLE.held_out_tasks(30, seed=3)[:5] == TABLE.held_out_tasks(5, seed=3)
    assert TABLE.held_out_tasks(13, seed=3) != TABLE.held_out_tasks(13, seed=4)
    assert TABLE.held_out_tasks(0) == []


# Corpora


@given(count=st.integers(0, 12), more=st.integers(0, 12), seed=st.integers(0, 2**40))
def test_draws_are_prefix_stable(count, more, seed):
    for draw in (
        TINY.expert,
        TINY.held_out_tasks,
        TINY.pretraining,
        partial(MODES.pretraining, rule="both", wrong_comments=0.5),
    ):
        assert draw(count, seed) == draw(count + more, seed)[:count]


def test_seeds_matter():
    assert TEXT.pretraining(5, 0) != TEXT.pretraining(5, 1)
    assert TEXT.expert(5, 0) != TEXT.expert(5, 1)
    assert TEXT.pretraining(5, 0) == LineWorld.preset("text").pretraining(5, 0)


def drawn(programs):
    """Words, modes, skills and comments, ``(n, D)`` each."""
    requests = np.array([program.task.requests for program in programs])
    skills, comments = (np.array([getattr(program, name) for program in programs]) for name in ("skills", "comments"))
    return requests[..., 0], requests[..., 1], skills, comments


@pytest.mark.parametrize("rule", ["random", "wrong", "both"])
def test_pretraining_statistics(rule):
    world, count = TEXT, 20_000
    programs = world.pretraining(count, seed=11, rule=rule)
    words, modes, skills, comments = drawn(programs)
    tests = 3 * 10
    for segment in range(3):
        assert_frequencies(np.bincount(words[:, segment], minlength=10), np.full(10, 0.1), tests)
        assert_frequencies(np.bincount(modes[:, segment], minlength=4), np.full(4, 0.25), tests)
        follows = {"random": 0.0, "wrong": 1.0, "both": 0.5}[rule]
        # Over pairs (word, skill): the wrong rule's share, the rest uniform and so independent of the words.
        pairs = np.full((10, 10), (1 - follows) / 100)
        pairs[np.arange(10), world.wrong_rule] += follows / 10
        counts = np.bincount(words[:, segment] * 10 + skills[:, segment], minlength=100)
        assert_frequencies(counts, pairs.ravel(), tests)
    # Segments follow a rule each for itself.
    follow = skills == world.wrong_rule[words]
    share = follows + (1 - follows) / 10
    assert_frequencies(np.bincount(follow @ [4, 2, 1], minlength=8), binary(share, 3), tests)
    # Comments: a program has none with 0.4 + 0.6 * 0.2^3; a segment of one that may have some has one with 0.8.
    has = comments >= 0
    patterns = 0.6 * binary(0.8, 3)
    patterns[0] += 0.4
    assert_frequencies(np.bincount(has @ [4, 2, 1], minlength=8), patterns, tests)
    off = (comments - skills)[has] % 10
    assert_frequencies(np.bincount(off, minlength=10), np.append(0.97, np.full(9, 0.03 / 9)), tests)
    assert_mean(has.mean(), has.mean(1).std() / np.sqrt(count), 0.48, tests)
    lines = np.array([program.lines for program in programs]).reshape(count, 3, 3)
    np.testing.assert_array_equal(lines, world.templates[modes, skills])


def binary(share, places):
    """Probabilities of the ``2^places`` patterns of independent events."""
    patterns = np.array(list(product((0, 1), repeat=places)))
    return np.where(patterns, share, 1 - share).prod(1)


def test_comments_can_be_all_or_none():
    everything = drawn(TINY.pretraining(50, 0, commented=1, segments=1, wrong_comments=0))
    np.testing.assert_array_equal(everything[2], everything[3])
    nothing = drawn(TINY.pretraining(50, 0, commented=0))
    assert (nothing[3] == -1).all() and (nothing[2] == everything[2]).all()
    wrong = drawn(TINY.pretraining(50, 0, commented=1, segments=1, wrong_comments=1))
    assert (wrong[3] != wrong[2]).all() and (wrong[3] >= 0).all()


def test_expert_statistics():
    programs = TABLE.expert(10_000, seed=5)
    words, _, skills, comments = drawn(programs)
    np.testing.assert_array_equal(skills, TABLE.rule[words])
    assert (comments == -1).all()
    indices = words @ [16, 4, 1]
    shown = np.isin(np.arange(64), TABLE.split("expert"))
    assert_frequencies(np.bincount(indices, minlength=64), shown / shown.sum())
    assert all(program.task == TABLE.task_at(index) for program, index in zip(programs[:50], indices, strict=False))


# Text


def test_text():
    world = LineWorld.preset("tiny", modes=2, tests=2, registers=1, modulus=5, lines=4)
    task = LineTask(((2, 1), (0, 0)), ((3,), (1,)), ((0,), (4,)))
    assert world.prompt(task) == "# f(3) = (0)\n# f(1) = (4)\n# w2.m1 w0.m0\n"
    program = world.program(task, skills=[1, 2], comments=[-1, 0])
    one, two = world.templates[1, 1], world.templates[0, 2]
    body = [world.machine.statements[line] for line in (*one, *two)]
    assert program.text == world.prompt(task) + "\n".join([*body[:2], "# s0", *body[2:]]) + "\n"


def test_verify():
    task = TINY.task_at(5)
    text = TINY.program(task).text
    verdict = TINY.verify(task, text)
    assert verdict.passed and verdict.reason == "passed" and verdict.outputs == task.outputs
    assert TINY.verify(task, text.replace("\n", "\r\n\r\n") + "   \n # end\t").passed
    lines = TINY.parse(text)
    assert TINY.verify(task, text + "b += 1\n").reason == "the program has 5 lines and needs 4"
    assert TINY.verify(task, "").reason == "the program has 0 lines and needs 4"
    wrong = LineTask(task.requests, task.inputs, ((0, 0),))
    verdict = TINY.verify(wrong, text)
    assert not verdict.passed and verdict.outputs == task.outputs and verdict.reason.endswith("not (0, 0)")
    # Unknown lines: no other statement, spacing, inline comment or two statements in a line.
    for line in ("c += 1", "a+=b", " a += b", "a += b  # why", "a += b; b += 1", "import os", "a = -a"):
        place = len(text.splitlines()) + 1
        verdict = TINY.verify(task, text + line)
        assert not verdict.passed and verdict.outputs is None
        assert verdict.reason.startswith(f"text: line {place} is {line!r}, which is not in the alphabet")
    # What Python takes for the end of a line is one, in comments, too; what it does not, is none.
    assert TINY.parse("# one\ra += b") == (0,) and TINY.parse("# one\x0ba += b\u2028b += 1") == ()
    assert len(lines) == 4


PIECES = st.sampled_from([*TINY.machine.statements, "\n", "\r", "# s1", " ", "a", "\x00", "\u2028", "=", "\ud800"])


@given(text=st.one_of(st.text(), st.lists(PIECES).map("".join), st.lists(PIECES).map("\n".join)))
def test_verify_never_raises(text):
    verdict = TINY.verify(TINY.task_at(1), text)
    if verdict.passed:
        assert python(text, TINY.inputs, 5) == TINY.task_at(1).outputs
    assert verdict.passed == (verdict.reason == "passed")


@given(lines=st.lists(st.integers(0, 2), min_size=4, max_size=4), data=st.data())
def test_verify_is_pythons_judgement(lines, data):
    task = TINY.task_at(data.draw(st.integers(0, 8)))
    text = "\n".join(TINY.machine.statements[line] for line in lines)
    outputs = python(text, TINY.inputs, 5)
    verdict = TINY.verify(task, text)
    assert verdict.outputs == outputs and verdict.passed == (outputs == task.outputs)


# The environment


def test_environment_draws_tasks_of_its_split():
    for split in ("expert", "held out", "all"):
        env = gymnasium.make("ra3sim/LineWorld-v0", preset="table", task=split).unwrapped
        seen = [env.task for n in range(20) if env.reset(seed=None if n else 1)]
        assert {TABLE.task_index(task.requests) for task in seen} <= set(TABLE.split(split).tolist())
        assert len(set(seen)) > 5
        env.reset(seed=1)
        assert env.task == seen[0]


def test_environment_tasks():
    env = gymnasium.make("ra3sim/LineWorld-v0", preset="table", task=[(0, 0), (1, 0), (2, 0)]).unwrapped
    task = TABLE.task([(0, 0), (1, 0), (2, 0)])
    state, info = env.reset(seed=0)
    assert env.task == task and info["prompt"] == TABLE.prompt(task)
    np.testing.assert_array_equal(env.mdp.rewards, TABLE.table().mdp(task).rewards)
    assert state == TABLE.table().state_of(0, 0, TABLE.inputs)
    env.reset(options={"task": 9})
    assert env.task == TABLE.task_at(9)
    np.testing.assert_array_equal(env.mdp.rewards, TABLE.table().mdp(TABLE.task_at(9)).rewards)
    env.reset(options={"task": "held out"})
    assert env.task in TABLE.held_out_tasks()
    env.reset()
    assert env.task == task
    middle = TABLE.table().state_of(9 - 1, 0, TABLE.machine.run([[0] * 8], TABLE.inputs)[0])
    assert env.reset(options={"state": middle})[0] == middle and env.task == task


def test_environment_renders_the_program():
    world = LineWorld.preset("tiny", seed=3)
    env = gymnasium.make("ra3sim/LineWorld-v0", preset=world, task=2, render_mode="ansi").unwrapped
    assert env.render() == ""
    env.reset(seed=0)
    program = world.program(env.task)
    assert env.render() == world.prompt(env.task) + f"registers: {world.inputs[0]}"
    for line in program.lines:
        env.step(line)
    assert env.render() == program.text + f"registers: {env.task.outputs[0]}\npassed"
    other = next(
        p for p in world.all_programs() if tuple(world.machine.run([p], world.inputs)[0, 0]) != env.task.outputs[0]
    )
    env.reset()
    assert env.render() == world.prompt(env.task) + f"registers: {world.inputs[0]}"
    rewards = [env.step(line)[1] for line in other]
    assert rewards == [0, 0, 0, 0] and env.render().endswith("\nnot passed")


# Errors


ERRORS = {
    "skills": (partial(LineWorld, skills=1, words=1, ambiguity=1), "skills: must be at least 2, got 1"),
    "length": (partial(LineWorld, length=0), "length: must be at least 1, got 0"),
    "depth": (partial(LineWorld, depth=0), "depth: must be at least 1, got 0"),
    "lines": (partial(LineWorld, lines=1), "lines: must be at least 2, got 1"),
    "alphabet": (partial(LineWorld, lines=99), "lines: 2 registers modulo 5 have an alphabet of at most 15 lines, got"),
    "modes": (partial(LineWorld, modes=0), "modes: must be at least 1, got 0"),
    "words": (partial(LineWorld, words=0), "words: must be at least 1, got 0"),
    "too many words": (partial(LineWorld, words=11), "words: 11 words cannot stand for different ones of 10 skills"),
    "ambiguity": (partial(LineWorld, ambiguity=0), "ambiguity: must be between 1 and 10, got 0"),
    "more ambiguity": (partial(LineWorld, ambiguity=11), "ambiguity: must be between 1 and 10, got 11"),
    "registers": (partial(LineWorld, registers=0), "registers: must be between 1 and 26, got 0"),
    "modulus": (partial(LineWorld, modulus=1), "modulus: must be between 2 and 1000, got 1"),
    "tests": (partial(LineWorld, tests=0), "tests: must be at least 1, got 0"),
    "more tests": (partial(LineWorld, tests=26), "tests: there are only 25 different inputs, got 26"),
    "no integer": (partial(LineWorld, depth=2.0), "depth: must be an integer, at least 1, got 2.0"),
    "discount": (partial(LineWorld, discount=1), r"discount: must lie in \[0, 1\), got 1"),
    "seed": (partial(LineWorld, seed=-1), "seed: must be at least 0, got -1"),
    "held out none": (partial(LineWorld, held_out=0), "held_out: must leave tasks on both sides, got 0 of 64000"),
    "held out all": (partial(LineWorld.preset, "tiny", held_out=0.99), "held_out: must leave tasks on both sides"),
    "held out what": (partial(LineWorld, held_out="some"), "held_out: must be a share between 0 and 1, got 'some'"),
    "templates": (
        partial(LineWorld, length=1),
        "skills: 5 skills would begin with the same line, but only 1 templates",
    ),
    "tasks": (partial(LineWorld, depth=4), r"words: \(10 words x 4 modes\)\^4 tasks are more than 2,000,000"),
    "inputs": (partial(LineWorld, registers=26, modulus=10), r"modulus: 10\^26 inputs are too many to number"),
    "preset": (partial(LineWorld.preset, "huge"), "name: there is no preset 'huge'; choose one of 'tiny', 'table'"),
    "override": (
        partial(LineWorld.preset, "tiny", skill=3),
        "overrides: there is no argument 'skill'; there are skills",
    ),
    "split": (
        partial(TINY.tasks, "test"),
        "split: there is no split 'test'; choose one of 'expert', 'held out', 'all'",
    ),
    "index": (partial(TINY.task_at, 9), "index: must be between 0 and 8, got 9"),
    "requests": (partial(TINY.task, [(0, 0)]), r"requests: give 2 pairs \(word, mode\), got \[\(0, 0\)\]"),
    "no pairs": (partial(TINY.task, [1, 2]), r"requests: give 2 pairs \(word, mode\), got \[1, 2\]"),
    "word": (partial(TINY.task, [(0, 0), (3, 0)]), r"requests\[1\], word: must be between 0 and 2, got 3"),
    "mode": (partial(TINY.task, [(0, 1), (0, 0)]), r"requests\[0\], mode: must be between 0 and 0, got 1"),
    "rule": (partial(TINY.pretraining, 1, 0, rule="right"), "rule: there is no rule 'right'; choose one of 'random'"),
    "commented": (partial(TINY.pretraining, 1, 0, commented=2), "commented: must be a probability"),
    "segments": (partial(TINY.pretraining, 1, 0, segments=-1), "segments: must be a probability"),
    "wrong comments": (partial(TINY.pretraining, 1, 0, wrong_comments=2), "wrong_comments: must be a probability"),
    "count": (partial(TINY.pretraining, -1, 0), "count: must be at least 0, got -1"),
    "expert count": (partial(TINY.expert, -1, 0), "count: must be at least 0, got -1"),
    "held out count": (partial(TINY.held_out_tasks, -1), "count: must be at least 0, got -1"),
    "corpus seed": (partial(TINY.expert, 1, -2), "seed: must be at least 0, got -2"),
    "program skills": (partial(TINY.program, TINY.task_at(0), [1]), r"skills: give 2, one a segment, got \[1\]"),
    "program skill": (partial(TINY.program, TINY.task_at(0), [1, 3]), r"skills\[1\]: must be between 0 and 2, got 3"),
    "program comment": (
        partial(TINY.program, TINY.task_at(0), None, [1, -2]),
        r"comments\[1\]: must be between -1 and 2, got -2",
    ),
    "programs": (TABLE.all_programs, r"lines: 6\^9 programs are more than 200,000"),
    "unknown line": (partial(TINY.parse, "# f\n\na += 2"), "text: line 3 is 'a \\+= 2', which is not in the alphabet"),
    "table": (partial(LineWorld(tests=20, registers=3).table), "tests: 20 tests of 3 registers modulo 5 have too many"),
    "position": (partial(TINY.table().state_of, 5, 0, [[0, 0]]), "position: must be between 0 and 4, got 5"),
    "state's mode": (partial(MODES.table().state_of, 6, 1, MODES.inputs), "mode: must be between 0 and 0, got 1"),
    "registers' shape": (
        partial(TINY.table().state_of, 1, 0, [0, 0]),
        r"registers: must be integers of shape \(1, 2\)",
    ),
    "registers' type": (partial(TINY.table().state_of, 1, 0, [[0.5, 0]]), "registers: must be integers of shape"),
    "unreachable": (partial(TINY.table().state_of, 0, 0, [[0, 0]]), "registers: no 0 lines lead from the inputs to"),
    "outputs": (
        lambda: TINY.table().mdp(LineTask(((0, 0), (0, 0)), TINY.inputs, ((1, 2, 3),))),
        r"outputs: must be integers of shape \(1, 2\)",
    ),
    "another world's task": (lambda: TINY.table().mdp(TABLE.task_at(0)), "requests: give 2 pairs"),
    "no skills": (partial(TINY.table().skill_options, []), "options: none chosen"),
    "skill": (partial(TINY.table().skill_options, [3]), "options: there is no option 3"),
    "environment's task": (partial(LineWorldEnv, "tiny", task="test"), "task: there is no split 'test'; give one of"),
    "environment's number": (partial(LineWorldEnv, "tiny", task=9), "index: must be between 0 and 8, got 9"),
    "environment's world": (partial(LineWorldEnv, TINY, seed=1), r"overrides: \['seed'\] are for a preset"),
    "reset": (lambda: LineWorldEnv("tiny").reset(options={"task": -1}), "index: must be between 0 and 8, got -1"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    make, message = ERRORS[case]
    with pytest.raises(ValueError, match=message):
        make()


def test_tables_have_a_limit(monkeypatch):
    monkeypatch.setattr("ra3sim.envs.lineworld.table.MAX_STATES", 1000)
    assert TABLE.table().num_states == LineTable(TABLE).num_states < 1000
    with pytest.raises(ValueError, match="tests: more than 1,000 states after 4 of 9 lines; take fewer tests"):
        LineTable(LineWorld.preset("text"))
