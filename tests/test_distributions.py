"""Every method of the distributions against its definition: values and gradients."""

import math
from decimal import Decimal
from statistics import NormalDist

import autograd.numpy as np
import pytest
from autograd import grad
from numpy.testing import assert_allclose

from mae import Categorical, Gaussian
from truths import LOG_2PI, fine_grid, log_normal, probabilities


def normals(*shapes):
    rng = np.random.default_rng(len(shapes))
    return [rng.standard_normal(shape) for shape in shapes]


def halves(formula):
    return lambda params, *rest: formula(*np.split(params, 2, -1), *rest)


def log_density(mean, log_var, x):
    return np.sum(-0.5 * ((x - mean) ** 2 / np.exp(log_var) + log_var + LOG_2PI), -1)


def sample(mean, log_var, eps):
    return mean + np.sqrt(np.exp(log_var)) * eps


def kl(mean, log_var):
    return 0.5 * np.sum(np.exp(log_var) - 1 - log_var + mean**2, -1)


def probs(logits):
    return np.exp(logits) / np.sum(np.exp(logits), -1, keepdims=True)


def mean_over_categories(logits, values):
    return sum(probs(logits)[..., c] * values[c] for c in range(logits.shape[-1]))


MANY, EVERY = (2, 4, 3), np.eye(3)[[1, 0, 2, 1]]
DEFINITIONS = {  # a method, its formula, and what to compare them on
    "log_prob": (
        lambda mean, log_var, x: Gaussian(mean, log_var).log_prob(x), log_density,
        [
            normals((4, 3), (4, 3), (4, 3)), normals(MANY, (4, 3), (5, 1, 4, 3)),
            normals((4, 3), MANY, (4, 3)), normals(MANY, (1, 1), MANY),
            [*normals((4, 2)), 0.3, np.zeros((4, 2))],
        ],
    ),
    "log_prob, unpacked": (
        lambda params, x: Gaussian.unpack(params).log_prob(x), halves(log_density),
        [
            normals((4, 2), (4, 1)), normals((4, 6), (4, 3)), normals((2, 4, 6), (4, 3)),
            normals((4, 6), MANY), normals((2, 1, 2), (5, 1, 4, 1)),
        ],
    ),
    "sample": (
        lambda params, eps: Gaussian.unpack(params).sample(eps), halves(sample),
        [normals((4, 6), (4, 3)), normals((2, 4, 2), (4, 1)), normals((1, 6), (5, 2, 4, 3))],
    ),
    "kl": (
        lambda params: Gaussian.unpack(params).kl(), halves(kl),
        [normals((4, 2)), normals((2, 4, 6))],
    ),
    "categorical log_prob": (
        lambda logits, x: Categorical(logits).log_prob(x),
        lambda logits, x: np.sum(x * np.log(probs(logits)), -1),
        [[*normals((4, 3)), EVERY], [*normals(MANY), EVERY], [*normals((4, 3)), EVERY[:2, None]]],
    ),
    "probs": (lambda logits: Categorical(logits).probs, probs, [normals((4, 3)), normals(MANY)]),
    "expect": (
        lambda logits, values: Categorical(logits).expect(lambda x: values), mean_over_categories,
        [
            normals((4, 3), (3, 4)), normals((4, 3), (3, 2, 4)),
            normals(MANY, (3, 1, 4)), normals(MANY, (3, 2, 4)),
        ],
    ),
}  # fmt: skip
CASES = [(name, i) for name, (*_, cases) in DEFINITIONS.items() for i in range(len(cases))]


@pytest.mark.parametrize("name, i", CASES)
def test_methods_have_the_values_and_gradients_of_their_definitions(name, i):
    """In every argument, to 1e-12: autograd differentiates the plain formula."""
    method, formula, cases = DEFINITIONS[name]
    args = cases[i]
    value, wanted = method(*args), formula(*args)
    assert value.shape == wanted.shape
    assert_allclose(value, wanted, rtol=1e-12, atol=1e-12)
    (weights,) = normals(wanted.shape)
    for k, arg in enumerate(args):
        got, slope = (grad(lambda *a: np.sum(weights * f(*a)), k)(*args) for f in (method, formula))
        assert np.shape(got) == np.shape(arg)
        assert_allclose(got, slope, rtol=1e-12, atol=1e-12)


