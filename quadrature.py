"""Exact values for codes of one or two dimensions: adaptive quadrature with an error that is known.

`mae` offers the exact_* functions; the rest of this file is how: averages over codes and data,
where the panels of the integrals have to end, and the integral itself.
"""

from collections import Counter
from functools import cache, partial

import numpy as np
from numpy.polynomial.chebyshev import chebvander

import nets
from distributions import (
    INTEGER, MOST_BITS, is_number, log_mean_exp, log_prior, prior_entropy, reals, require,
)  # fmt: skip

FAR = 40.0  # nats below the peak, where e^-40 = 4e-18 cannot change a sum of doubles
MOST_POINTS = 2**29  # of an integral, a minute or less
AT_ONCE = 2**17  # numbers in a table, which fits the cache
TOL = {1: 1e-8, 2: 1e-6}  # by the dimension of the code


class QuadratureError(ValueError):
    """An exact value could not be had to the tolerance asked for."""


# ---------------------------------------------------------------------------- exact values


def exact_log_likelihood(decoder, x, tol=None, with_error=False, latent=1):
    """log p(x) = log integral N(z; 0, I) p(x|z) dz; x (..., batch, features) -> (..., batch), nats.

    Like all exact values: for codes of `latent` dimensions, 1 or 2 (else ValueError), to an
    absolute error of tol, 1e-8 or 1e-6 by default (else QuadratureError); with_error=True returns
    (value, estimated error). Poster: log p(x).
    """
    codes = Codes(decoder, tol, latent)
    log_px, _, error = codes.posterior_means(_finite(x), means=False)
    log_px = np.where(log_px < -1e299, -np.inf, log_px)
    return _checked("exact_log_likelihood", log_px, error[0], codes.tol, with_error)


def exact_posterior(decoder, x, z, tol=None, with_error=False):
    """p(z|x) = p(x|z) p(z) / p(x); x (..., batch, features), z (points, latent): a grid of codes.

    -> (..., batch, points), a density in z, which integrates to 1; its error is that of log p(x)
    times the density.
    """
    x, z = _finite(x), _finite(z, "z")
    codes = Codes(decoder, tol, z.shape[-1])
    log_px, error = exact_log_likelihood(codes, x, with_error=True)
    log_pxz = codes.log_px_given_z(x, z) + log_prior(z)
    density = np.exp(log_pxz - log_px[..., None])
    return (density, density * error[..., None]) if with_error else density


def exact_mutual_information(decoder, tol=None, with_error=False, latent=1):
    """I_p(z, x) = E_{z, x ~ p} [log p(x|z) - log p(x)] = H(z) - H(z|x) >= 0 -> (...), nats.

    For an x that is categorical, Bernoulli of at most 12 features, or Gaussian of one feature.
    Poster: "subject to I(z, x) = M".
    """
    (log_px, log_px_given_z), error, tol = joint_means(decoder, tol, latent)
    information = np.maximum(log_px_given_z - log_px, 0)
    return _checked("exact_mutual_information", information, error, tol, with_error)


def exact_infomax_bound(decoder, auxiliary, tol=None, with_error=False, latent=1):
    """H(z) + E_{z, x ~ p} log r(z|x) <= I_p(z, x) -> (...), nats.

    The poster's infomax bound: `infomax_bound` averaged over z. I_p - bound = E_x KL[p(z|x) || r].
    """
    (_, bound), error = exact_information_and_bound(decoder, auxiliary, tol, True, latent)
    return (bound, error) if with_error else bound


def exact_information_and_bound(decoder, auxiliary, tol=None, with_error=False, latent=1):
    """(I_p(z, x), infomax bound) -> (2, ...), nats: both from one quadrature, for half the time."""
    (log_px, log_px_given_z, log_r), error, tol = joint_means(decoder, tol, latent, auxiliary)
    both = np.stack([np.maximum(log_px_given_z - log_px, 0), prior_entropy(latent) + log_r])
    return _checked("exact_information_and_bound", both, error, tol, with_error)


