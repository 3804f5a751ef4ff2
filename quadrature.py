"""Exact values for a one-dimensional code: adaptive quadrature with an error that is known.

`mae` offers the exact_* functions; the rest of this file is how: averages over codes and data,
where the panels of the integrals have to end, and the integral itself.
"""

import math

import numpy as np

import nets
from distributions import Gaussian, finite, is_number, prior_entropy, require, returned


class QuadratureError(ValueError):
    """An exact value could not be had to the tolerance asked for."""


# ---------------------------------------------------------------------------- exact values


def exact_log_likelihood(decoder, x, tol=1e-8, with_error=False):
    """log p(x) = log integral N(z; 0, 1) p(x|z) dz; x (..., batch, features) -> (..., batch), nats.

    Like all exact values: for a one-dimensional code (else ValueError), to an absolute error of tol
    (else QuadratureError); with_error=True returns (value, estimated error). Poster: log p(x).
    """
    nothing = lambda x: lambda z, log_p_x: ()
    log_p, _, error = posterior_means(_of_codes(decoder, tol), finite("x", x), nothing, tol)
    return _checked("exact_log_likelihood", log_p, error[0], tol, with_error)


def exact_mutual_information(decoder, tol=1e-8, with_error=False):
    """I_p(z, x) = E_{z, x ~ p} [log p(x|z) - log p(x)] = H(z) - H(z|x) >= 0 -> (...), nats.

    For a Gaussian x of one feature or a categorical x. Poster: "subject to I(z, x) = M".
    """
    (log_p, log_p_x), error = joint_means(
        _of_codes(decoder, tol), lambda x: lambda z, log_p_x: (log_p_x,), tol
    )
    return _checked("exact_mutual_information", log_p_x - log_p, error, tol, with_error)


def exact_infomax_bound(decoder, auxiliary, tol=1e-8, with_error=False):
    """H(z) + E_{z, x ~ p} log r(z|x) <= I_p(z, x) -> (...), nats.

    The mean of `infomax_bound` over z; I_p - bound = E_x KL[p(z|x) || r(z|x)]. Poster: the
    infomax bound.
    """
    (_, bound), error = exact_information_and_bound(decoder, auxiliary, tol, with_error=True)
    return _checked("exact_infomax_bound", bound, error, tol, with_error)


def exact_information_and_bound(decoder, auxiliary, tol=1e-8, with_error=False):
    """(I_p(z, x), infomax bound) -> (2, ...), nats: both from one quadrature, for half the time."""
    r = lambda x: _code("auxiliary", auxiliary, x, tol)

    def log_p_and_r(x):
        r_of_x = r(x)
        return lambda z, log_p_x: (log_p_x, log_prob_table(r_of_x, z))

    (log_p, log_p_x, log_r), error = joint_means(_of_codes(decoder, tol), log_p_and_r, tol, r)
    both = np.stack([log_p_x - log_p, prior_entropy() + log_r])
    return _checked("exact_information_and_bound", both, error, tol, with_error)


def exact_elbo(encoder, decoder, x, tol=1e-8, with_error=False):
    """E_{z ~ q(z|x)} log p(x|z) - KL[q(z|x) || N(0, 1)] <= log p(x) -> (..., batch), nats.

    The mean of `elbo` over eps; log p(x) - ELBO = KL[q(z|x) || p(z|x)]. Poster: ELBO.
    """
    x = finite("x", x)
    q = _code("encoder", encoder, x, tol)
    decoder = _of_codes(decoder, tol)
    log_p_x = lambda z, log_q: (log_prob_table(decoder(z), x).swapaxes(-1, -2),)
    (log_p,), error = code_means(q, log_p_x, tol, decoder)
    return _checked("exact_elbo", log_p - q.kl(), error, tol, with_error)


def exact_encoder_information(encoder, x, tol=1e-8, with_error=False):
    """I_q = mean_x KL[q(z|x) || mean_x' q(z|x')], the rows of x equally likely -> (...), nats.

    At most log(rows). The information of the encoder's joint, not of the model's (`I_p`).
    """

    def log_ratio(z, log_q):  # (..., x, z)
        log_mean = np.logaddexp.reduce(log_q, -2, keepdims=True) - math.log(log_q.shape[-2])
        return (log_q - log_mean,)

    (kl,), error = code_means(_code("encoder", encoder, finite("x", x), tol), log_ratio, tol)
    information, error = np.mean(kl, -1), np.mean(error, -1)
    return _checked("exact_encoder_information", information, error, tol, with_error)


