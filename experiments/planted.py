"""Demonstrations with known latents: options planted in FourRooms, skills of LineWorld."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_mutual_info_score

from ra3sim.envs import LineWorld, fourrooms
from ra3sim.latent import LatentModel, OptionPrior, Trajectories, expect, generate
from ra3sim.mdp import MDP
from ra3sim.options import OptionSet

# Whole ways through the map overlap less than those to the hallways, of which the posterior itself confuses a third.
_CORNERS = ((0, 0), (0, 10), (10, 0), (10, 10))


@dataclass(frozen=True)
class Planted:
    """Demonstrations, the model that made them, and the true latent of every step, ``(N,)``."""

    trajectories: Trajectories
    truth: LatentModel
    latents: np.ndarray


def corners(discount: float = 0.95, slip: float = 0.1) -> tuple[MDP, OptionSet]:
    """FourRooms without a goal, and the four options that go to its corners."""
    mdp = fourrooms(discount=discount, slip=slip)
    places = [mdp.state_names.index(str(cell)) for cell in _CORNERS]
    return mdp, OptionSet.point(mdp, places)


def fourrooms_walks(count: int, steps: int, seed: Any) -> tuple[MDP, Planted]:
    """Walks from corner to corner: each option ends at its corner, and one of the others follows."""
    mdp, options = corners()
    truth = LatentModel.from_options(options)
    trajectories, latents, _ = generate(truth, mdp, count, steps, seed)
    return mdp, Planted(trajectories, truth, latents)


def expert_programs(world: LineWorld, count: int, seed: int) -> Planted:
    """Experts' programs over the world's classes of states; the latents are the words' numbers."""
    return _programs(world, world.expert(count, seed))


def held_out_programs(world: LineWorld) -> Planted:
    """What the experts' rule says for all held-out tasks."""
    return _programs(world, [world.program(task) for task in world.tasks("held out")])


def _programs(world: LineWorld, programs: list[Any]) -> Planted:
    table = world.table()
    pairs = [table.trajectory(program) for program in programs]
    trajectories = Trajectories.from_pairs(pairs, table.num_states, table.num_actions).merge(table.classes)
    word = np.full(world.skills, -1)
    word[world.rule] = np.arange(world.words)
    return Planted(trajectories, true_skills(world), np.repeat(word[[p.skills for p in programs]], world.length))


def true_skills(world: LineWorld) -> LatentModel:
    """The experts' skills as a model of classes of states: word w is latent w, drawn anew at every boundary."""
    table = world.table()
    options = table.skill_options([int(skill) for skill in world.rule])
    first = [int(np.argmax(table.classes == c)) for c in range(table.num_classes)]
    choice = np.full((len(options), len(first)), 1 / len(options))
    return LatentModel(options.policy[:, first], OptionPrior(options.termination[:, first], choice))


def agreement(planted: Planted, model: LatentModel) -> dict[str, float]:
    """How well a model's most probable latents agree with the planted ones, and durations, in steps.

    ``ami`` is the adjusted mutual information (Vinh, Epps & Bailey 2010): 1 for the same grouping under other names, 0
    for chance. ``share``: steps that agree under the best matching of names. ``ceiling``: the AMI of the posterior of
    the true model, above which only luck goes. ``duration`` and ``true duration``: steps per latent, a latent that is
    drawn twice in a row counting once.
    """
    trajectories = planted.trajectories
    found = expect(model, trajectories, posterior=True)
    known = expect(planted.truth, trajectories, posterior=True)
    assert found.posterior is not None and known.posterior is not None
    label = found.posterior.argmax(1)
    counts = np.zeros((planted.truth.num_latents, model.num_latents))
    np.add.at(counts, (planted.latents, label), 1)
    rows, columns = linear_sum_assignment(-counts)
    changes = np.diff(planted.latents) != 0
    changes[trajectories.offsets[1:-1] - 1] = False
    steps, count = trajectories.num_steps, len(trajectories)
    return {
        "ami": adjusted_mutual_info_score(planted.latents, label),
        "ceiling": adjusted_mutual_info_score(planted.latents, known.posterior.argmax(1)),
        "share": counts[rows, columns].sum() / steps,
        "duration": steps / (found.switches.sum() + count),
        "true duration": steps / (changes.sum() + count),
        "log-likelihood": found.log_likelihood.sum() / steps,
        "true log-likelihood": known.log_likelihood.sum() / steps,
    }
