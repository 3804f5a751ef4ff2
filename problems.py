"""The problems of the experiments: data, what is true of them, and their decoders.

A problem is defined once: on a line by its density, on categories by their probabilities. The
optimum, averages over the true distribution, the rows and what figures draw follow from that.
"""

import contextlib
import itertools
import math
from functools import cached_property, partial
from statistics import NormalDist
from typing import Callable, NamedTuple

import numpy as np
from autograd import numpy as anp
from autograd.tracer import getval

import mae
import nets
from distributions import LOG_2PI, one_hot
from quadrature import Codes, integrate

# A target counts as reached if I itself is this near to it, where it is exact, and elsewhere if the
# whole interval is, in which it lies with 99 % confidence each way.
REACHED, INTERVAL_REACHED = 0.02, 0.1  # nats
COLUMNS = """method target seed information infomax_bound encoder_information log_likelihood elbo
    quadrature_error reached information_low information_high r_samples group below_optimum rate
    distortion marginal_kl""".split()


class Problem(NamedTuple):
    """Data and what is true of them."""

    data: Callable  # (rng, n) -> (n, features), as mae.fit takes it
    optimum: float = math.nan  # the best possible mean log-likelihood, -H(x); nan: unknown
    ceiling: float = math.inf  # the highest infomax bound that a Gaussian r can give
    most: float = math.inf  # nats that x can hold
    rows: np.ndarray = None  # a sample of the data, for the encoder's information
    data_mean: Callable = None  # values(x) -> means over the true distribution, error
    truth: Callable = None  # x -> its true density or probability
    extras: Callable = lambda model: {}  # further columns of metrics.csv
    draws: int = 4000  # of x, where I is not exact, and for each
    proposals: int = 128  # from r
    names: tuple = ()  # of the features or categories
    units: tuple = (0.0, 1.0)  # mean and standard deviation of the features, before the data's 0, 1


# ----------------------------------------------------------------- what becomes of a trained model


def evaluate(model, problem):
    """What is known of one model: exactly to 1e-8 or else to 1e-6, or else by sampling.

    nan where nothing is, and everywhere if it diverged.
    """
    row = dict.fromkeys(COLUMNS, math.nan) | {"quadrature_error": math.inf, "reached": False}
    if model.diverged >= 0:
        return row
    for tol in (1e-8, 1e-6) if problem.data_mean else ():
        with contextlib.suppress(mae.QuadratureError):
            row |= exact_values(model, problem, tol)
            break
    else:
        row |= sampled_values(model, problem)
    low, high = row["information_low"], row["information_high"]
    off = max(abs(low - model.targets), abs(high - model.targets))
    near = off <= (REACHED if low == high else INTERVAL_REACHED) or math.isnan(model.targets)
    row["reached"] = bool(near and math.isfinite(low + high))
    return row | problem.extras(model)


def exact_values(model, problem, tol):
    """The columns that are exact, and the largest of their estimated errors."""
    settings = {"tol": tol, "with_error": True}
    decoder = Codes(model.decoder, tol)  # surveyed once for all that follows

    def given(x):
        log_px, log_px_error = mae.exact_log_likelihood(decoder, x, **settings)
        elbo, elbo_error = mae.exact_elbo(model.encoder, decoder, x, **settings)
        return log_px, elbo, model.encoder(x).kl(), log_px_error + elbo_error

    (log_px, elbo, rate, inner), outer = problem.data_mean(given)
    (i_p, bound), error = mae.exact_information_and_bound(decoder, model.auxiliary, **settings)
    i_q, q_error = mae.exact_encoder_information(model.encoder, problem.rows, **settings)
    exact = dict.fromkeys(("information", "information_low", "information_high"), i_p) | {
        "infomax_bound": bound,
        "encoder_information": i_q,
        "log_likelihood": log_px,
        "elbo": elbo,
        "below_optimum": problem.optimum - log_px,
        "rate": rate,
        "distortion": -elbo - rate,
        "marginal_kl": model.encoder(problem.rows).kl().mean() - i_q,
        "quadrature_error": max(error, q_error, inner + outer),
    }
    return {name: float(value) for name, value in exact.items()}


