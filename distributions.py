"""p(x|z), q(z|x) and r(z|x): the distributions, each density one autograd node.

Shapes: the last two axes are (batch, features); axes in front of them broadcast. All in nats. The
value of a density is the formula of its docstring, its derivative stands beneath it. What a float32
cannot hold is inf, and NumPy warns of the overflow. Anything with `log_prob(x)`, and `sample(eps)`
for eps ~ N(0, I) or `expect(f, eps)`, can be a decoder or r(z|x); an encoder needs `sample`, `kl`.

The exact values are for the three of this file: they ask for `table(x)`, log p_i(x_j), (..., i, j),
of p (..., i, features) and x (..., j, features); `highest()`, of the log p of all x, (..., batch);
`course()`, what of p changes with the code, in standard deviations or nats, (..., batch, any); and,
if p is `discrete`, `values()`: all x that can be, (values, features).
"""

import math
from functools import partial

import numpy as np
from autograd import numpy as anp
from autograd.extend import Box, defvjp, defvjp_argnums, primitive
from autograd.tracer import getval

from nets import sum_to

MOST_BITS = 12  # of an x over whose values one can sum
LOG_2PI = math.log(2 * math.pi)  # a Python float: a NumPy float64 would turn float32 into float64

# ------------------------------------------------------------------------------- Gaussian


def halves(params):
    """(..., 2 features) -> mean and log-variance, (..., features) each; views, not copies."""
    features = params.shape[-1] // 2
    return params[..., :features], params[..., features:]


def _join(mean_grad, log_var_grad, params):
    """Gradient in params from those in its halves; laid out like params: fast products follow."""
    grad = np.empty_like(params)
    for half, half_grad in zip(halves(grad), (mean_grad, log_var_grad)):
        half[...] = sum_to(half_grad, half.shape)
    return grad


@primitive
def gaussian_params(mean, log_var):
    """Mean and log-variance, which broadcasts, in one array: (..., 2 features)."""
    *batch, features = np.broadcast_shapes(np.shape(mean), np.shape(log_var))
    params = np.empty((*batch, 2 * features), np.result_type(mean, log_var))
    for half, values in zip(halves(params), (mean, log_var)):
        half[...] = values
    return params


defvjp(
    gaussian_params,
    lambda ans, mean, log_var: lambda g: sum_to(halves(g)[0], np.shape(mean)),
    lambda ans, mean, log_var: lambda g: sum_to(halves(g)[1], np.shape(log_var)),
)


def _sum_features(a):
    return a[..., 0] if a.shape[-1] == 1 else a.sum(-1)  # a sum of one is slow in NumPy


@primitive
def gaussian_log_prob(x, params):
    """-1/2 sum_features (log 2 pi + log_var + e^2), e = (x - mean) / exp(log_var / 2)."""
    mean, log_var = halves(params)
    log_inverse_std = -0.5 * log_var
    e = (x - mean) * np.exp(log_inverse_std)
    return _sum_features(-0.5 * e * e + log_inverse_std - 0.5 * LOG_2PI)  # e^2 alone may not fit


def _log_prob_vjp(argnums, ans, args, kwargs):
    x, params = args

    def vjp(g):  # d/dmean = e / std = -d/dx,  d/dlog_var = (e^2 - 1) / 2
        mean, log_var = halves(params)
        inverse_std = np.exp(-0.5 * log_var)
        e = (x - mean) * inverse_std
        mean_grad = e * inverse_std * g[..., None]
        grads = [sum_to(-mean_grad, x.shape)] if 0 in argnums else []
        if 1 in argnums:
            grads.append(_join(mean_grad, (0.5 * e * e - 0.5) * g[..., None], params))
        return grads

    return vjp


defvjp_argnums(gaussian_log_prob, _log_prob_vjp)


def _std(params):
    return np.exp(0.5 * halves(params)[1])


@primitive
def gaussian_sample(params, eps):
    """mean + exp(log_var / 2) eps."""
    return _std(params) * eps + halves(params)[0]


defvjp(  # d/dmean = 1,  d/dlog_var = std eps / 2,  d/deps = std
    gaussian_sample,
    lambda ans, params, eps: lambda g: _join(g, g * (_std(params) * eps) * 0.5, params),
    lambda ans, params, eps: lambda g: sum_to(g * _std(params), eps.shape),
)


