"""The Mutual Autoencoder: a variational autoencoder whose mutual information I(z, x) = M is chosen.

After Phuong, Kushman, Nowozin, Tomioka, Welling, "The Mutual Autoencoder: Controlling Information
in Latent Code Representations". Read it top to bottom; the sections follow the poster.

    poster          here          meaning
    x               x             observation, (..., batch, features)
    z ~ N(0, I)     z             its code, (..., batch, latent)
    p_theta(x|z)    decoder       callable, z -> distribution of x, such as Gaussian or Categorical
    q_phi(z|x)      encoder       callable, x -> Gaussian over z
    r_omega(z|x)    auxiliary     callable, x -> Gaussian over z: finds the code of generated x
    M               target        the wanted I_p(z, x)

The distributions are in distributions.py, the exact values (`exact_*`) in quadrature.py, and what
is there for speed in nets.py.

Informations, entropies, log-likelihoods and bounds are in nats, and higher is better: all of them
are maximised. Noise is an argument (`eps` and `z` are arrays); only `fit` draws some, from its
seeds. The last two axes are (batch, features); axes in front of them broadcast, so that K models
side by side are arrays with one more axis. Bounds return one value per example, (..., batch):
average as you like.
"""

import math
from dataclasses import replace
from typing import Callable, NamedTuple

import numpy as np
from autograd.core import make_vjp

import nets
from distributions import (
    INTEGER, Categorical, Gaussian, is_number, one_hot, prior_entropy, reals, require, shape_of,
)  # fmt: skip
from models import (
    CATEGORICAL, GAUSSIAN, HISTORY, LIKELIHOODS, Fit, Likelihood, fixed_variance, joined, load,
    save, untrained,
)  # fmt: skip
from quadrature import (
    QuadratureError, exact_elbo, exact_encoder_information, exact_infomax_bound,
    exact_information_and_bound, exact_log_likelihood, exact_mutual_information,
)  # fmt: skip

__version__ = "0.2.0"
__all__ = [
    "Gaussian", "Categorical", "prior_entropy", "elbo", "infomax_bound", "lagrangian", "penalty",
    "Method", "LAGRANGIAN", "PENALTY", "VAE", "beta_vae", "annealed", "infomax", "Likelihood",
    "GAUSSIAN", "CATEGORICAL", "fixed_variance", "fit", "Fit", "save", "load",
    "exact_log_likelihood", "exact_mutual_information", "exact_infomax_bound",
    "exact_information_and_bound", "exact_elbo", "exact_encoder_information", "QuadratureError",
]  # fmt: skip

# --------------------------------------------------------------------- the two bounds


def elbo(encoder, decoder, x, eps, beta=1):
    """E_{z ~ q(z|x)} log p(x|z) - KL[q(z|x) || N(0, I)] <= log p(x), by one draw of z per example.

    x (..., batch, features), eps (..., batch, latent) ~ N(0, I) -> (..., batch), nats. beta weighs
    the KL (below 1 the sum is no bound). Poster: ELBO. ValueError if shapes do not fit.
    """
    q = encoder(x)
    z = q.sample(eps)
    return decoder(z).log_prob(x) - beta * q.kl()


def infomax_bound(decoder, auxiliary, z, eps=None):
    """H(z) + E_{x ~ p(x|z)} log r(z|x), whose mean over z ~ N(0, I) is a lower bound on I_p(z, x).

    The expectation over x is one reparameterised draw with eps for a Gaussian decoder, an exact sum
    for a Categorical one. z (..., batch, latent), eps (..., batch, features) -> (..., batch), nats.
    ValueError if shapes do not fit. Poster: "Variational infomax bound", after Barber & Agakov
    (2003).
    """
    log_r = lambda x: auxiliary(x).log_prob(z)
    return expect(decoder(z), log_r, eps) + prior_entropy(shape_of(z)[-1])


def expect(p, f, eps):
    """E f(x), x ~ p: exactly where p knows how (`p.expect`), else by the draw p.sample(eps)."""
    return p.expect(f, eps) if hasattr(p, "expect") else f(p.sample(eps))


# ------------------------------------------------------------- maximise ELBO subject to bound = M

C, RHO = 10.0, 5.0  # how hard the constraint is enforced
LAMBDA_RATE, LAMBDA_MOST = 0.1, 5.0  # a step moves lambda by this times the gap, up to +-5
RAMP = 0.4  # the fraction of the steps over which the target rises from 0 to M; then lambda moves


