import itertools
import math
from statistics import NormalDist

import autograd.numpy as np
import pytest
from autograd import elementwise_grad, grad
from autograd.extend import defvjp, primitive
from autograd.test_util import check_grads
from numpy.testing import assert_allclose

import nets


def draw(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape)


# ------------------------------------------------- each primitive against its own definition


def plain_log_prob(x, params):
    mean, log_var = np.split(params, 2, -1)
    square = (x - mean) ** 2 / np.exp(log_var)
    return np.sum(-0.5 * (square + log_var + math.log(2 * math.pi)), -1)


def plain_sample(params, eps):
    mean, log_var = np.split(params, 2, -1)
    return mean + np.sqrt(np.exp(log_var)) * eps


def plain_kl(params):
    mean, log_var = np.split(params, 2, -1)
    return 0.5 * np.sum(np.exp(log_var) - 1 - log_var + mean**2, -1)


def plain_probs(logits):
    return np.exp(logits) / np.sum(np.exp(logits), -1, keepdims=True)


def plain_categorical_log_prob(x, logits):
    return np.sum(x * np.log(plain_probs(logits)), -1)


def plain_categorical_mean(logits, values):
    return sum(plain_probs(logits)[..., c] * values[c] for c in range(logits.shape[-1]))


SIZES = (2, 5, 4, 3)


def plain_mlp(params, x, sizes=SIZES, start=0, tanh=np.tanh):
    for layer, (inputs, outputs) in enumerate(zip(sizes[:-1], sizes[1:])):
        stop = start + outputs * (inputs + 1)
        weights = np.reshape(params[..., start:stop], (*params.shape[:-1], outputs, inputs + 1))
        x = x @ np.swapaxes(weights[..., :-1], -1, -2) + weights[..., None, :, -1]
        x, start = tanh(x) if layer < len(sizes) - 2 else x, stop
    return x


def one_hot(*shape):
    return np.eye(3)[np.random.default_rng(0).integers(3, size=shape)]


LOGITS = [draw(4, 3), draw(2, 4, 3)]
CASES = {  # name of the function in nets -> its definition, and arguments to compare on
    "gaussian_log_prob": (
        plain_log_prob,
        [
            *((draw(4, d), draw(4, 2 * d)) for d in (1, 3)),
            (draw(4, 3), draw(2, 4, 6)),
            (draw(2, 4, 3), draw(4, 6)),
            (draw(5, 1, 4, 1), draw(2, 1, 2)),
        ],
    ),
    "gaussian_sample": (
        plain_sample,
        [(draw(4, 6), draw(4, 3)), (draw(2, 4, 2), draw(4, 1)), (draw(1, 6), draw(5, 2, 4, 3))],
    ),
    "gaussian_kl": (plain_kl, [(draw(4, 2),), (draw(2, 4, 6),)]),
    "categorical_log_prob": (
        plain_categorical_log_prob,
        [(one_hot(4), LOGITS[0]), (one_hot(4), LOGITS[1]), (one_hot(2, 1), LOGITS[0])],
    ),
    "categorical_mean": (
        plain_categorical_mean,
        [
            *((LOGITS[0], draw(3, *models, 4)) for models in ((), (2,))),
            *((LOGITS[1], draw(3, models, 4)) for models in (1, 2)),
        ],
    ),
    "mlp": (
        plain_mlp,
        [
            (draw(*models, nets.mlp_size(SIZES)), draw(*lead, 6, 2))
            for models, lead in itertools.product(
                [(), (3,), (1,), (2, 3)], [(), (3,), (1,), (2, 3), (4, 2, 3), (4, 1, 3), (4, 1, 1)]
            )
        ],
    ),
}
PAIRS = [(name, i) for name, (_, cases) in CASES.items() for i in range(len(cases))]


