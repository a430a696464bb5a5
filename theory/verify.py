"""Checks one statement in every way there is, and says what came out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from theory.arithmetic import EXACT, FLOAT
from theory.bound import Draw, Instance, Statement, claim_is_true


@dataclass(frozen=True)
class Budget:
    """
    Attributes:
        draws: random instances, in floats.
        exact: random instances in exact arithmetic.
        steps, batch: of the falsifier's ascent, and its restarts (half of them for the twin).
        blind_draws, blind_steps, blind_batch: the same where there are no gradients, and every instance takes longer.
        real: whether to try instances from real environments too.
    """

    draws: int
    exact: int
    steps: int
    batch: int
    blind_draws: int
    blind_steps: int
    blind_batch: int
    real: bool


BUDGETS: Mapping[str, Budget] = MappingProxyType({
    "small": Budget(1024, 8, 40, 64, 96, 8, 16, False),
    "full": Budget(16_384, 100, 400, 128, 1024, 50, 32, True),
})  # fmt: skip


@dataclass
class Verdict:
    """What the checks of one statement found.

    Attributes:
        tried: random instances in floats, real ones included.
        largest: their largest measured / bound; ``spread``: median and 95 % quantile of the random ones.
        tight: the largest ratio on the tight family.
        exact: how many random and tight instances held in exact arithmetic; ``kind`` is "rational" or "interval".
        adversarial: the falsifier's largest ratio on the statement.
        twin: its largest ratio on the overstated twin.
        without: the assumption that was left out, and shown to be needed.
        failures: what went wrong; nothing if the statement holds.
        instances: the falsifier's best instances, of the statement ("best") and of the twin ("twin"), in floats.
    """

    statement: str
    tried: int = 0
    largest: float = 0.0
    spread: tuple[float, float] = (0.0, 0.0)
    tight: float = 0.0
    exact: int = 0
    kind: str = "rational"
    adversarial: float = 0.0
    twin: float = 0.0
    without: str = ""
    failures: list[str] = field(default_factory=list)
    instances: dict[str, Instance] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        return not self.failures


def verify(statement: Statement, budget: Budget | str = "small", seed: int = 0) -> Verdict:
    """All checks of one statement: random, exact, tight, adversarial, its twin, and the assumption it needs.

    A bad statement is no error: what went wrong is in ``failures``.
    """
    budget = BUDGETS[budget] if isinstance(budget, str) else budget
    found = Verdict(
        statement.name, kind="interval" if statement.interval else "rational", without=statement.without.assumption
    )
    numbers = np.random.SeedSequence(seed).generate_state(2)
    checks: list[Callable[[], None]] = [
        lambda: check_exactly(statement, budget.exact, int(numbers[0]), found),
        lambda: check_tight(statement, found),
        lambda: check_without(statement, found),
        lambda: check_by_search(statement, budget, int(numbers[1]), found),
    ]
    if budget.real and statement.real is not None:
        checks.append(lambda: check_real(statement, found))
    for check in checks:
        try:
            check()
        except ValueError as error:
            # An instance that is its own family's, and outside the assumptions.
            found.failures.append(str(error))
    return found


def check_exactly(statement: Statement, count: int, seed: int, found: Verdict) -> None:
    """Random instances in exact arithmetic; and in floats, where the planner is the one that the project uses."""
    for number, rng in enumerate(np.random.default_rng([seed, 1]).spawn(count)):
        reals, uniforms = (x[0] for x in Draw.parameters(statement.family, rng, 1))
        if statement.holds(statement.family(Draw(EXACT, reals, uniforms)), EXACT):
            found.exact += 1
        else:
            found.failures.append(f"false of the random instance {number} in exact arithmetic")
        if not statement.holds(statement.family(Draw(FLOAT, reals, uniforms))):
            found.failures.append(f"false of the random instance {number} in floats")


def check_tight(statement: Statement, found: Verdict) -> None:
    """The tight family, in floats and exactly; it must come as near as it is said to."""
    for number, (rough, exact) in enumerate(zip(statement.tight(FLOAT), statement.tight(EXACT), strict=True)):
        found.tight = max(found.tight, statement.ratio(rough))
        if statement.holds(exact, EXACT):
            found.exact += 1
        else:
            found.failures.append(f"false of the tight instance {number} in exact arithmetic")
    if found.tight < statement.attains * (1 - 1e-6):
        found.failures.append(f"the tight family comes to {found.tight:.9g}, not to {statement.attains:.9g}")


def check_without(statement: Statement, found: Verdict) -> None:
    """The instance that breaks an assumption is refused, by name, and the claim is false of it."""
    instance, name = statement.without.instance(EXACT), statement.without.assumption
    try:
        statement.check(instance, EXACT)
        found.failures.append(f"an instance that breaks {name!r} is not refused")
    except ValueError as error:
        if repr(name) not in str(error):
            found.failures.append(f"an instance that breaks {name!r} is refused for something else: {error}")
    if claim_is_true(EXACT, statement, instance):
        found.failures.append(f"true without {name!r}: the assumption is not needed there")


def check_by_search(statement: Statement, budget: Budget, seed: int, found: Verdict) -> None:
    """Random instances by the thousand, then the ascent, for the statement and its twin."""
    from theory.falsify import search  # JAX takes a second to import

    if statement.differentiable:
        result = search(statement, seed, draws=budget.draws, steps=budget.steps, batch=budget.batch)
    else:
        result = search(statement, seed, draws=budget.blind_draws, steps=budget.blind_steps, batch=budget.blind_batch)
    found.tried += result.tried
    found.largest, found.spread = max(found.largest, result.random), result.spread
    found.adversarial, found.twin = result.best, result.twin
    if result.undefined:
        found.failures.append(f"measured / bound is no number for {result.undefined} of {result.tried} instances")
    for name, one, parameters in (
        ("best", statement, (result.reals, result.uniforms)),
        ("twin", statement.twin(), (result.twin_reals, result.twin_uniforms)),
    ):
        instance = found.instances[name] = statement.family(Draw(FLOAT, *parameters))
        # What the search saw must be seen again by the planner, and (as a fact) in exact arithmetic.
        again = one.ratio(instance)
        noted = getattr(result, name)
        if not abs(again - noted) <= 1e-5 * noted:
            found.failures.append(f"the {name} instance: JAX finds the ratio {noted:.9g}, the planner {again:.9g}")
        exact = one.holds(statement.family(Draw(EXACT, *parameters, denominator=2**50)), EXACT)
        if name == "best" and not (exact and one.holds(instance)):
            found.failures.append(f"the falsifier refutes it: ratio {again:.9g}")
        if name == "twin" and (exact or one.holds(instance)):
            found.failures.append(f"the falsifier does not refute the overstated twin: ratio {again:.9g}")


def check_real(statement: Statement, found: Verdict) -> None:
    """Instances of environments and programs that were not made for this."""
    for name, instance in statement.real() if statement.real else ():
        found.tried += 1
        found.largest = max(found.largest, statement.ratio(instance))
        if not statement.holds(instance):
            found.failures.append(f"false of {name}")