def lagrangian(gap, multiplier):
    """lambda (bound - M) - rho/2 (bound - M)^2 and its slope in the bound; gap = M - bound.

    Added to the ELBO. While training, lambda itself rises with the gap, so that at the end the gap
    is zero with whatever slope that takes: none where the constraint costs no likelihood.
    """
    return -(multiplier + RHO / 2 * gap) * gap, multiplier + RHO * gap


def penalty(gap, multiplier=None):
    """-C |bound - M| and its slope in the bound; gap = M - bound. Added to the ELBO."""
    return -C * np.abs(gap), C * np.sign(gap)


class Method(NamedTuple):
    """What is ascended: a weighted sum of reconstruction, KL (negative) and infomax bound.

    weights(progress, gap, multiplier) -> the three weights; progress of the training from 0 to 1,
    gap = M - bound (0 without a target) and multiplier: one of each per model, (models,). The
    weights of reconstruction and bound are the decoder's, that of the KL is the encoder's.
    """

    name: str
    weights: Callable


LAGRANGIAN = Method("lagrangian", lambda t, gap, multiplier: (1, 1, lagrangian(gap, multiplier)[1]))
PENALTY = Method("penalty", lambda t, gap, multiplier: (1, 1, penalty(gap)[1]))
VAE = Method("vae", lambda t, gap, multiplier: (1, 1, 0))


def beta_vae(beta) -> Method:
    """The KL weighed by beta (Higgins et al., 2017)."""
    require("beta", beta, is_number(beta) and beta >= 0, "a finite number >= 0")
    return Method(f"beta:{beta:g}", lambda t, gap, multiplier: (1, beta, 0))


def annealed(end) -> Method:
    """The KL's weight rises from 0 to 1 over this fraction of the steps (Bowman et al., 2015)."""
    require("end", end, is_number(end) and 0 < end <= 1, "a fraction of the steps, above 0")
    return Method(f"anneal:{end:g}", lambda t, gap, multiplier: (1, min(1, t / end), 0))


def infomax(start=0) -> Method:
    """The bound alone (Barber & Agakov, 2003), after a start that keeps every x in use.

    The reconstruction's weight falls from 1 to 0 over this fraction of the steps.
    """
    require("start", start, is_number(start) and 0 <= start <= 1, "a fraction of the steps")
    name = f"im:{start:g}" if start else "im"
    return Method(name, lambda t, gap, multiplier: (max(0, 1 - t / start) if start else 0, 1, 1))


METHODS = {method.name: method for method in (LAGRANGIAN, PENALTY, VAE, infomax())}

# ------------------------------------------------------------------------------- training

SHARD = 96  # models trained together: as many as stay in cache
CHUNK, STRIDE = 50, 31  # steps whose noise is drawn together; about 0.62 of them, coprime to them


