"""Random latent-option models and demonstrations, and slow obvious references that enumerate every latent sequence."""

from __future__ import annotations

import math
from decimal import Context, Decimal, localcontext
from itertools import pairwise, product

import numpy as np

from ra3sim.abstraction import TemporalPrior, ThoughtPrice
from ra3sim.latent import LatentModel, LatentPolicy, OptionPrior, Trajectories

KINDS = ["temporal", "price", "option"]
STARTS = [None, 1]


def random_prior(rng, kind, latents, states, start=None):
    if kind == "temporal":
        return TemporalPrior(latents, rng.uniform(0.2, 0.9), start)
    if kind == "price":
        return ThoughtPrice(latents, rng.uniform(0.2, 2.0), start)
    choice = rng.dirichlet(np.ones(latents), states).T
    return OptionPrior(rng.uniform(0.1, 0.9, (latents, states)), choice, start)


def random_model(seed, kind="temporal", start=None, latents=3, states=3, actions=3, zeros=0.0):
    """With ``zeros``, about that share of the actions is impossible under a latent (never all)."""
    rng = np.random.default_rng(seed)
    policy = rng.dirichlet(np.ones(actions), (latents, states))
    keep = rng.random(policy.shape) >= zeros
    keep[np.arange(latents)[:, None], np.arange(states), rng.integers(actions, size=(latents, states))] = True
    policy = policy * keep
    return LatentModel(policy / policy.sum(-1, keepdims=True), random_prior(rng, kind, latents, states, start))


def random_trajectories(seed, lengths=(4, 1, 3, 2), states=3, actions=3):
    rng = np.random.default_rng(seed + 100)
    pairs = [(rng.integers(states, size=n), rng.integers(actions, size=n)) for n in lengths]
    return Trajectories.from_pairs(pairs, states, actions)


def draw_trajectories(model, seed, count, length):
    """From the model itself: states drawn uniformly, latents from the prior, actions from their policies."""
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(count):
        states, actions, before = rng.integers(model.num_states, size=length), [], prior_start(model)
        for s in states:
            odds = [step_prior(model, s, before, z) for z in range(model.num_latents)]
            before = rng.choice(model.num_latents, p=odds)
            actions.append(rng.choice(model.num_actions, p=model.policy[before, s]))
        pairs.append((states, actions))
    return Trajectories.from_pairs(pairs, model.num_states, model.num_actions)


def prior_start(model):
    """The latent before the first step, Z if there is none."""
    return model.num_latents if model.prior.start is None else model.prior.start


def events(model, s, before):
    """All (drawn anew, z, probability) on arriving in s with a latent."""
    prior, Z = model.prior, model.num_latents
    if isinstance(prior, OptionPrior):
        end = 1.0 if before == Z else prior.termination[before, s]
        choice = prior.choice[:, s]
    else:
        prior = prior.temporal() if isinstance(prior, ThoughtPrice) else prior
        end = 1.0 if before == Z else 1 - prior.keep
        choice = np.full(Z, 1 / Z)
    if before < Z:
        yield False, before, 1 - end
    for z in range(Z):
        yield True, z, end * choice[z]


def step_prior(model, s, before, z):
    return sum(p for _, other, p in events(model, s, before) if other == z)


def sequences(model, length):
    return product(range(model.num_latents), repeat=length)


def joint(model, states, actions, latents):
    """p(a, z | s), one product."""
    result, before = 1.0, prior_start(model)
    for s, a, z in zip(states, actions, latents, strict=True):
        result *= step_prior(model, s, before, z) * model.policy[z, s, a]
        before = z
    return result


def switches(model, latents):
    """Steps with another latent than before; a free first one is no switch."""
    path = ([] if model.prior.start is None else [model.prior.start]) + list(latents)
    return sum(x != y for x, y in pairwise(path))


def enumerated(model, trajectories):
    """Everything `expect` returns, by enumeration of latents and of the hidden 'kept or drawn anew' of every step."""
    Z, S, A = model.policy.shape
    found = {
        "log_likelihood": [], "switches": [], "posterior": [], "counts": np.zeros((Z, S, A)),
        "arrived": np.zeros((Z, S)), "ended": np.zeros((Z, S)), "chosen": np.zeros((Z, S)),
    }  # fmt: skip
    for i in range(len(trajectories)):
        states, actions = trajectories[i]
        ways = list(walks(model, states, actions, prior_start(model)))
        total = math.fsum(p for _, p in ways)
        found["log_likelihood"].append(math.log(total))
        posterior, switched = np.zeros((len(states), Z)), 0.0
        for way, p in ways:
            before, p = prior_start(model), p / total
            switched += p * switches(model, [z for _, z in way])
            for t, (anew, z) in enumerate(way):
                s = states[t]
                posterior[t, z] += p
                found["counts"][z, s, actions[t]] += p
                if before < Z:
                    found["arrived"][before, s] += p
                    found["ended"][before, s] += p * anew
                found["chosen"][z, s] += p * anew
                before = z
        found["switches"].append(switched)
        found["posterior"].append(posterior)
    found["posterior"] = np.concatenate(found["posterior"])
    return found