def sampled_values(model, problem):
    """The interval of I, and from the same number of draws the bound, the ELBO and the rate.

    All in the precision of the training: rounding moves I far less than chance does.
    """
    rng, n, dtype = np.random.default_rng(0), problem.draws, model.params.dtype
    decoder, encoder, r = model.networks(model.params)
    normal = lambda *shape: rng.standard_normal(shape).astype(dtype)
    z, eps_q, eps_r = (normal(*lead, n, model.latent) for lead in ((), (), (problem.proposals,)))
    x = problem.data(rng, n).astype(dtype)
    eps_x = None if model.likelihood.discrete else normal(*x.shape)
    low, high = mae.information_interval(decoder, r, z, eps_x, eps_r)
    bound = mae.infomax_bound(decoder, r, z, eps_x).mean()
    elbo, rate = mae.elbo(encoder, decoder, x, eps_q).mean(), encoder(x).kl().mean()
    names = "information_low", "information_high", "infomax_bound", "elbo", "rate", "distortion"
    return dict(zip(names, map(float, (low, high, bound, elbo, rate, -elbo - rate))))


def row_of(model, name, problem, report=None):
    """One model's row of metrics.csv."""
    names = {"group": name, "method": str(model.methods), "target": float(model.targets)}
    names |= {"seed": int(model.seeds), "r_samples": model.r_samples}
    return evaluate(model, problem) | names


def label(value):
    """A key of the table as text."""
    return value if isinstance(value, str) else "none" if math.isnan(value) else f"{value:.7g}"


def values(rows, column, **where):
    """A column of the rows that have these values in other columns."""
    chosen = (row for row in rows if all(row[name] == value for name, value in where.items()))
    return np.array([row[column] for row in chosen])


# ----------------------------------------------- other numbers to hold: methods of the same loop


def rate_at(level):
    """The gap of a method that holds the KL of q(z|x) to p(z) at this level."""
    return lambda t, networks, x, eps: level - networks[1](x).kl().mean(-1)


def free_bits(level):
    """max(KL, level) in place of the KL (Kingma et al., 2016), the KL of a batch."""
    return mae.Method(f"free:{level:.3g}", lambda t, gap, _: (1, gap < 0, 0), rate_at(level))


def capacity(level):
    """10 |KL - C|, C rising from 0 to the level as M does (Burgess et al., 2018)."""
    gap = lambda t, *seen: rate_at(level * min(1, t / mae.RAMP))(t, *seen)
    return mae.Method(f"|KL-C|:{level:.3g}", lambda t, gap, _: (1, -10 * np.sign(gap), 0), gap)


def control_vae(level):
    """beta, from 1 on, by a controller: of the error, and of their sum (Shao et al., 2020).

    The sum is `fit`'s multiplier: it begins when the target has risen, and is limited.
    """
    beta = lambda gap, total: 1 + 0.01 / (1 + np.exp(gap)) - 0.1 * total
    weights = lambda t, gap, total: (1, np.maximum(beta(gap, total), 0), 0)
    return mae.Method(f"control:{level:.3g}", weights, rate_at(level))


def geco(level):
    """min KL, distortion at the level: 1 / beta by the multiplier (Rezende & Viola, 2018)."""

    def gap(t, networks, x, eps):
        decoder, encoder, _ = networks
        return level + decoder(encoder(x).sample(eps)).log_prob(x).mean(-1)

    return mae.Method(f"geco:{level:.3g}", lambda t, gap, total: (1, np.exp(0.1 * total), 0), gap)


def holding(problem, level):
    """The four at this rate, or at the distortion that belongs to it."""
    of_rate = free_bits(level), capacity(level), control_vae(level)
    return [*of_rate, geco(-problem.optimum - level)]


# --------------------------------------------------------------------- problems of known truth


def on_a_line(log_density, ends, quantile=None, data=None):
    """x of one feature and known density, smooth between the ends of panels that cover it.

    quantile and data follow from the density: (rng, n) -> n values, evenly spread.
    """
    if quantile is None:
        grid = np.linspace(ends[0], ends[-1], 10_001)
        density = np.exp(log_density(grid))
        below = np.append(0, np.cumsum(density[1:] + density[:-1]))
        quantile = lambda u: np.interp(u * below[-1], below, grid)

    def data_mean(values):
        """Means of values(x) = (a, b, ...) over x, and the largest of their errors."""
        _, means, errors = integrate(lambda x: (log_density(x[:, 0]), values(x)), [ends], 1e-8)
        return means, errors[1:].max()

    return Problem(
        data=data or (lambda rng, n: quantile(nets.evenly(rng, n))[:, None]),
        optimum=data_mean(lambda x: (log_density(x[:, 0]),))[0][0],
        rows=np.array([[quantile((i + 0.5) / 64)] for i in range(64)]),
        data_mean=data_mean,
        truth=lambda x: np.exp(log_density(x[:, 0])),
    )