def _of_codes(decoder, tol):
    """The decoder as the quadratures call it, on one-dimensional codes; checked."""
    _check_tol(tol)

    def checked(z):
        try:
            return _in_double("decoder", returned("decoder", decoder, "z", z), z, tol)
        except (ValueError, IndexError) as error:
            if isinstance(error, QuadratureError):
                raise
            raise ValueError(
                f"the decoder does not take codes of shape {z.shape}: {error}. Exact values are "
                f"for one-dimensional codes; with more, average the sampled bounds over draws"
            ) from error

    return checked


def _check_tol(tol):
    require("tol", tol, is_number(tol) and tol > 0, "a finite number > 0")


def _code(name, function, x, tol):
    _check_tol(tol)
    p = _in_double(name, returned(name, function, "x", x, Gaussian), x, tol)
    if p.shape[-1] != 1:
        raise ValueError(
            f"the {name}'s code has {p.shape[-1]} dimensions; exact values are for one-dimensional "
            f"codes; with more, average the sampled bounds over draws"
        )
    if not np.isfinite(p.params).all():
        raise QuadratureError(f"the {name} returns values that are not finite")
    return p


def _in_double(name, p, points, tol):
    """p in float64, with one distribution for each point (a callable may return one for all)."""
    if p.params.dtype == np.float32 and tol < 1e-5:
        raise QuadratureError(
            f"the {name} computes in single precision, whose rounding is no function to {tol:.0e}: "
            f"let it compute in double precision, or ask for tol=1e-5"
        )
    shape = (*p.shape[:-2], points.shape[-2], p.params.shape[-1])
    if p.shape[-2] not in (1, shape[-2]):
        raise ValueError(
            f"the {name} returned a distribution of shape {p.shape} for {shape[-2]} points: the "
            f"batch, the axis before the last, must be the same, or one"
        )
    return p.unpack(np.broadcast_to(p.params, shape).astype(float))


def _checked(name, value, error, tol, with_error):
    worst = np.max(error)
    if not worst <= tol:
        raise QuadratureError(f"{name}: error {worst:.1e} where tol={tol:.1e} was asked for")
    return (value, error) if with_error else value


FAR = 40.0  # nats below the peak, where e^-40 = 4e-18 cannot change a sum of doubles
_BLOCK = 64  # rows (values of x) integrated together
_BUDGET = 2**28  # points, some ten seconds
_CODES = np.linspace(-9, 9, 3601)[:, None]
_FAR_CODES = np.array([-100.0, -50, -20, -12, 12, 20, 50, 100])[:, None]

# ----------------------------------------------------------------- averages over codes and data


