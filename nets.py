"""Networks as one autograd node each, Adam, and noise that is spread evenly: what must be fast.

Shapes: the last two axes are (batch, features); axes before them broadcast, and a leading axis of
`models` makes K networks train side by side. A network is one flat array of weights, (..., size).
"""

import math
from itertools import pairwise

import numpy as np
from autograd.extend import defvjp_argnums, primitive


def sum_to(grad, shape):
    """Undo broadcasting: sum `grad` over the axes along which `shape` was repeated."""
    if grad.shape == shape:
        return grad
    grad = grad.sum(tuple(range(grad.ndim - len(shape))))
    return grad.sum(tuple(i for i, n in enumerate(shape) if n < grad.shape[i]), keepdims=True)


# ------------------------------------------------------------------------------- networks


def mlp_size(layers):
    """Number of weights of a fully connected network with these layer sizes."""
    return sum((inputs + 1) * outputs for inputs, outputs in pairwise(layers))


def init_mlp(rng, layers):
    """Flat float64 weights: N(0, 1 / inputs), and a last layer ten times smaller, without bias.

    So every network starts close to N(0, 1) whatever its input: with no information in the code.
    """
    params = rng.standard_normal(mlp_size(layers))
    for weights in _matrices(params, layers):
        weights[:, :-1] /= math.sqrt(weights.shape[1] - 1)
    weights[:, :-1] *= 0.1
    weights[:, -1] = 0
    return params


class Layout:
    """Where the weights of several networks, {name: layer sizes}, stand in one flat array."""

    def __init__(self, layers):
        self.layers = layers
        self.sizes = [mlp_size(own) for own in layers.values()]
        ends = np.cumsum([0, *self.sizes]).tolist()
        self.starts, self.size = ends[:-1], ends[-1]
        self.part = dict(zip(layers, map(slice, ends[:-1], ends[1:])))  # of each network's weights

    def init(self, rng):
        """Initial weights of all networks, (size,)."""
        return np.concatenate([init_mlp(rng, own) for own in self.layers.values()])

    def networks(self, params):
        """The networks as functions of their inputs, for these weights of all of them."""
        network = lambda own, start: lambda x: mlp(params, x, own, start)
        return map(network, self.layers.values(), self.starts)

    def clip(self, grad):
        """A gradient (..., size) with the norm of each network's part at most 1."""
        norm = np.sqrt(np.add.reduceat(grad * grad, self.starts, -1))
        return grad * np.repeat(1 / np.maximum(norm, 1), self.sizes, -1)


def mlp(params, x, layers, start=0):
    """W_L tanh(... tanh(W_1 [x; 1]) ...; 1), a fully connected network with tanh hidden layers.

    params (..., P) with this network's weights from `start` on, layer by layer, row by row, the
    bias last in each row; x (..., batch, layers[0]) -> (..., batch, layers[-1]).
    """
    return _mlp(params, x, layers, start, [])


@primitive
def _mlp(params, x, layers, start, tape):
    """`tape` comes in empty and takes the weights and input of each layer along for the way back.

    Inputs are columns, (..., features + 1, batch): the batch runs along contiguous memory, the bias
    is the weight of a row of ones, and one matrix product does a whole layer.
    """
    if x.ndim < 2 or x.shape[-1] != layers[0]:
        raise ValueError(f"a network of {layers[0]} inputs got an array of shape {x.shape}")
    *hidden, last = _matrices(params, layers, start)
    column = _with_ones(_fold(x, params.ndim - 1).swapaxes(-1, -2))
    for weights in hidden:
        tape.append((weights, column))
        column = _with_ones(weights @ column, np.tanh)
    tape.append((last, column))
    return _unfold((last @ column).swapaxes(-1, -2), x.shape)


def _mlp_vjp(argnums, ans, args, kwargs):
    params, x, layers, start, tape = args

    def vjp(g):  # d/dW = delta h^T,  d/dh = W^T delta,  d/d(tanh's input) = (1 - h^2) d/dh
        delta = _fold(g, params.ndim - 1).swapaxes(-1, -2)
        grads = np.zeros_like(params)
        for layer, grad in reversed(list(enumerate(_matrices(grads, layers, start)))):
            weights, column = tape[layer]
            if 0 in argnums:
                grad[...] = sum_to(delta @ column.swapaxes(-1, -2), weights.shape)
            if layer == 0 and 1 not in argnums:
                return (grads,)
            back = weights[..., :-1].swapaxes(-1, -2)
            # matmul takes twenty times as long over an inner axis of one
            delta = back * delta if delta.shape[-2] == 1 else back @ delta
            if layer > 0:
                h = column[..., :-1, :]
                slope = h * h
                delta *= np.subtract(1, slope, out=slope)
        x_grad = sum_to(_unfold(delta.swapaxes(-1, -2), g.shape), x.shape)
        return tuple((grads, x_grad)[i] for i in argnums)

    return vjp


