import math
from decimal import Decimal, getcontext
from statistics import NormalDist

import numpy as np
import pytest
from autograd import grad
from numpy.testing import assert_allclose

import mae
from truths import fine_grid, log_normal

getcontext().prec = 50
LOG_2PI = (2 * Decimal("3.14159265358979323846264338327950288419716939937511")).ln()


def draw(*shape, scale=1.0):
    return scale * np.random.default_rng(len(shape)).standard_normal(shape)


# ------------------------------------------------------------------------------- Gaussian


def check_gaussian_log_prob():
    mean, log_var = draw(2, 4, 3), 0.5 * draw(4, 3)
    x = draw(5, 1, 4, 3)
    log_prob = mae.Gaussian(mean, log_var).log_prob(x)
    assert log_prob.shape == (5, 2, 4)
    for i, k, b in np.ndindex(log_prob.shape):
        wanted = 0.0
        for d in range(3):
            normal = NormalDist(mean[k, b, d], math.exp(log_var[b, d] / 2))
            wanted += math.log(normal.pdf(x[i, 0, b, d]))
        assert_allclose(log_prob[i, k, b], wanted, rtol=1e-12)


def check_kl_by_quadrature():
    mean, log_var = draw(6, 2), draw(6, 2, scale=1.5)
    kl = mae.Gaussian(mean, log_var).kl()
    assert kl.shape == (6,) and (kl > 0).all()
    for b in range(6):
        wanted = 0.0
        for m, v in zip(mean[b], log_var[b]):
            z, log_dz = fine_grid(m - 12 * math.exp(v / 2), m + 12 * math.exp(v / 2), 60)
            log_q = log_normal(z, m, v)
            wanted += np.sum(np.exp(log_q + log_dz) * (log_q - log_normal(z, 0, 0)))
        assert_allclose(kl[b], wanted, rtol=1e-11)


@pytest.mark.parametrize("size", [1e-1, 1e-3, 1e-6, 1e-9])
def test_kl_keeps_its_digits_near_the_prior(size):
    mean, log_var = size, -0.7 * size
    mean_exact, log_var_exact = Decimal(mean), Decimal(log_var)
    wanted = (log_var_exact.exp() - 1 - log_var_exact + mean_exact**2) / 2
    # expm1(v) - v leaves 1e-16 v of v^2 / 2
    rtol = 1e-14 + 1e-15 / size
    assert_allclose(mae.Gaussian([[mean]], [[log_var]]).kl(), float(wanted), rtol=rtol)


def test_kl_is_zero_at_the_prior_and_nowhere_negative():
    assert mae.Gaussian(np.zeros((2, 3)), 0.0).kl().tolist() == [0, 0]
    tiny = np.logspace(-20, 0, 200)[:, None]
    for sign in (1, -1):
        assert (mae.Gaussian(0 * tiny, sign * tiny).kl() >= 0).all()


def check_sample():
    mean, log_var, eps = draw(2, 1, 3), draw(4, 3), draw(5, 1, 4, 3)
    x = mae.Gaussian(mean, log_var).sample(eps)
    assert x.shape == (5, 2, 4, 3)
    for i, k, b, d in np.ndindex(x.shape):
        wanted = mean[k, 0, d] + math.exp(log_var[b, d] / 2) * eps[i, 0, b, d]
        assert_allclose(x[i, k, b, d], wanted, rtol=1e-13)


def test_sample_moments():
    mean, log_var, n = np.array([[0.5, -2.0]]), np.array([[-1.0, 1.5]]), 20000
    x = mae.Gaussian(mean, log_var).sample(np.random.default_rng(1).standard_normal((n, 2)))
    var = np.exp(log_var[0])
    assert (np.abs(x.mean(0) - mean[0]) < 4 * np.sqrt(var / n)).all()
    assert (np.abs(x.var(0) - var) < 4 * var * math.sqrt(2 / n)).all()
    assert abs(np.corrcoef(x.T)[0, 1]) < 4 / math.sqrt(n)


def check_gaussian_expect():
    """A draw, not the mean: E x^2 over eps = +-1 is mean^2 + variance."""
    p = mae.Gaussian([[0.3, -1.0]], [[-0.5, 0.7]])
    eps = np.array([[[1.0, 1.0]], [[-1.0, -1.0]]])
    second = p.expect(lambda x: (x * x).sum(-1), eps).mean(0)
    assert_allclose(second, 0.09 + 1 + math.exp(-0.5) + math.exp(0.7), rtol=1e-14)


