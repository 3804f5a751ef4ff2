"""Far out, where formulas overflow or lose their digits: against 50 decimal digits, no warnings."""

import itertools
import math
from decimal import Decimal, getcontext

import numpy as np
import pytest
from autograd import elementwise_grad, grad
from numpy.testing import assert_allclose

import mae
import nets

getcontext().prec = 50
LOG_2PI = (2 * Decimal("3.14159265358979323846264338327950288419716939937511")).ln()
RTOL = {"float64": 1e-12, "float32": 1e-5}
LARGEST = {dtype: Decimal(float(np.finfo(dtype).max)) for dtype in RTOL}

LOG_VARS = [-60.0, -59.5, -30.0, -8.0, -1.0, 0.0, 0.5, 1.0, 7.0, 30.0, 59.5, 60.0]
POINTS = [0.0, 2.0**-20, -1.0, 3.5, -37.5, 1e3, 1e6, -1e6]


@pytest.fixture(autouse=True)
def strict():
    """Overflow, division by zero and nan are errors; what underflows is 0 as it should be."""
    with np.errstate(over="raise", divide="raise", invalid="raise", under="ignore"):
        yield


def check(values, wanted, sizes, dtype):
    """Relative to the largest term of each sum, where a number of this dtype can hold it."""
    assert values.dtype == dtype and values.shape == (len(wanted),) and np.isfinite(values).all()
    for value, exact, size in zip(values.tolist(), wanted, sizes):
        tolerance = Decimal(RTOL[dtype]) * max(map(abs, size))
        assert abs(Decimal(value) - exact) <= tolerance + Decimal(1e-37), (value, exact)


def columns(rows, dtype):
    """Rows of numbers as arrays (batch, 1), one for each position, and as exact decimals."""
    arrays = [np.array(column, dtype)[:, None] for column in zip(*rows)]
    return arrays, [[Decimal(float(a)) for a in row] for row in np.concatenate(arrays, -1)]


def fits(row, dtype):
    """Whether log p and both of its derivatives have room."""
    x, mean, log_var = (Decimal(float(np.dtype(dtype).type(a))) for a in row)
    e = (x - mean) * (-log_var / 2).exp()
    return max(e * e / 2, abs(e) * (-log_var / 2).exp()) * Decimal("1.01") < LARGEST[dtype]


GAUSSIANS = list(itertools.product(POINTS, [0.25, 1e6, -1e6], LOG_VARS))


@pytest.mark.parametrize("dtype", RTOL)
def test_gaussian_log_prob_and_its_gradients(dtype):
    rows = [row for row in GAUSSIANS if fits(row, dtype)]
    assert len(rows) == len(GAUSSIANS) if dtype == "float64" else len(rows) > len(GAUSSIANS) / 2
    (x, mean, log_var), exact = columns(rows, dtype)
    assert dtype == "float32" or abs(x - mean).max() == 2e6
    log_prob, slopes = [], []
    for a, m, v in exact:
        e = (a - m) * (-v / 2).exp()
        log_prob.append((-e * e / 2, -v / 2, -LOG_2PI / 2))
        slopes.append((e * (-v / 2).exp(), (e * e / 2, Decimal("-0.5"))))
    p = mae.Gaussian(mean, log_var)
    check(p.log_prob(x), [sum(terms) for terms in log_prob], log_prob, dtype)
    by_mean = elementwise_grad(lambda mean: mae.Gaussian(mean, log_var).log_prob(x))(mean)
    by_x = elementwise_grad(p.log_prob)(x)
    by_log_var = elementwise_grad(lambda v: mae.Gaussian(mean, v).log_prob(x))(log_var)
    check(by_mean[:, 0], [d for d, _ in slopes], [(d,) for d, _ in slopes], dtype)
    check(by_x[:, 0], [-d for d, _ in slopes], [(d,) for d, _ in slopes], dtype)
    check(by_log_var[:, 0], [sum(d) for _, d in slopes], [d for _, d in slopes], dtype)


@pytest.mark.parametrize("dtype", RTOL)
def test_samples_and_their_gradients(dtype):
    rows = list(itertools.product([0.0, 0.25, 1e6, -1e6], LOG_VARS, [0.0, 2.0**-20, 1.0, -1e6]))
    (mean, log_var, eps), exact = columns(rows, dtype)
    noise = [(v / 2).exp() * e for _, v, e in exact]
    stds = [(v / 2).exp() for _, v, _ in exact]
    check(
        mae.Gaussian(mean, log_var).sample(eps)[:, 0],
        [m + n for (m, _, _), n in zip(exact, noise)],
        [(m, n) for (m, _, _), n in zip(exact, noise)],
        dtype,
    )
    by_log_var = elementwise_grad(lambda v: mae.Gaussian(mean, v).sample(eps))(log_var)
    check(by_log_var[:, 0], [n / 2 for n in noise], [(n / 2,) for n in noise], dtype)
    by_eps = elementwise_grad(mae.Gaussian(mean, log_var).sample)(eps)
    check(by_eps[:, 0], stds, [(s,) for s in stds], dtype)
    by_mean = elementwise_grad(lambda m: mae.Gaussian(m, log_var).sample(eps))(mean)
    assert by_mean.dtype == dtype and (by_mean == 1).all()