defvjp_argnums(_mlp, _mlp_vjp)


def _matrices(params, layers, start=0):
    """Views (..., outputs, inputs + 1) into the flat array; the bias is the last column."""
    for inputs, outputs in pairwise(layers):
        stop = start + outputs * (inputs + 1)
        yield params[..., start:stop].reshape(*params.shape[:-1], outputs, inputs + 1)
        start = stop


def _with_ones(column, function=np.positive):
    """function(column), and a row of ones beneath it: (..., n, batch) -> (..., n + 1, batch)."""
    out = np.empty((*column.shape[:-2], column.shape[-2] + 1, column.shape[-1]), column.dtype)
    function(column, out=out[..., :-1, :])
    out[..., -1, :] = 1
    return out


def _fold(x, lead):
    """(extra..., lead..., batch, features) -> (lead..., extra * batch, features)."""
    extra = x.ndim - 2 - lead  # axes before the models' are batch, too: one product per layer
    if extra <= 0:
        return x
    x = x.transpose(*range(extra, extra + lead), *range(extra), -2, -1)
    return x.reshape(*x.shape[:lead], -1, x.shape[-1])


def _unfold(y, shape):
    """The inverse of `_fold`, for what was made of an array of this shape (features may differ)."""
    extra, lead = len(shape) - y.ndim, y.ndim - 2
    if extra <= 0:
        return y
    y = y.reshape(*y.shape[:lead], *shape[:extra], shape[-2], y.shape[-1])
    return y.transpose(*range(lead, lead + extra), *range(lead), -2, -1)


# ------------------------------------------------------------------------------ optimisation


def adam(grad, m, v, t, learning_rate):
    """One step uphill of Adam (Kingma & Ba, 2015), t = 1, 2, ... -> (step, m, v); all like grad."""
    m = m + 0.1 * (grad - m)
    v = v + 0.001 * (grad * grad - v)
    rate = learning_rate / (1 - 0.9**t)
    return rate * m / (np.sqrt(v / (1 - 0.999**t)) + 1e-8), m, v


def recycle_memory():
    """Let glibc keep the blocks that a training step frees, which makes it twice as fast.

    Arrays above 128 KiB go back to the system until a larger block was freed; so free one.
    """
    np.empty(1 << 24, np.uint8)


# ------------------------------------------------------------------------------------- noise

GOLDEN = (math.sqrt(5) - 1) / 2

# the middles of 2^16 equally likely intervals, from the distribution function at even points
_Z = np.linspace(-4.5, 0, 1801)
_CDF = [0.5 * math.erfc(-z / math.sqrt(2)) for z in _Z]
_LOWER = np.interp((np.arange(2**15) + 0.5) / 2**16, _CDF, _Z)
_QUANTILES = np.append(_LOWER, -_LOWER[::-1])


def normal_quantile(u):
    """Inverse of the standard normal distribution function, 0 <= u < 1, by a table: for noise.

    A uniform u gives a normal rounded to 65,536 values within 4.33; its variance is 1 to 2e-5.
    """
    return _QUANTILES[(u * len(_QUANTILES)).astype(np.intp)]


def normal_lattice(rng, draws, n, dims):
    """(draws, n, dims) standard normals; each draw spreads its n points evenly: a shifted lattice.

    Coordinate 0 is i / n, the others the golden ratio's multiples, all shifted at random: a point
    is still uniform, but the n leave no gaps. The shifts are spread evenly over the draws, whose
    errors so make up for each other. From the third on, coordinates are shuffled among the points.
    """
    stride = np.array([1 / n, *[GOLDEN] * (dims - 1)])[:, None]
    shift = rng.permuted(np.tile(np.arange(draws)[:, None], dims), axis=0) + rng.random(dims)
    u = stride * np.arange(n) + shift[..., None] / draws  # (draws, dims, n)
    if dims > 2:
        u[:, 2:] = rng.permuted(u[:, 2:], axis=-1)
    return normal_quantile(u % 1).swapaxes(-1, -2)


def evenly(rng, n):
    """n numbers in [0, 1), evenly spaced from a random start."""
    return (np.arange(n) + rng.random()) / n