# ---------------------------------------------------------------------------- Categorical


def probabilities(logits):
    weights = [Decimal(float(a)).exp() for a in logits]
    return [weight / sum(weights) for weight in weights]


def check_categorical():
    logits = draw(2, 4, 3, scale=2.0)
    p = mae.Categorical(logits)
    assert p.probs.shape == (2, 4, 3)
    for k, b in np.ndindex(2, 4):
        wanted = probabilities(logits[k, b])
        assert_allclose(p.probs[k, b], [float(w) for w in wanted], rtol=1e-13)
        for c in range(3):
            log_prob = p.log_prob(np.eye(3)[[c] * 4])
            assert log_prob.shape == (2, 4)
            assert_allclose(log_prob[k, b], float(wanted[c].ln()), rtol=1e-12)


PAIRS = [((), ()), ((), (3,)), ((), (4,)), ((3,), ()), ((4,), ()), ((3,), (3,)), ((4,), (4,))]
PAIRS += [((1,), ()), ((1,), (1,)), ((1,), (3,)), ((3,), (1,)), ((2, 3), ()), ((2, 3), (2, 3))]
PAIRS += [((2, 1), (1, 3)), ((2, 3), (3,))]


@pytest.mark.parametrize("p_models, f_models", PAIRS)
def test_expect_with_and_without_models(p_models, f_models, categories=3):
    """Models on either side; three are as many as the categories, and must not be mixed up."""
    logits = draw(*p_models, 5, categories)
    table, z = draw(*f_models, categories, 2), draw(5, 1)
    f = lambda x: mae.Gaussian.unpack(x @ table).log_prob(z)
    mean = mae.Categorical(logits).expect(f)
    models = np.broadcast_shapes(p_models, f_models)
    assert mean.shape == (*models, 5)
    logits = np.broadcast_to(logits, (*models, 5, categories)).reshape(-1, 5, categories)
    table = np.broadcast_to(table, (*models, categories, 2)).reshape(-1, categories, 2)
    for k, b in np.ndindex(len(logits), 5):
        wanted = 0.0
        for c, prob in enumerate(probabilities(logits[k, b])):
            wanted += float(prob) * log_normal(z[b, 0], *table[k, c])
        assert_allclose(mean.reshape(-1, 5)[k, b], wanted, rtol=1e-12)


def test_expect_sees_every_category_once():
    seen = []
    mae.Categorical(draw(5, 4)).expect(lambda x: seen.append(x) or x[..., 0])
    assert len(seen) == 1 and seen[0].reshape(4, 4).tolist() == np.eye(4).tolist()


# ------------------------------------------------------------------- shapes, types, extremes

ROW, COLUMN = np.zeros(5), np.zeros((5, 1))
standard = lambda x: mae.Gaussian(0 * x[..., :1], 0.0)


@pytest.mark.parametrize(
    "name, call",
    [
        ("mean", lambda: mae.Gaussian(ROW, COLUMN)),
        ("log_var", lambda: mae.Gaussian(COLUMN, ROW)),
        ("logits", lambda: mae.Categorical(ROW)),
        ("x", lambda: mae.Gaussian(COLUMN, 0.0).log_prob(ROW)),
        ("x", lambda: mae.Gaussian(ROW[None], 0.0).log_prob(COLUMN)),
        ("x", lambda: mae.Gaussian(COLUMN, 0.0).log_prob(ROW[None])),
        ("x", lambda: mae.Gaussian(COLUMN, 0.0).log_prob(COLUMN[:3])),
        ("x", lambda: mae.Categorical(np.zeros((5, 3))).log_prob(ROW)),
        ("x", lambda: mae.Categorical(np.zeros((5, 3))).log_prob(COLUMN)),
        ("eps", lambda: mae.Gaussian(COLUMN, 0.0).sample(ROW)),
        ("eps", lambda: mae.Gaussian(ROW[None], 0.0).sample(COLUMN)),
        ("x", lambda: mae.elbo(standard, standard, ROW, COLUMN)),
        ("eps", lambda: mae.elbo(standard, standard, COLUMN, ROW)),
        ("eps", lambda: mae.elbo(standard, standard, COLUMN, ROW[None])),
        ("z", lambda: mae.infomax_bound(standard, standard, ROW, COLUMN)),
        ("eps", lambda: mae.infomax_bound(standard, standard, COLUMN, ROW)),
        ("eps", lambda: mae.infomax_bound(standard, standard, COLUMN, ROW[None])),
    ],
)
def test_shapes_that_do_not_fit_are_named(name, call):
    with pytest.raises(ValueError, match=rf"^{name} has shape \("):
        call()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_precision_is_kept(dtype):
    a, one_hot = draw(4, 3).astype(dtype), np.eye(3, dtype=dtype)[[0, 1, 2, 0]]
    gaussian, categorical = mae.Gaussian(a, a), mae.Categorical(a)
    for value in (gaussian.mean, gaussian.log_prob(a), gaussian.sample(a), gaussian.kl()):
        assert value.dtype == dtype
    for value in (categorical.probs, categorical.log_prob(one_hot)):
        assert value.dtype == dtype
    for decoder in (lambda z: gaussian, lambda z: categorical):
        auxiliary = lambda x: mae.Gaussian(x, x)
        assert mae.infomax_bound(decoder, auxiliary, a, a).dtype == dtype
        assert mae.elbo(auxiliary, decoder, one_hot, a).dtype == dtype