@pytest.mark.parametrize("dtype", RTOL)
def test_kl_and_its_gradients(dtype):
    (mean, log_var), exact = columns(list(itertools.product(POINTS, LOG_VARS)), dtype)
    kl = [(v.exp() / 2, -v / 2, m * m / 2, Decimal("-0.5")) for m, v in exact]
    p = mae.Gaussian(mean, log_var)
    check(p.kl(), [sum(terms) for terms in kl], kl, dtype)
    by_mean, by_log_var = np.split(elementwise_grad(nets.gaussian_kl)(p.params), 2, -1)
    check(by_mean[:, 0], [m for m, _ in exact], [(m,) for m, _ in exact], dtype)
    wanted = [(v.exp() - 1) / 2 for _, v in exact]
    check(by_log_var[:, 0], wanted, [(d,) for d in wanted], dtype)


LOGITS = [(700, -700, 0), (-700, -700, -700), (700, 700, 699.5), (700, 690, 660), (0.25, 0, -700)]
LOGITS += [(1e6, 0, -1e6), (0, -math.inf, 1), (700, -math.inf, -math.inf), (-700, -math.inf, -690)]


def probabilities(logits):
    weights = [Decimal(a).exp() if a > -math.inf else Decimal(0) for a in logits]
    return [weight / sum(weights) for weight in weights]


