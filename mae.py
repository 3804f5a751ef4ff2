"""The Mutual Autoencoder: a variational autoencoder whose mutual information I(z, x) = M is chosen.

After Phuong, Kushman, Nowozin, Tomioka, Welling, "The Mutual Autoencoder: Controlling Information
in Latent Code Representations". Read it top to bottom; the sections follow the poster.

    poster          here          meaning
    x               x             observation, (..., batch, features)
    z ~ N(0, I)     z             its code, (..., batch, latent)
    p_theta(x|z)    decoder       callable, z -> distribution of x, such as Gaussian or Categorical
    q_theta(z|x)    encoder       callable, x -> Gaussian over z
    r_omega(z|x)    auxiliary     callable, x -> Gaussian over z: finds the code of generated x
    M               target        the wanted I_p(z, x)

Distributions are in distributions.py, exact values (`exact_*`) in quadrature.py, networks and Adam
in nets.py, data and noise of a step in batches.py, Likelihood, Method and Fit in models.py.

All is in nats. Of ELBO and log-likelihood higher is better; I is held at M. Noise is an argument
(`eps` and `z` are arrays); only `fit` draws some, from its seeds. The last two axes are (batch,
features); axes in front of them broadcast, so that K models side by side are arrays with one more
axis. Bounds return one value per example, (..., batch), for you to average.
"""

import contextlib
import math
import warnings
from dataclasses import replace
from functools import partial
from statistics import NormalDist

import numpy as np
from autograd.core import make_vjp
from autograd.extend import defvjp, primitive

import batches
import nets
import processes
from distributions import (
    Bernoulli, Categorical, Gaussian, draw, expect, is_number, log_mean_exp, log_means,
    log_prior, prior_entropy, reals, require, shape_of,
)  # fmt: skip
from models import (
    BERNOULLI, CATEGORICAL, GAUSSIAN, HISTORY, LAMBDA_MOST, LIKELIHOODS, VAE, Fit, Likelihood,
    Method, TrainingWarning, annealed, beta_vae, check_numbers, checked_targets, fixed_variance,
    infomax, load, named, save, untrained, weigher,
)  # fmt: skip
from quadrature import (
    QuadratureError, exact_elbo, exact_encoder_information, exact_infomax_bound,
    exact_information_and_bound, exact_log_likelihood, exact_mutual_information, exact_posterior,
    posterior_kl,
)  # fmt: skip

__version__ = "0.2.0"
__all__ = [
    "Gaussian", "Categorical", "Bernoulli", "prior_entropy", "elbo", "infomax_bound", "iwae",
    "information_bounds", "information_interval", "lagrangian", "penalty", "Method", "LAGRANGIAN",
    "PENALTY", "VAE", "beta_vae", "annealed", "infomax", "Likelihood", "GAUSSIAN", "CATEGORICAL",
    "BERNOULLI", "fixed_variance", "fit", "Fit", "save", "load", "exact_log_likelihood",
    "exact_mutual_information", "exact_infomax_bound", "exact_information_and_bound", "exact_elbo",
    "exact_encoder_information", "exact_posterior", "QuadratureError", "TrainingWarning",
]  # fmt: skip

# --------------------------------------------------------------------- the two bounds


def elbo(encoder, decoder, x, eps, beta=1):
    """E_{z ~ q(z|x)} log p(x|z) - KL[q(z|x) || N(0, I)] <= log p(x), by one draw of z per example.

    x (..., batch, features), eps (..., batch, latent) ~ N(0, I) -> (..., batch), nats. beta weighs
    the KL (below 1 the sum is no bound). Poster: ELBO. ValueError if shapes do not fit.
    """
    x = reals("x", x)
    q = encoder(x)
    z = q.sample(eps)
    return decoder(z).log_prob(x) - beta * q.kl()