def check_definition(name, i=0):
    """Values and gradients, in every argument, to 1e-12 of the plain formula's."""
    plain, cases = CASES[name]
    args = cases[i]
    fast = getattr(nets, name)
    if name == "mlp":
        fast = lambda params, x: nets.mlp(params, x, SIZES)
    value, wanted = fast(*args), plain(*args)
    assert value.shape == wanted.shape
    assert_allclose(value, wanted, rtol=1e-12, atol=1e-12)
    weights = draw(*wanted.shape)
    for argument in range(len(args)):
        if name == "categorical_log_prob" and argument == 0:
            continue  # x is one-hot: data
        got, wanted = (
            grad(lambda *args: np.sum(weights * f(*args)), argument)(*args) for f in (fast, plain)
        )
        assert got.shape == args[argument].shape
        assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name, i", PAIRS)
def test_definition(name, i):
    check_definition(name, i)


@pytest.mark.parametrize("name, i", [(name, i) for name, i in PAIRS if name != "mlp" or i % 4 == 1])
def test_finite_differences(name, i):
    args = CASES[name][1][i]
    fast = getattr(nets, name)
    if name == "mlp":
        fast = lambda params, x: nets.mlp(params, x, SIZES)
    if name == "categorical_log_prob":
        x, *args = args
        fast = lambda logits: nets.categorical_log_prob(x, logits)
    check_grads(fast, modes=["rev"], order=1)(*args)


def test_the_checker_is_checked():
    """A gradient that is 0.05 % off must not pass."""
    kl = primitive(lambda params: nets.gaussian_kl(params))
    true = elementwise_grad(nets.gaussian_kl)
    for scale in (1, 1.0005):
        defvjp(kl, lambda ans, params: lambda g: scale * g[..., None] * true(params))
        if scale == 1:
            check_grads(kl, modes=["rev"], order=1)(draw(4, 2))
        else:
            with pytest.raises(AssertionError):
                check_grads(kl, modes=["rev"], order=1)(draw(4, 2))


# ------------------------------------------------------------------------------- networks


def naive_mlp(params, x, sizes):
    """One network and one example: sums over single numbers."""
    position, layers = 0, len(sizes) - 1
    for layer in range(layers):
        out = []
        for _ in range(sizes[layer + 1]):
            total = params[position + sizes[layer]]
            for i in range(sizes[layer]):
                total += params[position + i] * x[i]
            out.append(math.tanh(total) if layer < layers - 1 else total)
            position += sizes[layer] + 1
        x = out
    return x