def posterior_kl(decoder, x, tol=None, most=MOST_POINTS):
    """KL[p(z|x) || p(z)] = E_{z ~ p(z|x)} log p(x|z) - log p(x) -> (..., batch), nats; its error.

    Its mean over x ~ p is I_p(z, x), whatever the number of features. most: points, of all x.
    """
    codes = Codes(decoder, tol)
    codes.spent["points"] = MOST_POINTS - most
    log_px, (log_px_given_z,), errors = codes.posterior_means(_finite(x))
    kl, error = np.maximum(log_px_given_z - log_px, 0), errors.sum(0)
    return _checked("posterior_kl", kl, error, codes.tol, with_error=True)


def exact_elbo(encoder, decoder, x, tol=None, with_error=False):
    """E_{z ~ q(z|x)} log p(x|z) - KL[q(z|x) || N(0, I)] <= log p(x) -> (..., batch), nats.

    The mean of `elbo` over eps; log p(x) - ELBO = KL[q(z|x) || p(z|x)]. Poster: ELBO.
    """
    x = _finite(x)
    codes = Codes(decoder, tol, encoder(x).shape[-1])
    q = _code("encoder", encoder, x, codes.tol, codes.latent)
    _check_company("encoder", encoder, x, q)

    def given_x(rows):
        log_px_given_z = lambda z, log_q: codes.log_px_given_z(x[..., rows, :], z)
        return code_mean(part_of(q, rows), log_px_given_z, codes.tol, codes.ends)

    reconstruction, error = in_blocks(given_x, x.shape[-2], codes.rows)
    return _checked("exact_elbo", reconstruction - q.kl(), error, codes.tol, with_error)


def exact_encoder_information(encoder, x, tol=None, with_error=False):
    """I_q = mean_x KL[q(z|x) || mean_x' q(z|x')], the rows of x equally likely -> (...), nats.

    At most log(rows). The information of the encoder's joint, not of the model's (`I_p`).
    """
    x = _finite(x)
    latent = encoder(x).shape[-1]
    tol = _checked_tol(tol, latent)
    q = _code("encoder", encoder, x, tol, latent)
    _check_company("encoder", encoder, x, q)
    # log q(z|x) / mean_x' q(z|x'), (..., x, z)
    log_ratio = lambda z, log_q: log_q - log_mean_exp(np.moveaxis(log_q, -2, 0))[..., None, :]
    ends = lambda reach: [code_ends(reach, latent)] * latent
    kl, error = code_mean(q, log_ratio, tol, ends)
    information = np.maximum(kl.mean(-1), 0)
    return _checked("exact_encoder_information", information, error.mean(-1), tol, with_error)


def _finite(x, name="x"):
    x = reals(name, x).astype(float)
    if not x.size or not np.isfinite(x).all():
        raise ValueError(f"{name} has shape {x.shape}; it must not be empty, and finite everywhere")
    return x


def _checked_tol(tol, latent):
    rule = "1 or 2 for exact values; for more dimensions see mae.information_interval"
    require("latent", latent, is_number(latent, INTEGER) and latent in TOL, rule)
    tol = TOL[latent] if tol is None else tol
    require("tol", tol, is_number(tol) and tol > 0, "a finite number > 0")
    return tol


def _code(name, function, x, tol, latent):
    """q(z|x) or r(z|x), for quadrature."""
    q = _in_double(name, function(x), x, tol)
    require(f"the {name}'s dimension", q.shape[-1], q.shape[-1] == latent, f"latent={latent}")
    if not np.isfinite(q.params).all():
        raise QuadratureError(f"the {name} returns values that are not finite")
    return q


def _in_double(name, p, points, tol):
    """p in float64, with one distribution for each point (a callable may return one for all)."""
    if not hasattr(p, "params"):
        kinds = "mae.Gaussian, Categorical and Bernoulli"
        raise ValueError(f"the {name} returned {type(p).__name__}; exact values are for {kinds}")
    *models, batch, width = p.params.shape
    n = points.shape[-2]
    if p.params.dtype == np.float32 and tol < 1e-5:
        raise QuadratureError(f"the {name} is single precision; tol={tol:.0e} < 1e-5 needs double")
    if batch not in (1, n):
        raise ValueError(f"the {name} returned {batch} distributions for {n} points, not {n} or 1")
    return p.unpack(np.broadcast_to(p.params, (*models, n, width)).astype(float, copy=False))