def infomax_bound(decoder, auxiliary, z, eps=None):
    """H(z) + E_{x ~ p(x|z)} log r(z|x), whose mean over z ~ N(0, I) is a lower bound on I_p(z, x).

    The expectation over x is one reparameterised draw with eps for a Gaussian decoder, an exact sum
    for a Categorical one and few bits; of more than 12 bits one draw, without a gradient in theta.
    z (..., batch, latent), eps (..., batch, features) -> (..., batch), nats. ValueError if shapes
    do not fit. Poster: "Variational infomax bound", after Barber & Agakov (2003).
    """
    z = reals("z", z)
    log_r = lambda x: auxiliary(x).log_prob(z)
    return expect(decoder(z), log_r, eps) + prior_entropy(shape_of(z)[-1])


# ------------------------------------------------------------------------- I from both sides


@primitive
def log_weight(log_px_given_z, z, log_proposal):
    """log w = log p(x|z) + log p(z) - log proposal(z|x): the mean of w over proposals is p(x)."""
    return log_px_given_z + log_prior(z) - log_proposal


defvjp(  # by hand, as one node: it is evaluated for every proposal, where autograd's four are slow
    log_weight,
    lambda ans, log_px, z, log_proposal: lambda g: nets.sum_to(g, log_px.shape),
    lambda ans, log_px, z, log_proposal: lambda g: nets.sum_to(-g[..., None] * z, z.shape),
    lambda ans, log_px, z, log_proposal: lambda g: nets.sum_to(-g, log_proposal.shape),
)


def information_bounds(decoder, auxiliary, z, eps, eps_r):
    """lower = log p(x|z) - log mean(w_0 ... w_n),  upper = log p(x|z) - log mean(w_1 ... w_n).

    Means of them over z ~ N(0, I) and x ~ p(x|z) lie below and above I_p(z, x). w_0 is the weight
    of z itself, a draw from p(z|x): with it the mean is too high; without it, of n draws from
    r(z|x) alone, its log is too low (Jensen). Their distance falls like 1/n. z, eps as for
    `infomax_bound`, eps_r (n, ..., batch or 1, latent) ~ N(0, I) -> (..., batch) each, nats. With
    n = 0 lower is the infomax bound (for -log p(z) its mean, H(z)), and upper is +inf. ValueError
    if shapes do not fit. After Burda et al. (2016), Sobolev & Vetrov (2019).
    """
    z, eps_r = reals("z", z), reals("eps_r", eps_r)
    if not len(eps_r):
        bound = infomax_bound(decoder, auxiliary, z, eps)
        return bound, np.full(shape_of(bound), math.inf)
    require("eps_r.shape", eps_r.shape, eps_r.ndim > 2, "(n, ..., batch or 1, latent)")
    with np.errstate(divide="ignore", invalid="ignore"):  # where p(x|z) = 0; it weighs 0
        return tuple(both_bounds(decoder, auxiliary, z, eps, eps_r))


def both_bounds(decoder, auxiliary, z, eps, eps_r):
    """`information_bounds` for n > 0 as one array, (2, ..., batch)."""
    p = decoder(z)

    def bounds(x):
        log_px_given_z, _, log_w0, log_w = weighed(decoder, auxiliary, p, x, z, eps_r)
        return log_px_given_z - log_means(log_w0, log_w)  # (2, ..., batch): with w_0, without

    return expect(p, bounds, eps)


def weighed(decoder, auxiliary, p, x, z, eps_r):
    """log p(x|z) of z, (..., batch), and of the n proposals, (n, ..., batch); log w of both."""
    r, log_px_given_z = auxiliary(x), p.log_prob(x)
    log_w0 = log_weight(log_px_given_z, z, r.log_prob(z))
    axes = [1] * (log_w0.ndim + 2 - eps_r.ndim)  # ones, so that n is the first axis
    z_r, log_r = draw(r, eps_r.reshape(len(eps_r), *axes, *eps_r.shape[1:]))
    others = decoder(z_r).log_prob(x)
    return log_px_given_z, others, log_w0, log_weight(others, z_r, log_r)


