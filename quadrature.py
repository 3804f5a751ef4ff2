"""Exact values for a one-dimensional code: adaptive quadrature with an error that is known.

`mae` offers the exact_* functions; the rest of this file is how: averages over codes and data,
where the panels of the integrals have to end, and the integral itself.
"""

import math
from collections import Counter

import numpy as np

import nets
from distributions import LOG_2PI, NUMBER, prior_entropy, reals

STEPS = 32  # of a panel: its 33 points contain the 17 of twice the step
FAR = 40.0  # nats below the peak, where e^-40 = 4e-18 cannot change a sum of doubles
NEGLIGIBLE = -70.0  # log p(x) below which x does not matter for an average over x
ROWS = 64  # values of x integrated together
MOST_POINTS = 2**28  # of an integral, some ten seconds
MOST_NUMBERS = 2**20  # in memory at a time, as one table of log p(x|z)
GRID = np.linspace(-9, 9, 3601)[:, None]  # codes at which a decoder is looked at
FAR_CODES = np.array([-100.0, -50, -20, -12, 12, 20, 50, 100])[:, None]
LIMIT = "exact values are for one-dimensional codes; with more, average sampled bounds over draws"


class QuadratureError(ValueError):
    """An exact value could not be had to the tolerance asked for."""


# ---------------------------------------------------------------------------- exact values


def exact_log_likelihood(decoder, x, tol=1e-8, with_error=False):
    """log p(x) = log integral N(z; 0, 1) p(x|z) dz; x (..., batch, features) -> (..., batch), nats.

    Like all exact values: for a one-dimensional code (else ValueError), to an absolute error of tol
    (else QuadratureError); with_error=True returns (value, estimated error). Poster: log p(x).
    """
    log_px, _, error = Codes(decoder, tol).posterior_means(_finite(x), means=False)
    return _checked("exact_log_likelihood", log_px, error[0], tol, with_error)


def exact_mutual_information(decoder, tol=1e-8, with_error=False):
    """I_p(z, x) = E_{z, x ~ p} [log p(x|z) - log p(x)] = H(z) - H(z|x) >= 0 -> (...), nats.

    For a Gaussian x of one feature or a categorical x. Poster: "subject to I(z, x) = M".
    """
    (log_px, log_px_given_z), error = joint_means(decoder, tol)
    return _checked("exact_mutual_information", log_px_given_z - log_px, error, tol, with_error)


def exact_infomax_bound(decoder, auxiliary, tol=1e-8, with_error=False):
    """H(z) + E_{z, x ~ p} log r(z|x) <= I_p(z, x) -> (...), nats.

    The poster's infomax bound: `infomax_bound` averaged over z. I_p - bound = E_x KL[p(z|x) || r].
    """
    (_, bound), error = exact_information_and_bound(decoder, auxiliary, tol, with_error=True)
    return (bound, error) if with_error else bound


def exact_information_and_bound(decoder, auxiliary, tol=1e-8, with_error=False):
    """(I_p(z, x), infomax bound) -> (2, ...), nats: both from one quadrature, for half the time."""
    r = lambda x: _code("auxiliary", auxiliary, x, tol)
    (log_px, log_px_given_z, log_r), error = joint_means(decoder, tol, r)
    both = np.stack([log_px_given_z - log_px, prior_entropy() + log_r])
    return _checked("exact_information_and_bound", both, error, tol, with_error)


def posterior_kl(decoder, x, tol=1e-8, most=MOST_POINTS):
    """KL[p(z|x) || p(z)] = E_{z ~ p(z|x)} log p(x|z) - log p(x) -> (..., batch), nats; its error.

    Its mean over x ~ p is I_p(z, x), whatever the number of features. most: points, of all x.
    """
    codes = Codes(decoder, tol, spent=Counter(points=MOST_POINTS - most))
    log_px, (log_px_given_z,), errors = codes.posterior_means(_finite(x))
    kl, error = log_px_given_z - log_px, errors.sum(0)
    return _checked("posterior_kl", kl, error, tol, with_error=True)