def check_mlp_by_loops(models=(3,), lead=(2, 3), sizes=SIZES):
    params, x = draw(*models, nets.mlp_size(sizes)), draw(*lead, 6, sizes[0])
    y = nets.mlp(params, x, sizes)
    shape = np.broadcast_shapes(models, lead)
    assert y.shape == (*shape, 6, sizes[-1])
    params = np.broadcast_to(params, (*shape, params.shape[-1]))
    x = np.broadcast_to(x, (*shape, 6, sizes[0]))
    for index in np.ndindex(*shape, 6):
        wanted = naive_mlp(params[index[:-1]], x[index], sizes)
        assert_allclose(y[index], wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sizes", [(2, 5, 3), (1, 4, 4, 2), (3, 1), (1, 1, 1)])
@pytest.mark.parametrize("lead", [(), (3,), (1,), (2, 3), (2, 1)])
@pytest.mark.parametrize("models", [(), (3,), (1,), (2, 3)])
def test_mlp_by_loops(models, lead, sizes):
    check_mlp_by_loops(models, lead, sizes)


def test_networks_share_one_array():
    """`start` finds a network's weights behind another's; the rest gets no gradient."""
    sizes, others = (2, 4, 3), 7
    params, x = draw(2, others + nets.mlp_size(sizes) + 5), draw(6, 2)
    mine = slice(others, others + nets.mlp_size(sizes))
    assert (nets.mlp(params, x, sizes, others) == nets.mlp(params[:, mine], x, sizes)).all()
    slope = grad(lambda params: np.sum(nets.mlp(params, x, sizes, others) ** 2))(params)
    assert (slope[:, mine] != 0).all()
    assert not slope[:, :others].any() and not slope[:, mine.stop :].any()


def test_initial_weights():
    sizes = (4, 200, 6)
    params = nets.init_mlp(np.random.default_rng(0), sizes)
    assert params.shape == (nets.mlp_size(sizes),) == (200 * 5 + 6 * 201,)
    first, last = params[:1000].reshape(200, 5), params[1000:].reshape(6, 201)
    for weights, std in ((first[:, :-1], 0.5), (first[:, -1], 1), (last[:, :-1], 0.1 / 200**0.5)):
        assert abs(weights.std() / std - 1) < 4 / math.sqrt(2 * weights.size)
    assert not last[:, -1].any()


# --------------------------------------------------------------------------------- Adam


def check_adam_first_steps():
    """Kingma & Ba, algorithm 1, by hand for the gradients 2, -1, 4."""
    m = v = np.zeros(1)
    m_hand = v_hand = 0.0
    for t, g in enumerate([2.0, -1.0, 4.0], 1):
        step, m, v = nets.adam(np.array([g]), m, v, t, 0.01)
        m_hand, v_hand = 0.9 * m_hand + 0.1 * g, 0.999 * v_hand + 0.001 * g * g
        bias_m, bias_v = 1 - 0.9**t, 1 - 0.999**t
        wanted = 0.01 * (m_hand / bias_m) / (math.sqrt(v_hand / bias_v) + 1e-8)
        assert_allclose([step[0], m[0], v[0]], [wanted, m_hand, v_hand], rtol=1e-12)
    assert_allclose([m_hand, v_hand], [0.472, 0.020991004], rtol=1e-12)


def check_adam_constant_gradient():
    """Uphill by the learning rate, whatever the gradient's size."""
    gradient = np.array([3.0, -0.2, 1e-3])
    m = v = np.zeros(3)
    for t in range(1, 2001):
        step, m, v = nets.adam(gradient, m, v, t, 0.05)
        assert_allclose(step, [0.05, -0.05, 0.05], rtol=2e-5)  # 1e-8 / 1e-3 is Adam's own epsilon


# --------------------------------------------------------------------------------- noise


def check_lattice_margins(draws=4000, n=12, dims=4):
    noise = nets.normal_lattice(np.random.default_rng(0), draws, n, dims)
    assert noise.shape == (draws, n, dims)
    for power, wanted in ((1, 0), (2, 1), (3, 0), (4, 3)):
        means = (noise**power).mean(1)  # independent between draws only
        error = means.std(0) / math.sqrt(draws)
        assert (np.abs(means.mean(0) - wanted) < 4 * error + 1e-5).all()  # 1e-5: the quantile's own
    position = noise[:, 5]  # a point by itself is as normal as all of them
    assert (np.abs(position.mean(0)) < 4 / math.sqrt(draws)).all()
    assert (np.abs(position.var(0) - 1) < 4 * math.sqrt(2 / draws)).all()


@pytest.mark.parametrize("n", [7, 64])
def test_lattice_spreads_every_draw(n):
    noise = nets.normal_lattice(np.random.default_rng(1), 20, n, 4)
    u = np.sort(np.vectorize(NormalDist().cdf)(noise), axis=1)
    gaps = n * np.diff(u, axis=1, append=u[:, :1] + 1)
    assert_allclose(gaps[..., 0], 1, atol=1e-3)
    assert gaps.max() < 2  # multiples of the golden ratio; independent points leave about log n


def test_lattice_draws_differ():
    noise = nets.normal_lattice(np.random.default_rng(2), 3, 8, 3)
    assert len(np.unique(noise[:, 0, :].round(9))) == 9
    again = nets.normal_lattice(np.random.default_rng(2), 3, 8, 3)
    assert (noise == again).all()


def check_normal_quantile():
    cells = np.arange(0, 2**16, 7)
    wanted = [NormalDist().inv_cdf((cell + 0.5) / 2**16) for cell in cells]
    for inside in (0, 0.5, 0.999):
        values = nets.normal_quantile((cells + inside) / 2**16)
        assert_allclose(values, wanted, rtol=0, atol=1e-5)
    every = nets.normal_quantile(np.arange(2**16) / 2**16)
    assert abs(every.mean()) < 1e-12 and abs(every.var() - 1) < 2e-5 and every.max() < 4.33


CHECKS = [check_adam_first_steps, check_adam_constant_gradient, check_lattice_margins]
CHECKS += [check_normal_quantile]


@pytest.mark.parametrize("check", CHECKS)
def test(check):
    check()
