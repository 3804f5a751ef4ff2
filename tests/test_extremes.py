"""Far out, where formulas overflow or lose their digits: against 50 decimal digits, no warnings."""

import itertools
import math
from decimal import Decimal

import numpy as np
import pytest
from autograd import elementwise_grad, grad
from numpy.testing import assert_allclose

import mae
import nets
from truths import DECIMAL_LOG_2PI as LOG_2PI
from truths import probabilities

RTOL = {"float64": 1e-12, "float32": 1e-5}
LARGEST = {dtype: Decimal(float(np.finfo(dtype).max)) for dtype in RTOL}

LOG_VARS = [-60.0, -59.5, -30.0, -8.0, -1.0, 0.0, 0.5, 1.0, 7.0, 30.0, 59.5, 60.0]
POINTS = [0.0, 2.0**-20, -1.0, 3.5, -37.5, 1e3, 1e6, -1e6]


@pytest.fixture(autouse=True)
def strict():
    """Overflow, division by zero and nan are errors; what underflows is 0 as it should be."""
    with np.errstate(over="raise", divide="raise", invalid="raise", under="ignore"):
        yield


def check(values, sums, dtype):
    """Against sums of exact terms, relative to the largest term of each."""
    values = values.reshape(len(sums))
    assert values.dtype == dtype and np.isfinite(values).all()
    for value, terms in zip(values.tolist(), sums):
        tolerance = Decimal(RTOL[dtype]) * max(map(abs, terms))
        assert abs(Decimal(value) - sum(terms)) <= tolerance + Decimal("1e-37"), (value, terms)


def columns(rows, dtype):
    """Rows of numbers as arrays (batch, 1), one for each position, and as exact decimals."""
    arrays = [np.array(column, dtype)[:, None] for column in zip(*rows)]
    return arrays, [[Decimal(float(a)) for a in row] for row in np.concatenate(arrays, -1)]


def std(v):
    return (v / 2).exp()


def error(mean, v, x):
    return (x - mean) / std(v)


