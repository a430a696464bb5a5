"""A third world, written from the docstrings of `ra3sim.abstraction.interface` alone: gamblers with hidden coins."""

import numpy as np

from ra3sim.abstraction import TemporalPrior
from ra3sim.abstraction.interface import Step, World


class BanditWorld(World):
    """I gamblers pull T arms each, ``arms (I, T)``; a hidden coin, seldom changed, says how much they like each arm.

    The policy over coins knows the gambler and the coin before. Dicts of arrays: `save` and `load` need nothing.
    """

    def __init__(self, arms, coins, keep):
        self.arms, self.prior = np.asarray(arms), TemporalPrior(coins, keep)

    def init(self, seed):
        rng, Z, (gamblers, _) = np.random.default_rng(seed), self.prior.num_latents, self.arms.shape
        likes = rng.dirichlet(np.ones(self.arms.max() + 1), Z)
        return {"likes": likes}, {"whether": np.full((gamblers, Z + 1), -1.0), "what": np.zeros((gamblers, Z + 1, Z))}

    def rollouts(self, model, policy, batch, group, seed, floor=0.0):
        return Pulls(self, model, policy, group, np.random.default_rng(seed), floor)

    def improve(self, policy, rollouts, whether, what, rate):
        places = (np.arange(len(self.arms))[:, None, None], rollouts.before)
        later, think, group = rollouts.before < self.prior.num_latents, rollouts.think, whether.shape[1]
        moved = {name: table.copy() for name, table in policy.items()}
        np.add.at(moved["whether"], places, rate / group * later * whether * (think - rollouts.kappa[places]))
        surprise = np.eye(self.prior.num_latents)[rollouts.coins] - rollouts.new[places]
        np.add.at(moved["what"], places, rate / group * (what * think)[..., None] * surprise)
        return moved

    def fit(self, model, evidence):
        return {"likes": (evidence + 0.01) / (evidence + 0.01).sum(1, keepdims=True)}


class Pulls:
    """Rollouts of all gamblers; ``before``, ``coins``, ``think`` are ``(I, G, T)``."""

    def __init__(self, world, model, policy, group, rng, floor):
        Z, shape = world.prior.num_latents, (len(world.arms), group, world.arms.shape[1])
        self.world, self.model, self.rng, self.mask = world, model, rng, np.ones(world.arms.shape, bool)
        self.before, self.coins, self.think = np.full(shape, Z), np.zeros(shape, int), np.ones(shape, bool)
        self.kappa = floor + (1 - floor) / (1 + np.exp(-policy["whether"]))
        other = np.exp(policy["what"]) * ~np.eye(Z + 1, Z, dtype=bool)
        self.new = other / other.sum(-1, keepdims=True)

    def step(self, t):
        if t:
            self.before[..., t] = self.coins[..., t - 1]
        places = (np.arange(len(self.coins))[:, None], self.before[..., t])
        kappa, new = self.kappa[places] if t else np.ones(places[1].shape), self.new[places]
        think = self.rng.random(kappa.shape) < kappa
        drawn = (new.cumsum(-1) < self.rng.random((*kappa.shape, 1)) * new.sum(-1, keepdims=True)).sum(-1)
        coin = np.where(think, drawn, places[1])
        self.think[..., t], self.coins[..., t] = think, coin
        what = np.take_along_axis(new, coin[..., None], -1)[..., 0]
        log_q = np.log(np.where(think, kappa * np.where(think, what, 1.0), 1 - kappa))
        prior = self.world.prior
        log_prior = prior.log_prob(think) if t else np.full(kappa.shape, prior.log_first)
        return Step(think, log_q, log_prior, np.log(self.model["likes"])[coin, self.world.arms[:, None, t]])

    def select(self, ancestors):
        for name in ("before", "coins", "think"):
            setattr(self, name, getattr(self, name)[np.arange(len(ancestors))[:, None], ancestors])

    def evidence(self, weights):
        counts = np.zeros(self.model["likes"].shape)
        np.add.at(counts, (self.coins, self.world.arms[:, None]), weights[..., None])
        return counts
