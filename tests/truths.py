"""What the tests compare with: plain formulas and fine sums that share no code with the project."""

import math

import numpy as np

import mae

LOG_2PI = math.log(2 * math.pi)


def log_normal(x, mean, log_var):
    """log N(x; mean, exp(log_var)), elementwise."""
    return -0.5 * ((x - mean) ** 2 * np.exp(-log_var) + log_var + LOG_2PI)


def fine_grid(low, high, panels, near=(), smallest=1e-6):
    """Gauss-Legendre points and log-weights; panels get smaller towards the points `near`."""
    offsets = smallest * 1.4 ** np.arange(math.log((high - low) / smallest, 1.4))
    ends = np.concatenate([np.linspace(low, high, panels + 1), *(c + offsets for c in near)])
    ends = np.concatenate([ends, *(c - offsets for c in near)])
    ends = np.unique(ends[(ends >= low) & (ends <= high)])
    half, middle = np.diff(ends)[:, None] / 2, (ends[1:] + ends[:-1])[:, None] / 2
    points, weights = np.polynomial.legendre.leggauss(16)
    return (middle + half * points).ravel(), np.log(half * weights).ravel()


def uniform_grid(low, high, step):
    """Points and log-weights of the trapezoidal rule; the ends are where nothing is left."""
    steps = 2 * math.ceil((high - low) / step / 2)
    return np.linspace(low, high, steps + 1), np.full(steps + 1, math.log((high - low) / steps))


def conditional_table(decoder, z, x):
    """log p(x_i | z_j) -> (x, z) of a decoder without models' axis; x (n, features), z (m,)."""
    p = decoder(z[:, None])
    if isinstance(p, mae.Gaussian):
        return sum(log_normal(x[:, [i]], p.mean[:, i], p.log_var[:, i]) for i in range(x.shape[1]))
    log_probs = p.logits - np.logaddexp.reduce(p.logits, -1, keepdims=True)
    return x @ log_probs.T


def log_likelihood(decoder, x, z, log_dz):
    """log p(x_i) and the log posterior masses of the cells of z -> (x,), (x, z)."""
    joint = conditional_table(decoder, z, x) + log_normal(z, 0, 0) + log_dz
    log_p = np.logaddexp.reduce(joint, -1)
    return log_p, joint - log_p[:, None]


def information(decoder, x, log_dx, z, log_dz):
    """I(z, x) = H(x) - H(x|z), both by summing over the grid (log_dx = 0 for one-hot x)."""
    log_p_given = conditional_table(decoder, z, x)
    joint = log_p_given + log_normal(z, 0, 0) + log_dz
    log_p = np.logaddexp.reduce(joint, -1)
    conditional_entropy = -np.sum(np.exp(joint + log_dx[:, None]) * log_p_given)
    return -np.sum(np.exp(log_p + log_dx) * log_p) - conditional_entropy


def cubature(dim):
    """2 dim points whose plain mean is E f(eps), eps ~ N(0, I), exactly for quadratic f."""
    points = math.sqrt(dim) * np.eye(dim)
    return np.concatenate([points, -points])


def random_network(rng, hidden, steepness, log_var):
    """A decoder z -> Gaussian with one tanh layer; its log-variances are within 1 of `log_var`."""
    w, b = steepness * rng.standard_normal(hidden), steepness * rng.standard_normal(hidden)
    v = rng.standard_normal((hidden, 2)) / math.sqrt(hidden)

    def decoder(z):
        mean, spread = np.moveaxis(np.tanh(z * w + b) @ v, -1, 0)
        return mae.Gaussian(mean[..., None], log_var + np.tanh(spread[..., None]))

    return decoder
