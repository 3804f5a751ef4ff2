"""Networks, densities with hand-written derivatives, Adam and noise: everything that must be fast.

A user of the method reads `mae.py`; this file holds the few tricks that make it quick. Each
differentiable function here is one autograd node, because at these sizes the tape costs as much as
the arithmetic: the value is the formula of its docstring, the derivative stands beneath it.

Shapes: the last two axes are (batch, features); axes before them broadcast, and a leading axis of
`models` makes K networks train side by side. A network is one flat array of weights, (..., size).
What a float32 cannot hold is inf, and NumPy warns of the overflow.
"""

import math

import numpy as np
from autograd.extend import defvjp, defvjp_argnums, primitive

LOG_2PI = math.log(2 * math.pi)  # a Python float: a NumPy float64 would turn float32 into float64
GOLDEN = (math.sqrt(5) - 1) / 2


def halves(params):
    """(..., 2 features) -> mean and log-variance, (..., features) each; views, not copies."""
    features = params.shape[-1] // 2
    return params[..., :features], params[..., features:]


def _join(mean_grad, log_var_grad, params):
    """The gradient in params from those in its halves; in memory like params, as networks like."""
    grad = np.empty_like(params)
    for half, half_grad in zip(halves(grad), (mean_grad, log_var_grad)):
        half[...] = _sum_to(half_grad, half.shape)
    return grad


def _sum_features(a):
    return a[..., 0] if a.shape[-1] == 1 else a.sum(-1)  # a sum of one is slow in NumPy


def _sum_to(grad, shape):
    """Undo broadcasting: sum `grad` over the axes along which `shape` was repeated."""
    if grad.shape == shape:
        return grad
    grad = grad.sum(tuple(range(grad.ndim - len(shape))))
    return grad.sum(tuple(i for i, n in enumerate(shape) if n < grad.shape[i]), keepdims=True)


@primitive
def add(a, b, weight=1):
    """a + weight b. Autograd's own operators, made for any array-like, cost up to twice as much."""
    return a + weight * b


def _add_vjp(argnums, ans, args, kwargs):
    a, b, weight = (*args, 1)[:3]
    grads = {0: lambda g: _sum_to(g, np.shape(a)), 1: lambda g: _sum_to(weight * g, np.shape(b))}
    return lambda g: tuple(grads[i](g) for i in argnums)


defvjp_argnums(add, _add_vjp)

# ------------------------------------------------------------- Gaussian, N(mean, e^log_var)


@primitive
def gaussian_log_prob(x, params):
    """-1/2 sum_features (log 2 pi + log_var + e^2), e = (x - mean) / exp(log_var / 2)."""
    mean, log_var = halves(params)
    scale = -0.5 * log_var
    e = x - mean
    e *= np.exp(scale)
    e *= -0.5 * e  # not e^2 first: half of it may fit where it does not
    e += scale
    e -= 0.5 * LOG_2PI
    return _sum_features(e)


def _gaussian_log_prob_vjp(argnums, ans, args, kwargs):
    x, params = args

    def vjp(g):  # d/dmean = e / std = -d/dx,  d/dlog_var = (e^2 - 1) / 2
        mean, log_var = halves(params)
        g = g[..., None]
        precision = np.exp(-0.5 * log_var)
        e = (x - mean) * precision
        mean_grad = e * precision
        mean_grad *= g
        if argnums == (0,):
            return (_sum_to(-mean_grad, x.shape),)
        e *= 0.5 * e
        e -= 0.5
        e *= g
        grads = {0: lambda: _sum_to(-mean_grad, x.shape), 1: lambda: _join(mean_grad, e, params)}
        return tuple(grads[i]() for i in argnums)

    return vjp


defvjp_argnums(gaussian_log_prob, _gaussian_log_prob_vjp)


def gaussian_sample(params, eps):
    """mean + exp(log_var / 2) eps."""
    return _gaussian_sample(params, eps, [])


@primitive
def _gaussian_sample(params, eps, tape):
    mean, log_var = halves(params)
    std = np.exp(0.5 * log_var)
    noise = std * eps
    tape += std, noise  # for the way back
    return noise + mean


def _gaussian_sample_vjp(argnums, ans, args, kwargs):
    params, eps, (std, noise) = args

    def vjp(g):  # d/dmean = 1,  d/dlog_var = std eps / 2,  d/deps = std
        grads = {
            0: lambda: _join(g, g * noise * 0.5, params),
            1: lambda: _sum_to(g * std, eps.shape),
        }
        return tuple(grads[i]() for i in argnums)

    return vjp


defvjp_argnums(_gaussian_sample, _gaussian_sample_vjp)


