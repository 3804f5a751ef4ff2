"""Control of the information at targets that nobody chose: slow, so not part of the default run."""

import math

import numpy as np
import pytest

import experiments
import mae

pytestmark = pytest.mark.slow


def trained(name, targets, **settings):
    """Rows of metrics for these targets, trained side by side with the usual settings."""
    ((group, (problem, likelihood, _, _)),) = experiments.EXPERIMENTS[name].groups.items()
    settings |= {key: experiments.USUAL[key] for key in ("steps", "batch", "hidden")}
    fit = mae.fit(problem.data, likelihood=likelihood, information=targets, **settings)
    return list(experiments.rows_of(fit, group, problem, experiments.evaluate))


@pytest.mark.parametrize(
    "name, highest, shortfall", [("split-normal", 3, 0.002), ("categorical", 2, 0.001)]
)
def test_a_hundred_random_targets_are_reached(name, highest, shortfall):
    targets = np.random.default_rng(6).uniform(0, highest, 100)
    rows = trained(name, targets, seed=77)
    bound, target, short = (
        np.array([row[c] for row in rows]) for c in ("infomax_bound", "target", "below_optimum")
    )
    assert len(rows) == 100 and all(row["reached"] for row in rows)
    np.testing.assert_allclose(bound, target, rtol=0, atol=0.01)
    assert short.max() <= shortfall


def test_targets_that_are_too_high_are_reached_or_said_not_to_be():
    rows = trained("split-normal", [3.5, 4.0], seeds=10)
    for row in rows:
        near = abs(row["infomax_bound"] - row["target"]) <= 0.05
        assert near or not row["reached"]
        assert math.isfinite(row["information"]) and row["quadrature_error"] <= 1e-6
        assert row["infomax_bound"] <= row["information"] + 1e-8