def joint_means(decoder, values, tol, auxiliary=None):
    """Means over z, x ~ p of log p(x) and of the values (see `posterior_means`); their error."""

    def given(x):  # log p(x), and as functions of x alone: log p(x), E_{z|x} values, their error
        log_p, means, error = posterior_means(decoder, x, values, tol, survey, -70.0, budget)
        return log_p, (log_p, *means, error.sum(0))

    survey, budget = _survey(decoder), [_BUDGET]
    p = survey[0]
    if hasattr(p, "logits"):
        log_p, values_of_x = given(np.eye(p.shape[-1]))
        *means, error = (np.sum(np.exp(log_p) * value, -1) for value in values_of_x)
        return means, error
    if p.shape[-1] != 1:
        raise ValueError(
            f"the decoder's x has {p.shape[-1]} features; an exact average over a Gaussian x needs "
            f"one (log p(x), the ELBO and the sampled bounds have no such limit)"
        )
    ends = data_edges(p.mean, np.exp(0.5 * p.log_var))
    x = np.linspace(ends[0], ends[-1], len(_CODES))[:, None]
    turns = x[sharp_turns(_course(auxiliary(x)))[1], 0] if auxiliary else []
    for most in (
        50,
        len(ends),
    ):  # few panels first: whether they skipped a peak, the mass will tell
        edges = np.unique([*ends[:: 1 + len(ends) // most], ends[-1], *turns])
        log_mass, (*means, inner), (_, *errors) = integrate(given, edges, tol)
        missed = np.abs(np.expm1(log_mass))  # p(x) has mass 1: this much of it was not seen
        if np.max(missed) < tol:
            break
    return means, inner + sum(errors) + missed * (1 + sum(np.abs(mean) for mean in means))


@np.errstate(over="ignore", invalid="ignore")  # what overflows is refused
def posterior_means(decoder, x, values, tol, survey=None, negligible=-np.inf, budget=None):
    """log p(x) (..., batch), the means of some values over p(z|x), the errors of all these.

    values(x), for a block of rows x, is a function of codes z (points, 1) and of log p(x|z)
    (..., x, z); it returns a tuple of arrays like the latter. survey: that of the decoder, if
    known. Where log p(x) < negligible the errors are those of p(x) relative to exp(negligible).
    """
    _, highest, turns = survey or _survey(decoder)
    blocks = []
    for rows in range(0, x.shape[-2], _BLOCK):  # neighbours in x share their panels
        block = x[..., rows : rows + _BLOCK, :]
        value = values(block)

        def integrand(z):
            log_p_x = log_prob_table(decoder(z), block).swapaxes(-1, -2)  # (..., x, z)
            return log_p_x - 0.5 * (z[:, 0] ** 2 + nets.LOG_2PI), value(z, log_p_x)

        # beyond this reach even the highest log p(x|z) leaves the integrand e^-FAR below its peak
        peak = max(np.min(np.max(integrand(_CODES[::100])[0], -1)), negligible)
        reach = np.sqrt(2 * max(FAR + highest - peak, 0))
        edges = code_edges(reach, turns)
        if not np.all(integrand(edges[[0, -1], None])[0] <= peak - FAR):
            raise QuadratureError(f"the decoder's density grows beyond codes of {edges[-1]:.1e}")
        blocks.append(integrate(integrand, edges, tol, negligible, budget))
    return [np.concatenate(parts, -1) for parts in zip(*blocks)]


def code_means(q, values, tol, decoder=None):
    """Means (..., batch) of values(z, log q(z|x)) over z ~ q(z|x), and their error.

    decoder: what the values depend on, if on one.
    """

    def integrand(z):
        log_q = log_prob_table(q, z)  # (..., x, z)
        return log_q, values(z, log_q)

    reach = np.max(np.abs(q.mean) + 10 * np.exp(0.5 * q.log_var))
    turns = _survey(decoder)[2] if decoder else []
    log_mass, means, (_, *errors) = integrate(integrand, code_edges(reach, turns), tol)
    missed = np.abs(np.expm1(log_mass))  # q(z|x) has mass 1
    return means, sum(errors) + missed * (1 + sum(np.abs(mean) for mean in means))


def log_prob_table(p, points):
    """log p_i(point_j): p (..., i, features), points (..., j, features) -> (..., i, j)."""
    if hasattr(p, "logits"):  # one-hot points choose among the logarithms
        nets.check_one_hot(points)
        return np.maximum(nets.softmax(p.logits)[1], -1e300) @ points.swapaxes(-1, -2)
    log_prob = p.unpack(p.params[..., :, None, :]).log_prob(points[..., None, :, :])
    return np.maximum(log_prob, -1e300)  # log 0 as a number: 0 log 0 = 0


# ------------------------------------------------------------------ where the panels have to end


@np.errstate(over="ignore", invalid="ignore")  # what is not finite is refused
def _survey(decoder):
    """p(x|z) at a choice of codes, the highest log p(x|z), the codes at which panels must end."""
    p, far = decoder(_CODES), decoder(_FAR_CODES)
    if not np.isfinite(p.params if hasattr(p, "mean") else p.probs).all():
        raise QuadratureError("the decoder returns values that are not finite")
    if hasattr(p, "mean"):
        highest = max(np.max(-0.5 * (nets.LOG_2PI + q.log_var).sum(-1)) for q in (p, far))
    else:
        highest = 0.0
    turns, ends = sharp_turns(_course(p))
    chosen = np.union1d(np.arange(0, len(_CODES), 12), turns)
    return p.unpack(p.params[..., chosen, :]), highest, _CODES[ends, 0]


def _course(p):
    """p at the points of a grid, in units of standard deviations and nats; (points, values)."""
    if hasattr(p, "mean"):
        course = np.concatenate([p.mean * np.exp(-0.5 * p.log_var), p.log_var], -1)
    else:
        course = np.maximum(nets.softmax(p.logits)[1], -100)
    return np.moveaxis(course, -2, 0).reshape(p.shape[-2], -1)


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
    chosen, last = [ends[0]], widths[0]
    for end, width in zip(ends, widths):  # a panel's 33 points stand at most 1.6 widths apart
        if end - chosen[-1] >= min(32 * width, 32 * last, longest):
            chosen.append(end)
            last = width
    chosen[-1] = ends[-1]
    return chosen


def sharp_turns(course):
    """Where a function sampled on a fine grid, (points, values), bends sharply against its slopes.

    Such a bend within two steps of the grid is too short for the points of a panel to be sure to
    meet it: a panel must end there. -> indices of these points, and of the ends of their stretches.
    """
    slope = np.abs(np.diff(course, axis=0))
    nearby = np.pad(slope, [(8, 7), (0, 0)])
    for shift in (1, 2, 4, 8):  # the highest of 16 neighbours, by doubling
        nearby = np.maximum(nearby[:-shift], nearby[shift:])
    bend = np.abs(np.diff(course, 2, axis=0))
    sharp = ((bend > 0.3 * nearby[1:]) & (bend > 1e-3)).any(1)
    return np.flatnonzero(sharp) + 1, np.flatnonzero(np.diff(sharp, prepend=False, append=False))


# --------------------------------------------------------------- adaptive Clenshaw-Curtis
# quadrature


def _clenshaw_curtis(n):
    """n + 1 points in [-1, 1] and their weights."""
    k, j = np.arange(n + 1), np.arange(1, n // 2 + 1)
    b = np.where(j == n // 2, 1, 2) / (4 * j**2 - 1)
    weights = (2 - 2 * np.cos(2 * np.pi * np.outer(k, j) / n) @ b) / n
    weights[[0, n]] /= 2
    return -np.cos(np.pi * k / n), weights


_POINTS, _FINE = _clenshaw_curtis(32)
_RULE = np.stack([_FINE, _FINE], -1)  # (point, (sum, sum - sum of twice the step))
_RULE[::2, 1] -= _clenshaw_curtis(16)[1]


@np.errstate(over="ignore", invalid="ignore")  # what overflows ends as an error too large
def integrate(integrand, edges, tol, negligible=-np.inf, budget=None):
    """log integral w dt and the means of some values under w: (log w, values) = integrand(t).

    t (points, 1) -> log w (..., points), values a tuple of such arrays; the first panels lie
    between the edges -> log mass (...), means (values, ...), and their errors (1 + values, ...),
    the log mass's first. QuadratureError if it takes too many points.

    The 33 points of a panel contain the 17 of twice the step; the difference of the two sums is the
    error. A panel is halved until that is small AND nothing can hide between its points: where log
    w varies by tens of nats, a peak may stand between two points that both look negligible. Sums
    are over log w, so that a mass of e^-1000 is as good as any. log mass < negligible is resolved
    relative to e^negligible only. budget: [points still allowed], shared by integrals of integrals.
    """
    budget = budget or [_BUDGET]
    edges = np.asarray(edges, float)
    todo = np.stack([edges[:-1], edges[1:]])  # panels: lower and upper ends
    shortest = 1e-13 * (edges[-1] - edges[0])
    scale, sums, errors, evaluated, room = -np.inf, 0.0, 0.0, 0, 1024
    while todo.size:
        (low, high), todo = todo[:, :room], todo[:, room:]
        points = ((low + high)[:, None] + (high - low)[:, None] * _POINTS) / 2
        log_w, values = integrand(points.reshape(-1, 1))
        lead = np.broadcast_shapes(log_w.shape, *(v.shape for v in values))[:-1]
        log_w, *values = (  # (..., panel, point)
            np.broadcast_to(a, (*lead, points.size)).reshape(*lead, *points.shape)
            for a in (log_w, *values)
        )
        top, bottom = log_w.max(-1), log_w.min(-1)
        # all sums are kept relative to e^scale, the highest point so far
        old, scale = scale, np.maximum(scale, top.max(-1))
        sums, errors = sums * np.exp(old - scale), errors * np.exp(old - scale)
        w = np.exp(log_w - scale[..., None, None])
        parts = np.stack([w @ _RULE, *((w * v) @ _RULE for v in values)])
        parts *= (high - low)[:, None] / 2  # (1 + values, ..., panel, 2)
        part, error = parts[..., 0], np.abs(parts[..., 1])
        # what rounding leaves of a sum, and of an exponent that is large itself
        rounding = (4e-15 + 1e-15 * np.abs(top)) * np.abs(part)
        total = (sums[0] if evaluated else 0) + part[0].sum(-1)
        total = total + np.exp(np.minimum(negligible - scale, 700))
        unresolved = (error > tol / 64 * total[..., None] + rounding).any(0)
        unresolved |= (top - bottom > 60) & (2 * top - bottom > scale[..., None] - FAR)
        split = unresolved.any(tuple(range(unresolved.ndim - 1))) & (high - low > shortest)
        sums = sums + part[..., ~split].sum(-1)
        errors = errors + np.maximum(error, rounding)[..., ~split].sum(-1)
        middle = (low + high)[split] / 2
        low, high = np.append(low[split], middle), np.append(middle, high[split])
        todo = np.concatenate([todo, [low, high]], -1)
        evaluated += w.size
        budget[0] -= w.size
        room = max(1, 2**20 * points.size // (33 * w.size))  # keeps w at 2^20 doubles
        if budget[0] < 0:
            raise QuadratureError(f"tol={tol:.1e} is out of reach of {_BUDGET} points")
    mass = np.maximum(sums[0], 1e-300)
    means = sums[1:] / mass
    errors[1:] += np.abs(means) * errors[0]
    return scale + np.log(mass), means, np.where(sums[0] > 0, errors / mass, 1e300)