@pytest.mark.parametrize("dtype", RTOL)
@pytest.mark.parametrize("logits", LOGITS)
def test_categorical_and_its_gradients(logits, dtype):
    """Log-probabilities near 0 are right to the rounding of 1; what no float holds is 0."""
    array, wanted = np.array([logits], dtype), probabilities(logits)
    p, rtol = mae.Categorical(array), RTOL[dtype]
    smallest = float(np.finfo(dtype).tiny)
    probs = [float(prob) for prob in wanted]
    assert_allclose(p.probs[0], probs, rtol=rtol, atol=smallest)
    by_logits = elementwise_grad(lambda a: mae.Categorical(a).probs)(array)
    assert np.isfinite(by_logits).all() and abs(by_logits).max() < rtol  # they sum to 1
    for category, prob in enumerate(wanted):
        x = np.eye(3, dtype=dtype)[[category]]
        log_prob = p.log_prob(x)
        assert log_prob.dtype == p.probs.dtype == dtype
        exact = float(prob.ln()) if prob else -math.inf
        assert_allclose(log_prob, exact, rtol=rtol, atol=np.finfo(dtype).eps)
        slope = elementwise_grad(lambda a: mae.Categorical(a).log_prob(x))(array)
        assert_allclose(slope[0], x[0] - probs, rtol=rtol, atol=np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", RTOL)
@pytest.mark.parametrize("logits", LOGITS)
def test_expectations_over_categories(logits, dtype):
    values = [Decimal(-1) * 10**12, Decimal(2), Decimal(1) / 4]
    array, probs = np.array([logits], dtype), probabilities(logits)
    f = lambda x: x @ np.array([float(value) for value in values], dtype)
    exact = sum(prob * value for prob, value in zip(probs, values))
    expect = lambda a: mae.Categorical(a).expect(f)
    value = expect(array)
    assert value.dtype == dtype
    size = max(abs(prob * v) for prob, v in zip(probs, values))
    assert abs(Decimal(float(value[0])) - exact) <= Decimal(RTOL[dtype]) * size
    slopes = [prob * (v - exact) for prob, v in zip(probs, values)]
    size = max(prob * (abs(v) + abs(exact)) for prob, v in zip(probs, values))
    slope = elementwise_grad(expect)(array)[0]
    for got, wanted in zip(slope.tolist(), slopes):
        assert abs(Decimal(got) - wanted) <= Decimal(RTOL[dtype]) * size


# numbers a, log-variances v and w, noise; decoder and encoder far apart or far too sure
BOUNDS = list(itertools.product([0.25, -1e6], LOG_VARS[::3], LOG_VARS[::3], [0.0, 1.0, -3.5]))


def room(terms, dtype):
    return max(map(abs, terms)) * Decimal("1.01") < LARGEST[dtype]


def compared(function, terms, slope_terms, dtype):
    """function(a, v, w, eps) and its slope in v against sums of terms, where these have room."""
    exact = columns(BOUNDS, dtype)[1]
    held = [room((*terms(*row), *slope_terms(*row)), dtype) for row in exact]
    rows = list(itertools.compress(exact, held))
    assert len(rows) > len(BOUNDS) / 3 and (dtype == "float32" or all(held))
    a, v, w, eps = columns(itertools.compress(BOUNDS, held), dtype)[0]
    wanted, slopes = [terms(*row) for row in rows], [slope_terms(*row) for row in rows]
    check(function(a, v, w, eps), list(map(sum, wanted)), wanted, dtype)
    slope = elementwise_grad(lambda v: function(a, v, w, eps))(v)
    check(slope[:, 0], list(map(sum, slopes)), slopes, dtype)


@pytest.mark.parametrize("dtype", RTOL)
def test_elbo(dtype):
    """x = a, q(z|x) = N(0, e^v), p(x|z) = N(z, e^w)."""

    def terms(a, v, w, eps):
        e, half = (a - (v / 2).exp() * eps) * (-w / 2).exp(), Decimal("0.5")
        return -e * e / 2, -w / 2, -LOG_2PI / 2, -v.exp() / 2, half, v / 2

    def slope_terms(a, v, w, eps):
        z = (v / 2).exp() * eps
        return (a - z) * (-w).exp() * z / 2, -v.exp() / 2, Decimal("0.5")

    function = lambda a, v, w, eps: mae.elbo(
        lambda x: mae.Gaussian(0 * x, v), lambda z: mae.Gaussian(z, w), a, eps
    )
    compared(function, terms, slope_terms, dtype)


@pytest.mark.parametrize("dtype", RTOL)
def test_infomax_bound(dtype):
    """z = a, p(x|z) = N(0, e^v), r(z|x) = N(x, e^w)."""

    def terms(a, v, w, eps):
        e = (a - (v / 2).exp() * eps) * (-w / 2).exp()
        return -e * e / 2, -w / 2, Decimal("0.5")  # H(z) has the log 2 pi, too

    def slope_terms(a, v, w, eps):
        x = (v / 2).exp() * eps
        return ((a - x) * (-w).exp() * x / 2,)

    function = lambda a, v, w, eps: mae.infomax_bound(
        lambda z: mae.Gaussian(0 * z, v), lambda x: mae.Gaussian(x, w), a, eps
    )
    compared(function, terms, slope_terms, dtype)


@pytest.mark.parametrize("dtype", RTOL)
def test_adam(dtype):
    """Algorithm 1 of Kingma & Ba (2015), for gradients whose squares are very large or vanish."""
    sizes = [0.0, 2.0**-40, 1e-4, -3.0, 1e6, -1e15] + [1e150] * (dtype == "float64")
    (gradient,), exact = columns([(size,) for size in sizes], dtype)
    m, v = np.zeros((2, *gradient.shape), dtype)
    first, second = [Decimal(0)] * len(sizes), [Decimal(0)] * len(sizes)
    b1, b2, rate, tiny = Decimal("0.9"), Decimal("0.999"), 2.0**-6, Decimal("1e-8")
    for t, sign in enumerate([1, 1, -1, 1], 1):
        step, m, v = nets.adam(sign * gradient, m, v, t, rate)
        wanted, moments = [], []
        for i, (g,) in enumerate(exact):
            first[i] = b1 * first[i] + (1 - b1) * sign * g
            second[i] = b2 * second[i] + (1 - b2) * g * g
            scale = Decimal(rate) / ((second[i] / (1 - b2**t)).sqrt() + tiny) / (1 - b1**t)
            wanted.append(scale * first[i])
            moments.append((scale * abs(g),))  # the terms of the first moment may cancel
        check(step[:, 0], wanted, moments, dtype)


@pytest.mark.parametrize("dtype", RTOL)
def test_network(dtype):
    """tanh is 1 to the last digit, its slope 0; what has no slope leaves no nan behind."""
    params = np.array([1, 0, -2, 1, 3, 5, 7], dtype)  # 3 tanh(x) + 5 tanh(1 - 2 x) + 7
    x = np.array([[0.0], [1e6], [-1e6], [30.0]], dtype)
    y = nets.mlp(params, x, (1, 2, 1))
    wanted = [5 * math.tanh(1) + 7, 3 - 5 + 7, -3 + 5 + 7, 5]
    assert y.dtype == dtype
    assert_allclose(y[:, 0], wanted, rtol=RTOL[dtype])
    slope = elementwise_grad(lambda x: nets.mlp(params, x, (1, 2, 1)))(x)
    wanted = [3 - 10 / math.cosh(1) ** 2, 0, 0, 0]
    assert_allclose(slope[:, 0], wanted, rtol=RTOL[dtype], atol=1e-15)
    assert np.isfinite(grad(lambda params: nets.mlp(params, x, (1, 2, 1)).sum())(params)).all()


def test_what_float32_cannot_hold_is_infinite_and_numpy_says_so():
    """-1/2 (10^6)^2 e^62 = -4e38. To keep the warning back would slow down every step."""
    one = np.ones((1, 1), "float32")
    with np.errstate(over="warn"), pytest.warns(RuntimeWarning, match="overflow"):
        assert mae.Gaussian(0 * one, -62.0).log_prob(1e6 * one) == -math.inf
    wanted = float(-(Decimal(10) ** 12 * Decimal(62).exp() - 62 + LOG_2PI) / 2)
    in_double = mae.Gaussian(0.0 * one.astype(float), -62.0).log_prob(1e6 * one.astype(float))
    assert_allclose(in_double, wanted, rtol=1e-12)