def on_categories(probs, rows=None):
    """One-hot x with these probabilities; rows: how many for the encoder (all, equally likely)."""
    entropy = -(probs * np.log(probs)).sum()
    every = np.eye(len(probs))

    def data(rng, n):
        """n examples, each value as often as its probability says, to within one."""
        return every[np.searchsorted(probs.cumsum(), nets.evenly(rng, n) * probs.sum())]

    return Problem(
        data=data,
        optimum=-entropy,
        most=entropy,
        rows=data(np.random.default_rng(0), rows) if rows else every,
        data_mean=lambda values: (np.array(values(every)) @ probs, 0.0),  # sums: no error
        truth=lambda x: x @ probs,
    )


NORMAL = on_a_line(  # Figure 6
    log_density=lambda x: -0.5 * (x**2 + LOG_2PI),
    ends=[-9, -4, -1.5, 1.5, 4, 9],
    quantile=NormalDist().inv_cdf,
    data=lambda rng, n: nets.normal_lattice(rng, 1, n, 1)[0],
)


def mixture(weights, means, std):
    """A mixture of normals of one width, as a problem."""

    def log_density(x):
        e = (x[:, None] - np.array(means)) / std
        parts = np.log(weights) - 0.5 * (e * e + LOG_2PI) - math.log(std)
        return np.logaddexp.reduce(parts, -1)

    ends = np.unique([[m - 9 * std, m - 3 * std, m, m + 3 * std, m + 9 * std] for m in means])
    return on_a_line(log_density, ends)


LINES = {  # of mean 0 and variance 1, and of shapes that p(x|z) p(z) does not have
    "two clusters": mixture([0.5, 0.5], [-0.96, 0.96], 0.28),
    "three normals": mixture([0.3, 0.5, 0.2], [-1.2, 0.1, 1.55], 0.2872),
    "uniform": on_a_line(
        lambda x: np.where(np.abs(x) <= 3**0.5, -math.log(2 * 3**0.5), -np.inf), [-(3**0.5), 3**0.5]
    ),
    "exponential": on_a_line(lambda x: np.where(x >= -1, -1 - x, -np.inf), [-1, 0, 3, 10, 36]),
}


def gaussian_ceiling(categories):
    """Best bound of a Gaussian r, for the decoder that maps z to its quantile, the best one.

    H(z) + E log r = -1/2 mean_x log Var[z|x], with the variances of a truncated normal. I is
    log(categories) there; the rest is what a Gaussian loses by not being a piece of one.
    """
    ends = [NormalDist().inv_cdf(i / categories) for i in range(1, categories)]
    density = np.array([0, *map(NormalDist().pdf, ends), 0])
    moment = np.array([0, *ends, 0]) * density
    variance = 1 - categories * np.diff(moment) - (categories * np.diff(density)) ** 2
    return -0.5 * np.log(variance).mean()


UNIFORM = on_categories(np.full(10, 0.1))._replace(ceiling=gaussian_ceiling(10))  # Figure 5

STD = 0.5  # of the restricted decoder of Figure 4
GAUSS, TENS = (NORMAL, mae.GAUSSIAN), (UNIFORM, mae.CATEGORICAL)  # data and decoder
FIXED = NORMAL, mae.fixed_variance(STD)


def restricted_curve(information):
    """Log-likelihood of N(a z, s^2) on N(0, 1) data at this information; highest at -log s."""
    log_var = 2 * math.log(STD) + 2 * information  # of x
    return -0.5 * (LOG_2PI + log_var + np.exp(-log_var))


# ----------------------------------------------------------- sequences (related work [2], [3], [5])