@primitive
def gaussian_kl(params):
    """KL[N(mean, e^log_var) || N(0, 1)] = 1/2 sum_features (e^log_var - 1 - log_var + mean^2)."""
    mean, log_var = halves(params)
    kl = np.expm1(log_var)  # e^log_var - 1 without cancellation near the prior
    kl -= log_var
    kl += mean * mean
    kl *= 0.5
    return _sum_features(kl)


def _gaussian_kl_vjp(argnums, ans, args, kwargs):
    mean, log_var = halves(args[0])
    half = lambda g: (g[..., None] * mean, g[..., None] * (0.5 * np.expm1(log_var)))
    return lambda g: (_join(*half(g), args[0]),)


defvjp_argnums(gaussian_kl, _gaussian_kl_vjp)

# ------------------------------------------------------------------- categorical, softmax(logits)


def softmax(logits):
    """exp(logits) / sum exp(logits), and its logarithm; both (..., categories)."""
    log_probs = logits - logits.max(-1, keepdims=True)
    probs = np.exp(log_probs)
    total = probs.sum(-1, keepdims=True)
    probs /= total
    log_probs -= np.log(total)
    return probs, log_probs


def check_one_hot(x, name="x"):
    """ValueError unless each row of x (..., categories) is a one and zeros."""
    if not (((x == 0) | (x == 1)).all() and (x @ np.ones(x.shape[-1], x.dtype) == 1).all()):
        raise ValueError(f"{name} of shape {x.shape} is not one-hot: a one and zeros in every row")


@primitive
def categorical_log_prob(x, logits):
    """sum_c x_c log softmax(logits)_c, x one-hot; 0 log 0 = 0."""
    return (x * np.where(x == 0, 0, softmax(logits)[1])).sum(-1)


def _categorical_log_prob_vjp(argnums, ans, args, kwargs):
    x, logits = args

    def vjp(g):  # d/dlogits = x - probs (sum x = 1),  d/dx = log_probs
        probs, log_probs = softmax(logits)
        grads = {0: lambda: log_probs, 1: lambda: x - probs}
        return tuple(_sum_to(g[..., None] * grads[i](), args[i].shape) for i in argnums)

    return vjp


defvjp_argnums(categorical_log_prob, _categorical_log_prob_vjp)


@primitive
def categorical_mean(logits, values):
    """sum_c softmax(logits)_c values_c; logits (..., batch, C), values (C, ..., batch).

    Axes of one that only the values have in front go.
    """
    mean = (_categories_first(logits, values) * values).sum(0)
    while mean.ndim > logits.ndim - 1 and len(mean) == 1:
        mean = mean[0]
    return mean


def _categories_first(logits, values):
    """softmax(logits) as (C, 1, ..., 1, ..., batch), with as many axes as the values."""
    probs = np.moveaxis(softmax(logits)[0], -1, 0)
    return probs.reshape(len(probs), *[1] * (values.ndim - probs.ndim), *probs.shape[1:])


def _categorical_mean_vjp(argnums, ans, args, kwargs):
    logits, values = args

    def vjp(g):  # d/dlogits = probs (values - mean),  d/dvalues = probs
        values_grad = g * _categories_first(logits, values)
        grads = {
            0: lambda: np.moveaxis(values_grad * (values - ans), 0, -1),
            1: lambda: values_grad,
        }
        return tuple(_sum_to(grads[i](), args[i].shape) for i in argnums)

    return vjp


defvjp_argnums(categorical_mean, _categorical_mean_vjp)


@primitive
def log_sigmoid(logits):
    """log 1 / (1 + exp(-logit)) = min(logit, 0) - log(1 + exp(-|logit|)), each."""
    return np.minimum(logits, 0) - np.log(1 + np.exp(-np.abs(logits)))


defvjp(log_sigmoid, lambda ans, logits: lambda g: -g * np.expm1(ans))  # 1 - sigmoid

# ------------------------------------------------------------------------------- networks


def mlp_size(sizes):
    """Number of weights of a fully connected network with these layer sizes."""
    return sum((i + 1) * o for i, o in zip(sizes[:-1], sizes[1:]))


def init_mlp(rng, sizes):
    """Flat float64 weights: N(0, 1 / inputs), and a last layer ten times smaller, without bias.

    Small last layer: every network starts close to N(0, 1) whatever its input, that is, with almost
    no information in the code.
    """
    layers = []
    for inputs, outputs in zip(sizes[:-1], sizes[1:]):
        weights = rng.standard_normal((outputs, inputs + 1))
        weights[:, :-1] /= math.sqrt(inputs)
        layers.append(weights)
    layers[-1][:, :-1] *= 0.1
    layers[-1][:, -1] = 0
    return np.concatenate([weights.ravel() for weights in layers])