def fit(
    data,
    *,
    likelihood="gaussian",
    information=(None,),
    seeds=1,
    seed=0,
    steps=4000,
    batch=128,
    hidden=16,
    latent=1,
    method="lagrangian",
    learning_rate=1.5e-2,
    dtype="float32",
    progress=None,
) -> Fit:
    """max_theta ELBO subject to infomax bound = M, one model per target and seed. Poster: "Idea".

    data: array (n, features), rows equally likely, or a callable data(rng, n) -> (n, features),
    first asked for one row; one-hot where p(x|z) is categorical. likelihood: a Likelihood or the
    name of one, "gaussian" or "categorical". information: targets M in nats, None for no constraint
    (a VAE). method: a Method or the name of one ("lagrangian", "penalty", "vae", "im"), one for all
    or one per target. seeds: models per target, numbered from `seed`; models are ordered
    target-major, and a model is the same, byte for byte, in whatever company it is trained. steps:
    of Adam, with learning_rate falling to 0; batch: examples per step, made even; hidden: units per
    network; latent: dimension of the code; dtype: of training. progress(steps done, worst
    |bound - M|), if given, is called now and then. ValueError names what is not legal.
    """
    counts = {"seeds": seeds, "steps": steps, "batch": batch, "hidden": hidden, "latent": latent}
    _check_numbers(counts, seed, learning_rate, dtype)
    likelihood = _named("likelihood", likelihood, LIKELIHOODS, Likelihood)
    taken = LIKELIHOODS.get(likelihood.name, likelihood) is not likelihood  # `load` goes by names
    require("likelihood", likelihood.name, not taken, "a name that is not taken")
    sample = _sampler(data, likelihood.discrete)
    features = sample(np.random.default_rng(0), 1).shape[-1]
    most = math.log(features) if likelihood.discrete else math.inf
    targets, methods = _checked_targets(information, method, most)
    models = untrained(targets, methods, seed, seeds, likelihood, features, latent, hidden)
    settings = {"steps": steps, "batch": batch, "learning_rate": float(learning_rate)}

    order, parts = np.argsort(models.seeds, kind="stable"), []  # equal seeds share their noise
    for first in range(0, len(order), SHARD):
        shard = order[first : first + SHARD]
        weigh = _weigher([methods[k // seeds] for k in shard], dtype)
        done = lambda step: (first * steps + len(shard) * step) / len(order)
        report = lambda step, gap: progress and progress(done(step), gap)
        parts.append(_train(models[shard], sample, weigh, report, dtype, **settings))
    return joined(parts, np.argsort(order))


@np.errstate(all="ignore")  # a model that diverges is frozen
def _train(models, sample, weigh, report, dtype, steps, batch, learning_rate):
    """One loop for all models: every step moves all networks, each up its own objective."""
    params, batches = _start(models, sample, steps, batch, dtype)
    m, v, multiplier = np.zeros_like(params), np.zeros_like(params), np.zeros(len(params))
    layout, theta = models.layout, models.layout.part["decoder"]
    constrained, wanted = ~np.isnan(models.targets), np.nan_to_num(models.targets)
    diverged, history = models.diverged, np.empty((len(HISTORY), len(params), steps), "float32")
    for step, (x, eps_z, z, eps_x, *dropped) in enumerate(batches):

        def bound_of(params):
            decoder, _, auxiliary = models.networks(params)
            return infomax_bound(decoder, auxiliary, z, eps_x)

        bound, bound_grad = _mean_and_grad(bound_of, params)
        target = wanted * min(1, step / (RAMP * steps))
        gap = np.where(constrained, target - bound, 0)
        reconstruction, beta, weight = weigh(step / steps, gap, multiplier)

        def elbo_of(params):
            decoder, encoder, _ = models.networks(params, *dropped)
            return elbo(encoder, decoder, x, eps_z, beta)

        mean_elbo, elbo_grad = _mean_and_grad(elbo_of, params)
        # theta ascends  reconstruction ELBO + weight bound,  the encoder its ELBO, and omega the
        # bound alone, whatever the weight. Where the weight is negative, omega would be paid for
        # being wrong: a bad r lowers the bound, too, and leaves the information where it is.
        elbo_grad[:, theta] *= reconstruction
        bound_grad[:, theta] *= weight
        grad = layout.clip(elbo_grad + bound_grad)
        rate = learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        move, m, v = nets.adam(grad, m, v, step + 1, rate)
        if step >= RAMP * steps:
            multiplier = np.clip(multiplier + LAMBDA_RATE * gap, -LAMBDA_MOST, LAMBDA_MOST)

        moved = params + move
        diverged[(diverged < 0) & ~np.isfinite(moved).all(-1)] = step
        params = np.where((diverged < 0)[:, None], moved, params)
        history[..., step] = target, bound, mean_elbo, multiplier
        if step % CHUNK == 0:
            report(step, np.abs(np.where(constrained, wanted - bound, 0)).max())
    return replace(models, params=params, diverged=diverged, history=dict(zip(HISTORY, history)))


def _mean_and_grad(values, params):
    """Mean over the batch of values(params), (models, batch), and its gradient."""
    vjp, value = make_vjp(values, params)
    return value.sum(-1) / value.shape[-1], vjp(np.full_like(value, 1 / value.shape[-1]))


def _weigher(methods, dtype):
    """weigh(progress, gap, multiplier) -> the three weights, (models, 1) each, by every method."""
    distinct = dict.fromkeys(methods)
    members = {method: [k for k, own in enumerate(methods) if own == method] for method in distinct}
    if len(members) == 1:
        members = dict.fromkeys(members, slice(None))  # all: faster than a list
    weights = np.ones((3, len(methods), 1), dtype)

    def weigh(progress, gap, multiplier):
        for method, own in members.items():
            chosen = method.weights(progress, gap[own], multiplier[own])
            for row, weight in zip(weights, chosen, strict=True):
                row[own, 0] = weight
        return weights

    return weigh


def _start(models, sample, steps, batch, dtype):
    """Initial weights (K, size), and for every step x, eps_z, z, eps_x and the decoder's own noise.

    (K, batch, .) each. Models of the same seed start alike and share their data and noise.
    """
    nets.recycle_memory()
    distinct, model_of = np.unique(models.seeds, return_inverse=True)
    rngs = [np.random.default_rng(int(seed)) for seed in distinct]
    params = np.array([models.layout.init(rng) for rng in rngs], dtype)[model_of]

    def batches():
        for step in range(steps):
            if step % CHUNK == 0:
                draws = zip(*(_draw(models, sample, rng, batch) for rng in rngs))
                draws = [np.array(arrays, dtype)[model_of] for arrays in draws]
            yield [array[:, step % CHUNK] for array in draws]

    return params, batches()


def _draw(models, sample, rng, batch):
    """CHUNK batches of x, eps_z, z, eps_x and, if wanted, noise for one seed, (CHUNK, batch, .).

    Half of a batch is drawn, evenly spread (`nets.normal_lattice`), and comes twice, with eps and
    -eps: gradients odd in eps cancel. Without this, unconstrained models slowly pick up information
    (split-normal).
    """
    half, discrete = -(-batch // 2), models.likelihood.discrete
    twice = lambda a, sign: np.concatenate([a, sign * a], 1)
    x = sample(rng, CHUNK * half).reshape(half, CHUNK, -1).swapaxes(0, 1)
    x = x[STRIDE * np.arange(CHUNK) % CHUNK]  # x comes in order; in time it must not
    eps_z = nets.normal_lattice(rng, CHUNK, half, 1 + models.latent)[..., 1:]
    sampled = 0 if discrete else models.features  # a discrete x is summed over: no noise, so once
    noise = nets.normal_lattice(rng, CHUNK, half, models.latent + sampled)
    z, eps_x = noise[..., : models.latent], noise[..., models.latent :]
    if not discrete:
        z, eps_x = twice(z, 1), twice(eps_x, -1)
    arrays = twice(x, 1), twice(eps_z, -1), z, eps_x
    if models.likelihood.noise:
        arrays += (rng.random((CHUNK, 2 * half, models.likelihood.noise)),)
    return arrays


# --------------------------------------------------------------------- checks of what fit is given


def _check_numbers(counts, seed, learning_rate, dtype):
    for name, count in counts.items():
        require(name, count, is_number(count, INTEGER) and count > 0, "an integer >= 1")
    legal = is_number(seed, INTEGER) and 0 <= seed <= 2**63 - int(counts["seeds"])
    require("seed", seed, legal, "an integer from 0 to 2^63 - seeds")
    legal = is_number(learning_rate) and learning_rate >= 0
    require("learning_rate", learning_rate, legal, "a finite number >= 0")
    require("dtype", dtype, str(dtype) in ("float32", "float64"), "'float32' or 'float64'")


def _checked_targets(information, method, most):
    """The targets, NaN for None, and as many methods."""
    legal = lambda t: t is None or (is_number(t) and 0 <= t <= most + 1e-9)
    rule = f"targets from 0 to {most:.7g} nats, the most that x can hold, or None for no constraint"
    targets = list(information) if np.iterable(information) else []
    require("information", information, targets and all(map(legal, targets)), rule)
    methods = [method] * len(targets) if isinstance(method, (str, Method)) else list(method)
    require("method", method, len(methods) == len(targets), "one for all, or one for each target")
    methods = [_named("method", own, METHODS, Method) for own in methods]
    return [math.nan if target is None else target for target in targets], methods


def _named(name, value, known, kind):
    """`value`, or what is known by this name."""
    found = known.get(value) if isinstance(value, str) else value
    rule = f"a mae.{kind.__name__} or one of {', '.join(known)}"
    require(name, value, isinstance(found, kind), rule)
    return found


def _sampler(data, discrete):
    """data(rng, n) -> finite (n, features), whatever form the data have."""
    if not callable(data):
        rows = reals("data", data)
        data = lambda rng, n: rows[(nets.evenly(rng, n) * len(rows)).astype(int)]

    def sample(rng, n):
        x = (one_hot if discrete else reals)("data", data(rng, n)).astype(float)
        require("data.shape", x.shape, x.ndim == 2 and len(x) == n and x.size, f"({n}, features)")
        if not np.isfinite(x).all():
            raise ValueError(f"data of shape {x.shape} must be finite everywhere")
        return x

    return sample