def exact_elbo(encoder, decoder, x, tol=1e-8, with_error=False):
    """E_{z ~ q(z|x)} log p(x|z) - KL[q(z|x) || N(0, 1)] <= log p(x) -> (..., batch), nats.

    The mean of `elbo` over eps; log p(x) - ELBO = KL[q(z|x) || p(z|x)]. Poster: ELBO.
    """
    x = _finite(x)
    q = _code("encoder", encoder, x, tol)
    codes = Codes(decoder, tol)
    log_px_given_z = lambda z, log_q: codes.log_px_given_z(x, z)
    reconstruction, error = code_mean(q, log_px_given_z, tol, codes.turns)
    return _checked("exact_elbo", reconstruction - q.kl(), error, tol, with_error)


def exact_encoder_information(encoder, x, tol=1e-8, with_error=False):
    """I_q = mean_x KL[q(z|x) || mean_x' q(z|x')], the rows of x equally likely -> (...), nats.

    At most log(rows). The information of the encoder's joint, not of the model's (`I_p`).
    """
    q = _code("encoder", encoder, _finite(x), tol)
    log_sum = lambda log_q: np.logaddexp.reduce(log_q, -2, keepdims=True)  # of (..., x, z), over x
    log_ratio = lambda z, log_q: log_q - (log_sum(log_q) - math.log(q.shape[-2]))
    kl, error = code_mean(q, log_ratio, tol)
    return _checked("exact_encoder_information", kl.mean(-1), error.mean(-1), tol, with_error)


def _finite(x):
    x = reals("x", x).astype(float)
    if not x.size or not np.isfinite(x).all():
        raise ValueError(f"x has shape {x.shape}; it must not be empty, and finite everywhere")
    return x


def _code(name, function, x, tol):
    """q(z|x) or r(z|x), for quadrature."""
    q = _in_double(name, function(x), x, tol)
    if q.shape[-1] != 1:
        raise ValueError(f"the {name}'s code has {q.shape[-1]} dimensions; {LIMIT}")
    if not np.isfinite(q.params).all():
        raise QuadratureError(f"the {name} returns values that are not finite")
    return q


def _in_double(name, p, points, tol):
    """p in float64, with one distribution for each point (a callable may return one for all)."""
    *models, batch, width = p.params.shape
    n = points.shape[-2]
    if p.params.dtype == np.float32 and tol < 1e-5:
        raise QuadratureError(f"the {name} is single precision; tol={tol:.0e} < 1e-5 needs double")
    if batch not in (1, n):
        raise ValueError(f"the {name} returned {batch} distributions for {n} points, not {n} or 1")
    return p.unpack(np.broadcast_to(p.params, (*models, n, width)).astype(float))


def _checked(name, value, error, tol, with_error):
    worst = np.max(error)
    if not worst <= tol:
        raise QuadratureError(f"{name}: error {worst:.1e} where tol={tol:.1e} was asked for")
    return (value, error) if with_error else value


# ----------------------------------------------------------------- averages over codes and data