def iwae(encoder, decoder, x, eps):
    """log mean(w_1 ... w_k) <= log p(x), with proposals from q(z|x): Burda et al. (2016).

    The ELBO of k draws, and for k = 1 the ELBO with a sampled KL. x (..., batch, features), eps
    (k, ..., batch, latent) ~ N(0, I) -> (..., batch), nats.
    """
    x, eps = reals("x", x), reals("eps", eps)
    require("eps.shape", eps.shape, eps.ndim > 2 and len(eps), "(k >= 1, ..., batch, latent)")
    z, log_q = draw(encoder(x), eps)
    return log_mean_exp(log_weight(decoder(z).log_prob(x), z, log_q))


# ------------------------------------------------------------- maximise ELBO subject to I = M

C, RHO = 10.0, 5.0  # how hard the constraint is enforced
LAMBDA_RATE = 0.1  # a step moves lambda by this times the gap
RAMP = 0.4  # the fraction of the steps over which the target rises from 0 to M; then lambda moves


def lagrangian(gap, multiplier):
    """lambda (I - M) - rho/2 (I - M)^2 and its slope in I; gap = M - I, I as estimated.

    Added to the ELBO. While training, lambda itself rises with the gap, so that at the end the gap
    is zero with whatever slope that takes: none where the constraint costs no likelihood.
    """
    return -(multiplier + RHO / 2 * gap) * gap, multiplier + RHO * gap


def penalty(gap, multiplier=None):
    """-C |I - M| and its slope in I; gap = M - I, I as estimated. Added to the ELBO."""
    return -C * np.abs(gap), C * np.sign(gap)


def ascended(multiplier, gap, two_sided):
    """lambda after a step up the gap, faster where I = 0 asks for lambda -> -inf; limited."""
    pace = np.maximum(1, -multiplier) if two_sided else 1
    most = LAMBDA_MOST[two_sided]  # 50, or 5: by the bound alone lambda might rise for ever
    return np.clip(multiplier + LAMBDA_RATE * gap * pace, -most, most)


LAGRANGIAN = Method("lagrangian", lambda t, gap, multiplier: (1, 1, lagrangian(gap, multiplier)[1]))
PENALTY = Method("penalty", lambda t, gap, multiplier: (1, 1, penalty(gap)[1]))
METHODS = {method.name: method for method in (LAGRANGIAN, PENALTY, VAE, infomax())}

# ------------------------------------------------------------------------------- training

