import math

import autograd.numpy as np
import pytest
from autograd import grad
from numpy.testing import assert_allclose

import mae
from test_elbo import DIMENSIONS, Linear, rough_encoder
from truths import cubature


def mean_bound(decoder, auxiliary, latent, features):
    """Over z and the noise of x together: exact where log r(z|x) is quadratic in both."""
    noise = cubature(latent + features)
    return np.mean(mae.infomax_bound(decoder, auxiliary, noise[:, :latent], noise[:, latent:]))


@pytest.mark.parametrize("dim", [1, 2, 7])
def test_prior_entropy(dim):
    assert_allclose(mae.prior_entropy(dim), dim * 1.4189385332046727, rtol=1e-15)


def check_bound_is_tight(latent=2, features=3):
    """At the true posterior the bound is I = 1/2 log det(I + W' S^-1 W)."""
    model = Linear(latent, features, diagonal_posterior=True)
    bound = mean_bound(model.decoder, model.posterior, latent, features)
    assert_allclose(bound, model.information, rtol=1e-12)


@pytest.mark.parametrize("latent, features", [(1, 1), (2, 2), (2, 5)])
def test_bound_is_tight(latent, features):
    check_bound_is_tight(latent, features)


@pytest.mark.parametrize("latent, features", DIMENSIONS)
def test_bound_gap(latent, features):
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


def check_bound_by_hand():
    """One draw, single numbers; a sample of x, not its mean, and noise of its own."""
    decoder = lambda z: mae.Gaussian(2 * z - 1, 0.6 + 0 * z)
    auxiliary = lambda x: mae.Gaussian(0.3 * x, -0.2 * x)
    z, eps = np.array([[0.7], [-1.1]]), np.array([[-0.5], [2.0]])
    bound = mae.infomax_bound(decoder, auxiliary, z, eps)
    for value, z, eps in zip(bound, (0.7, -1.1), (-0.5, 2.0)):
        x = 2 * z - 1 + math.exp(0.3) * eps
        log_r = -0.5 * ((z - 0.3 * x) ** 2 / math.exp(-0.2 * x) - 0.2 * x + math.log(2 * math.pi))
        assert_allclose(value, 0.5 * math.log(2 * math.pi * math.e) + log_r, rtol=1e-13)


def check_categorical_bound():
    """An exact sum over the values of x, no noise."""
    table = np.array([[0.5, -1.0], [-0.3, 0.2], [1.5, 0.0]])
    decoder = lambda z: mae.Categorical(np.concatenate([z, -z * z, 0 * z], -1))
    auxiliary = lambda x: mae.Gaussian.unpack(x @ table)
    z = np.array([[0.4], [-2.0], [1.0]])
    bound = mae.infomax_bound(decoder, auxiliary, z)
    assert bound.shape == (3,)
    for value, z in zip(bound, (0.4, -2.0, 1.0)):
        weights = [math.exp(z), math.exp(-z * z), 1]
        wanted = 0.5 * math.log(2 * math.pi * math.e)
        for weight, (mean, log_var) in zip(weights, table):
            log_r = -0.5 * ((z - mean) ** 2 / math.exp(log_var) + log_var + math.log(2 * math.pi))
            wanted += weight / sum(weights) * log_r
        assert_allclose(value, wanted, rtol=1e-12)


@pytest.mark.parametrize("categorical", [False, True])
@pytest.mark.parametrize("decoders", [(), (3,)])
@pytest.mark.parametrize("auxiliaries", [(), (3,)])
def test_models_side_by_side(decoders, auxiliaries, categorical):
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


def check_omega_gradient():
    """Zero at the true posterior, uphill towards it elsewhere."""
    model = Linear(1, 1)
    slope, log_var = model.posterior_weights[0, 0], np.log(model.posterior_covariance[0, 0])
    omega = np.array([slope, -slope * model.bias[0], log_var])

    def bound(omega):
        auxiliary = lambda x: mae.Gaussian(omega[0] * x + omega[1], omega[2] + 0 * x)
        return mean_bound(model.decoder, auxiliary, 1, 1)

    assert_allclose(grad(bound)(omega), 0, atol=1e-12)
    for direction in np.eye(3):
        assert bound(omega + 0.1 * direction) < bound(omega) > bound(omega - 0.1 * direction)


def check_theta_gradient():
    """It goes through x: at the true posterior it is that of I = log(1 + a^2 / s^2) / 2."""
    a, log_var = 1.3, -0.7
    theta = np.array([a, log_var])
    variance = a * a + math.exp(log_var)
    auxiliary = lambda x: mae.Gaussian(a / variance * x, math.log(math.exp(log_var) / variance))

    def bound(theta):
        decoder = lambda z: mae.Gaussian(theta[0] * z, theta[1] + 0 * z)
        return mean_bound(decoder, auxiliary, 1, 1)

    information = lambda theta: 0.5 * np.log(1 + theta[0] ** 2 / np.exp(theta[1]))
    assert_allclose(grad(bound)(theta), grad(information)(theta), rtol=1e-12)


@pytest.mark.parametrize("kind", ["gaussian", "categorical"])
def test_gradient_through_x_by_finite_differences(kind):
    rng = np.random.default_rng(0)
    z, eps, table = *rng.standard_normal((2, 5, 1)), rng.standard_normal((2, 2))
    distribution = {"gaussian": mae.Gaussian.unpack, "categorical": mae.Categorical}[kind]
    features = {"gaussian": slice(1), "categorical": slice(2)}[kind]
    auxiliary = lambda x: mae.Gaussian.unpack(np.tanh(x @ table[features]))
    bound = lambda w: np.mean(mae.infomax_bound(lambda z: distribution(z @ w), auxiliary, z, eps))
    w, h = np.array([[0.8, -0.4]]), 1e-5
    wanted = [(bound(w + h * e) - bound(w - h * e)) / (2 * h) for e in np.eye(2)]
    assert_allclose(grad(bound)(w)[0], wanted, rtol=1e-8)


def test_misuse_is_named():
    z = np.zeros((2, 1))
    standard = lambda x: mae.Gaussian(x, 0 * x)
    with pytest.raises(ValueError, match="eps"):
        mae.infomax_bound(standard, standard, z)
    with pytest.raises(TypeError, match="auxiliary"):
        mae.infomax_bound(standard, lambda x: mae.Categorical(np.zeros((2, 2))), z, z)
    with pytest.raises(TypeError, match="decoder"):
        mae.infomax_bound(lambda z: z, standard, z, z)
    with pytest.raises(ValueError, match=r"^z has shape \(2, 1\)"):
        mae.infomax_bound(standard, rough_encoder(3), z, z)


CHECKS = [check_bound_by_hand, check_categorical_bound, check_omega_gradient, check_theta_gradient]


@pytest.mark.parametrize("check", CHECKS)
def test(check):
    check()