def test_a_plain_number_does_not_change_the_precision():
    assert mae.Gaussian(np.zeros((4, 1), "float32"), -1.0).log_var.dtype == "float32"


@pytest.mark.parametrize("log_var", [-60.0, -30.0, -1.5, 0.0, 25.0, 60.0])
def test_gaussian_extremes(log_var):
    x = np.array([0.0, 1e-6, 1.0, -37.5, 1e6, -1e6])[:, None]
    p = mae.Gaussian(np.full((1, 1), 0.25), log_var)
    variance = Decimal(log_var).exp()
    for value, (row,) in zip(p.log_prob(x), x):
        square = (Decimal(row) - Decimal("0.25")) ** 2 / variance
        assert_allclose(value, float(-(square + Decimal(log_var) + LOG_2PI) / 2), rtol=1e-13)
    wanted = (variance - 1 - Decimal(log_var) + Decimal("0.0625")) / 2
    assert_allclose(p.kl(), float(wanted), rtol=1e-13)
    wanted = Decimal("0.25") + variance.sqrt() * Decimal("-1.5")
    assert_allclose(p.sample(np.full((1, 1), -1.5)), float(wanted), rtol=1e-13)


@pytest.mark.parametrize("logits", [(700, -700, 0), (-700,) * 3, (700, 700, 699.5), (1e6, 0, -1e6)])
def test_categorical_extremes(logits):
    """Decimals have no overflow at e^(10^6); atol is for e^-1400, which doubles do not have."""
    p = mae.Categorical([logits])
    for row, prob, wanted in zip(np.eye(3), p.probs[0], probabilities(logits)):
        assert_allclose(prob, float(wanted), rtol=1e-12, atol=1e-300)
        assert_allclose(p.log_prob(row[None]), float(wanted.ln()), rtol=1e-12, atol=1e-300)


CHECKS = [check_gaussian_log_prob, check_kl_by_quadrature, check_sample, check_gaussian_expect]
CHECKS += [check_categorical]


@pytest.mark.parametrize("check", CHECKS)
def test(check):
    check()


def test_one_log_var_for_all_can_be_differentiated():
    x = np.array([[0.3], [-1.0]])
    slope = grad(lambda v: mae.Gaussian(0 * x, v).log_prob(x).sum())(0.5)
    assert_allclose(slope, np.sum(x**2 * np.exp(-0.5) - 1) / 2, atol=1e-12)


@pytest.mark.parametrize("x", [[[0.7, 2.0, -3.0]], [[0, 0, 0]], [[2, 0, 1]], [[1 / 3] * 3]])
def test_what_is_not_one_hot_is_refused(x):
    decoder = lambda z: mae.Categorical(z * np.array([1.0, 2.0, 0.0]))
    with pytest.raises(ValueError, match="one-hot"):
        decoder(np.ones((1, 1))).log_prob(x)
    with pytest.raises(ValueError, match="one-hot"):
        mae.exact_log_likelihood(decoder, x)


def test_one_logit_is_no_categorical():
    with pytest.raises(ValueError, match="two categories"):
        mae.Categorical(np.zeros((3, 1)))
