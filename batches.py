"""What each step of the training is given: data and noise, both spread evenly."""

import math
from collections import Counter

import numpy as np

import nets
from distributions import binary, finite, one_hot, require

CHUNK, STRIDE = 50, 31  # steps whose noise is drawn together; coprime to it, about 0.62 of it


def sampler(data, likelihood):
    """data(rng, n) -> finite (n, features), whatever form the data have; features; nats x can hold.

    That is H(x) for rows of a discrete x; for a callable's, the log of how many x there can be.
    """
    discrete = likelihood.discrete
    rows_of = binary if likelihood.binary else one_hot if discrete else finite

    def checked(x, n):
        x = rows_of("data", x).astype(float)
        require("data.shape", x.shape, x.ndim == 2 and len(x) == n and x.size, f"({n}, features)")
        return x

    if callable(data):
        sample = lambda rng, n: checked(data(rng, n), n)
        features = sample(np.random.default_rng(0), 1).shape[-1]
        most = features * math.log(2) if likelihood.binary else math.log(features)  # log |{x}|
    else:
        rows = checked(data, len(data) if np.iterable(data) else 0)
        sample = lambda rng, n: rows[(nets.evenly(rng, n) * len(rows)).astype(int)]
        counts = Counter(map(bytes, rows + 0.0)).values()  # no -0.0
        chances = np.array([*counts]) / len(rows)
        most, features = -(chances * np.log(chances)).sum(), rows.shape[-1]
    return sample, features, most if discrete else math.inf


def scale_faults(x, discrete):
    """A line if these data are far from mean 0 and standard deviation 1, where networks begin."""
    if not discrete and (abs(x.mean()) > 3 or not 0.1 < x.std() < 10):
        seen = f"mean {x.mean():.3g} and standard deviation {x.std():.3g}"
        yield f"data have {seen}: standardise them, (x - mean) / standard deviation"


def start(models, sample, dtype, steps, batch):
    """Initial weights (K, size), and for every step x and all noise of each model, see `noise_of`.

    Models of the same seed start alike and share their data and noise.
    """
    nets.recycle_memory()
    distinct, model_of = np.unique(models.seeds, return_inverse=True)
    rngs = [np.random.default_rng(int(seed)) for seed in distinct]
    params = np.array([models.layout.init(rng) for rng in rngs], dtype)[model_of]

    def given():
        for step in range(steps):
            if step % CHUNK == 0:
                draws = zip(*(noise_of(models, sample, rng, batch) for rng in rngs))
                draws = [np.array(arrays, dtype)[model_of] for arrays in draws]
            x, eps_q, z, eps_x, eps_r, *dropped = (array[:, step % CHUNK] for array in draws)
            eps_q = eps_q[:, 0] if models.q_samples == 1 else eps_q.swapaxes(0, 1)
            yield x, eps_q, z, eps_x, eps_r.swapaxes(0, 1), dropped

    return params, given()


def noise_of(models, sample, rng, batch):
    """CHUNK batches for one seed, (CHUNK, ..., batch, .): x, eps_q, z, eps_x, eps_r, dropped.

    Half of a batch is drawn, evenly spread (`nets.normal_lattice`). It comes twice, with eps and
    -eps: gradients odd in eps cancel. Without this, unconstrained models slowly pick up information
    (split-normal). z comes twice only where x is drawn and there are no proposals, which average as
    well. An x that is summed over needs no noise, and its values share their proposals.
    """
    half, latent, summed = -(-batch // 2), models.latent, models.summed
    r_samples, q_samples = models.r_samples, models.q_samples
    twice = lambda a, sign: np.concatenate([a, sign * a], -2)
    lattice = lambda n, dims: nets.normal_lattice(rng, CHUNK, n, dims)
    several = lambda a, n: a.reshape(*a.shape[:2], n, latent).swapaxes(1, 2)  # (CHUNK, n, batch, .)
    x = sample(rng, CHUNK * half).reshape(half, CHUNK, -1).swapaxes(0, 1)
    x = x[STRIDE * np.arange(CHUNK) % CHUNK]  # successive steps must not get neighbouring data
    eps_q = several(lattice(half, 1 + latent * q_samples)[..., 1:], q_samples)
    noise = lattice(half, latent + (0 if summed else models.features))
    z, eps_x = noise[..., :latent], noise[..., latent:]
    eps_r = np.empty((CHUNK, 0, half, latent))
    if r_samples and summed:
        eps_r = lattice(r_samples, latent)[:, :, None]
    elif r_samples:
        eps_r = several(lattice(half, latent * r_samples), r_samples)
    elif not summed:
        z, eps_x = twice(z, 1), twice(eps_x, -1)
    n = models.likelihood.noise
    dropped = [rng.random((CHUNK, 2 * half, n))] if n else []
    return twice(x, 1), twice(eps_q, -1), z, eps_x, eps_r, *dropped