@primitive
def gaussian_sample_log_prob(params, eps):
    """-1/2 sum_features (log 2 pi + log_var + eps^2): the log-density of `gaussian_sample`."""
    return _sum_features(-0.5 * (eps * eps + halves(params)[1]) - 0.5 * LOG_2PI)


defvjp(  # d/dlog_var = -1/2
    gaussian_sample_log_prob,
    lambda ans, params, eps: lambda g: _join(0 * g[..., None], -0.5 * g[..., None], params),
)


@primitive
def gaussian_kl(params):
    """KL[N(mean, e^log_var) || N(0, 1)] = 1/2 sum_features (e^log_var - 1 - log_var + mean^2)."""
    mean, log_var = halves(params)
    # expm1(a) = e^a - 1, without cancellation near the prior
    return _sum_features(0.5 * (np.expm1(log_var) - log_var + mean * mean))


def _kl_grad(ans, params):  # d/dmean = mean,  d/dlog_var = (e^log_var - 1) / 2
    mean, log_var = halves(params)
    return lambda g: _join(g[..., None] * mean, g[..., None] * (0.5 * np.expm1(log_var)), params)


defvjp(gaussian_kl, _kl_grad)


class Gaussian:
    """N(mean, exp(log_var)) with independent features; mean and log_var (..., batch, features).

    log_var may also be one number, or (..., 1, 1). Poster: "normal with means and log-variances".
    ValueError if shapes do not fit.
    """

    discrete = False

    def __init__(self, mean, log_var):
        mean = reals("mean", mean)
        if not isinstance(log_var, NUMBER):  # as an array it might change the precision
            log_var = floats("log_var", log_var)
            if np.shape(getval(log_var))[-2:] not in ((), (1, 1)):
                reals("log_var", log_var, mean.shape)
        self.params = gaussian_params(mean, log_var)

    @classmethod
    def unpack(cls, params):
        """From one array (..., batch, 2 features), the means first: what a network puts out."""
        gaussian = cls.__new__(cls)
        gaussian.params = reals("params", params)
        shape = shape_of(gaussian.params)
        require("params.shape", shape, shape[-1] % 2 == 0, "(..., 2 features)")
        return gaussian

    shape = property(lambda self: halves(getval(self.params))[0].shape)
    mean = property(lambda self: halves(self.params)[0])
    log_var = property(lambda self: halves(self.params)[1])
    std = property(lambda self: anp.exp(0.5 * self.log_var))

    def log_prob(self, x):
        """sum_features log N(x; mean, exp(log_var)); x like mean -> (..., batch), nats."""
        return gaussian_log_prob(reals("x", x, self.shape), self.params)

    def sample(self, eps):
        """mean + exp(log_var / 2) eps, eps ~ N(0, I), all like mean: Kingma & Welling (2014)."""
        return gaussian_sample(self.params, reals("eps", eps, self.shape))

    def sample_and_log_prob(self, eps):
        """A draw and its log-density: `sample`, and `log_prob` of it for less than that costs."""
        return self.sample(eps), gaussian_sample_log_prob(self.params, eps)

    def kl(self):
        """KL[self || N(0, I)] >= 0 -> (..., batch), nats: Kingma & Welling (2014), appendix B."""
        return gaussian_kl(self.params)

    def table(self, x):
        features, own = self.shape[-1], self.params[..., :, None, :]
        x = reals("x", x, self.shape)[..., None, :, :]
        one = lambda i: gaussian_log_prob(x[..., i : i + 1], own[..., i::features])  # mean, log_var
        # a feature at a time: all at once would fill the memory; 0 log 0 = 0
        return np.maximum(sum(map(one, range(features))), -1e300)

    def highest(self):
        return -0.5 * (LOG_2PI + self.log_var).sum(-1)

    def course(self):
        return np.concatenate([self.mean * np.exp(-0.5 * self.log_var), self.log_var], -1)


# ------------------------------------------------------------------ categorical and Bernoulli


def softmax(logits):
    """exp(logits) / sum exp(logits), and its logarithm; both (..., categories)."""
    log_probs = logits - anp.max(logits, -1, keepdims=True)
    probs = anp.exp(log_probs)
    total = anp.sum(probs, -1, keepdims=True)
    return probs / total, log_probs - anp.log(total)


