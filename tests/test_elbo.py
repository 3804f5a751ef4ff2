"""Linear-Gaussian models: every quantity is quadratic in the noise, so `cubature` has no error."""

import autograd.numpy as np
import pytest
from numpy.testing import assert_allclose

import mae
from truths import Linear, cubature

DIMENSIONS = [(1, 1), (2, 2), (3, 5), (2, 1)]


def mean_elbo(encoder, model, x, latent):
    eps = np.repeat(cubature(latent)[:, None], len(x), 1)  # (draw, batch, latent)
    return np.mean(mae.elbo(encoder, model.decoder, x, eps), 0)


def points(features):
    return 2 * np.random.default_rng(1).standard_normal((7, features))


@pytest.mark.parametrize("latent, features", [(1, 1), (2, 2), (2, 5)])
def test_the_elbo_is_log_p_at_the_true_posterior(latent, features):
    """Example by example."""
    model, x = Linear(latent, features, diagonal_posterior=True), points(features)
    elbo = mean_elbo(model.posterior, model, x, latent)
    assert elbo.shape == (7,)
    assert_allclose(elbo, model.log_likelihood(x), rtol=1e-12)


@pytest.mark.parametrize("latent, features", DIMENSIONS)
def test_the_elbo_falls_short_by_the_kl_to_the_posterior(latent, features):
    """log p(x) - ELBO = KL(q || posterior) > 0, for an encoder that is not the posterior."""
    model, x = Linear(latent, features), points(features)
    encoder = lambda x: mae.Gaussian(np.tanh(x @ np.ones((features, latent))), -0.7)
    gap = model.log_likelihood(x) - mean_elbo(encoder, model, x, latent)
    assert (gap > 0).all()
    assert_allclose(gap, model.posterior_kl(encoder(x), x), rtol=1e-11)


def test_models_side_by_side_have_the_elbo_of_each_alone():
    """K models on the leading axis; x may have the axis or not."""
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
