"""Networks against sums over single numbers, Adam, and noise that is spread evenly."""

import math
from statistics import NormalDist

import autograd.numpy as np
import pytest
from autograd import grad
from numpy.testing import assert_allclose

import nets

SIZES = (2, 5, 4, 3)


def draw(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape)


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


def plain_mlp(params, x, sizes, start=0, tanh=np.tanh):
    """By operations that autograd differentiates."""
    for layer, (inputs, outputs) in enumerate(zip(sizes[:-1], sizes[1:])):
        stop = start + outputs * (inputs + 1)
        weights = np.reshape(params[..., start:stop], (*params.shape[:-1], outputs, inputs + 1))
        x = x @ np.swapaxes(weights[..., :-1], -1, -2) + weights[..., None, :, -1]
        x, start = tanh(x) if layer < len(sizes) - 2 else x, stop
    return x


LEADS = [(), (3,), (1,), (2, 3), (2, 1), (4, 2, 3), (4, 1, 3), (4, 1, 1)]


@pytest.mark.parametrize("sizes", [SIZES, (2, 5, 3), (1, 4, 4, 2), (3, 1), (1, 1, 1)])
@pytest.mark.parametrize("lead", LEADS)
@pytest.mark.parametrize("models", [(), (3,), (1,), (2, 3)])
def test_networks_have_the_values_and_gradients_of_their_sums(models, lead, sizes):
    """Models, and axes before them, on either side."""
    params, x = draw(*models, nets.mlp_size(sizes)), draw(*lead, 6, sizes[0])
    y, shape = nets.mlp(params, x, sizes), np.broadcast_shapes(models, lead)
    assert y.shape == (*shape, 6, sizes[-1])
    each_params = np.broadcast_to(params, (*shape, params.shape[-1]))
    each_x = np.broadcast_to(x, (*shape, 6, sizes[0]))
    for index in np.ndindex(*shape, 6):
        wanted = naive_mlp(each_params[index[:-1]], each_x[index], sizes)
        assert_allclose(y[index], wanted, rtol=0, atol=1e-12)
    weights = draw(*y.shape)
    for k, arg in enumerate((params, x)):
        loss = lambda mlp: lambda params, x: np.sum(weights * mlp(params, x, sizes))
        got, wanted = (grad(loss(mlp), k)(params, x) for mlp in (nets.mlp, plain_mlp))
        assert got.shape == arg.shape
        assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)


def test_networks_share_one_array():
    """`start` finds a network's weights behind another's; the rest gets no gradient."""
    sizes, others = (2, 4, 3), 7
    params, x = draw(2, others + nets.mlp_size(sizes) + 5), draw(6, 2)
    mine = slice(others, others + nets.mlp_size(sizes))
    assert (nets.mlp(params, x, sizes, others) == nets.mlp(params[:, mine], x, sizes)).all()
    slope = grad(lambda params: np.sum(nets.mlp(params, x, sizes, others) ** 2))(params)
    assert (slope[:, mine] != 0).all()
    assert not slope[:, :others].any() and not slope[:, mine.stop :].any()


def test_a_layout_says_where_each_network_stands():
    layers = {"a": (2, 4, 3), "b": (3, 1), "c": (1, 5, 2)}
    layout, x = nets.Layout(layers), {"a": draw(6, 2), "b": draw(6, 3), "c": draw(6, 1)}
    params = draw(2, layout.size)
    for network, (name, sizes) in zip(layout.networks(params), layers.items()):
        part = layout.part[name]
        assert (network(x[name]) == nets.mlp(params[:, part], x[name], sizes)).all()
    covered = [i for part in layout.part.values() for i in range(layout.size)[part]]
    assert covered == list(range(layout.size))
    initial = layout.init(np.random.default_rng(0))
    rng = np.random.default_rng(0)
    assert (initial == np.concatenate([nets.init_mlp(rng, own) for own in layers.values()])).all()


def test_each_network_has_a_gradient_of_norm_one_at_most():
    layout = nets.Layout({"short": (1, 2), "long": (2, 3)})
    grad = np.concatenate([np.full((2, 4), [[0.1], [5.0]]), np.full((2, 9), 2.0)], -1)
    clipped = layout.clip(grad)
    assert_allclose(clipped[:, :4], [[0.1] * 4, [0.5] * 4], rtol=1e-15)
    assert_allclose(clipped[:, 4:], 1 / 3, rtol=1e-15)


def test_initial_weights_have_their_sizes():
    sizes = (4, 200, 6)
    params = nets.init_mlp(np.random.default_rng(0), sizes)
    assert params.shape == (nets.mlp_size(sizes),) == (200 * 5 + 6 * 201,)
    first, last = params[:1000].reshape(200, 5), params[1000:].reshape(6, 201)
    for weights, std in ((first[:, :-1], 0.5), (first[:, -1], 1), (last[:, :-1], 0.1 / 200**0.5)):
        assert abs(weights.std() / std - 1) < 4 / math.sqrt(2 * weights.size)
    assert not last[:, -1].any()


# --------------------------------------------------------------------------------- Adam


def test_adam_climbs_by_the_learning_rate_whatever_the_size_of_a_constant_gradient():
    """Its first steps stand in golden.json and, far out, in test_extremes.py."""
    gradient = np.array([3.0, -0.2, 1e-3])
    m = v = np.zeros(3)
    for t in range(1, 2001):
        step, m, v = nets.adam(gradient, m, v, t, 0.05)
        assert_allclose(step, [0.05, -0.05, 0.05], rtol=2e-5)  # 1e-8 / 1e-3 is Adam's own epsilon


# --------------------------------------------------------------------------------- noise


def test_lattice_points_are_normal_together_and_by_themselves():
    draws, n, dims = 4000, 12, 4
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
def test_a_lattice_spreads_every_draw(n):
    noise = nets.normal_lattice(np.random.default_rng(1), 20, n, 4)
    u = np.sort(np.vectorize(NormalDist().cdf)(noise), axis=1)
    gaps = n * np.diff(u, axis=1, append=u[:, :1] + 1)
    assert_allclose(gaps[..., 0], 1, atol=1e-3)
    assert gaps.max() < 2  # multiples of the golden ratio; independent points leave about log n


def test_the_draws_of_a_lattice_differ():
    noise = nets.normal_lattice(np.random.default_rng(2), 3, 8, 3)
    assert len(np.unique(noise[:, 0, :].round(9))) == 9
    again = nets.normal_lattice(np.random.default_rng(2), 3, 8, 3)
    assert (noise == again).all()


def test_the_normal_quantile_is_that_of_its_cell():
    cells = np.arange(0, 2**16, 7)
    wanted = [NormalDist().inv_cdf((cell + 0.5) / 2**16) for cell in cells]
    for inside in (0, 0.5, 0.999):
        values = nets.normal_quantile((cells + inside) / 2**16)
        assert_allclose(values, wanted, rtol=0, atol=1e-5)
    every = nets.normal_quantile(np.arange(2**16) / 2**16)
    assert abs(every.mean()) < 1e-12 and abs(every.var() - 1) < 2e-5 and every.max() < 4.33


def test_even_numbers_come_equally_often():
    """Rows of an array, in training."""
    rows = (10 * nets.evenly(np.random.default_rng(0), 64)).astype(int)
    assert set(np.bincount(rows, minlength=10)) <= {6, 7}