def sigmoid(a):
    """1 / (1 + exp(-a)), to the last digit on either side."""
    return anp.exp(anp.minimum(a, 0)) / (1 + anp.exp(anp.minimum(a, -a)))


@primitive
def categorical_log_prob(x, logits):
    """sum_c x_c log softmax(logits)_c, x one-hot; 0 log 0 = 0."""
    return (x * np.where(x == 0, 0, softmax(logits)[1])).sum(-1)


@primitive
def bernoulli_log_prob(x, logits):
    """sum_features x log sigmoid(logits) + (1 - x) log sigmoid(-logits); 0 log 0 = 0."""
    size, off = np.abs(logits), np.abs(x - (logits > 0))  # off: from the likelier value
    return -(off * np.where(off == 0, 0, size) + np.log1p(np.exp(-size))).sum(-1)


# d/dx = log_probs or logits,  d/dlogits = x - probs (of a one-hot x the sum is 1)
defvjp(
    categorical_log_prob,
    lambda ans, x, a: lambda g: sum_to(g[..., None] * softmax(a)[1], x.shape),
    lambda ans, x, a: lambda g: sum_to(g[..., None] * (x - softmax(a)[0]), a.shape),
)
defvjp(
    bernoulli_log_prob,
    lambda ans, x, a: lambda g: sum_to(g[..., None] * a, x.shape),
    lambda ans, x, a: lambda g: sum_to(g[..., None] * (x - sigmoid(a)), a.shape),
)


@primitive
def bernoulli_table(logits, x):
    """log p_i(x_j): logits (..., i, features), x (..., j, features) -> (..., i, j)."""
    x, rest = x.swapaxes(-1, -2), np.log1p(np.exp(-np.abs(logits))).sum(-1)
    wrong = np.clip(logits, 0, 1e30) @ (1 - x) + np.clip(-logits, 0, 1e30) @ x  # 0 log 0 = 0
    return -(wrong + rest[..., None])


defvjp(  # d/dlogits_i = sum_j (x_j - probs_i)
    bernoulli_table,
    lambda ans, a, x: lambda g: sum_to(g @ x - g.sum(-1, keepdims=True) * sigmoid(a), a.shape),
    None,
)


@primitive
def mean_over_values(logits, f, probs):
    """sum_v probs_v f_v, 0 log 0 = 0; f and probs = softmax(logits) are (values, ..., batch)."""
    return np.where(probs == 0, 0, probs * f).sum(0)


defvjp(  # d/dlogits_v = probs_v (f_v - mean),  d/df_v = probs_v
    mean_over_values,
    lambda mean, a, f, probs: lambda g: sum_to(np.moveaxis(g * probs * (f - mean), 0, -1), a.shape),
    lambda mean, a, f, probs: lambda g: sum_to(g * probs, f.shape),
    None,
)


class Discrete:
    """An x of finitely many values, over which expectations are sums; logits (..., batch, any).

    `joint(values)` are the logits of the softmax over all values, (..., batch, values).
    """

    discrete = True

    def __init__(self, logits):
        self.params = reals("logits", logits)

    @classmethod
    def unpack(cls, params):
        """From one array of logits: what a network puts out."""
        return cls(params)

    logits = property(lambda self: self.params)
    shape = property(lambda self: shape_of(self.params))

    def expect(self, f, eps=None):
        """E f(x), x ~ self, exactly: the sum over all V values of x. No noise needed.

        f is called once, on all of them: x (V, 1, ..., 1, features) -> (V, ..., batch). Axes that
        f puts in front of these stay in front of the expectations.
        """
        x, axes = self.values().astype(getval(self.params).dtype), len(self.shape)
        count, features = x.shape
        # V comes before every axis of the logits and three more, for models that only f has
        values = f(x.reshape(count, *[1] * (axes + 2), features))
        front = max(np.ndim(values) - axes - 3, 0)
        legal = axes <= np.ndim(values) < axes + 5 and values.shape[front] == count
        require("f(x).shape", np.shape(values), legal, f"({count}, ..., batch)")
        values = anp.moveaxis(values, front, 0) if front else values
        logits = self.joint(x)
        probs = np.moveaxis(softmax(getval(logits))[0], -1, 0)
        probs = probs.reshape(count, *[1] * (values.ndim - axes), *probs.shape[1:])
        mean = mean_over_values(logits, values, probs)
        spare = range(front, mean.ndim - axes + 1)  # axes of length 1 if nobody has used them
        return anp.squeeze(mean, tuple(i for i in spare if mean.shape[i] == 1))


