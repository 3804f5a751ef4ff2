"""I from both sides: by its definition, against truths in any dimension, and in training."""

import math
import warnings

import autograd.numpy as np
import pytest
from autograd import make_vjp
from autograd.test_util import check_grads
from numpy.testing import assert_allclose, assert_array_equal

import mae
from truths import categorical, curved, rough
N=2000

Z99 = 2.3263478740408408


def normals(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


def wide(x):
    """A code that is nobody's posterior, and wider than any."""
    return mae.Gaussian(0.5 * np.tanh(x[..., :1]), 0.2 + 0 * x[..., :1])


class Laplace:
    """From outside, with no more than log_prob and sample."""

    def __init__(self, mean):
        self.mean = mean

    def log_prob(self, x):
        return (-np.abs(x - self.mean) - math.log(2)).sum(-1)

    def sample(self, eps):  # skewed: nobody asks
        return self.mean + eps + 0.1 * eps**2


class Coin:
    """From outside, with no more than log_prob and expect; one feature, 0 or 1."""

    def __init__(self, logit):
        self.p = 1 / (1 + np.exp(-logit))

    def log_prob(self, x):
        return np.log(x * self.p + (1 - x) * (1 - self.p))[..., 0]

    def expect(self, f, eps):
        p, x = self.p[..., 0], np.zeros(self.p.shape)
        return p * f(x + 1) + (1 - p) * f(x)


FAMILIES = {  # p(x|z) of three numbers, r(z|x) of a mean; how many features
    "Gaussian": (lambda y: mae.Gaussian(y[..., :2], 0.3 * y[..., 1:]), mae.Gaussian, 2),
    "Categorical": (mae.Categorical, mae.Gaussian, 3),
    "only log_prob and sample": (Laplace, lambda m, log_var: Laplace(m), 3),
    "only log_prob and expect": (lambda y: Coin(y[..., :1]), mae.Gaussian, 1),
}


def outcomes(p, eps):
    """(probability, x) of all x that the expectation is over, for a p of one example."""
    if isinstance(p, mae.Categorical):
        return zip(p.probs[0], np.eye(3)[:, None])
    if isinstance(p, Coin):
        return [(p.p[0, 0], np.ones((1, 1))), (1 - p.p[0, 0], np.zeros((1, 1)))]
    return [(1, p.sample(eps))]


def weight(decoder, r, z, x):
    density = lambda p, at: math.exp(p.log_prob(at)[0])
    return density(decoder(z), x) * density(mae.Gaussian(0 * z, 0 * z), z) / density(r, z)


def by_definition(decoder, auxiliary, z, eps, eps_r):
    """Lower and upper bound of one example, its arrays having a batch of one."""
    lower = upper = 0
    for probability, x in outcomes(decoder(z), eps):
        r, log_p = auxiliary(x), decoder(z).log_prob(x)[0]
        others = [weight(decoder, r, r.sample(noise), x) for noise in eps_r]
        together = weight(decoder, r, z, x) + sum(others)
        lower += probability * (log_p - math.log(together / (len(others) + 1)))
        upper += probability * (log_p - math.log(sum(others) / len(others)))
    return lower, upper


# --------------------------------------------------------------------------------- definitions


@pytest.mark.parametrize("name", FAMILIES)
def test_without_proposals_they_are_the_infomax_bound_and_infinity(name):
    kind, r, features = FAMILIES[name]
    w, v, z, eps = normals(0, (2, 3), (features, 2), (5, 2), (5, features if "G" in name else 3))
    decoder, auxiliary = lambda z: kind(z @ w), lambda x: r(x @ v, 0.3)
    lower, upper = mae.information_bounds(decoder, auxiliary, z, eps, np.zeros((0, 5, 2)))
    assert_array_equal(lower, mae.infomax_bound(decoder, auxiliary, z, eps))
    assert_array_equal(upper, np.full(5, np.inf))


@pytest.mark.parametrize("noises", ["of each example", "shared", "of each model"])
@pytest.mark.parametrize("models", [((), ()), ((3,), ()), ((), (3,)), ((3,), (3,))])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_bounds_are_those_of_plain_loops(name, models, noises):
    kind, r, features = FAMILIES[name]
    w, v = normals(1, (*models[0], 2, 3), (*models[1], features, 2))
    z, eps = normals(2, (5, 2), (5, features))
    shape = {"of each example": (5,), "shared": (1,), "of each model": (3, 5)}[noises]
    (eps_r,) = normals(3, (4, *shape, 2))
    if noises == "of each model" and models != ((3,), (3,)):
        pytest.skip("one model")
    both = lambda w, v: (lambda z: kind(z @ w), lambda x: r(x @ v, 0.3))
    found = mae.information_bounds(*both(w, v), z, eps, eps_r)
    all_models = np.broadcast_shapes(*models)
    eps_r = np.broadcast_to(eps_r, (4, 5, 2)) if len(shape) == 1 else eps_r
    assert [bound.shape for bound in found] == [(*all_models, 5)] * 2
    for k in np.ndindex(all_models):
        one = both(w[k] if models[0] else w, v[k] if models[1] else v)
        for i in range(5):
            own = eps_r[(slice(None), *(k if len(shape) == 2 else ()), slice(i, i + 1))]
            wanted = by_definition(*one, z[i : i + 1], eps[i : i + 1], own)
            assert_allclose([bound[(*k, i)] for bound in found], wanted, rtol=1e-11, atol=1e-12)


def by_hand(decoder, auxiliary, z, eps, eps_r, share=lambda w: w / w.sum(0)):
    """The bounds of each z_i as the true one, and their mean weighted by share(all w)."""
    x = decoder(z).sample(eps)
    r = auxiliary(x)
    every = [z, *(r.sample(noise) for noise in eps_r)]
    log_p = np.array([decoder(z).log_prob(x) for z in every])
    log_prior = [mae.Gaussian(0 * z, 0 * z).log_prob(z) for z in every]
    w = np.exp(log_p + log_prior - np.array([r.log_prob(z) for z in every]))
    others = np.array([np.delete(w, i, 0).mean(0) for i in range(len(w))])
    both = log_p - np.log(w.mean(0)), log_p - np.log(others)
    return [(share(w) * bound).sum(0) for bound in both]


@pytest.mark.parametrize("n", [1, 2, 8])
def test_the_averaged_bounds_weigh_each_code_by_its_chance_to_be_the_true_one(n):
    noise = normals(4, (50, 1), (50, 1), (n, 50, 1))
    for r in (rough, wide):
        found = mae.averaged_bounds(curved, r, *noise)
        assert_allclose(found, by_hand(curved, r, *noise), rtol=1e-8, atol=1e-10)


def test_the_averaged_bounds_have_the_same_means_and_a_smaller_variance():
    noise = normals(5, (20000, 1), (20000, 1), (8, 20000, 1))
    plain = mae.information_bounds(curved, wide, *noise)
    averaged = mae.averaged_bounds(curved, wide, *noise)
    for one, other in zip(plain, averaged):
        assert abs((one - other).mean()) < 4 * (one - other).std() / math.sqrt(20000)
        assert other.var() < one.var() / 2
    far = mae.averaged_bounds(curved, lambda x: mae.Gaussian(x + 30, 0 * x - 4), *noise)
    assert np.isfinite(far).all()


# ------------------------------------------------------------------------ truths in d dimensions


def linear(weights):
    """x = W z + noise of variance one: decoder, the best r of diagonal covariance, I."""
    precision = np.eye(weights.shape[1]) + weights.T @ weights
    covariance = np.linalg.inv(precision)
    return (
        lambda z: mae.Gaussian(z @ weights.T, 0),
        lambda x: mae.Gaussian(x @ (weights @ covariance), np.log(np.diag(covariance)) + 0 * x),
        np.linalg.slogdet(precision)[1] / 2,
    )


def assert_covers(low, high, truth, width, misses=0.03):
    """Of intervals (seeds,): each end on its side of the truth; all of them narrow."""
    assert (low > truth).mean() <= misses and (high < truth).mean() <= misses
    assert (high - low).max() < width and (high > low).all()


@pytest.mark.parametrize("dim, scale", [(1, 0.5), (2, 0.4), (5, 0.2), (16, 0.1)])
def test_the_interval_holds_the_information_of_linear_decoders(dim, scale):
    """I = 1/2 log det(I + W' S^-1 W), r the best with a diagonal covariance, a hundred seeds."""
    decoder, auxiliary, truth = linear(scale * normals(dim, (dim, dim))[0])
    noise = normals(6, (100, N, dim), (100, N, dim), (8, 100, N, dim))
    low, high = mae.information_interval(decoder, auxiliary, *noise)
    print("LIN", dim, truth, (low>truth).mean(), (high<truth).mean(), (high-low).max())
    assert_covers(low, high, truth, 0.02)


def copies(dim, order, rotation):
    """`dim` copies of one decoder, codes rotated, features reordered; a linear r to go with it."""
    single = lambda u: mae.Gaussian(np.tanh(1.5 * u) + 0.2 * u, -1 + 0.5 * np.tanh(u))
    u, eps = normals(0, (4000, 1), (4000, 1))
    x = single(u).sample(eps)
    slope = (u * x).mean() / (x * x).mean()
    log_var = math.log((u - slope * x).var()) + 0.1
    own = lambda z: single((z @ rotation.T)[..., order])
    back = np.argsort(order)
    return own, lambda x: mae.Gaussian(slope * x[..., back] @ rotation, log_var), single


@pytest.mark.parametrize("dim", [2, 4])
def test_the_interval_holds_the_information_of_hidden_products(dim):
    """I of d rotated copies of a decoder is d times its exact I."""
    rng = np.random.default_rng(dim)
    rotation, order = np.linalg.qr(rng.standard_normal((dim, dim)))[0], rng.permutation(dim)
    decoder, auxiliary, single = copies(dim, order, rotation)
    noise = normals(7, (20, 3000, dim), (20, 3000, dim), (64, 20, 3000, dim))
    low, high = mae.information_interval(decoder, auxiliary, *noise)
    assert_covers(low, high, dim * mae.exact_mutual_information(single), 0.04 * dim, 0.1)


def test_the_interval_holds_the_information_of_a_code_seen_through_784_features():
    """x = a f(z) + noise, |a| = 1: a'x is sufficient."""
    z, eps, eps_r, a = normals(8, (2000, 1), (2000, 784), (32, 2000, 1), (784, 1))
    a, f = a / np.linalg.norm(a), lambda z: 1.5 * np.tanh(2 * z)
    single = lambda z: mae.Gaussian(f(z), -1.5)
    auxiliary = lambda x: mae.Gaussian(0.7 * (x @ a), -1.0)
    low, high = mae.information_interval(
        lambda z: mae.Gaussian(f(z) @ a.T, -1.5), auxiliary, z, eps, eps_r
    )
    assert low < mae.exact_mutual_information(single) < high < low + 0.1


def parity(z):
    """The sign of z1 z2, wrong one time in ten."""
    right = 0.4 * np.sign(z[..., :1] * z[..., 1:])
    return mae.Categorical(np.log(np.concatenate([0.5 + right, 0.5 - right], -1)))


def test_parity_is_held_from_both_sides_though_no_factorised_code_certifies_any():
    truth = math.log(2) + 0.1 * math.log(0.1) + 0.9 * math.log(0.9)
    z, slope, bias = normals(9, (4000, 2), (10, 2, 2), (10, 1, 2))
    anything = lambda x: mae.Gaussian(0.3 * (x @ slope + bias), 0.1 * bias)
    assert (mae.infomax_bound(parity, anything, z).mean(-1) < 0.02).all()
    prior, widths = lambda x: mae.Gaussian(0 * x, 0 * x), []
    for n in (1, 8, 64):
        eps_r = normals(10, (n, 4000, 2))[0]
        low, high = mae.information_interval(parity, prior, z, None, eps_r)
        assert low < truth < high
        widths.append(high - low)
    assert widths[0] > 3 * widths[1] and widths[1] > 3 * widths[2] and widths[2] < 0.05


def dense(dim):
    return np.full((2 * dim, 2 * dim), 0.5) + 0.5 * np.eye(2 * dim)


def pairs(dim, rho):
    eye = np.eye(dim)
    return np.block([[eye, rho * eye], [rho * eye, eye]])


BMI = {  # Czyz et al. (2023): the covariance of (x, y), I(x, y)
    "1 x 1": (pairs(1, 0.75), 0.4133392866),
    "two pairs": (pairs(2, 0.8), 1.0216512),
    **{
        f"dense {dim}": (dense(dim), value)
        for dim, value in zip(
            (2, 3, 5, 25, 50), (0.2938933, 0.4133393, 0.5928118, 1.2921837, 1.6242654)
        )
    },
}


@pytest.mark.parametrize("name", BMI)
def test_the_interval_holds_the_gaussian_tasks_of_the_bmi_benchmark(name):
    """y | x with its noise whitened, x with its covariance, in its principal axes."""
    covariance, truth = BMI[name]
    dim = len(covariance) // 2
    x, xy, y = covariance[:dim, :dim], covariance[:dim, dim:], covariance[dim:, dim:]
    half = np.linalg.inv(np.linalg.cholesky(x))
    noise = y - xy.T @ np.linalg.solve(x, xy)
    weights = np.linalg.solve(np.linalg.cholesky(noise), (half @ xy).T)
    decoder, auxiliary, information = linear(weights @ np.linalg.svd(weights)[2].T)
    assert_allclose(information, truth, rtol=2e-7)
    noise = normals(11, (4000, dim), (4000, dim), (8, 4000, dim))
    low, high = mae.information_interval(decoder, auxiliary, *noise)
    assert low < truth < high < low + 0.08
