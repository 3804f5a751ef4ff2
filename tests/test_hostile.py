"""Exact values of random models that are hard to integrate: right, within their error, or refused.

`HOSTILE_SEED=7 python -m pytest -m slow tests/test_hostile.py -s` runs other cases than usual.
"""

import math
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import mae
from truths import (
    LOG_2PI, Hostile, Linear, fine_grid, gauss, log_normal, normal_mass, spike,
)  # fmt: skip

ROOT = Path(__file__).parents[1]
SEED = int(os.environ.get("HOSTILE_SEED", 0))
ENTROPY = 0.5 * (LOG_2PI + 1)

# Every family: rng -> a function of with_error, its true value, what rounding leaves of that.


def network(rng, steady=False):
    return Hostile(rng, rng.choice(["tanh", "relu", "sine"]), rng.integers(1, 33), steady)


def codes(rng):
    """Means and log-variances of q."""
    return rng.uniform([[-2], [-8]], [[2], [1]], (2, 4))


def likelihood(rng):
    model = network(rng)
    x = model.sample(rng, rng.standard_normal(4))
    truth = model.log_likelihood(x)
    compute = lambda **k: mae.exact_log_likelihood(model.decoder, x, **k)
    return compute, truth, model.rounding(truth)


def elbo(rng):
    model, (mean, log_var) = network(rng), codes(rng)
    x = model.sample(rng, mean + np.exp(log_var / 2))
    code = lambda x: mae.Gaussian(mean[:, None], log_var[:, None])
    truth = -code(x).kl()
    for k, (m, s) in enumerate(zip(mean, np.exp(log_var / 2))):
        ends = np.union1d(model.ends(m - 12 * s, m + 12 * s), m + s * np.arange(-12, 13))
        z, weights = gauss(ends[:-1], ends[1:])
        weights = weights * np.exp(log_normal(z, m, log_var[k]))
        truth[k] += np.sum(weights * log_normal(x[k, 0], *model.mean_and_log_var(z)))
    compute = lambda **k: mae.exact_elbo(code, model.decoder, x, **k)
    return compute, truth, model.rounding(truth) + 1e-14 * np.abs(truth) * len(z)


def relu(rng):
    return Hostile(rng, "relu", rng.integers(1, 9), steady=True)


def relu_likelihood(rng):
    model = relu(rng)
    x = model.sample(rng, rng.standard_normal(4))
    truth = model.closed_log_likelihood(x)
    compute = lambda **k: mae.exact_log_likelihood(model.decoder, x, **k)
    return compute, truth, model.rounding(truth)


def relu_elbo(rng):
    model, (mean, log_var) = relu(rng), codes(rng)
    x = model.sample(rng, mean + np.exp(log_var / 2))
    code = lambda x: mae.Gaussian(mean[:, None], log_var[:, None])
    truth = model.closed_reconstruction(x, mean[:, None], np.exp(log_var / 2)[:, None])
    compute = lambda **k: mae.exact_elbo(code, model.decoder, x, **k)
    return compute, truth - code(x).kl(), model.rounding(truth)


def relu_information(rng):
    """I = H(x) - H(x|z), p(x) in closed form."""
    model = relu(rng)
    std = math.exp(model.log_var / 2)
    kinks = model.mean_and_log_var(np.array([*(-model.b / model.w), -9.0, 9.0]))[0]
    near = std * np.arange(-12, 12.1, 0.5) if std < 1 else std * np.arange(-12, 13)
    ends = np.concatenate([(kinks[:, None] + near).ravel(), kinks.mean() + 0 * near])
    even = np.linspace(ends.min(), ends.max(), 400)
    ends = np.union1d(ends, even)
    x, weights = gauss(ends[:-1], ends[1:])
    log_px = model.closed_log_likelihood(x.reshape(-1, 1)).reshape(x.shape)
    entropy = -np.sum(weights * np.exp(log_px) * log_px)
    assert abs(np.sum(weights * np.exp(log_px)) - 1) < 1e-11
    truth = entropy - 0.5 * (LOG_2PI + 1 + model.log_var)
    compute = lambda **k: mae.exact_mutual_information(model.decoder, **k)
    return compute, truth, model.rounding(truth) + 1e-12


