"""The sampled bounds against their exact twins: z-scores, since a tolerance would hide a bias."""

import math

import numpy as np
import pytest

import mae
from truths import Linear, categorical, curved, random_network, rough

DRAWS = 20000
DECODERS = {
    "curved": curved,
    "random": random_network(np.random.default_rng(1), 8, 2.0, -2.0),
    "steep": random_network(np.random.default_rng(2), 4, 10.0, -4.0),
    "categorical": categorical,
}


def assert_unbiased(draws, wanted):
    error = draws.std(0) / math.sqrt(len(draws))
    assert (np.abs(draws.mean(0) - wanted) < 4 * error).all()


@pytest.mark.parametrize("name", DECODERS)
def test_the_elbo_is_unbiased(name):
    decoder, x = DECODERS[name], np.array([[-1.0], [0.2], [2.0]])
    x = np.eye(3) if name == "categorical" else x
    eps = np.random.default_rng(0).standard_normal((DRAWS, 3, 1))
    assert_unbiased(mae.elbo(rough, decoder, x, eps), mae.exact_elbo(rough, decoder, x))


@pytest.mark.parametrize("name", DECODERS)
def test_the_infomax_bound_is_unbiased(name):
    z, eps = np.random.default_rng(1).standard_normal((2, DRAWS, 1))
    bound = mae.infomax_bound(DECODERS[name], rough, z, eps)
    assert_unbiased(bound, mae.exact_infomax_bound(DECODERS[name], rough))


def test_several_dimensions_are_unbiased():
    """Three codes, five features: bound and ELBO of a linear model against their closed forms."""
    model, rng = Linear(3, 5, diagonal_posterior=True), np.random.default_rng(2)
    z, eps = rng.standard_normal((DRAWS, 3)), rng.standard_normal((DRAWS, 5))
    bound = mae.infomax_bound(model.decoder, model.posterior, z, eps)
    assert_unbiased(bound, model.information)
    x = 2 * rng.standard_normal((4, 5))
    elbo = mae.elbo(model.posterior, model.decoder, x, rng.standard_normal((DRAWS, 4, 3)))
    assert_unbiased(elbo, model.log_likelihood(x))


@pytest.mark.parametrize("estimator", ["elbo", "infomax_bound"])
def test_the_variance_falls_with_the_number_of_draws(estimator):
    """As 1 / S, for S = 4, 16, 64: the draws of a batch know nothing of each other."""
    n = 2**16
    z, eps = np.random.default_rng(3).standard_normal((2, n, 1))
    if estimator == "elbo":
        draws = mae.elbo(rough, curved, np.full((n, 1), 0.7), eps)
    else:
        draws = mae.infomax_bound(curved, rough, z, eps)
    kurtosis = np.mean((draws - draws.mean()) ** 4) / draws.var() ** 2
    for size in (4, 16, 64):
        ratio = size * draws.reshape(-1, size).mean(-1).var() / draws.var()
        # the kurtosis of a mean of S draws is 3 + (kurtosis - 3) / S
        error = math.sqrt((2 + (kurtosis - 3) / size) * size / n)
        assert abs(ratio - 1) < 4 * error