def _layers(params, sizes, start):
    """Views (..., outputs, inputs + 1) into the flat array; the bias is the last column."""
    views = []
    for inputs, outputs in zip(sizes[:-1], sizes[1:]):
        stop = start + outputs * (inputs + 1)
        shape = (*params.shape[:-1], outputs, inputs + 1)
        views.append(params[..., start:stop].reshape(shape))
        start = stop
    return views


def mlp(params, x, sizes, start=0):
    """W_L tanh(... tanh(W_1 [x; 1]) ...; 1), a fully connected network with tanh hidden layers.

    params (..., P) with this network's weights from `start` on, layer by layer, row by row, the
    bias last in each row; x (..., batch, sizes[0]) -> (..., batch, sizes[-1]).
    """
    return _mlp(params, x, sizes, start, [])


def _fold(x, lead):
    """(extra..., lead..., batch, features) -> (lead..., extra * batch, features).

    Axes in front of the models' are more batch: folded in, one product per layer serves them all.
    """
    extra = x.ndim - 2 - lead
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


@primitive
def _mlp(params, x, sizes, start, tape):
    """`tape` comes in empty and takes the weights and input of each layer along for the way back.

    Inputs are columns, (..., features + 1, batch): the batch runs along contiguous memory, the bias
    is the weight of a row of ones, and one matrix product does a whole layer.
    """
    if x.ndim < 2 or x.shape[-1] != sizes[0]:
        raise ValueError(f"a network of {sizes[0]} inputs got an array of shape {x.shape}")
    layers = _layers(params, sizes, start)
    folded = _fold(x, params.ndim - 1).swapaxes(-1, -2)
    column = np.empty((*folded.shape[:-2], sizes[0] + 1, folded.shape[-1]), folded.dtype)
    column[..., :-1, :], column[..., -1, :] = folded, 1
    for weights in layers[:-1]:
        tape.append((weights, column))
        inner = weights @ column
        column = np.empty((*inner.shape[:-2], inner.shape[-2] + 1, inner.shape[-1]), inner.dtype)
        np.tanh(inner, out=column[..., :-1, :])
        column[..., -1, :] = 1
    tape.append((layers[-1], column))
    return _unfold((layers[-1] @ column).swapaxes(-1, -2), x.shape)


def _mlp_vjp(argnums, ans, args, kwargs):
    params, x, sizes, start, tape = args

    def vjp(g):  # d/dW = delta h^T,  d/dh = W^T delta,  d/d(tanh's input) = (1 - h^2) d/dh
        delta = _fold(g, params.ndim - 1).swapaxes(-1, -2)
        grads = np.zeros_like(params)
        for layer, grad in reversed(list(enumerate(_layers(grads, sizes, start)))):
            weights, column = tape[layer]
            grad[...] = _sum_to(delta @ column.swapaxes(-1, -2), weights.shape)
            if layer == 0 and 1 not in argnums:
                return (grads,)
            back = weights[..., :-1].swapaxes(-1, -2)
            # matmul takes twenty times as long over an inner axis of one
            delta = back * delta if delta.shape[-2] == 1 else back @ delta
            if layer > 0:
                h = column[..., :-1, :]
                slope = h * h
                delta *= np.subtract(1, slope, out=slope)
        x_grad = _sum_to(_unfold(delta.swapaxes(-1, -2), g.shape), x.shape)
        return tuple((grads, x_grad)[i] for i in argnums)

    return vjp


defvjp_argnums(_mlp, _mlp_vjp)

# ------------------------------------------------------------------------------ optimisation


def adam(grad, m, v, t, learning_rate):
    """One step uphill of Adam (Kingma & Ba, 2015), t = 1, 2, ... -> (step, m, v); all like grad."""
    m = m + 0.1 * (grad - m)
    v = v + 0.001 * (grad * grad - v)
    rate = learning_rate / (1 - 0.9**t)
    return rate * m / (np.sqrt(v / (1 - 0.999**t)) + 1e-8), m, v


def recycle_memory():
    """Let the allocator keep the blocks that a training step frees (one line, worth a factor of 2).

    glibc hands arrays above 128 KiB back to the system and fetches fresh pages for the next one,
    until it has seen a larger block freed; so free one. Elsewhere this does nothing.
    """
    np.empty(1 << 24, np.uint8)


# ------------------------------------------------------------------------------------- noise

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

    Coordinate 0 is i / n, coordinate 1 the golden ratio's multiples, both shifted at random: a
    point is still uniform, but the n together leave no gaps. The draws share the shifts out evenly
    too, so that errors of one make up for those of another. Further coordinates are shuffled among
    the points (a Latin hypercube).
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
