"""Linear-Gaussian models: every quantity is quadratic in the noise, so `cubature` has no error."""

import math

import autograd.numpy as np
import pytest
from autograd import grad
from numpy.testing import assert_allclose

import mae
from truths import cubature


class Linear:
    """x = W z + b + s eps with diagonal s^2, z ~ N(0, I); everything in closed form."""

    def __init__(self, latent, features, seed=0, diagonal_posterior=False):
        rng = np.random.default_rng(seed)
        self.log_var = rng.uniform(-3, 1, features)
        self.weights = rng.standard_normal((features, latent))
        self.bias = rng.standard_normal(features)
        if diagonal_posterior:  # columns orthogonal under the precision of x
            self.weights = np.linalg.qr(self.weights)[0] * rng.uniform(0.5, 3, latent)
            self.log_var = np.full(features, self.log_var[0])
        precision = np.exp(-self.log_var)
        self.covariance = self.weights @ self.weights.T + np.diag(np.exp(self.log_var))
        gain = (self.weights.T * precision) @ self.weights
        self.posterior_covariance = np.linalg.inv(np.eye(latent) + gain)
        self.posterior_weights = self.posterior_covariance @ (self.weights.T * precision)
        self.information = 0.5 * np.linalg.slogdet(np.eye(latent) + gain)[1]

    def decoder(self, z):
        mean = z @ self.weights.T + self.bias
        return mae.Gaussian(mean, self.log_var + 0 * mean)

    def posterior(self, x):
        mean = (x - self.bias) @ self.posterior_weights.T
        return mae.Gaussian(mean, np.log(np.diag(self.posterior_covariance)) + 0 * mean)

    def log_likelihood(self, x):
        distance = (x - self.bias) @ np.linalg.inv(self.covariance)
        square = np.sum(distance * (x - self.bias), -1)
        log_det = np.linalg.slogdet(2 * math.pi * self.covariance)[1]
        return -0.5 * (square + log_det)

    def posterior_kl(self, q, x, reverse=False):
        """KL[q || posterior] or its reverse, between a diagonal and a full Gaussian."""
        difference = q.mean - (x - self.bias) @ self.posterior_weights.T
        kl = []
        for d, log_var in zip(difference, q.log_var):
            one, other = np.diag(np.exp(log_var)), self.posterior_covariance
            one, other = (other, one) if reverse else (one, other)
            ratio = np.linalg.inv(other) @ one
            square = d @ np.linalg.inv(other) @ d
            kl.append(0.5 * (np.trace(ratio) - len(d) + square - np.linalg.slogdet(ratio)[1]))
        return np.array(kl)


def example(latent, features, **settings):
    model = Linear(latent, features, **settings)
    x = 2 * np.random.default_rng(1).standard_normal((7, features))
    return model, x


def mean_elbo(encoder, model, x, latent):
    eps = np.repeat(cubature(latent)[:, None], len(x), 1)  # (draw, batch, latent)
    return np.mean(mae.elbo(encoder, model.decoder, x, eps), 0)


DIMENSIONS = [(1, 1), (2, 2), (3, 5), (2, 1)]


def rough_encoder(latent):
    return lambda x: mae.Gaussian(np.tanh(x @ np.ones((x.shape[-1], latent))), -0.7)


def check_elbo_is_tight(latent=2, features=3):
    """At the true posterior the ELBO is log p(x), example by example."""
    model, x = example(latent, features, diagonal_posterior=True)
    elbo = mean_elbo(model.posterior, model, x, latent)
    assert elbo.shape == (7,)
    assert_allclose(elbo, model.log_likelihood(x), rtol=1e-12)


@pytest.mark.parametrize("latent, features", [(1, 1), (2, 2), (2, 5)])
def test_elbo_is_tight(latent, features):
    check_elbo_is_tight(latent, features)


@pytest.mark.parametrize("latent, features", DIMENSIONS)
def test_elbo_gap(latent, features):
    """log p(x) - ELBO = KL(q || posterior) > 0, for an encoder that is not the posterior."""
    model, x = example(latent, features)
    encoder = rough_encoder(latent)
    gap = model.log_likelihood(x) - mean_elbo(encoder, model, x, latent)
    assert (gap > 0).all()
    assert_allclose(gap, model.posterior_kl(encoder(x), x), rtol=1e-11)


