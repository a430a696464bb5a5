"""Statistical agreement of samples with an exact model, at a level that counts how many tests are made."""

import numpy as np
import scipy.stats

# Chance that a correct model fails anywhere in one family of tests. Seeds are fixed: a test that passes keeps passing.
LEVEL = 1e-3


def z_limit(tests):
    """Two-sided Gaussian limit for each of ``tests`` tests (Bonferroni)."""
    return scipy.stats.norm.isf(LEVEL / 2 / tests)


def assert_frequencies(counts, probabilities, tests=1):
    """Pearson's chi-square. Outcomes expected fewer than 5 times count as one; impossible ones may not occur."""
    counts, probabilities = np.asarray(counts), np.asarray(probabilities)
    assert not counts[probabilities == 0].any(), (
        f"impossible outcomes {np.flatnonzero((probabilities == 0) & (counts > 0))}"
    )
    expected = probabilities[probabilities > 0] * counts.sum()
    observed = counts[probabilities > 0]
    rare = expected < 5
    if rare.any():
        expected = np.append(expected[~rare], expected[rare].sum())
        observed = np.append(observed[~rare], observed[rare].sum())
    if len(expected) > 1:
        p = scipy.stats.chisquare(observed, expected).pvalue
        assert p > LEVEL / tests, f"p = {p:.2g}: counts {observed} where {expected} are expected"


def assert_mean(mean, error, exact, tests=1, what="mean"):
    """A z-score; a mean without spread has to be exact, to rounding."""
    distance = abs(mean - exact)
    assert distance <= z_limit(tests) * error + 1e-12 * (1 + abs(exact)), f"{what}: {mean} +- {error}, exact {exact}"
