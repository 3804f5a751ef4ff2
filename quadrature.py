"""Integrals over a line with an error that is known: adaptive Clenshaw-Curtis quadrature."""
import numpy as np


class QuadratureError(ValueError):
    """An exact value could not be had to the tolerance asked for."""


FAR = 40.0  # nats below the peak, where e^-40 = 4e-18 cannot change a sum of doubles


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
def integrate(integrand, edges, tol, negligible=-np.inf):
    """log integral w dt and the means of some values under w: (log w, values) = integrand(t).

    t (points, 1) -> log w (..., points), values a tuple of such arrays; the first panels lie between
    the edges -> log mass (...), means (values, ...), and their errors (1 + values, ...), the log
    mass's first. QuadratureError if it takes too many points.

    The 33 points of a panel contain the 17 of twice the step; the difference of the two sums is the
    error. A panel is halved until that is small AND nothing can hide between its points: where log w
    varies by tens of nats, a peak may stand between two points that both look negligible. Sums are
    over log w, so that a mass of e^-1000 is as good as any. log mass < negligible is resolved
    relative to e^negligible only.
    """
    if not tol > 0:
        raise ValueError(f"tol is {tol!r}; it must be a positive number")
    edges = np.asarray(edges, float)
    todo = np.stack([edges[:-1], edges[1:]])  # panels: lower and upper ends
    shortest = 1e-13 * (edges[-1] - edges[0])
    scale, sums, errors, evaluated, room = -np.inf, 0.0, 0.0, 0, 1024
    while todo.size:
        (low, high), todo = todo[:, :room], todo[:, room:]
        points = ((low + high)[:, None] + (high - low)[:, None] * _POINTS) / 2
        log_w, values = integrand(points.reshape(-1, 1))
        log_w, *values = np.broadcast_arrays(log_w, *values)
        log_w = log_w.reshape(*log_w.shape[:-1], *points.shape)  # (..., panel, point)
        top, bottom = log_w.max(-1), log_w.min(-1)
        # all sums are kept relative to e^scale, the highest point so far
        old, scale = scale, np.maximum(scale, top.max(-1))
        sums, errors = sums * np.exp(old - scale), errors * np.exp(old - scale)
        w = np.exp(log_w - scale[..., None, None])
        parts = np.stack([w @ _RULE, *((w * v.reshape(w.shape)) @ _RULE for v in values)])
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
        room = max(1, 2**20 * points.size // (33 * w.size))  # keeps w at 2^20 doubles
        if evaluated > 2**27:
            raise QuadratureError(f"not resolved to tol={tol:.1e} by {evaluated} points")
    mass = np.maximum(sums[0], 1e-300)
    means = sums[1:] / mass
    errors[1:] += np.abs(means) * errors[0]
    return scale + np.log(mass), means, np.where(sums[0] > 0, errors / mass, 1e300)


def code_edges(reach, turns):
    """Panel ends for an integral over z: close where the prior is, longer further out, to `reach`."""
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
    nearby = np.lib.stride_tricks.sliding_window_view(np.pad(slope, [(8, 7), (0, 0)]), 16, 0).max(-1)
    bend = np.abs(np.diff(course, 2, axis=0))
    sharp = ((bend > 0.3 * nearby[1:]) & (bend > 1e-3)).any(1)
    return np.flatnonzero(sharp) + 1, np.flatnonzero(np.diff(sharp, prepend=False, append=False))