def _check_repeats(name, first, again):
    """ValueError if the answers depend on the company, or on chance, as with drop-out left on."""
    if np.any(np.abs(first.params - again.params) > 1e-4 * (1 + np.abs(first.params))):
        rule = "drop-out and batch normalisation must be off"
        raise ValueError(f"the {name} answers differently when it is asked twice: {rule}")


def _check_company(name, function, x, q):
    """`_check_repeats` with one row of x more, or if it is made for these rows with them alone."""
    try:
        again = function(np.concatenate([x, x[..., :1, :]], -2))
    except Exception:
        again = function(x)
    _check_repeats(name, q, part_of(again, slice(x.shape[-2])))


def part_of(p, rows):
    return p.unpack(p.params[..., rows, :])


def _checked(name, value, error, tol, with_error):
    worst = np.max(error)
    if not worst <= tol:
        raise QuadratureError(f"{name}: error {worst:.1e} where tol={tol:.1e} was asked for")
    return (value, error) if with_error else value


# ----------------------------------------------------------------- averages over codes and data


class Codes:
    """A decoder of codes z ~ N(0, I), and what a look at it along a grid of codes tells.

    codes: some, closer where the decoder moves; survey: p(x|z) there; highest: bounds log p(x|z).
    Where a decoder is asked for, its Codes will do, with their own tol: it is not surveyed anew.
    """

    @np.errstate(over="ignore", invalid="ignore")  # what is not finite is refused
    def __init__(self, decoder, tol, latent=1):
        self.spent, self.negligible = Counter(), -np.inf
        if isinstance(decoder, Codes):
            self.__dict__ = decoder.__dict__ | self.__dict__
            return
        nets.recycle_memory()
        self.tol, self.decoder, self.latent = _checked_tol(tol, latent), decoder, latent
        few = grid(*[FEW_CODES] * latent)
        first, ends = self.given(few), code_ends(10, latent)
        self.size = first.course().size // len(few)
        # codes are z = u @ turn; panels have their ends along u
        self.turn = axes_of(lambda z: self.given(z).course()) if latent == 2 else np.eye(1)
        self.course = lambda u: self.given(u @ self.turn).course()
        panels = ends[:-1], ends[1:], self.size
        find = partial(resolved, tol=self.tol) if latent == 1 else resolved_plane
        self.inner = find(self.course, *panels)
        per = max(1, min(8, int(2 ** (20 / latent)) // len(self.inner)))  # panel; a million in all
        some = self.inner[:-1, None] + np.diff(self.inner)[:, None] * np.arange(per) / per
        self.codes = grid(*[some.ravel()] * latent) @ self.turn
        look = self.given(np.concatenate([few, self.codes]))
        self.survey, self.highest = part_of(look, slice(len(few), None)), np.max(look.highest())
        _check_repeats("decoder", first, part_of(look, slice(len(few))))
        course = self.survey.course()  # a logit of -inf is legal, and finite here
        if not (np.isfinite(self.survey.params).all() or np.isfinite(course).all()):
            raise QuadratureError("the decoder returns values that are not finite")
        # neighbours in x share their panels, unless most p(z|x) are narrow: rows at a time
        narrow = np.mean(np.abs(np.diff(course, axis=-2)).max(-1) > 10) > 0.5
        self.rows = 1024 if self.survey.discrete else 33 if narrow else 66

    def given(self, z):  # p(x|z)
        try:
            return _in_double("decoder", self.decoder(z), z, self.tol)
        except Exception as error:
            if hasattr(error, "add_note"):
                error.add_note(f"(the decoder was given codes of shape {z.shape}; see `latent`)")
            raise

    def log_px_given_z(self, x, z):  # (..., x, z)
        return self.given(z).table(x).swapaxes(-1, -2)

    def ends(self, reach):
        """Panel ends along each axis of |z| < reach."""
        every = code_ends(reach, self.latent)
        beyond = (every[1:] <= self.inner[0]) | (every[:-1] >= self.inner[-1])
        if beyond.any():
            panels = every[:-1][beyond], every[1:][beyond], self.size
            more = resolved(self.course, *panels, self.tol) if self.latent == 1 else every
            self.inner = np.union1d(self.inner, more)
        return [self.inner[np.abs(self.inner) <= every[-1]]] * self.latent

    @np.errstate(over="ignore", invalid="ignore")  # what overflows is refused
    def posterior_means(self, x, auxiliary=None, means=True):
        """log p(x); means over p(z|x) of log p(x|z) and log r(z|x), if wanted; errors of all."""

        def given_x(rows):
            some, r = x[..., rows, :], auxiliary and auxiliary(x[..., rows, :])

            def integrand(u):
                z = u @ self.turn
                log_px_given_z = self.log_px_given_z(some, z)
                values = (log_px_given_z, r.table(z)) if r else (log_px_given_z,)
                return log_px_given_z + log_prior(z), values if means else ()

            # no log w is higher in a panel: its point nearest to 0 is the most likely
            most = lambda low, high: self.highest + log_prior(np.clip(0, low, high).T)
            ends = self.ends_for(some)
            return integrate(integrand, ends, self.tol, self.negligible, self.spent, most)

        return in_blocks(given_x, x.shape[-2], self.rows)

    def ends_for(self, x):
        """Panel ends beyond which even the highest log p(x|z) leaves e^-FAR of a peak, or less."""
        peaks = np.max(self.survey.table(x) + log_prior(self.codes)[:, None], -2)
        peak = max(np.min(peaks, initial=np.inf, where=peaks > -1e299), self.negligible)
        ends = self.ends(np.sqrt(2 * max(FAR + self.highest - peak, 0)) if peak < np.inf else 10)
        corners = grid(*(axis[[0, -1]] for axis in ends)) @ self.turn
        beyond = np.max(self.log_px_given_z(x, corners) + log_prior(corners))
        if peak < np.inf and not beyond <= peak - FAR:
            raise QuadratureError(f"the decoder's density grows beyond codes of {ends[0][-1]:.1e}")
        return ends


def in_blocks(of, rows, most):
    """of(slice) for all rows, at most so many at a time, joined along the last axis."""
    parts = [of(slice(start, start + most)) for start in range(0, rows, most)]
    return [np.concatenate(each, -1) for each in zip(*parts)]


def joint_means(decoder, tol, latent, auxiliary=None):
    """Means over z, x ~ p of log p(x), log p(x|z) and log r(z|x), if wanted; their error; tol."""
    codes = Codes(decoder, tol, latent)
    p, tol = codes.survey, codes.tol
    r = auxiliary and (lambda x: _code("auxiliary", auxiliary, x, tol, latent))

    def given_x(x):  # log p(x), and as functions of x alone: log p(x), the other means, their error
        log_px, means, errors = codes.posterior_means(x, r)
        return log_px, (log_px, *means, errors.sum(0))

    if r:
        x = p.values()[:9] if p.discrete else p.mean[..., :9, :]
        _check_company("auxiliary", r, x, r(x))
    if p.discrete:
        most = 2**MOST_BITS
        require("features", p.shape[-1], p.shape[-1] <= most, f"at most {most} for sums over all x")
        codes.negligible = -70
        log_px, values = given_x(p.values())
        if not np.all(np.abs(np.exp(log_px).sum(-1) - 1) <= tol):
            raise QuadratureError("the decoder's x is discrete; it must be one-hot, with mass 1")
        *means, error = (np.sum(np.exp(log_px) * value, -1) for value in values)
        return means, error, tol
    if p.shape[-1] != 1:
        rule = "1 for averages over x; mae.information_interval takes any number"
        raise ValueError(f"the decoder's x has {p.shape[-1]} features; it must be {rule}")
    mean, width = p.mean.ravel(), np.exp(0.5 * p.log_var).ravel()
    stds, codes.negligible, left = data_reach(codes, r, mean, width) if r else (REACHES[0], -70, 0)
    for sparse in (4, 1):
        ends = data_ends(mean, width, stds, sparse)
        if r:
            course = lambda x: r(x).course()
            ends = resolved(course, ends[:-1], ends[1:], course(ends[:1, None]).size, tol)
        (*means, inner), error, missed = density_means(given_x, [ends], tol)
        missed = np.maximum(missed - inner, 0)
        if np.max(missed) == 0:  # else so few panels skipped a peak of p(x)
            break
    carried = 1 + sum(np.abs(mean) for mean in means) - np.log(np.maximum(missed, 1e-300))
    return means, inner + error + missed * carried + left, tol


def data_reach(codes, r, mean, width):
    """How many standard deviations of p(x|z) out there is next to nothing of p(x) log r(z|x).

    -> and the log p(x) below which it is nothing, and what is left further out.
    """
    for stds in REACHES:
        x = np.array([[(mean - stds * width).min()], [(mean + stds * width).max()]])
        log_px, q = codes.posterior_means(x, means=False)[0], r(x)
        most = np.log((100 + q.mean**2) * np.exp(-q.log_var)).max(-1)  # of e^2, in any |z| < 10
        left = np.exp(np.max(log_px + most)) * stds * np.max(width)
        if left < codes.tol / 1000:
            return stds, -60 - np.max(most), left
    raise QuadratureError("the auxiliary's log r(z|x) grows too fast: p(x) falls too slowly")


def code_mean(q, value, tol, ends):
    """Mean (..., batch) of value(z, log q(z|x)) over z ~ q(z|x), and its error."""

    def integrand(z):
        log_q = q.table(z)  # (..., x, z)
        return log_q, (value(z, log_q),)

    for stds in REACHES:
        reach = np.max(np.abs(q.mean) + stds * np.exp(0.5 * q.log_var))
        edge = grid(*[(-reach, 0, reach)] * q.shape[-1])
        with np.errstate(over="ignore", invalid="ignore"):
            log_q, (values,) = integrand(np.delete(edge, len(edge) // 2, 0))
            if np.all(log_q + np.log1p(np.abs(values)) < -FAR):
                break
    else:
        raise QuadratureError(f"the mean does not converge within {stds} standard deviations")
    (mean,), error, missed = density_means(integrand, ends(reach), tol)
    return mean, error + missed * (1 + np.abs(mean))


def density_means(integrand, ends, tol):
    """Means under a density, the sum of their errors, how much of its mass, 1, was missed."""
    log_mass, means, (mass_error, *errors) = integrate(integrand, ends, tol)
    return means, sum(errors), np.maximum(np.abs(np.expm1(log_mass)) - mass_error, 0)


# ------------------------------------------------------------------ where the panels have to end

REACHES = (10, 14, 20, 28, 38)  # standard deviations; of a normal e^-722 is beyond the last
FIRST_ENDS = {1: [0, 1, 2, 3, 4, 5.5, 7.5, 10], 2: [0, 1.5, 3, 5, 7.5, 10]}
FEW_CODES = np.array([-100.0, -50, -20, -12, -3, -1, 0, 1, 3, 12, 20, 50, 100])


def grid(*axes):
    """All points with these coordinates along each axis, (points, dims)."""
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))


def code_ends(reach, latent=1):
    """Panel ends for an integral over |z| < reach: close where the prior is, longer further out."""
    if not reach < 1e9:
        raise QuadratureError(f"codes as far out as {reach:.1e} would matter")
    ends = np.append(FIRST_ENDS[latent], 10 * 1.25 ** np.arange(1, 84))
    ends = ends[: np.searchsorted(ends, max(reach, 10)) + 1]
    return np.concatenate([-ends[:0:-1], ends])


def data_ends(mean, width, stds, sparse):
    """Panel ends for an integral over a mixture of peaks (any shapes): none skips a narrow one.

    A panel is at most 32 sparse widths long, of the narrowest peak that it starts in, and where a
    much narrower peak begins, so does a panel.
    """
    low, high = mean - stds * width, mean + stds * width
    longest = (high.max() - low.min()) / 6
    ends, most = [low.min()], 32 * width * sparse
    while ends[-1] < high.max():
        here = (low <= ends[-1]) & (ends[-1] < high)
        step = min(np.min(most, initial=longest, where=here), longest)
        narrower = (low > ends[-1]) & (2 * most < step)
        ends.append(min(ends[-1] + step, np.min(low, initial=np.inf, where=narrower)))
    return np.array(ends)


def axes_of(course, h=1e-6):
    """The turn R, (2, 2), after which each value of course(u @ R) moves along one axis of u only.

    If there is one: else the identity. Slopes are complex numbers here, whose fourth powers all
    have one angle if they are along two axes.
    """
    z = grid(*[np.arange(-7, 7.1, 0.5)] * 2)
    real, imaginary = (course(z + step) - course(z - step) for step in h * np.eye(2))
    slopes = real + 1j * imaginary
    sizes = np.abs(slopes)
    angle = np.angle(np.sum(sizes * (slopes / np.maximum(sizes, 1e-300)) ** 4)) / 4
    cos, sin = np.cos(round(angle, 9)), np.sin(round(angle, 9))
    turn, here = np.array([[cos, sin], [-sin, cos]]), course(z)
    moves = [np.abs(course(z + axis) - here).max(-2) for axis in turn]
    still = np.min(moves, 0) <= 1e-6 * (1 + np.abs(here).max(-2))
    return turn if still.all() else np.eye(2)


def resolved_plane(course, low, high, size):
    """Panel ends for two codes: everywhere as close as on some line along an axis they must be."""
    lengths, across = high - low, np.arange(-7, 7.1, 0.25)

    def lines(t):  # (points, 1) -> (..., points, values of all lines along either axis)
        z = grid(t[:, 0], across)
        values = course(np.concatenate([z, z[:, ::-1]]))
        values = values.reshape(*values.shape[:-2], 2, len(t), -1).swapaxes(-3, -2)
        return values.reshape(*values.shape[:-2], -1)

    needed = np.diff(resolved(lines, low, high, 2 * size * len(across), 1e-3, 5, middle))
    # both halves of a panel are as long: its detail was resolved. At a jump, which no point can
    # miss, one half never is, and ends below 0.02
    halved = needed[1:][np.isclose(needed[1:], needed[:-1])]
    shortest = np.min(halved, initial=lengths.min(), where=halved > 0.02)
    parts = np.where(shortest < lengths.min(), np.ceil(lengths / shortest), 1).astype(int)
    inside = [np.linspace(*panel, endpoint=False) for panel in zip(low, high, parts)]
    return np.append(np.concatenate(inside), high[-1])


def middle(t, values):
    """That of panels t (panels, points), whatever the values."""
    return t[:, t.shape[1] // 2]


def kinks(t, values):
    """Where functions that are all but straight have their largest kink; if not, the middle.

    t (panels, points), values (functions, panels, points) -> (panels,). A kink stands where the
    lines through two points to its left and to its right meet.
    """
    slopes, panel = np.diff(values) / np.diff(t), np.arange(len(t))
    bends = np.abs(slopes[..., 2:] - slopes[..., :-2])
    at = bends.sum(0).argmax(-1)
    bends = bends[:, panel, at]
    kinked = bends.sum(0) > 0.25 * np.ptp(slopes, -1).sum(0)
    left, own, right = slopes[bends.argmax(0), panel, at + np.arange(3)[:, None]]
    share = np.divide(own - right, left - right, where=kinked, out=np.zeros(len(t)))
    low, high = t[panel, at + 1], t[panel, at + 2]
    return np.where(kinked, low + np.clip(share, 0, 1) * (high - low), middle(t, values))


def resolved(course, low, high, size, tol, closer=2, cut=kinks):
    """Panel ends between which 33 points tell what a function is at 257: others are cut further.

    course (points, 1) -> (..., points, values), `size` numbers at a point. What is narrower may
    hide, and so may what changes the course by less than ten times tol of its range.
    """
    rounding = 1e-12 if tol < 1e-5 else 1e-6  # single precision is taken from there on
    ends = [low, high]
    for n in (256, 128, *[64] * closer):  # halves keep the distance, then come closer
        close, from_33 = interpolation(n)
        points, cuts = ((low + high)[:, None] + (high - low)[:, None] * close) / 2, []
        room = max(1, AT_ONCE // (len(close) * size))
        for some in (points[k : k + room] for k in range(0, len(points), room)):
            values = course(some.reshape(-1, 1)).swapaxes(-1, -2).reshape(-1, *some.shape)
            few = values[..., :: n // 32]
            off = np.abs(few @ from_33.T - values).max(-1)
            seen = 10 * tol * (1 + np.ptp(few, -1)) + rounding * np.abs(few).max(-1)
            bad = (off > seen).any(0)
            if bad.any():
                some, values = some[bad], values[:, bad]
                cuts.append([some[:, 0], middle(some, values), cut(some, values), some[:, n]])
        if not cuts:
            break
        cuts = np.sort(np.concatenate(cuts, -1), 0)
        ends += [*cuts]
        low, high = (side[cuts[1:] > cuts[:-1]] for side in (cuts[:-1], cuts[1:]))
    return np.unique(np.concatenate(ends))


# ------------------------------------------------- the integral: adaptive Clenshaw-Curtis rules


def nodes(n):
    """n + 1 points -cos(pi j / n) in [-1, 1]."""
    return -np.cos(np.pi * np.arange(n + 1) / n)


def coefficients(n):
    """What makes Chebyshev coefficients of values at these points, (n + 1, n + 1)."""
    return np.linalg.inv(chebvander(nodes(n), n))


@cache
def interpolation(n):
    """n + 1 of these points, and what 33 of them make of a function there, (n + 1, 33)."""
    return nodes(n), chebvander(nodes(n), 32) @ coefficients(32)


def clenshaw_curtis(n, dims):
    """(n + 1)^dims points, (., dims); what gives, of values along an axis, integral and tail.

    The tail is six times the last four coefficients: more than twice the error of the integral at
    any kink, jump or square root, and of a smooth function more by far (after Gonnet, 2010).
    """
    k = np.arange(0, n + 1, 2)
    weights = (2 / (1 - k**2)) @ coefficients(n)[::2]  # the integral of T_k is 2 / (1 - k^2), or 0
    return grid(*[nodes(n)] * dims), np.stack([weights, *6 * coefficients(n)[-4:]], -1)


RULES = {1: clenshaw_curtis(32, 1), 2: clenshaw_curtis(16, 2)}


@np.errstate(over="ignore", invalid="ignore")  # what overflows ends as an error too large
def integrate(integrand, ends, tol, negligible=-np.inf, spent=None, most=lambda low, high: np.inf):
    """log integral w dt and the means of some values under w: (log w, values) = integrand(t).

    t (points, dims) -> log w (..., points), values a tuple of such arrays; ends: those of the first
    panels along each axis -> log mass (...), means (values, ...), errors of both (1 + values, ...).
    A panel is halved until its error is small AND nothing can hide between its points; most(low,
    high) bounds log w. Errors are relative to the mass and e^negligible. spent: points so far.
    """
    spent, dims = Counter() if spent is None else spent, len(ends)
    (points, rule), room, kept = RULES[dims], 32, 16 * 4**dims  # kept panels share the tolerance
    todo = np.stack([grid(*side).T for side in zip(*[(e[:-1], e[1:]) for e in ends])])
    shortest = 1e-13 * max(e[-1] - e[0] for e in ends)
    scale, sums, errors, means = -np.inf, np.zeros(1), np.zeros(1), np.zeros(1)
    while todo.size:  # low and high: (2, dims, panels)
        (low, high), todo = todo[..., :room], todo[..., room:]
        log_w, *values = at_points(integrand, low, high, points)
        top, bottom = log_w.max(-1), log_w.min(-1)  # (..., panel)
        # all sums are kept relative to e^scale, the highest point so far
        old, scale = scale, np.maximum(scale, top.max(-1))
        sums, errors = sums * np.exp(old - scale), errors * np.exp(old - scale)
        part, tails = panel_sums(log_w, values, means, scale, high - low, rule)
        # of a sum, and of an exponent that is large itself
        rounding = (4e-15 + 1e-15 * np.minimum(np.abs(top), 1e14)) * np.abs(part)
        totals, error = sums + part.sum(-1), tails.sum(0)
        mass = totals[0] + np.exp(np.minimum(negligible - scale, 700))
        small = (max(tol, 1e-13) / kept * mass + 1e-15 * np.abs(totals))[..., None] + rounding
        # a peak may stand between two points: log w varies by tens of nats, and more would matter
        hidden = np.minimum(2 * top - bottom, most(low, high))
        split = ((top - bottom > 60) & (hidden > scale[..., None] - FAR)) | (error > small).any(0)
        split = split.reshape(-1, low.shape[1]).any(0) & ((high - low).max(0) > shortest)
        kept += np.count_nonzero(~split)
        sums = sums + part[..., ~split].sum(-1)
        errors = errors + np.maximum(error, rounding)[..., ~split].sum(-1)
        # those of sums of w (value - mean), whatever the mean: what w misses, both sums miss
        old, means = means, totals / np.maximum(totals[0], 1e-300) * (scale > -1e299)
        means[0] = 0
        errors = errors + np.abs(means - old) * errors[0]
        share = (tails / np.maximum(small, 1e-300))[..., split]
        todo = np.concatenate([todo, halved(low[:, split], high[:, split], share)], -1)
        spent["points"] += log_w.size
        if spent["points"] > MOST_POINTS:
            raise QuadratureError(f"tol={tol:.1e} is out of reach of {MOST_POINTS} points")
        room = max(1, AT_ONCE // (len(points) * scale.size))
    mass = np.maximum(sums[0], 1e-300)
    return scale + np.log(mass), means[1:], np.where(sums[0] > 0, errors / mass, 1e300)


def at_points(integrand, low, high, points):
    """log w and the values at the points of the panels, (..., panel, point)."""
    t = ((low + high).T[:, None] + (high - low).T[:, None] * points) / 2  # (panel, point, dims)
    log_w, values = integrand(t.reshape(-1, len(low)))
    every = np.broadcast_arrays(log_w, *values)
    return [a.reshape(*a.shape[:-1], *t.shape[:2]) for a in every]


def panel_sums(log_w, values, means, scale, lengths, rule):
    """Integrals of w and w value over each panel, (1 + values, ..., panel); tails (dims, ...).

    The tails are those of w and w (value - mean); the mean of w itself is kept as 0.
    """
    off = log_w - scale[..., None, None]
    w = np.exp(np.maximum(off, -700)) * (off > -700)  # exp is slow where nothing is left
    sums, tails = np.stack([w, *(w * value for value in values)]), []
    sums = sums.reshape(*sums.shape[:-1], *[len(rule)] * len(lengths))
    for _ in lengths:  # the last axis first, by products so small that they take one thread
        both = sums @ rule
        sums, tail = both[..., 0], both[..., 1:]
        tail -= tail[:1] * means.reshape(*means.shape, *[1] * (tail.ndim - means.ndim))
        tails = [np.abs(tail).sum(-1), *(other @ rule[:, 0] for other in tails)]
    volume = (lengths / 2).prod(0)
    return sums * volume, np.stack(tails) * volume


def halved(low, high, share):
    """The panels halved, along the axis of the largest share: (2, dims, panels)."""
    largest = share.max(tuple(range(1, share.ndim - 1)))  # (dims, panels)
    along = (largest + 1e-9 * (high - low)).argmax(0) == np.arange(len(low))[:, None]
    middle = (low + high) / 2
    lower, upper = np.where(along, middle, high), np.where(along, middle, low)
    return np.concatenate([[low, lower], [upper, high]], -1)