def bound(rng):
    """E log r(z|x), x = mean(z) + std(z) e: a sum over z and e, which knows no peaks."""
    model = network(rng)
    steep, (a, b, c, d) = 10 ** rng.uniform(-1, 0.7), rng.standard_normal(4)
    std = math.exp(model.log_var / 2)
    r = lambda x: mae.Gaussian(a * np.tanh(steep * x + c), b + np.sin(steep * x + d))
    values = []
    for finer in (1, 2):
        ends = model.ends(-11, 11)
        speed = np.abs(np.diff(model.mean_and_log_var(ends)[0])).max() * steep * finer
        between = np.arange(1 + math.ceil(speed / 3)) / (1 + math.ceil(speed / 3))
        z_ends = np.append(ends[:-1, None] + np.diff(ends)[:, None] * between, ends[-1])
        z, weights = (each.ravel() for each in gauss(z_ends[:-1], z_ends[1:]))
        e_ends = np.linspace(-11, 11, 10 + int(8 * std * steep * finer))
        e, e_weights = (each.ravel() for each in gauss(e_ends[:-1], e_ends[1:]))
        if len(z) * len(e) > 3e6:
            return bound(rng)
        mean, log_var = model.mean_and_log_var(z)
        total = 0
        for t, weight in zip(e, e_weights * np.exp(log_normal(e, 0, 0))):
            q = r(mean[:, None] + np.exp(log_var / 2)[:, None] * t)
            log_r = log_normal(z, q.mean[:, 0], q.log_var[:, 0])
            total += weight * np.sum(weights * np.exp(log_normal(z, 0, 0)) * log_r)
        values.append(total)
    if abs(values[0] - values[1]) > 1e-10:
        return bound(rng)
    compute = lambda **k: mae.exact_infomax_bound(model.decoder, r, **k)
    return compute, ENTROPY + values[1], 1e-10 + 1e-13 * abs(total)


def spike_and_slab(rng):
    """Codes above a cut have a narrow x, by up to 1e5, and r may be steep."""
    width, at, slab = 10 ** rng.uniform(-5, 0), rng.normal(), 10 ** rng.uniform(-1, 1)
    steep, low, (a, b) = 10 ** rng.uniform(-1, 1) / slab, rng.uniform(-8, 0), rng.standard_normal(2)
    r = lambda x: mae.Gaussian(a * np.tanh(steep * x), low + b * np.tanh(steep * (x - at)))
    decoder, truth = spike(rng.uniform(-6.5, 6.5), at, width * slab, slab, r)
    compute = lambda **k: mae.exact_information_and_bound(decoder, r, **k)
    return compute, truth, 1e-12 * (1 + np.abs(truth))


def impossible_categories(rng):
    """x is the cell of z, but for a slip to some cells; the others have probability 0."""
    n = rng.integers(2, 12)
    cuts = np.sort(rng.normal(size=n - 1) * rng.uniform(0.1, 3))
    table = np.eye(n) + (rng.random((n, n)) < 0.2) * rng.random((n, n))
    table /= table.sum(-1, keepdims=True)
    with np.errstate(divide="ignore"):
        logits = np.log(table)
    decoder = lambda z: mae.Categorical(logits[np.searchsorted(cuts, z[..., 0])])
    cells = normal_mass(np.array([-np.inf, *cuts]), np.array([*cuts, np.inf]))
    probs = cells @ table
    entropy = lambda p: -np.sum(p * np.log(np.maximum(p, 1e-300)), -1)
    truth = np.append(np.log(probs), entropy(probs) - cells @ entropy(table))

    def compute(with_error):
        log_px, error = mae.exact_log_likelihood(decoder, np.eye(n), with_error=with_error)
        value, other = mae.exact_mutual_information(decoder, with_error=with_error)
        return np.append(log_px, value), np.append(error, other)

    return compute, truth, 1e-13 * (1 + np.abs(truth))


def rotation(rng):
    angle = rng.uniform(0, 2 * math.pi)
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def two_linear(rng):
    """log p(x) of several features, and I of one."""
    model, one = (Linear(2, n, rng.integers(2**30)) for n in (rng.integers(1, 6), 1))
    x = model.decoder(rng.standard_normal((5, 2))).sample(rng.standard_normal((5, len(model.bias))))
    truth = np.append(model.log_likelihood(x), one.information)

    def compute(with_error):
        log_px, error = mae.exact_log_likelihood(model.decoder, x, with_error=True, latent=2)
        value, other = mae.exact_mutual_information(one.decoder, with_error=True, latent=2)
        return np.append(log_px, value), np.append(error, other)

    return compute, truth, 1e-12 * (1 + np.abs(truth))


def two_relu(rng):
    """A ReLU network of one direction among two."""
    model, turn = relu(rng), rotation(rng)
    model.log_var = max(model.log_var, -8)
    x = model.sample(rng, rng.standard_normal(3))
    truth = model.closed_log_likelihood(x)
    decoder = lambda z: model.decoder((z @ turn)[..., :1])
    compute = lambda **k: mae.exact_log_likelihood(decoder, x, latent=2, **k)
    return compute, truth, model.rounding(truth)