class Codes:
    """A decoder of codes z ~ N(0, 1), and what a look at it on a grid of codes tells.

    turns: codes where panels must end; highest: bounds log p(x|z); survey: p(x|z) at some codes.
    """

    @np.errstate(over="ignore", invalid="ignore")  # what is not finite is refused
    def __init__(self, decoder, tol, negligible=-np.inf, spent=None):
        nets.recycle_memory()
        self.decoder, self.tol, self.negligible, self.spent = decoder, tol, negligible, spent
        p, far = self.given(GRID), self.given(FAR_CODES)
        course = p.course()
        # a logit of -inf is legal, and finite in the course
        if not (np.isfinite(p.params).all() or np.isfinite(course).all()):
            raise QuadratureError("the decoder returns values that are not finite")
        self.highest = max(np.max(q.highest()) for q in (p, far))
        points, ends = sharp_turns(course)
        self.turns = GRID[ends, 0]
        chosen = np.union1d(np.arange(0, len(GRID), 12), points)
        self.survey = p.unpack(p.params[..., chosen, :])

    def given(self, z):  # p(x|z)
        try:
            p = self.decoder(z)
        except (ValueError, IndexError) as error:
            raise ValueError(
                f"the decoder does not take codes of shape {z.shape}: {error}; {LIMIT}"
            ) from error
        return _in_double("decoder", p, z, self.tol)

    def log_px_given_z(self, x, z):  # (..., x, z)
        return self.given(z).table(x).swapaxes(-1, -2)

    @np.errstate(over="ignore", invalid="ignore")  # what overflows is refused
    def posterior_means(self, x, auxiliary=None, means=True):
        """log p(x); means over p(z|x) of log p(x|z) and log r(z|x), if wanted; errors of all."""
        starts = range(0, x.shape[-2], ROWS)  # neighbours in x share their panels
        blocks = [x[..., start : start + ROWS, :] for start in starts]
        results = [self._of_block(x, auxiliary and auxiliary(x), means) for x in blocks]
        return [np.concatenate(parts, -1) for parts in zip(*results)]

    def _of_block(self, x, r, means):  # posterior_means, with r = r(z|x) or None
        def integrand(z):
            log_px_given_z = self.log_px_given_z(x, z)
            values = (log_px_given_z, r.table(z)) if r else (log_px_given_z,)
            return log_px_given_z - 0.5 * (z[:, 0] ** 2 + LOG_2PI), values if means else ()

        # beyond this reach even the highest log p(x|z) leaves the integrand e^-FAR below its peak
        peak = max(np.min(np.max(integrand(GRID[::100])[0], -1)), self.negligible)
        reach = np.sqrt(2 * max(FAR + self.highest - peak, 0))
        edges = code_edges(reach, self.turns)
        if not np.all(integrand(edges[[0, -1], None])[0] <= peak - FAR):
            raise QuadratureError(f"the decoder's density grows beyond codes of {edges[-1]:.1e}")
        return integrate(integrand, edges, self.tol, self.negligible, self.spent)


