"""The infomax bound of linear-Gaussian models, as in test_elbo.py, and of models side by side."""

import math

import autograd.numpy as np
import pytest
from autograd import grad
from numpy.testing import assert_allclose

import mae
from test_elbo import DIMENSIONS
from truths import Linear, cubature


def mean_bound(decoder, auxiliary, latent, features):
    """Over z and the noise of x together: exact where log r(z|x) is quadratic in both."""
    noise = cubature(latent + features)
    return np.mean(mae.infomax_bound(decoder, auxiliary, noise[:, :latent], noise[:, latent:]))


@pytest.mark.parametrize("latent, features", [(1, 1), (2, 2), (2, 5)])
def test_the_bound_is_the_information_at_the_true_posterior(latent, features):
    """I = 1/2 log det(I + W' S^-1 W)."""
    model = Linear(latent, features, diagonal_posterior=True)
    bound = mean_bound(model.decoder, model.posterior, latent, features)
    assert_allclose(bound, model.information, rtol=1e-12)


@pytest.mark.parametrize("latent, features", DIMENSIONS)
def test_the_bound_falls_short_by_the_kl_from_the_posterior(latent, features):
    """I - bound = E KL(posterior || r) > 0, for a linear r that is not the posterior."""
    model = Linear(latent, features)
    slope = 0.3 * np.ones((features, latent))
    auxiliary = lambda x: mae.Gaussian(x @ slope, -0.4)
    gap = model.information - mean_bound(model.decoder, auxiliary, latent, features)
    noise = cubature(latent + features)
    x = noise[:, :latent] @ model.weights.T + model.bias
    x = x + np.exp(model.log_var / 2) * noise[:, latent:]
    wanted = np.mean(model.posterior_kl(auxiliary(x), x, reverse=True))
    assert gap > 0
    assert_allclose(gap, wanted, rtol=1e-11)


def test_the_gradient_in_theta_goes_through_x():
    """At the true posterior it is that of I = log(1 + a^2 / s^2) / 2."""
    theta = np.array([1.3, -0.7])  # a, log s^2
    variance = theta[0] ** 2 + math.exp(theta[1])
    auxiliary = lambda x: mae.Gaussian(theta[0] / variance * x, theta[1] - math.log(variance))

    def bound(theta):
        decoder = lambda z: mae.Gaussian(theta[0] * z, theta[1] + 0 * z)
        return mean_bound(decoder, auxiliary, 1, 1)

    information = lambda theta: 0.5 * np.log(1 + theta[0] ** 2 / np.exp(theta[1]))
    assert_allclose(grad(bound)(theta), grad(information)(theta), rtol=1e-12)


@pytest.mark.parametrize("categorical", [False, True])
@pytest.mark.parametrize("decoders", [(), (3,)])
@pytest.mark.parametrize("auxiliaries", [(), (3,)])
def test_models_side_by_side_have_the_bound_of_each_alone(decoders, auxiliaries, categorical):
    """On either network or both; three models, and three categories."""
    rng = np.random.default_rng(0)
    features = 3 if categorical else 1
    p, r = rng.standard_normal((*decoders, 1, 3)), rng.standard_normal((*auxiliaries, features, 2))
    z, eps = rng.standard_normal((5, 1)), rng.standard_normal((5, 1))
    kind = mae.Categorical if categorical else lambda y: mae.Gaussian.unpack(y[..., :2])
    bound = lambda p, r: mae.infomax_bound(
        lambda z: kind(z @ p), lambda x: mae.Gaussian.unpack(x @ r), z, eps
    )
    together = bound(p, r)
    models = np.broadcast_shapes(decoders, auxiliaries)
    assert together.shape == (*models, 5)
    for k in np.ndindex(models):
        one = bound(p[k] if decoders else p, r[k] if auxiliaries else r)
        assert_allclose(together[k], one, rtol=1e-13)