def walks(model, states, actions, before):
    """All [(drawn anew, z), ...] with their probability, that of the actions included."""
    if not len(states):
        yield [], 1.0
        return
    for anew, z, p in events(model, states[0], before):
        p *= model.policy[z, states[0], actions[0]]
        if p > 0:
            for way, q in walks(model, states[1:], actions[1:], z):
                yield [(anew, z), *way], p * q


def path_score(model, states, actions, latents):
    """What `best_path` maximises, of one sequence."""
    if isinstance(model.prior, ThoughtPrice):
        fit = sum(math.log(model.policy[z, s, a]) for s, a, z in zip(states, actions, latents, strict=True))
        return fit - model.prior.price * switches(model, latents)
    return math.log(joint(model, states, actions, latents))


def random_table(rng, contexts, latents, zeros=0.0):
    """A random policy over latents ``(C, Z + 1, Z)``."""
    weights = rng.dirichlet(np.ones(latents), (contexts, latents + 1)) * (
        rng.random((contexts, latents + 1, latents)) >= zeros
    )
    weights[weights.sum(-1) == 0] = 1.0
    return weights / weights.sum(-1, keepdims=True)


def enumerated_value(model, trajectories, table, context):
    """The bound of a table q, its KL part (both ``(M,)``), and the gradient of its sum with respect to logits of q.

    The gradient is the score function, q(z) Σ_t (1{z_t} - q_t) times the whole bound of the sequence, summed over all.
    """
    priced = isinstance(model.prior, ThoughtPrice)
    values, parts, slope = [], [], np.zeros(table.shape)
    for i in range(len(trajectories)):
        states, actions = trajectories[i]
        places = context[trajectories.offsets[i] : trajectories.offsets[i + 1]]
        value = part = 0.0
        for latents in sequences(model, len(states)):
            probability, fit, cost, before, score = 1.0, 0.0, 0.0, prior_start(model), np.zeros(table.shape)
            for s, a, c, z in zip(states, actions, places, latents, strict=True):
                q = table[c, before, z]
                probability *= q
                if probability == 0:
                    break
                fit += np.log(model.policy[z, s, a])
                if priced:
                    cost += model.prior.price if before not in (z, model.num_latents) else 0.0
                else:
                    cost += math.log(q) - np.log(step_prior(model, s, before, z))
                score[c, before] -= table[c, before]
                score[c, before, z] += 1
                before = z
            if probability > 0:
                value += probability * (fit - cost)
                part += probability * cost
                slope += probability * (fit - cost) * score
        values.append(value)
        parts.append(part)
    return np.array(values), np.array(parts), slope


def exact_messages(model, states, actions):
    """Log-likelihood, posteriors ``(T, Z)`` and expected switches in 50 digits and with any exponent."""
    with localcontext(Context(prec=50, Emin=-(10**9), Emax=10**9)):
        Z, T = model.num_latents, len(states)
        odds = {
            (s, y, z): decimal_prior(model, s, y, z) for s in range(model.num_states) for y in range(Z + 1)
            for z in range(Z)
        }  # fmt: skip
        policy = [[[Decimal(float(p)) for p in row] for row in table] for table in model.policy]
        before = prior_start(model)
        forward, backward = [], [[Decimal(1)] * Z]
        for t, (s, a) in enumerate(zip(states, actions, strict=True)):
            if t == 0:
                row = [odds[s, before, z] for z in range(Z)]
            else:
                row = [sum(forward[-1][y] * odds[s, y, z] for y in range(Z)) for z in range(Z)]
            forward.append([row[z] * policy[z][s][a] for z in range(Z)])
        for s, a in zip(states[:0:-1], actions[:0:-1], strict=True):
            later = [policy[z][s][a] * backward[-1][z] for z in range(Z)]
            backward.append([sum(odds[s, y, z] * later[z] for z in range(Z)) for y in range(Z)])
        backward.reverse()
        total = sum(forward[-1])
        posterior = [[float(forward[t][z] * backward[t][z] / total) for z in range(Z)] for t in range(T)]
        stayed = Decimal(0)
        for t, (s, a) in enumerate(zip(states, actions, strict=True)):
            for z in range(Z):
                came = forward[t - 1][z] if t else Decimal(int(z == before))
                stayed += came * odds[s, z, z] * policy[z][s][a] * backward[t][z] / total
        steps = T if before < Z else T - 1
        return float(total.ln()), np.array(posterior), float(steps - stayed)


def decimal_prior(model, s, before, z):
    """`step_prior` from the same doubles that the model's tables hold."""
    ends, choice = model.prior_tables()
    if before == model.num_latents:
        return Decimal(float(choice[s, z]))
    end = Decimal(float(ends[s, before]))
    return (1 - end) * (before == z) + end * Decimal(float(choice[s, z]))


def logit_differences(policy, value, step=1e-6):
    """Central differences of ``value(policy)`` in every finite logit."""
    found = [np.zeros(policy.whether.shape), np.zeros(policy.what.shape)]
    for k, name in enumerate(("whether", "what")):
        for place in np.ndindex(found[k].shape):
            arrays = {"whether": policy.whether, "what": policy.what}
            if not np.isfinite(arrays[name][place]):
                continue
            sides = []
            for sign in (1, -1):
                changed = arrays[name].copy()
                changed[place] += sign * step
                sides.append(value(LatentPolicy(**{**arrays, name: changed})))
            found[k][place] = (sides[0] - sides[1]) / (2 * step)
    return found