SHARD = 96  # models trained together: as many as stay in cache


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
    r_samples=4,
    q_samples=1,
    learning_rate=1.5e-2,
    dtype="float32",
    progress=None,
    jobs=1,
) -> Fit:
    """max_theta ELBO subject to I_p(z, x) = M, one model per target and seed. Poster: "Idea".

    data: array (n, features), rows equally likely, or a callable data(rng, n) -> (n, features),
    first asked for one row; one-hot for a categorical likelihood, zeros and ones for a Bernoulli
    one (more than 12: no targets). likelihood: a Likelihood or the name of one, "gaussian",
    "categorical" or "bernoulli". information: targets M in nats, None for no constraint (a VAE).
    method: a Method or the name of one ("lagrangian", "penalty", "vae", "im"), one for all
    or one per target. r_samples: proposals from r in the estimate of I (0: the poster's bound);
    q_samples: draws from q in the ELBO (1: the poster's; more: `iwae`). seeds: models per target,
    from `seed` on; models are ordered target-major, and one is the same, byte for byte, in whatever
    company it is trained. steps: of Adam, whose learning_rate falls to 0; batch: examples per step,
    rounded up to even; hidden: units; latent: dimension of the code. progress(steps done, worst
    |I - M|) is called now and then. jobs: processes that share the models, where a fork is safe; it
    does not change them. ValueError: what is not legal. Warnings: what came out wrong.
    """
    counts = {"seeds": seeds, "steps": steps, "batch": batch, "hidden": hidden, "latent": latent}
    counts |= {"q_samples": q_samples, "jobs": jobs}
    check_numbers(counts, seed, r_samples, learning_rate, dtype)
    seeds, steps, batch, hidden, latent, q_samples, jobs = map(int, counts.values())
    likelihood = named("likelihood", likelihood, LIKELIHOODS, Likelihood)
    sample, features, most = batches.sampler(data, likelihood)
    targets, methods = checked_targets(information, method, METHODS, most)
    sizes = {"features": features, "latent": latent, "hidden": hidden}
    sizes |= {"r_samples": int(r_samples), "q_samples": q_samples}
    models = untrained(targets, methods, int(seed), seeds, likelihood=likelihood, **sizes)

    def train(shard, report):
        weigh = weigher(models, [methods[k // seeds] for k in shard], dtype)
        given = batches.start(models[shard], sample, dtype, steps, batch)
        return _train(models[shard], *given, weigh, report, float(learning_rate), steps)

    show = progress and (lambda share, gap: progress(share * steps, gap))
    trained = _in_shards(models, train, jobs, show)
    looked_at = sample(np.random.default_rng(0), 500)
    for fault in (*batches.scale_faults(looked_at, likelihood.discrete), *trained.faults()):
        warnings.warn(fault, TrainingWarning, stacklevel=2)
    return trained


def _in_shards(models, train, jobs, progress):
    """All models, each trained once: train(indices, report) a shard, equal seeds side by side."""
    order = np.argsort(models.seeds, kind="stable")
    n = min(len(order), jobs * -(-len(order) // (jobs * SHARD)))  # so that all jobs end together
    tasks = [partial(train, shard) for shard in np.array_split(order, n)]
    parts = zip(*processes.parallel(tasks, jobs, progress))
    params, diverged, history = (np.concatenate(part)[np.argsort(order)] for part in parts)
    history = dict(zip(HISTORY, np.moveaxis(history, 1, 0)))
    return replace(models, params=params, diverged=diverged, history=history)


@np.errstate(all="ignore")  # a model that diverges is frozen
def _train(models, params, given, weigh, report, learning_rate, steps):
    """Every step moves all networks: decoder up v ELBO + w I, encoder ELBO, auxiliary the bound.

    -> weights (K, size), diverged (K,), history (K, of HISTORY, steps).
    """
    m, v, multiplier = np.zeros_like(params), np.zeros_like(params), np.zeros(len(params))
    constrained, wanted = ~np.isnan(models.targets), np.nan_to_num(models.targets)
    diverged, history = models.diverged, np.empty((len(params), len(HISTORY), steps), "float32")
    for step, (x, eps_q, z, eps_x, eps_r, dropped) in enumerate(given):
        lower, upper, information_grad = _information(models, params, z, eps_x, eps_r)
        information = (lower + upper) / 2
        target = wanted * min(1, step / (RAMP * steps))
        gap = np.where(constrained, target - information, 0)
        seen = models.networks(params), x, eps_q  # for methods with a gap of their own
        gap, (reconstruction, beta, weight) = weigh(step / steps, gap, multiplier, *seen)

        def elbo_of(params):
            decoder, encoder, _ = models.networks(params, *dropped)
            if models.q_samples > 1:
                return iwae(encoder, decoder, x, eps_q)
            return elbo(encoder, decoder, x, eps_q, beta)

        mean_elbo, grad = _mean_and_grad(elbo_of, params)
        grad[:, models.layout.part["decoder"]] *= reconstruction
        grad = models.layout.clip(grad + information_grad(weight))
        rate = learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        move, m, v = nets.adam(grad, m, v, step + 1, rate)
        if step >= RAMP * steps:
            multiplier = ascended(multiplier, gap, models.r_samples > 0)

        moved = params + move
        diverged[(diverged < 0) & ~np.isfinite(moved).all(-1)] = step
        params = np.where((diverged < 0)[:, None], moved, params)
        history[..., step] = np.transpose([target, lower, upper, mean_elbo, multiplier])
        if step % batches.CHUNK == 0:
            off = np.where(constrained, wanted - information, 0)
            report(step / steps, np.abs(off).max())
    return params, diverged, history


def _information(models, params, z, eps_x, eps_r):
    """Estimates of I from below and above, (models,) each, and their gradient for a given weight.

    With a weight > 0 the decoder ascends the lower one, with < 0 it descends the upper one; with
    no proposals, or drawn bits, both are the infomax bound. omega ascends the infomax bound alone,
    whatever the weight. Were it weighted, a negative weight (I above M) would pay omega for being
    wrong: a bad r lowers the bound, too, and leaves the information where it is.
    """
    # constants: the decoder while r ascends (with proposals), r while the decoder ascends
    fixed_decoder, _, fixed_auxiliary = models.networks(params)

    def infomax_of(own):
        decoder, _, auxiliary = models.networks(own)
        p = fixed_decoder if len(eps_r) or models.bits_drawn else decoder
        return infomax_bound(p, auxiliary, z, eps_x)

    def bounds_of(own):
        decoder, _, _ = models.networks(own)
        return both_bounds(decoder, fixed_auxiliary, z, eps_x, eps_r)

    bound, grad = _mean_and_grad(infomax_of, params)
    if models.bits_drawn or not len(eps_r):

        def information_grad(weight):
            grad[:, models.layout.part["decoder"]] *= weight
            return grad

        return bound, bound, information_grad
    vjp, bounds = make_vjp(bounds_of, params)  # (2, models, batch)

    def information_grad(weight):
        share = np.stack([np.maximum(weight, 0), np.minimum(weight, 0)]) / bounds.shape[-1]
        return vjp(np.broadcast_to(share, bounds.shape).astype(bounds.dtype)) + grad

    return *bounds.mean(-1), information_grad


def _mean_and_grad(values, params):
    """Mean over the batch of values(params), (models, batch), and its gradient."""
    vjp, value = make_vjp(values, params)
    return value.mean(-1), vjp(np.full_like(value, 1 / value.shape[-1]))


# ---------------------------------------------------- evaluation: an interval that holds I


def information_interval(decoder, auxiliary, z, eps, eps_r, confidence=0.99):
    """(low, high) of the mean bounds: low <= I_p(z, x) and high >= I_p, each with this confidence.

    low = mean(lower) - t s / sqrt(batch), high = mean(upper) + t s / sqrt(batch), s the standard
    deviation over the batch, t the normal quantile, with a term for skewness. Rests on z, eps and
    eps_r drawn independently for each example, on many examples (central limit theorem) and, for
    `high`, on an r so wide that the weights have a variance. Arguments as for `information_bounds`,
    n >= 1 -> (...) each, nats. Two things make s smaller and leave the means: `averaged_bounds`,
    and control variates, z_i and z_i z_j, of known means (z without models' axis, many rows).
    For a one-dimensional code, given eps and no models' axis, both bounds are KL[p(z|x) || p(z)] by
    quadrature: no r is needed. Not where that is refused, nor for a Gaussian x of over 64 features.
    """
    z, eps_r = reals("z", z), reals("eps_r", eps_r)
    eps = eps if eps is None else reals("eps", eps)
    legal = is_number(confidence) and 0.5 < confidence < 1
    require("confidence", confidence, legal, "a number between 0.5 and 1")
    n, batch, latent = len(eps_r), *z.shape[-2:]
    legal = n and batch > 1 and eps_r.ndim > 2 and eps_r.shape[-2:] == z.shape[-2:]
    require("eps_r.shape", eps_r.shape, legal, f"(n >= 1, ..., {batch}, {latent}), batch >= 2")
    legal = eps is None or eps.shape[-2] == batch
    require("eps.shape", np.shape(eps), legal, f"(..., {batch}, features)")
    lower, upper = _each_bound(decoder, auxiliary, z, eps, eps_r)
    i, j = np.triu_indices(latent)
    enough = z.ndim == 2 and batch >= 50 * (latent + len(i))  # for controls, of mean 0
    controls = np.hstack([z, z[:, i] * z[:, j] - (i == j)]) if enough else np.zeros((batch, 0))
    return _one_sided(lower, controls, -1, confidence), _one_sided(upper, controls, 1, confidence)


def _each_bound(decoder, auxiliary, z, eps, eps_r):
    """lower and upper of `information_interval`, (..., batch) each."""
    p = decoder(z[..., :1, :])
    drawn = eps is not None and hasattr(p, "sample")
    quick = hasattr(p, "course") and (p.discrete or p.shape[-1] <= 64)  # else it may take minutes
    if drawn and z.shape[1:] == (1,) and quick:
        with contextlib.suppress(QuadratureError):
            most = max(2**22, 100 * len(eps_r) * len(z))  # points; then the bounds
            kl, error = posterior_kl(decoder, decoder(z).sample(eps), 1e-5, most)
            return kl - error, kl + error
    bounds = averaged_bounds if drawn else information_bounds
    few = min(4096, 2**17 // (1 if eps is None else eps.shape[-1]))  # rows that stay in cache
    blocks, step = [], max(1, few // len(eps_r))
    for start in range(0, z.shape[-2], step):
        part = lambda a: None if a is None else a[..., start : start + step, :]
        with np.errstate(invalid="ignore"):  # where p(x|z) = 0; it weighs 0
            blocks.append(bounds(decoder, auxiliary, part(z), part(eps), part(eps_r)))
    return [np.concatenate(each, -1) for each in zip(*blocks)]


def _one_sided(bound, controls, side, confidence):
    """The mean of bound (..., batch), and on this side of it what it may be off by chance."""
    batch, t = len(controls), NormalDist().inv_cdf(confidence)
    centred, values = controls - controls.mean(0), np.moveaxis(bound, -1, 0).reshape(batch, -1)
    values = values - controls @ np.linalg.lstsq(centred, values - values.mean(0), rcond=None)[0]
    std = values.std(0, ddof=1 + controls.shape[-1])
    with np.errstate(invalid="ignore"):  # no spread, no skew
        skew = np.nan_to_num(side * ((values - values.mean(0)) ** 3).mean(0) / std**3)
    error = t / math.sqrt(batch) + np.maximum(skew, 0) * (1 + 2 * t**2) / (6 * batch)
    return (values.mean(0) + side * std * error).reshape(bound.shape[:-1])[()]


def averaged_bounds(decoder, auxiliary, z, eps, eps_r):
    """`information_bounds` of a drawn x, averaged over which of z_0 ... z_n is the one x came from.

    Given x and all z_i that is z_i with the probability w_i / (w_0 + ... + w_n). The means are the
    same, the variance is several times smaller.
    """
    n, p = len(eps_r), decoder(z)
    own, others, log_w0, log_w = weighed(decoder, auxiliary, p, p.sample(eps), z, eps_r)
    log_w = np.concatenate([log_w0[None], log_w])  # (n + 1, ..., batch)
    log_px_given_z = np.concatenate([np.broadcast_to(own, others.shape[1:])[None], others])
    mean = log_mean_exp(log_w)
    share = np.exp(log_w - mean) / (n + 1)
    places = np.arange(n + 1).reshape(-1, *[1] * mean.ndim)
    largest = places == log_w.argmax(0)  # its 1 - share would lose all digits: summed directly
    rest = log_mean_exp(np.where(largest, -np.inf, log_w)) + math.log((n + 1) / n)
    without = mean + np.log1p(-np.where(largest, 0, share)) + math.log((n + 1) / n)
    upper = log_px_given_z - np.where(largest, rest, without)
    expected = lambda each: np.where(share > 0, share * each, 0).sum(0)
    return expected(log_px_given_z) - mean, expected(upper)
