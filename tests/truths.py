"""What the tests compare with: plain formulas and fine sums that share no code with the project."""

import math
from decimal import Decimal, getcontext

import numpy as np

import mae

LOG_2PI = math.log(2 * math.pi)
getcontext().prec = 50
DECIMAL_LOG_2PI = (2 * Decimal("3.14159265358979323846264338327950288419716939937511")).ln()


def probabilities(logits):
    """softmax(logits) to 50 digits: decimals have no overflow at e^(10^6)."""
    weights = [Decimal(float(a)).exp() if a > -math.inf else Decimal(0) for a in logits]
    return [weight / sum(weights) for weight in weights]


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


# ---------------------------------------------------------------------------- models to test on


def linear(slope, log_var, bias=0.0):
    return lambda t: mae.Gaussian(slope * t + bias, log_var + 0 * t)


def curved(t):
    return mae.Gaussian(np.sin(2 * t) + 0.3 * t, -2 + np.tanh(t))


def rough(t):
    """A code that is nobody's posterior, of the first feature alone."""
    t = t[..., :1]
    return mae.Gaussian(0.6 * np.tanh(t), -0.8 + 0.3 * np.cos(t))


def categorical(z):
    return mae.Categorical(np.concatenate([z, np.sin(3 * z), -z * z], -1))


class Linear:
    """x = W z + b + s eps with diagonal s^2, z ~ N(0, I); everything in closed form."""

    def __init__(self, latent, features, seed=0, diagonal_posterior=False):
        rng = np.random.default_rng(seed)
        self.log_var = rng.uniform(-3, 1, features)
        self.weights = rng.standard_normal((features, latent))
        self.bias = rng.standard_normal(features)
        if diagonal_posterior:  # columns orthogonal under the precision of x
            self.weights = np.linalg.qr(self.weights)[0] * rng.uniform(0.5, 3, latent)
            self.log_var = np.full(features, self.log_var[0])
        precision = np.exp(-self.log_var)
        self.covariance = self.weights @ self.weights.T + np.diag(np.exp(self.log_var))
        gain = (self.weights.T * precision) @ self.weights
        self.posterior_covariance = np.linalg.inv(np.eye(latent) + gain)
        self.posterior_weights = self.posterior_covariance @ (self.weights.T * precision)
        self.information = 0.5 * np.linalg.slogdet(np.eye(latent) + gain)[1]

    def decoder(self, z):
        mean = z @ self.weights.T + self.bias
        return mae.Gaussian(mean, self.log_var + 0 * mean)

    def posterior(self, x):
        mean = (x - self.bias) @ self.posterior_weights.T
        return mae.Gaussian(mean, np.log(np.diag(self.posterior_covariance)) + 0 * mean)

    def log_likelihood(self, x):
        distance = (x - self.bias) @ np.linalg.inv(self.covariance)
        square = np.sum(distance * (x - self.bias), -1)
        return -0.5 * (square + np.linalg.slogdet(2 * math.pi * self.covariance)[1])

    def posterior_kl(self, q, x, reverse=False):
        """KL[q || posterior] or its reverse, between a diagonal and a full Gaussian."""
        difference = q.mean - (x - self.bias) @ self.posterior_weights.T
        kl = []
        for d, log_var in zip(difference, q.log_var):
            one, other = np.diag(np.exp(log_var)), self.posterior_covariance
            one, other = (other, one) if reverse else (one, other)
            ratio = np.linalg.inv(other) @ one
            square = d @ np.linalg.inv(other) @ d
            kl.append(0.5 * (np.trace(ratio) - len(d) + square - np.linalg.slogdet(ratio)[1]))
        return np.array(kl)


# ------------------------------------------- networks z -> N(mean, e^log_var) of x in R, hostile

GAUSS = np.polynomial.legendre.leggauss(20)
erfc = lambda a: np.frompyfunc(math.erfc, 1, 1)(a).astype(float)
log = lambda a: np.log(np.maximum(a, 1e-300))


def gauss(low, high):
    """Gauss-Legendre points and weights on panels; (panels, 20) each."""
    half, middle = (high - low)[:, None] / 2, (high + low)[:, None] / 2
    return middle + half * GAUSS[0], half * GAUSS[1]


def log_sums(log_w, ends):
    """log integral e^log_w(z) dz, log_w (n,) -> (x, n): halves panels that are not flat, to e^-45.

    The first panels must be so short that log_w is close to a parabola on each.
    """
    low, high, found, bound = ends[:-1], ends[1:], -np.inf, -np.inf
    while low.size:
        z, weights = gauss(low, high)
        values = log_w(z.ravel()).reshape(-1, *z.shape)
        top, span = values.max(-1), np.ptp(values, -1)
        sums = np.logaddexp.reduce(values + np.log(weights), -1)
        bound = np.maximum(bound, sums.max(-1))
        matters = top + span + np.log(high - low) > bound[:, None] - 45
        split = ((span > 3) & matters).any(0) & (high - low > 1e-14)
        done = np.logaddexp.reduce(sums[:, ~split], -1, initial=-np.inf)
        found, middle = np.logaddexp(found, done), (low + high)[split] / 2
        low, high = np.append(low[split], middle), np.append(middle, high[split])
    return found


