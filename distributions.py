"""p(x|z), q(z|x) and r(z|x): the distributions, and the checks of what is given to them.

Shapes: the last two axes are (batch, features); axes in front of them broadcast. All in nats.
"""

import numpy as onp
from autograd import numpy as np
from autograd.extend import Box
from autograd.tracer import getval

import nets


class Gaussian:
    """N(mean, exp(log_var)) with independent features; mean and log_var (..., batch, features).

    log_var may also be one number, or (..., 1, 1). ValueError, naming the array, if shapes do not
    fit. Poster: "normal with means and log-variances".
    """

    def __init__(self, mean, log_var):
        mean = as_array("mean", mean)
        if isinstance(log_var, (*NUMBER, Box)) and onp.ndim(log_var) == 0:
            log_var = log_var * onp.ones((1, 1), mean.dtype)
        log_var = as_array("log_var", log_var)
        check_fit("log_var", log_var.shape, "mean", mean.shape, number=True)
        if mean.shape != log_var.shape:  # broadcast by adding zeros: autograd knows how to add
            zeros = onp.zeros(onp.broadcast_shapes(mean.shape, log_var.shape), mean.dtype)
            mean, log_var = mean + zeros, log_var + zeros
        self.params = np.concatenate([mean, log_var], axis=-1)

    @classmethod
    def unpack(cls, params):
        """From one array (..., batch, 2 features), the means first: what a network puts out."""
        params = as_array("params", params)
        if shape_of(params)[-1] % 2:
            raise ValueError(
                f"params has shape {params.shape}; it must be (..., batch, 2 features)"
            )
        gaussian = cls.__new__(cls)
        gaussian.params = params
        return gaussian

    @property
    def shape(self):
        *batch, features = shape_of(self.params)
        return (*batch, features // 2)

    @property
    def mean(self):
        return nets.halves(self.params)[0]

    @property
    def log_var(self):
        return nets.halves(self.params)[1]

    def log_prob(self, x):
        """sum_features log N(x; mean, exp(log_var)); x like mean -> (..., batch), nats."""
        x = as_array("x", x)
        check_fit("x", shape_of(x), "the Gaussian", self.shape)
        return nets.gaussian_log_prob(x, self.params)

    def sample(self, eps):
        """mean + exp(log_var / 2) eps for noise eps ~ N(0, I); eps like mean -> like mean.

        The reparameterised draw of Kingma & Welling (2014): gradients pass through it.
        """
        eps = as_array("eps", eps)
        check_fit("eps", eps.shape, "the Gaussian", self.shape)
        return nets.gaussian_sample(self.params, eps)

    def kl(self):
        """KL[self || N(0, I)] = 1/2 sum_features (e^log_var - 1 - log_var + mean^2) -> (...,
        batch).

        In nats, >= 0. Kingma & Welling (2014), appendix B.
        """
        return nets.gaussian_kl(self.params)

    def expect(self, f, eps):
        """E f(x), x ~ self, by one reparameterised draw: f(mean + exp(log_var / 2) eps)."""
        return f(self.sample(eps))


class Categorical:
    """softmax(logits) over the C categories of a one-hot x; logits (..., batch, C).

    A logit of -inf is a probability of 0. Poster: "softmax output".
    """

    def __init__(self, logits):
        self.params = as_array("logits", logits)
        if self.params.shape[-1] < 2:
            raise ValueError(
                f"logits has shape {self.params.shape}; it needs two categories or more"
            )

    @classmethod
    def unpack(cls, params):
        """From one array (..., batch, C): what a network puts out."""
        return cls(params)

    @property
    def shape(self):
        return shape_of(self.params)

    @property
    def logits(self):
        return self.params

    @property
    def probs(self):
        weights = np.exp(self.params - np.max(self.params, -1, keepdims=True))
        return weights / np.sum(weights, -1, keepdims=True)

    def log_prob(self, x):
        """sum_c x_c log softmax(logits)_c; x one-hot (..., batch, C) -> (..., batch), nats."""
        x = as_array("x", x)
        check_fit("x", shape_of(x), "the Categorical", self.shape)
        if not isinstance(x, Box):
            nets.check_one_hot(x)
        return nets.categorical_log_prob(x, self.params)

    def expect(self, f, eps=None):
        """E f(x), x ~ self, exactly: sum_c probs_c f(one-hot c).

        f is called once, on all categories: x (C, 1, ..., 1, C) -> (C, ..., batch). No noise
        needed.
        """
        categories = self.shape[-1]
        x = onp.eye(categories, dtype=self.params.dtype)
        # C comes before every axis of the logits and three more, for models that only f has
        x = x.reshape(categories, *[1] * (self.params.ndim + 2), categories)
        values = f(x)
        try:
            return nets.categorical_mean(self.params, values)
        except (AttributeError, ValueError):
            raise ValueError(
                f"f has values of shape {onp.shape(values)}, which do not fit the Categorical of "
                f"shape {self.shape}: they must be ({categories}, ..., batch)"
            ) from None


def prior_entropy(dim: int = 1) -> float:
    """H(z) = dim/2 log(2 pi e) nats, for z ~ N(0, I) of `dim` dimensions. Poster: H(z)."""
    require("dim", dim, isinstance(dim, INTEGER) and dim >= 1, "an integer >= 1")
    return 0.5 * dim * (nets.LOG_2PI + 1)


# ------------------------------------------------------------------------------- checks


INTEGER, NUMBER = (int, onp.integer), (int, float, onp.integer, onp.floating)


def is_number(value, kinds=NUMBER):
    """Whether this is one real number, which a float32 can hold."""
    return isinstance(value, kinds) and not isinstance(value, bool) and abs(value) < 1e38


def require(name, value, legal, rule):
    """ValueError, in one line, unless legal."""
    if not legal:
        raise ValueError(f"{name} is {' '.join(repr(value).split())}; it must be {rule}")


def as_array(name, a):
    """`a` as a float array (..., batch, features), or a ValueError that names it."""
    if not isinstance(a, Box):
        try:
            a = onp.asarray(a)
        except ValueError as error:  # rows of different lengths
            raise ValueError(f"{name} must be an array of numbers: {error}") from None
        if a.dtype.kind in "biu":
            a = a.astype(float)
        if a.dtype.char not in "fd":
            raise ValueError(
                f"{name} has dtype {a.dtype}; it must be real numbers, float32 or float64"
            )
    if len(shape_of(a)) < 2:
        raise ValueError(f"{name} has shape {a.shape}; it must be (..., batch, features)")
    return a


def shape_of(a):
    """a.shape, without asking a traced array itself, which is slow."""
    return getval(a).shape


def check_fit(name, shape, other_name, other, number=False):
    """Raise unless the last two axes agree, so that (batch,) never meets (batch, 1) unnoticed.

    A batch of one fits any batch: one distribution for many points, or one point under many.
    number: (..., 1, 1) fits any features, too.
    """
    if shape == other:
        return
    try:
        onp.broadcast_shapes(shape, other)
        fits = shape[-1] == other[-1] or (number and shape[-2:] == (1, 1))
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"{name} has shape {shape}, which does not fit {other_name} of shape {other}: the last "
            f"axis, features, must be the same, and those before it must broadcast"
        )


def finite(name, a):
    """`a` as a float64 array with numbers in it, all finite, or a ValueError that names it."""
    a = as_array(name, a).astype(float)
    if not a.size or not onp.isfinite(a).all():
        raise ValueError(f"{name} has shape {a.shape}; it must not be empty, and finite everywhere")
    return a


def returned(name, function, argument, value, kinds=(Gaussian, Categorical)):
    """function(value), or a TypeError if that is not a distribution."""
    if not callable(function):
        raise TypeError(f"{name} is a {type(function).__name__}; it must be a function")
    p = function(value)
    if not isinstance(p, kinds):
        wanted = "mae.Gaussian" if kinds is Gaussian else "mae.Gaussian or mae.Categorical"
        raise TypeError(f"{name}({argument}) returned {type(p).__name__}; it must return {wanted}")
    return p