class Categorical(Discrete):
    """softmax(logits) over the C categories of a one-hot x; logits (..., batch, C).

    A logit of -inf is a probability of 0. Poster: "softmax output".
    """

    def __init__(self, logits):
        super().__init__(logits)
        require("logits.shape", self.shape, self.shape[-1] > 1, "(..., 2 categories or more)")

    probs = property(lambda self: softmax(self.params)[0])

    def log_prob(self, x):
        """sum_c x_c log softmax(logits)_c; x one-hot (..., batch, C) -> (..., batch), nats."""
        return categorical_log_prob(one_hot("x", x, self.shape), self.params)

    def values(self):
        return np.eye(self.shape[-1])

    def joint(self, values):
        return self.params

    def table(self, x):
        return np.maximum(softmax(self.params)[1], -1e300) @ one_hot("x", x).swapaxes(-1, -2)

    def highest(self):
        return np.zeros(self.shape[:-1])

    def course(self):
        return np.maximum(softmax(self.params)[1], -100)


class Bernoulli(Discrete):
    """Independent bits, P(1) = sigmoid(logits); logits (..., batch, features).

    A logit of inf or -inf is a bit that is always 1 or 0. Expectations are sums over all strings
    for up to 12 features; for more they are by one draw, which has no gradient in the logits.
    """

    probs = property(lambda self: sigmoid(self.params))

    def log_prob(self, x):
        """sum_features x log p + (1 - x) log(1 - p); x in [0, 1] like p -> (..., batch), nats."""
        return bernoulli_log_prob(unit("x", x, self.shape), self.params)

    def sample(self, eps):
        """1 where Phi(eps) < probs, eps ~ N(0, I), and else 0; ValueError if logits are traced."""
        if isinstance(self.params, Box):
            raise ValueError("logits are differentiated; they must not be where bits are drawn")
        eps = getval(reals("eps", eps, self.shape))
        twice_phi = np.frompyfunc(math.erfc, 1, 1)(-math.sqrt(0.5) * eps).astype(float)
        return (twice_phi < 2 * self.probs).astype(self.params.dtype)

    def expect(self, f, eps=None):
        """E f(x), x ~ self: `Discrete.expect`, or for more than 12 features f(sample(eps))."""
        return super().expect(f) if self.shape[-1] <= MOST_BITS else f(self.sample(eps))

    def values(self):
        bits = self.shape[-1]
        rule = f"at most {MOST_BITS} for sums over all x; mae.information_interval draws x instead"
        require("features", bits, bits <= MOST_BITS, rule)
        return (np.arange(2**bits)[:, None] >> np.arange(bits)[::-1] & 1).astype(float)

    def table(self, x):
        return bernoulli_table(self.params, unit("x", x))

    joint = table

    def highest(self):
        return bernoulli_log_prob(1 * (self.params > 0), self.params)  # of the likeliest x

    def course(self):
        return np.clip(self.params, -100, 100)


# ------------------------------------------------------- any distribution, the prior, weights


def expect(p, f, eps):
    """E f(x), x ~ p: as p does it (a sum for a discrete x), else by the draw p.sample(eps)."""
    return p.expect(f, eps) if hasattr(p, "expect") else f(p.sample(eps))


def draw(p, eps):
    """A draw from p and its log-density."""
    if hasattr(p, "sample_and_log_prob"):
        return p.sample_and_log_prob(eps)
    z = p.sample(eps)
    return z, p.log_prob(z)


@primitive
def log_prior(z):
    """log N(z; 0, I) = -1/2 sum_features (log 2 pi + z^2)."""
    return _sum_features(-0.5 * z * z - 0.5 * LOG_2PI)


defvjp(log_prior, lambda ans, z: lambda g: -g[..., None] * z)


@primitive
def log_mean_exp(a):
    """log mean_i exp(a_i) over the first axis; (n, ...) -> (...)."""
    top = a.max(0)
    top = np.where(np.isfinite(top), top, 0)
    return np.log(np.exp(a - top).sum(0)) + (top - math.log(len(a)))


defvjp(log_mean_exp, lambda ans, a: lambda g: g / len(a) * np.exp(a - ans))