def test_the_log_density_is_that_of_single_numbers():
    mean, log_var, x = normals(MANY, (4, 3), (5, 1, 4, 3))
    log_prob = Gaussian(mean, log_var).log_prob(x)
    for i, k, b in np.ndindex(log_prob.shape):
        stds = np.exp(log_var[b] / 2)
        wanted = [NormalDist(*a).pdf(t) for *a, t in zip(mean[k, b], stds, x[i, 0, b])]
        assert_allclose(log_prob[i, k, b], sum(map(math.log, wanted)), rtol=1e-12)


def test_the_kl_is_the_integral_of_q_log_q_over_p():
    mean, log_var = 1.5 * np.array(normals((6, 2), (6, 2)))
    kl = Gaussian(mean, log_var).kl()
    assert kl.shape == (6,) and (kl > 0).all()
    for b in range(6):
        wanted = 0.0
        for m, v in zip(mean[b], log_var[b]):
            z, log_dz = fine_grid(m - 12 * math.exp(v / 2), m + 12 * math.exp(v / 2), 60)
            log_q = log_normal(z, m, v)
            wanted += np.sum(np.exp(log_q + log_dz) * (log_q - log_normal(z, 0, 0)))
        assert_allclose(kl[b], wanted, rtol=1e-11)


@pytest.mark.parametrize("size", [1e-1, 1e-3, 1e-6, 1e-9])
def test_the_kl_keeps_its_digits_near_the_prior(size):
    mean, log_var = size, -0.7 * size
    wanted = (Decimal(log_var).exp() - 1 - Decimal(log_var) + Decimal(mean) ** 2) / 2
    # expm1(v) - v leaves 1e-16 v of v^2 / 2
    assert_allclose(Gaussian([[mean]], [[log_var]]).kl(), float(wanted), rtol=1e-14 + 1e-15 / size)


def test_the_kl_is_zero_at_the_prior_and_nowhere_negative():
    assert Gaussian(np.zeros((2, 3)), 0.0).kl().tolist() == [0, 0]
    tiny = np.logspace(-20, 0, 200)[:, None]
    for sign in (1, -1):
        assert (Gaussian(0 * tiny, sign * tiny).kl() >= 0).all()


PAIRS = [((), ()), ((), (3,)), ((), (4,)), ((3,), ()), ((4,), ()), ((3,), (3,)), ((4,), (4,))]
PAIRS += [((1,), ()), ((1,), (1,)), ((1,), (3,)), ((3,), (1,)), ((2, 3), ()), ((2, 3), (2, 3))]
PAIRS += [((2, 1), (1, 3)), ((2, 3), (3,))]


@pytest.mark.parametrize("p_models, f_models", PAIRS)
def test_an_expectation_is_a_sum_with_and_without_models(p_models, f_models):
    """Models on either side; three are as many as the categories, and must not be mixed up."""
    logits, table, z = normals((*p_models, 5, 3), (*f_models, 3, 2), (5, 1))
    mean = Categorical(logits).expect(lambda x: Gaussian.unpack(x @ table).log_prob(z))
    models = np.broadcast_shapes(p_models, f_models)
    assert mean.shape == (*models, 5)
    logits = np.broadcast_to(logits, (*models, 5, 3)).reshape(-1, 5, 3)
    table = np.broadcast_to(table, (*models, 3, 2)).reshape(-1, 3, 2)
    for k, b in np.ndindex(len(logits), 5):
        weights = map(float, probabilities(logits[k, b]))
        wanted = sum(p * log_normal(z[b, 0], *row) for p, row in zip(weights, table[k]))
        assert_allclose(mean.reshape(-1, 5)[k, b], wanted, rtol=1e-12)


def test_an_expectation_sees_every_category_once():
    seen = []
    Categorical(np.zeros((5, 4))).expect(lambda x: seen.append(x) or x[..., 0])
    assert len(seen) == 1 and seen[0].reshape(4, 4).tolist() == np.eye(4).tolist()