BITS, FLIP = 6, 0.1
STRINGS = np.array(list(itertools.product([0, 1], repeat=BITS)))  # all 64
PROTOTYPES = np.array([[0] * 6, [1] * 6, [0, 1] * 3, [1, 0] * 3])
FLIPS = (STRINGS != PROTOTYPES[:, None]).sum(-1)  # (prototypes, strings)
GIVEN_PROTOTYPE = FLIP**FLIPS * (1 - FLIP) ** (BITS - FLIPS)  # p(string | prototype)
SEQUENCES = on_categories(GIVEN_PROTOTYPE.mean(0), rows=256)
# what the prototype tells of the string, in nats
I_PROTOTYPE = (GIVEN_PROTOTYPE * np.log(GIVEN_PROTOTYPE)).sum(1).mean() - SEQUENCES.optimum


def one_logit(features):
    return 1


class Strings(mae.Categorical):
    """The distribution over the 64 strings for each code, see `autoregressive`.

    questions (n, inputs): all that the network can be asked; own (strings, bits): which a string's
    bits are; seen (..., batch, 1, bits before): where these are not dropped.
    """

    unpack = mae.Categorical  # of logits that are had

    def __init__(self, questions, own, drop, network, z, noise=None):
        self.questions, self.own, self.network, self.z = questions, own, network, z
        self.seen = True if noise is None else (noise >= drop)[..., None, :]

    def ask(self, questions):
        """The network's logits: (..., batch or 1, n, inputs) -> (..., batch, n)."""
        code = getval(self.z)
        *lead, batch, n = np.broadcast_shapes((*code.shape[:-1], 1), questions.shape[:-1])
        known = np.empty((*lead, batch, n, 2 * BITS - 1), code.dtype)
        known[...] = questions
        known[..., : BITS - 1] *= self.seen
        asking = anp.concatenate([self.z[..., None, :] + 0 * known[..., :1], known], -1)
        logits = self.network(anp.reshape(asking, (*lead, batch * n, 2 * BITS)))
        lead = getval(logits).shape[:-2]  # with the models, if only the network has them
        return anp.reshape(logits, (*lead, batch, n))

    @cached_property
    def params(self):
        """log p of all strings, (..., batch, strings): every question asked once."""
        logits = self.ask(self.questions)
        part = self.own == np.arange(len(self.questions))[:, None, None]  # (question, string, bit)
        asked, one = np.array([part, part & (STRINGS == 1)]).any(-1).astype(getval(logits).dtype)
        # log p(1) = logit + log p(0),  log p(0) = -log(1 + e^logit)
        return logits @ one - anp.logaddexp(0, logits) @ asked

    def log_prob(self, x):
        """log p(x|z) of one-hot x: by the table if all have every x, else by the x's own bits."""
        z = getval(self.z)
        x = one_hot("x", x, (*z.shape[:-1], len(STRINGS)))
        alike = x.size == len(x) * len(STRINGS)  # for all codes, as those of `expect`
        if alike and x.ndim > z.ndim and x.ndim > len(self.shape):
            log_p = anp.moveaxis(self.params @ x.reshape(len(x), -1).T, -1, 0)
            ones = [1] * (x.ndim - 1 - len(self.shape))
            return anp.reshape(log_p, (len(x), *ones, *self.shape[:-1]))
        string = x.argmax(-1)
        logits = self.ask(self.questions[self.own[string]])
        bits = STRINGS[string].astype(getval(logits).dtype)
        return anp.sum(bits * logits - anp.logaddexp(0, logits), -1)


def autoregressive(name, window, drop=0.0):
    """p(x|z) = prod_t p(x_t | the `window` bits before, z), each factor the one network's sigmoid.

    The network is given the code, the bits before as -1 and 1 (0: none, or not seen), and which
    bit is meant, one-hot. With drop > 0 a bit is hidden from it with that probability in training.
    x is one-hot over the 64 strings. All of their probabilities take one pass over 63 questions,
    the prefixes (window 0: six; window 1: eleven); that of one string takes its own six.
    """
    before, place = np.arange(BITS - 1), np.arange(BITS)[:, None]
    seen = (before < place) & (before >= place - window)
    known = np.where(seen, 2 * STRINGS[:, None, :-1] - 1, 0)  # (string, bit, before)
    asked = np.concatenate([known, np.broadcast_to(np.eye(BITS), (len(STRINGS), BITS, BITS))], -1)
    questions, own = np.unique(asked.reshape(-1, 2 * BITS - 1), axis=0, return_inverse=True)
    decode = partial(Strings, questions, own.reshape(STRINGS.shape), drop)
    noise = BITS - 1 if drop else 0
    return mae.Likelihood(name, one_logit, decode, 2 * BITS - 1, noise, discrete=True)