def check_elbo_by_hand():
    """One draw, single numbers."""
    encoder = lambda x: mae.Gaussian(0.5 * x, -1.0 + 0 * x)
    decoder = lambda z: mae.Gaussian(3 * z, 0.4 + 0 * z)
    elbo = mae.elbo(encoder, decoder, np.array([[0.8], [-2.0]]), np.array([[1.5], [0.3]]))
    for value, x, eps in zip(elbo, (0.8, -2.0), (1.5, 0.3)):
        z = 0.5 * x + math.exp(-0.5) * eps
        log_p = -0.5 * ((x - 3 * z) ** 2 / math.exp(0.4) + 0.4 + math.log(2 * math.pi))
        kl = 0.5 * (math.exp(-1) - 1 + 1 + (0.5 * x) ** 2)
        assert_allclose(value, log_p - kl, rtol=1e-13)


def test_elbo_of_a_categorical_decoder():
    logits = lambda z: np.concatenate([z, -z * z, 0 * z], -1)
    encoder = lambda x: mae.Gaussian(x[..., :1], 0.2 * x[..., 1:2])
    x, eps = np.eye(3)[[2, 0, 1]], np.array([[0.1], [-1.0], [2.0]])
    elbo = mae.elbo(encoder, lambda z: mae.Categorical(logits(z)), x, eps)
    for b, category in enumerate((2, 0, 1)):
        mean, log_var = x[b, 0], 0.2 * x[b, 1]
        z = mean + math.exp(log_var / 2) * eps[b, 0]
        weights = [math.exp(z), math.exp(-z * z), 1]
        kl = 0.5 * (math.exp(log_var) - 1 - log_var + mean**2)
        assert_allclose(elbo[b], math.log(weights[category] / sum(weights)) - kl, rtol=1e-12)


def test_models_side_by_side():
    """K models on the leading axis give what each gives alone; x may have the axis or not."""
    a, s = np.array([0.3, 1.0, -2.0])[:, None, None], np.array([-1.0, 0.0, 0.5])[:, None, None]
    encoder = lambda a, s: lambda x: mae.Gaussian(a * x, s + 0 * x)
    decoder = lambda a, s: lambda z: mae.Gaussian(np.sin(a * z), s + 0 * z)
    rng = np.random.default_rng(0)
    for shape in ((6, 1), (3, 6, 1), (5, 1, 6, 1)):
        x, eps = rng.standard_normal(shape), rng.standard_normal((3, 6, 1))
        together = mae.elbo(encoder(a, s), decoder(a, s), x, eps)
        assert together.shape == (*np.broadcast_shapes(shape, eps.shape)[:-1],)
        for k in range(3):
            one = np.broadcast_to(x, together.shape + (1,))[..., k, :, :]
            alone = mae.elbo(encoder(a[k], s[k]), decoder(a[k], s[k]), one, eps[k])
            assert_allclose(together[..., k, :], alone, rtol=1e-14)


def check_elbo_gradient():
    """Zero in the encoder at the true posterior; in the decoder there, that of log p(x)."""
    model, x = example(1, 1)
    theta = np.array([model.weights[0, 0], model.bias[0], model.log_var[0]])
    phi = np.array([model.posterior_weights[0, 0], 0.0, np.log(model.posterior_covariance[0, 0])])
    phi[1] = -phi[0] * model.bias[0]
    eps = np.repeat(cubature(1)[:, None], len(x), 1)

    def elbo(theta, phi):
        decoder = lambda z: mae.Gaussian(theta[0] * z + theta[1], theta[2] + 0 * z)
        encoder = lambda x: mae.Gaussian(phi[0] * x + phi[1], phi[2] + 0 * x)
        return np.mean(mae.elbo(encoder, decoder, x, eps))

    def log_likelihood(theta):
        variance = theta[0] ** 2 + np.exp(theta[2])
        return np.mean(-0.5 * ((x - theta[1]) ** 2 / variance + np.log(2 * math.pi * variance)))

    assert_allclose(grad(elbo, 1)(theta, phi), 0, atol=1e-12)
    assert_allclose(grad(elbo)(theta, phi), grad(log_likelihood)(theta), rtol=1e-11)


def test_what_is_not_a_distribution_is_named():
    x = np.zeros((2, 1))
    standard = lambda x: mae.Gaussian(x, 0 * x)
    with pytest.raises(TypeError, match="encoder"):
        mae.elbo(lambda x: x, standard, x, x)
    with pytest.raises(TypeError, match="encoder"):
        mae.elbo(lambda x: mae.Categorical(np.zeros((2, 2))), standard, x, x)
    with pytest.raises(TypeError, match="decoder"):
        mae.elbo(standard, lambda z: (z, z), x, x)


CHECKS = [check_elbo_by_hand, check_elbo_gradient]


@pytest.mark.parametrize("check", CHECKS)
def test(check):
    check()
