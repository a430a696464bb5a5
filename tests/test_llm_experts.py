"""What a run begins with: programs of a LineWorld, and what their writers meant."""

import numpy as np
import pytest

from llm import experts
from llm.config import LINEWORLDS, MidtrainConfig
from llm.lineworld import LineWorldText
from ra3sim.envs.lineworld import LineWorld

WORLD = LineWorld.preset("text")


def loaded(corpus, tmp_path):
    config = MidtrainConfig(model="lineworld", corpus=corpus, method="oracle", out=tmp_path, measured=0, seed=3)
    return experts.load(config, max_thought=2)


@pytest.mark.parametrize("name", LINEWORLDS)
def test_programs_of_every_distribution_come_with_what_was_meant(name, tmp_path):
    found = loaded(f"{name}:40", tmp_path)
    text = LineWorldText(WORLD)
    drawn = {
        "lineworld": lambda: WORLD.expert(40, 3),
        "lineworld-held-out": lambda: [WORLD.program(task) for task in WORLD.held_out_tasks(40, 3)],
        "lineworld-pretraining": lambda: WORLD.pretraining(40, 3, "random"),
        "lineworld-wrong": lambda: WORLD.pretraining(40, 3, "both"),
    }[name]()
    commented = name in ("lineworld-pretraining", "lineworld-wrong")
    assert [program.text for program in found.programs] == [text.prompt(one.task) + text.code(one) for one in drawn]
    for number, one in enumerate(drawn):
        assert found.intents[number] == (text.thoughts(one.comments if commented else one.skills),)
    thoughts = np.mean([thought is not None for several in found.intents.values() for thought in several[0]])
    assert (thoughts < 1 / WORLD.length) == commented


def test_a_number_of_programs_is_a_number(tmp_path):
    with pytest.raises(ValueError, match="corpus: 'lineworld-wrong:N' needs a number of programs"):
        loaded("lineworld-wrong:many", tmp_path)