# ------------------------------------------------------------------------------- faces (Figure 3)

SIDE = 20  # pixels


def draw_faces(factors):
    """Faces (n, 400), ink 1 on -1, from angle of the head and emotion, (n, 2) in [-1, 1]."""
    angle, emotion = 0.35 * factors[:, :1], factors[:, 1:]
    x, y = (a.ravel() for a in np.meshgrid(np.linspace(-1, 1, SIDE), np.linspace(1, -1, SIDE)))
    u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    ink = lambda distance: 1 / (1 + np.exp(distance / 0.1))  # soft edges: pixels vary smoothly
    head = ink(0.8 * np.abs(np.hypot(u / 0.8, v / 0.95) - 1) - 0.07)
    eyes = ink(np.hypot(np.abs(u) - 0.3, v - 0.3) - 0.1)
    bend = 1.5 * emotion * (u**2 - 0.09)
    mouth = ink(np.maximum(np.abs(v + 0.42 - bend) - 0.1, np.abs(u) - 0.42))
    return 2 * np.minimum(head + eyes + mouth, 1) - 1


def factors(rng, n):
    """n pairs of angle and emotion, evenly spread over [-1, 1]^2."""
    return 2 * np.stack([nets.evenly(rng, n), rng.permutation(nets.evenly(rng, n))], -1) - 1


def factors_known(model):
    """R^2 of each factor of the faces on a quadratic in the code."""
    truth = factors(np.random.default_rng(0), 4000)
    a, b = model.encoder(draw_faces(truth)).mean.T
    powers = np.stack([np.ones_like(a), a, b, a * a, a * b, b * b], -1)
    residual = truth - powers @ np.linalg.lstsq(powers, truth, rcond=None)[0]
    r2 = 1 - residual.var(0) / truth.var(0)
    return {"r2_angle": float(r2[0]), "r2_emotion": float(r2[1])}


FACES = Problem(lambda rng, n: draw_faces(factors(rng, n)), extras=factors_known)

# ------------------------------------------------------------------------------------- digits

PIXELS = 8  # on a side
STROKES = {  # seven bars of a digit, as on a pocket calculator: from (column, row) to (column, row)
    "a": (-1, 2, 1, 2), "b": (1, 2, 1, 0), "c": (1, 0, 1, -2), "d": (-1, -2, 1, -2),
    "e": (-1, 0, -1, -2), "f": (-1, 2, -1, 0), "g": (-1, 0, 1, 0),
}  # fmt: skip
DIGITS_OF = "abcdef bc abged abgcd fgbc afgcd afgcde abc abcdefg abcfgd".split()


def draw_digits(which, slant, width):
    """Digits (n, 64), ink 1 on -1: which (n,) of the ten, slant and width (n,) of each."""
    x, y = np.meshgrid(np.linspace(-2, 2, PIXELS), np.linspace(2.6, -2.6, PIXELS))
    u = (x - 0.3 * slant[:, None, None] * y) / width[:, None, None]
    ink = np.zeros((len(which), PIXELS, PIXELS))
    for name, (left, top, right, bottom) in STROKES.items():
        off = np.hypot(u - np.clip(u, left, right), y - np.clip(y, bottom, top))
        used = np.array([name in digit for digit in DIGITS_OF])[which]
        ink = np.maximum(ink, used[:, None, None] / (1 + np.exp((off - 0.25) / 0.15)))
    return (2 * ink - 1).reshape(len(which), -1)


def digits(rng, n):
    """n drawn digits, each of the ten equally often, with slants and widths evenly spread."""
    slant, width = (rng.permutation(nets.evenly(rng, n)) for _ in range(2))
    return draw_digits((10 * nets.evenly(rng, n)).astype(int), 2 * slant - 1, 0.8 + 0.4 * width)


DIGITS = Problem(data=digits, draws=8000, proposals=256)