class Hostile:
    """x = v.f(w z + b) + noise of variance exp(log_var + tanh(u.f(w z + b))), z ~ N(0, 1)."""

    ACTIVATIONS = {"tanh": np.tanh, "relu": lambda a: np.maximum(a, 0), "sine": np.sin}

    def __init__(self, rng, activation, units, steady=False):
        self.f, self.kinked = self.ACTIVATIONS[activation], activation == "relu"
        self.scale, self.log_var = 10 ** rng.uniform(-1, math.log10(30)), rng.uniform(-14, 4)
        self.w, self.b = self.scale * rng.standard_normal((2, units))
        self.v, self.u = rng.standard_normal((2, units)) / math.sqrt(units)
        self.u *= 0 if steady else rng.choice([0, 1])

    def mean_and_log_var(self, z):
        h = self.f(z[..., None] * self.w + self.b)
        return h @ self.v, self.log_var + np.tanh(h @ self.u)

    def decoder(self, z):
        mean, log_var = self.mean_and_log_var(z[..., 0])
        return mae.Gaussian(mean[..., None], log_var[..., None])

    def sample(self, rng, z):
        return self.decoder(z[:, None]).sample(rng.standard_normal((len(z), 1)))

    def rounding(self, value=1.0):
        """What the last digit of the mean makes of log p(x)."""
        size = np.abs(self.v) @ (5 * np.abs(self.w) + np.abs(self.b))
        return 1e-13 * (1 + np.abs(value)) + 2e-15 * size * math.exp(0.5 - self.log_var / 2)

    def ends(self, low=-14.0, high=14.0):
        """Ends of panels on which the network is smooth."""
        even = np.linspace(low, high, 2 + int((high - low) * (2 * np.abs(self.w).max() + 2)))
        kinks = -self.b / self.w if self.kinked else np.array([])
        return np.union1d(even, kinks[(kinks > low) & (kinks < high)])

    def log_likelihood(self, x):
        def log_joint(z):
            return log_normal(x, *self.mean_and_log_var(z)) + log_normal(z, 0, 0)

        return log_sums(log_joint, self.ends())

    def pieces(self):
        """Of a ReLU network: low and high ends of its linear pieces, their slopes, their biases."""
        ends = np.array([-np.inf, *np.sort(-self.b / self.w), np.inf])
        inner = np.clip(ends, ends[1] - 2, ends[-2] + 2)
        on = ((inner[1:] + inner[:-1])[:, None] / 2 * self.w + self.b > 0) * self.v
        return ends[:-1], ends[1:], on @ self.w, on @ self.b

    def closed_log_likelihood(self, x):
        """A ReLU network's, log_var constant: a sum over pieces, by erfc."""
        low, high, slope, bias = self.pieces()
        noise = math.exp(self.log_var)
        total = slope**2 + noise
        middle, width = slope * (x - bias) / total, np.sqrt(noise / total)
        mass = normal_mass((low - middle) / width, (high - middle) / width)
        return np.logaddexp.reduce(log_normal(x, bias, np.log(total)) + log(mass), -1)

    def closed_reconstruction(self, x, mean, std):
        """Its E log p(x|z), z ~ N(mean, std^2): moments of a normal between two ends."""
        low, high, slope, bias = self.pieces()
        a, b = (low - mean) / std, (high - mean) / std
        off, gain, mass = x - slope * mean - bias, slope * std, normal_mass(a, b)
        density = lambda t: np.exp(-0.5 * t**2 - 0.5 * LOG_2PI)
        edge = lambda t: np.where(np.isinf(t), 0, t) * density(t)
        first, second = density(a) - density(b), mass + edge(a) - edge(b)
        square = np.sum(off**2 * mass - 2 * off * gain * first + gain**2 * second, -1)
        return -0.5 * (LOG_2PI + self.log_var + square * math.exp(-self.log_var))


def normal_mass(a, b):
    """P(a < t < b), t ~ N(0, 1), in the lower tail where that is more exact."""
    a, b = np.where(a > 0, -b, a), np.where(a > 0, -a, b)
    return 0.5 * (erfc(-b * math.sqrt(0.5)) - erfc(-a * math.sqrt(0.5)))


def spike(cut, at, narrow, slab, r, near=()):
    """x ~ N(0, slab^2) of codes below the cut, N(at, narrow^2) above: decoder; I and bound of r.

    Of both components the moments of z are known; the rest are sums over x.
    """
    masses = normal_mass(np.array([-np.inf, cut]), np.array([cut, np.inf]))
    density = math.exp(log_normal(cut, 0, 0))
    first = np.array([-density, density])
    second = masses + cut * first
    far = 14 * slab + abs(at)
    off, log_dx = fine_grid(-far - at, far - at, 200, [0, *(np.array(near) - at)], narrow / 50)
    x, log_narrow = at + off, log_normal(off, 0, 2 * math.log(narrow))
    logs = np.stack([log_normal(x, 0, 2 * math.log(slab)), log_narrow])
    q = r(x[:, None])
    mean, log_var = q.mean[:, 0], q.log_var[:, 0]
    square = second[:, None] - 2 * mean * first[:, None] + mean**2 * masses[:, None]
    log_r = -0.5 * (square * np.exp(-log_var) + masses[:, None] * (log_var + LOG_2PI))
    p, log_px = np.exp(logs + log_dx), np.logaddexp(*(logs + np.log(masses)[:, None]))
    log_ratio = masses[:, None] * p * np.where(p > 0, logs - log_px, 0)
    pick = lambda z, low, high: np.where(z > cut, high, low)
    decoder = lambda z: mae.Gaussian(pick(z, 0.0, at), 2 * np.log(pick(z, slab, narrow)))
    return decoder, np.array([log_ratio.sum(), 0.5 * (LOG_2PI + 1) + np.sum(p * log_r)])