@primitive
def log_means(log_w0, log_w):
    """log mean(w_0, w_1 ... w_n) and log mean(w_1 ... w_n); log_w (n, ...) -> (2, ...)."""
    without, n = log_mean_exp(log_w), len(log_w)
    top = np.maximum(log_w0, without)  # np.logaddexp takes ten times as long
    total = np.exp(log_w0 - top) + n * np.exp(without - top)
    return np.stack(np.broadcast_arrays(np.log(total) + (top - math.log(n + 1)), without))


def _log_means_grad(ans, log_w0, log_w):
    """Of log w_i: its share among w_1 ... w_n, times their share in either mean."""
    share = np.exp(log_w - log_mean_exp(log_w)) / len(log_w)
    theirs = np.exp(ans[1] - ans[0]) * len(log_w) / (len(log_w) + 1)
    return lambda g: share * sum_to(g[0] * theirs + g[1], log_w.shape[1:])


defvjp(
    log_means,
    lambda ans, w0, w: lambda g: sum_to(g[0] / (len(w) + 1) * np.exp(w0 - ans[0]), w0.shape),
    _log_means_grad,
)


def prior_entropy(dim: int = 1) -> float:
    """H(z) = dim/2 log(2 pi e) nats, for z ~ N(0, I) of `dim` dimensions. Poster: H(z)."""
    require("dim", dim, is_number(dim, INTEGER, 1), "an integer >= 1")
    return 0.5 * dim * (LOG_2PI + 1)


# ------------------------------------------------------------------------- checks at the door


INTEGER, NUMBER = (int, np.integer), (int, float, np.integer, np.floating)


def is_number(value, kinds=NUMBER, least=-1e38):
    """Whether this is one real number from `least` on, which a float32 can hold."""
    return isinstance(value, kinds) and not isinstance(value, bool) and least <= value < 1e38


def require(name, value, legal, rule):
    """ValueError, in one line, unless legal."""
    if not legal:
        raise ValueError(f"{name} is {' '.join(repr(value).split())}; it must be {rule}")


def floats(name, a):
    """`a` as a float array: anything that NumPy can read, from lists to tensors on the CPU.

    ValueError, naming it, for what would give a wrong number: complex, masked, half precision or
    objects, and what is still being differentiated elsewhere.
    """
    if isinstance(a, Box):
        return a
    kind, masked = type(a).__name__, isinstance(a, np.ma.MaskedArray)
    try:
        a = np.asarray(a)
    except (ValueError, TypeError, RuntimeError) as error:  # ragged, on a GPU, requires_grad
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{name} ({kind}) must be an array of numbers: {reason}") from None
    a = a.astype(float) if a.dtype.kind in "biu" else a
    if masked or a.dtype.char not in "fd":
        raise ValueError(f"{name} is {kind} of {a.dtype}; it must be plain float32 or float64")
    return a


def reals(name, a, shape=None, legal=None, rule="of numbers"):
    """`floats` (..., batch, features), all of them legal; as many features as `shape` if given.

    ValueError, naming it, if not; so for (batch,) where (batch, 1) is meant. That the axes before
    the features broadcast is for NumPy to say.
    """
    a = floats(name, a)
    own = shape_of(a)
    if len(own) < 2:
        raise ValueError(f"{name} has shape {own}; it must be (..., batch, features), {rule}")
    if legal and not isinstance(a, Box) and not legal(a).all():
        raise ValueError(f"{name} of shape {own} must be {rule}")
    if shape and own[-1] != shape[-1]:
        raise ValueError(f"{name} of shape {own} does not fit {shape}: features must be as many")
    return a


finite = partial(reals, legal=np.isfinite, rule="finite everywhere")
unit = partial(reals, legal=lambda x: (x >= 0) & (x <= 1), rule="in [0, 1] everywhere")
binary = partial(reals, legal=lambda x: (x == 0) | (x == 1), rule="zeros and ones")
one_hot = partial(
    reals,
    legal=lambda x: ((x == 0) | (x == 1)).all(-1) & (x @ np.ones(x.shape[-1], x.dtype) == 1),
    rule="one-hot, a one and zeros in a row, such as np.eye(categories)[labels]",
)


def shape_of(a):
    """a.shape, without asking a traced array itself, which is slow."""
    return getval(a).shape