HALF = Decimal("0.5")
# numbers a, log-variances v and w, noise; decoder and encoder far apart or far too sure
BOUNDS = [[0.25, -1e6], LOG_VARS[::3], LOG_VARS[::3], [0.0, 1.0, -3.5]]
FAR_OUT = {  # function, values of its arguments, terms of its value, of its slopes by argument
    "log_prob": (
        lambda mean, v, x: mae.Gaussian(mean, v).log_prob(x),
        [[0.25, 1e6, -1e6], LOG_VARS, POINTS],
        lambda mean, v, x: (-(error(mean, v, x) ** 2) / 2, -v / 2, -LOG_2PI / 2),
        {
            0: lambda mean, v, x: (error(mean, v, x) / std(v),),
            1: lambda mean, v, x: (error(mean, v, x) ** 2 / 2, -HALF),
            2: lambda mean, v, x: (-error(mean, v, x) / std(v),),
        },
    ),
    "sample": (
        lambda mean, v, eps: mae.Gaussian(mean, v).sample(eps),
        [[0.0, 0.25, 1e6, -1e6], LOG_VARS, [0.0, 2.0**-20, 1.0, -1e6]],
        lambda mean, v, eps: (mean, std(v) * eps),
        {
            0: lambda mean, v, eps: (Decimal(1),),
            1: lambda mean, v, eps: (std(v) * eps / 2,),
            2: lambda mean, v, eps: (std(v),),
        },
    ),
    "kl": (
        lambda mean, v: mae.Gaussian(mean, v).kl(),
        [POINTS, LOG_VARS],
        lambda mean, v: (v.exp() / 2, -v / 2, mean * mean / 2, -HALF),
        {0: lambda mean, v: (mean,), 1: lambda mean, v: ((v.exp() - 1) / 2,)},
    ),
    "elbo of x = a, q(z|x) = N(0, e^v), p(x|z) = N(z, e^w)": (
        lambda a, v, w, eps: mae.elbo(
            lambda x: mae.Gaussian(0 * x, v), lambda z: mae.Gaussian(z, w), a, eps
        ),
        BOUNDS,
        lambda a, v, w, eps: (
            -(error(std(v) * eps, w, a) ** 2) / 2, -w / 2, -LOG_2PI / 2, -v.exp() / 2, HALF, v / 2,
        ),
        {
            1: lambda a, v, w, eps: (
                error(std(v) * eps, w, a) / std(w) * std(v) * eps / 2, -v.exp() / 2, HALF,
            )
        },
    ),
    "infomax bound of z = a, p(x|z) = N(0, e^v), r(z|x) = N(x, e^w)": (
        lambda a, v, w, eps: mae.infomax_bound(
            lambda z: mae.Gaussian(0 * z, v), lambda x: mae.Gaussian(x, w), a, eps
        ),
        BOUNDS,  # H(z) has the log 2 pi, too
        lambda a, v, w, eps: (-(error(std(v) * eps, w, a) ** 2) / 2, -w / 2, HALF),
        {1: lambda a, v, w, eps: (error(std(v) * eps, w, a) / std(w) * std(v) * eps / 2,)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("dtype", RTOL)
@pytest.mark.parametrize("name", FAR_OUT)
def test_values_and_slopes_far_out_are_right_where_they_have_room(name, dtype):
    function, choices, terms, slopes = FAR_OUT[name]
    rows = list(itertools.product(*choices))
    exact = columns(rows, dtype)[1]
    sums = [[f(*row) for f in (terms, *slopes.values())] for row in exact]
    held = [max(map(abs, itertools.chain(*own))) * Decimal("1.01") < LARGEST[dtype] for own in sums]
    assert sum(held) > len(rows) / 3 and (dtype == "float32" or all(held))
    arrays = columns(itertools.compress(rows, held), dtype)[0]
    values, *wanted = zip(*itertools.compress(sums, held))
    check(function(*arrays), values, dtype)
    for argument, own in zip(slopes, wanted):
        check(elementwise_grad(function, argument)(*arrays), own, dtype)


LOGITS = [(700, -700, 0), (-700, -700, -700), (700, 700, 699.5), (700, 690, 660), (0.25, 0, -700)]
LOGITS += [(1e6, 0, -1e6), (0, -math.inf, 1), (700, -math.inf, -math.inf), (-700, -math.inf, -690)]


@pytest.mark.parametrize("dtype", RTOL)
@pytest.mark.parametrize("logits", LOGITS)
def test_categories_far_out_have_their_probabilities_and_slopes(logits, dtype):
    """Log-probabilities near 0 are right to the rounding of 1; what no float holds is 0."""
    array, wanted, limits = np.array([logits], dtype), probabilities(logits), np.finfo(dtype)
    p, rtol, probs = mae.Categorical(array), RTOL[dtype], list(map(float, wanted))
    assert_allclose(p.probs[0], probs, rtol=rtol, atol=float(limits.tiny))
    by_logits = elementwise_grad(lambda a: mae.Categorical(a).probs)(array)
    assert np.isfinite(by_logits).all() and abs(by_logits).max() < rtol  # they sum to 1
    for category, prob in enumerate(wanted):
        x = np.eye(3, dtype=dtype)[[category]]
        log_prob = p.log_prob(x)
        assert log_prob.dtype == p.probs.dtype == dtype
        exact = float(prob.ln()) if prob else -math.inf
        assert_allclose(log_prob, exact, rtol=rtol, atol=limits.eps)
        slope = elementwise_grad(lambda a: mae.Categorical(a).log_prob(x))(array)
        assert_allclose(slope[0], x[0] - probs, rtol=rtol, atol=limits.eps)


@pytest.mark.parametrize("dtype", RTOL)
@pytest.mark.parametrize("logits", LOGITS)
def test_expectations_over_categories_far_out_are_right(logits, dtype):
    values = [Decimal(-1) * 10**12, Decimal(2), Decimal(1) / 4]
    array, probs = np.array([logits], dtype), probabilities(logits)
    f = lambda x: x @ np.array([float(value) for value in values], dtype)
    exact = sum(prob * value for prob, value in zip(probs, values))
    expect = lambda a: mae.Categorical(a).expect(f)
    check(expect(array), [[prob * value for prob, value in zip(probs, values)]], dtype)
    slopes = [prob * (v - exact) for prob, v in zip(probs, values)]
    size = max(prob * (abs(v) + abs(exact)) for prob, v in zip(probs, values))
    slope = elementwise_grad(expect)(array)[0]
    for got, wanted in zip(slope.tolist(), slopes):
        assert abs(Decimal(got) - wanted) <= Decimal(RTOL[dtype]) * size


@pytest.mark.parametrize("dtype", RTOL)
def test_adam_steps_alike_at_every_size_of_the_gradient(dtype):
    """Algorithm 1 of Kingma & Ba (2015), for gradients whose squares are very large or vanish."""
    sizes = [0.0, 2.0**-40, 1e-4, -3.0, 1e6, -1e15] + [1e150] * (dtype == "float64")
    (gradient,), exact = columns([(size,) for size in sizes], dtype)
    m, v = np.zeros((2, *gradient.shape), dtype)
    first, second = [Decimal(0)] * len(sizes), [Decimal(0)] * len(sizes)
    b1, b2, rate, tiny = Decimal("0.9"), Decimal("0.999"), 2.0**-6, Decimal("1e-8")
    for t, sign in enumerate([1, 1, -1, 1], 1):
        step, m, v = nets.adam(sign * gradient, m, v, t, rate)
        wanted = []
        for i, (g,) in enumerate(exact):
            first[i] = b1 * first[i] + (1 - b1) * sign * g
            second[i] = b2 * second[i] + (1 - b2) * g * g
            scale = Decimal(rate) / ((second[i] / (1 - b2**t)).sqrt() + tiny) / (1 - b1**t)
            gross = scale * abs(g)  # the terms of the first moment may cancel
            wanted.append((gross, scale * first[i] - gross))
        check(step, wanted, dtype)


@pytest.mark.parametrize("dtype", RTOL)
def test_a_network_far_out_is_flat_and_never_nan(dtype):
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