def joint_means(decoder, tol, auxiliary=None):
    """Means over z, x ~ p of log p(x), log p(x|z) and log r(z|x), if wanted; their error."""
    codes = Codes(decoder, tol, NEGLIGIBLE, Counter())
    p = codes.survey

    def given_x(x):  # log p(x), and as functions of x alone: log p(x), the other means, their error
        log_px, means, errors = codes.posterior_means(x, auxiliary)
        return log_px, (log_px, *means, errors.sum(0))

    if p.discrete:
        log_px, values = given_x(p.values())
        if not np.all(np.abs(np.exp(log_px).sum(-1) - 1) <= tol):
            raise QuadratureError("the decoder's x is discrete; it must be one-hot, with mass 1")
        *means, error = (np.sum(np.exp(log_px) * value, -1) for value in values)
        return means, error
    if p.shape[-1] != 1:
        raise ValueError(f"the decoder's x has {p.shape[-1]} features; averages over x need one")
    ends, turns = data_edges(p.mean, np.exp(0.5 * p.log_var)), []
    if auxiliary:
        x = np.linspace(ends[0], ends[-1], len(GRID))[:, None]
        turns = x[sharp_turns(auxiliary(x).course())[1], 0]
    edges = lambda every: np.unique([*ends[::every], ends[-1], *turns])
    means, error, missed = density_means(given_x, edges(1 + len(ends) // 50), tol)
    if not np.max(missed) < tol:  # so few panels skipped a peak of p(x)
        means, error, missed = density_means(given_x, edges(2), tol)
    *means, inner = means
    return means, inner + error + missed * (1 + sum(np.abs(mean) for mean in means))


def code_mean(q, value, tol, turns=()):
    """Mean (..., batch) of value(z, log q(z|x)) over z ~ q(z|x), and its error."""

    def integrand(z):
        log_q = q.table(z)  # (..., x, z)
        return log_q, (value(z, log_q),)

    reach = np.max(np.abs(q.mean) + 10 * np.exp(0.5 * q.log_var))
    (mean,), error, missed = density_means(integrand, code_edges(reach, turns), tol)
    return mean, error + missed * (1 + np.abs(mean))


def density_means(integrand, edges, tol):
    """Means under a density, the sum of their errors, how much of its mass, 1, was missed."""
    log_mass, means, (_, *errors) = integrate(integrand, edges, tol)
    return means, sum(errors), np.abs(np.expm1(log_mass))


# ------------------------------------------------------------------ where the panels have to end


def code_edges(reach, turns):
    """Panel ends for an integral over |z| < reach: close where the prior is, longer further out."""
    if not reach < 1e9:
        raise QuadratureError(f"codes as far out as {reach:.1e} would matter")
    ends = [0, 1, 2, 3, 4, 5.5, 7.5, 10]
    while ends[-1] < reach:
        ends.append(ends[-1] * 1.25)
    return np.unique(np.concatenate([-np.array(ends), ends, turns]))


def data_edges(mean, width):
    """Panel ends for an integral over a mixture of peaks (any shapes): none skips a narrow one."""
    mean, width = mean.ravel(), width.ravel()
    low, high = (mean - 10 * width).min(), (mean + 10 * width).max()
    even = np.linspace(low, high, 7)
    ends = np.concatenate([mean - 10 * width, mean, mean + 10 * width, even])
    widths = np.concatenate([width, width, width, high - low + 0 * even])
    order = np.argsort(ends)
    ends, widths, longest = ends[order], widths[order], even[1] - even[0]
    chosen, chosen_width = [ends[0]], widths[0]
    for end, width in zip(ends, widths):  # a panel's points stand at most 1.6 widths apart
        if end - chosen[-1] >= min(STEPS * width, STEPS * chosen_width, longest):
            chosen.append(end)
            chosen_width = width
    chosen[-1] = ends[-1]
    return chosen


def sharp_turns(course):
    """Where a function on a fine grid, (..., points, values), turns within two grid steps.

    The 33 points of a panel could miss it, so a panel must end there. -> indices of the points that
    turn, and of the ends of their stretches.
    """
    course = np.moveaxis(course, -2, 0).reshape(course.shape[-2], -1)
    slope = np.abs(np.diff(course, axis=0))
    nearby = np.pad(slope, [(8, 7), (0, 0)])
    for shift in (1, 2, 4, 8):  # the highest of 16 neighbours, by doubling
        nearby = np.maximum(nearby[:-shift], nearby[shift:])
    bend = np.abs(np.diff(course, 2, axis=0))
    sharp = ((bend > 0.3 * nearby[1:]) & (bend > 1e-3)).any(1)
    return np.flatnonzero(sharp) + 1, np.flatnonzero(np.diff(sharp, prepend=False, append=False))


# ------------------------------------------------- the integral: adaptive Clenshaw-Curtis rules


def _clenshaw_curtis(n):
    """n + 1 points in [-1, 1] and their weights, for even n: Waldvogel (2006), BIT 46."""
    k, j = np.arange(n + 1), np.arange(1, n // 2 + 1)
    b = np.where(j == n // 2, 1, 2) / (4 * j**2 - 1)
    weights = (2 - 2 * np.cos(2 * np.pi * np.outer(k, j) / n) @ b) / n
    weights[[0, n]] /= 2
    return -np.cos(np.pi * k / n), weights


POINTS, _FINE = _clenshaw_curtis(STEPS)
RULE = np.stack([_FINE, _FINE], -1)  # (point, (sum, sum - sum of twice the step))
RULE[::2, 1] -= _clenshaw_curtis(STEPS // 2)[1]


def integrate(integrand, edges, tol, negligible=-np.inf, spent=None):
    """log integral w dt and the means of some values under w: (log w, values) = integrand(t).

    t (points, 1) -> log w (..., points), values a tuple of such arrays; the first panels lie
    between the edges -> log mass (...), means (values, ...), and their errors (1 + values, ...),
    the log mass's first. A panel is halved until its error is small AND nothing can hide between
    its points. Sums are over log w: a mass of e^-1000 is as good as any, but for one < negligible
    errors are relative to e^negligible. spent: points so far, shared by integrals in integrals.
    """
    if not isinstance(tol, NUMBER) or isinstance(tol, bool) or not 0 < tol < math.inf:
        raise ValueError(f"tol is {tol!r}; it must be a finite number > 0")
    spent = Counter() if spent is None else spent
    todo = np.array([edges[:-1], edges[1:]], float)  # panels: lower and upper ends
    shortest = 1e-13 * (edges[-1] - edges[0])
    scale, sums, errors, room = -np.inf, np.zeros(1), np.zeros(1), 1024
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows ends as an error too large
        while todo.size:
            (low, high), todo = todo[:, :room], todo[:, room:]
            log_w, *values = at_points(integrand, low, high)
            top, bottom = log_w.max(-1), log_w.min(-1)
            # all sums are kept relative to e^scale, the highest point so far
            old, scale = scale, np.maximum(scale, top.max(-1))
            sums, errors = sums * np.exp(old - scale), errors * np.exp(old - scale)
            part, error = panel_sums(log_w, values, scale, high - low)
            # what rounding leaves of a sum, and of an exponent that is large itself
            rounding = (4e-15 + 1e-15 * np.abs(top)) * np.abs(part)
            total = sums[0] + part[0].sum(-1) + np.exp(np.minimum(negligible - scale, 700))
            unresolved = (error > tol / 64 * total[..., None] + rounding).any(0)
            unresolved |= may_hide(top, bottom, scale)
            split = unresolved.any(tuple(range(unresolved.ndim - 1))) & (high - low > shortest)
            sums = sums + part[..., ~split].sum(-1)
            errors = errors + np.maximum(error, rounding)[..., ~split].sum(-1)
            low, high, middle = low[split], high[split], (low + high)[split] / 2
            halves = [np.append(low, middle), np.append(middle, high)]
            todo = np.concatenate([todo, halves], -1)
            spent["points"] += log_w.size
            if spent["points"] > MOST_POINTS:
                raise QuadratureError(f"tol={tol:.1e} is out of reach of {MOST_POINTS} points")
            room = max(1, MOST_NUMBERS // (len(POINTS) * scale.size))
        mass = np.maximum(sums[0], 1e-300)
        means = sums[1:] / mass
        errors[1:] += np.abs(means) * errors[0]
        return scale + np.log(mass), means, np.where(sums[0] > 0, errors / mass, 1e300)


def at_points(integrand, low, high):
    """log w and each of the values at the points of the panels, (..., panel, point)."""
    points = ((low + high)[:, None] + (high - low)[:, None] * POINTS) / 2
    log_w, values = integrand(points.reshape(-1, 1))
    lead = np.broadcast_shapes(log_w.shape, *(v.shape for v in values))[:-1]
    every = (np.broadcast_to(a, (*lead, points.size)) for a in (log_w, *values))
    return [a.reshape(*lead, *points.shape) for a in every]


def panel_sums(log_w, values, scale, length):
    """Integrals of w and w * value over each panel, and their errors; (1 + values, ..., panel)."""
    w = np.exp(log_w - scale[..., None, None])
    sums = np.stack([w @ RULE, *((w * v) @ RULE for v in values)])
    sums *= length[:, None] / 2
    return sums[..., 0], np.abs(sums[..., 1])


def may_hide(top, bottom, scale):
    """A peak may stand between two points: log w varies by tens of nats, and more would matter."""
    return (top - bottom > 60) & (2 * top - bottom > scale[..., None] - FAR)