def two_products(rng):
    """Bits of two hidden directions, turned: I is the sum of the two."""
    turn, (a, b) = rotation(rng), rng.uniform(-4, 4, (2, 2))
    bits = lambda u: mae.Bernoulli(a * np.tanh(b * u))
    decoder = lambda z: bits(z @ turn)
    truth, (z, log_dz) = 0, fine_grid(-10, 10, 200)
    for k in range(2):
        p = 1 / (1 + np.exp(-a[k] * np.tanh(b[k] * z)))
        entropy = lambda p: -p * np.log(p) - (1 - p) * np.log1p(-p)
        weights = np.exp(log_normal(z, 0, 0) + log_dz)
        truth += entropy(weights @ p) - weights @ entropy(p)
    compute = lambda **k: mae.exact_mutual_information(decoder, latent=2, **k)
    return compute, truth, 1e-12


def two_parity(rng):
    """x tells whether z1 and z2 are on the same sides of two cuts, or slips."""
    cuts, slip = rng.normal(size=2), rng.uniform(0, 0.5)
    logs = np.log([[1 - slip, slip], [slip, 1 - slip]])
    decoder = lambda z: mae.Categorical(logs[((z > cuts).sum(-1) == 1).astype(int)])
    (a, b), (c, d) = (
        normal_mass(np.array([-np.inf, cut]), np.array([cut, np.inf])) for cut in cuts
    )
    entropy = lambda p: -p * math.log(p) - (1 - p) * math.log1p(-p)
    p = slip + (1 - 2 * slip) * (a * d + b * c)
    compute = lambda **k: mae.exact_mutual_information(decoder, latent=2, **k)
    return compute, entropy(p) - entropy(slip), 1e-12


FAMILIES = {  # quick cases, slow cases, tolerance
    likelihood: (12, 2000, 1e-8),
    elbo: (4, 200, 1e-8),
    relu_likelihood: (10, 1500, 1e-8),
    relu_elbo: (5, 1500, 1e-8),
    relu_information: (2, 60, 1e-8),
    bound: (1, 60, 1e-8),
    spike_and_slab: (4, 200, 1e-8),
    impossible_categories: (6, 200, 1e-8),
    two_linear: (1, 20, 1e-6),
    two_relu: (1, 20, 1e-6),
    two_products: (1, 20, 1e-6),
    two_parity: (1, 10, 1e-6),
}


def sweep(family, seeds, tol):
    """Counts; and every case that is wrong by more than tol, or by more than its error."""
    refused, beyond_double, seconds, faults, worst = [], [], [], [], 0.0
    for seed in seeds:
        compute, truth, rounding = family(np.random.default_rng([SEED, seed]))
        start = time.perf_counter()
        try:
            value, error = compute(with_error=True)
        except mae.QuadratureError as why:
            beyond = tol < 5e-14 * np.max(np.abs(truth))  # no sum of doubles is as exact as that
            (beyond_double if beyond else refused).append((seed, str(why)))
            continue
        finally:
            seconds.append(time.perf_counter() - start)
        off = np.max(np.abs(value - truth) - rounding)
        beyond = np.max(np.abs(value - truth) - rounding - error)
        worst = max(worst, off)
        if not off <= tol or not beyond <= 0:
            faults.append((seed, "WRONG" if not off <= tol else "error too small", off, beyond))
    print(f"\n{family.__name__}: {len(seeds)} cases, {len(faults)} faults, {len(refused)} refused,")
    print(f"{len(beyond_double)} beyond double precision, worst {worst:.1e},")
    print(f"{np.median(seconds):.3f} s each, {np.max(seconds):.1f} s at most")
    print(*faults, *refused, sep="\n")
    return faults, refused


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_a_few_random_models_are_right_and_none_is_refused(family):
    few, _, tol = FAMILIES[family]
    assert sweep(family, range(few), tol) == ([], [])


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_random_models_are_right_and_hardly_any_is_refused(family):
    _, many, tol = FAMILIES[family]
    faults, refused = sweep(family, range(many), tol)
    assert not faults
    assert len(refused) <= many / 100


MANY = r"""
import re, time
import numpy as np, mae
w, b = np.random.default_rng(0).standard_normal((2, 1000))
start = time.perf_counter()
mae.exact_mutual_information(lambda z: mae.Categorical(np.tanh(z) * w * 4 + b))
seconds, status = time.perf_counter() - start, open("/proc/self/status").read()
print(seconds, int(re.search(r"VmHWM:\s*(\d+)", status)[1]) / 1024)  # since this program began
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_thousand_categories_take_two_seconds_and_little_memory():
    run = [sys.executable, "-c", MANY]
    output = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    seconds, megabytes = map(float, output.split())
    assert seconds < 2 and megabytes < 500
