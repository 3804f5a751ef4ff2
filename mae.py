"""The Mutual Autoencoder: a variational autoencoder whose mutual information I(z, x) = M is chosen.

After Phuong, Kushman, Nowozin, Tomioka, Welling, "The Mutual Autoencoder: Controlling Information
in Latent Code Representations". Read it top to bottom; the sections follow the poster.

    poster          code          meaning
    x               x             observation, (..., batch, features)
    z ~ N(0, I)     z             code, (..., batch, latent)
    p_theta(x|z)    decoder       callable, z -> Gaussian or Categorical over x
    q_phi(z|x)      encoder       callable, x -> Gaussian over z
    r_omega(z|x)    auxiliary     callable, x -> Gaussian over z: finds the code of generated x
    M               target        the wanted I_p(z, x)

The distributions are in distributions.py, the exact values (`exact_*`) in quadrature.py, and what
is there for speed in nets.py.

Informations, entropies, log-likelihoods and bounds are in nats, and higher is better: all of them
are maximised. Noise is data (`eps` and `z` are arrays); only `fit` draws some, from its seeds.
The last two axes are (batch, features); axes in front of them broadcast, so that K models side by
side are arrays with one more axis. Bounds return one value per example, (..., batch): average as
you like.
"""

import math
from dataclasses import dataclass, replace
from typing import Callable, NamedTuple

import numpy as onp
from autograd.core import make_vjp

import nets
from distributions import (
    INTEGER, Categorical, Gaussian, as_array, check_fit, finite, is_number, prior_entropy, require,
    returned, shape_of,
)  # fmt: skip
from quadrature import (
    QuadratureError, exact_elbo, exact_encoder_information, exact_infomax_bound,
    exact_information_and_bound, exact_log_likelihood, exact_mutual_information,
)  # fmt: skip

__all__ = [
    "Gaussian", "Categorical", "prior_entropy", "elbo", "infomax_bound", "lagrangian", "penalty",
    "Likelihood", "fixed_variance", "fit", "Fit", "save", "load", "exact_log_likelihood",
    "exact_mutual_information", "exact_infomax_bound", "exact_information_and_bound", "exact_elbo",
    "exact_encoder_information", "QuadratureError",
]  # fmt: skip

# --------------------------------------------------------------------- the two bounds


def elbo(encoder, decoder, x, eps, beta=1):
    """E_{z ~ q(z|x)} log p(x|z) - KL[q(z|x) || N(0, I)] <= log p(x), by one draw of z per example.

    x (..., batch, features), eps (..., batch, latent) ~ N(0, I) -> (..., batch), nats. beta weighs
    the KL (below 1 the sum is no bound). Poster: ELBO. ValueError if shapes do not fit, TypeError
    if a callable does not return a distribution.
    """
    x = as_array("x", x)
    q = returned("encoder", encoder, "x", x, Gaussian)
    z = q.sample(eps)
    log_prob = returned("decoder", decoder, "z", z).log_prob(x)
    return nets.add(log_prob, q.kl(), -beta)  # log p(x|z) - beta KL


def infomax_bound(decoder, auxiliary, z, eps=None):
    """H(z) + E_{x ~ p(x|z)} log r(z|x), whose mean over z ~ N(0, I) is a lower bound on I_p(z, x).

    The expectation over x is one reparameterised draw with eps for a Gaussian decoder, an exact sum
    for a Categorical one. z (..., batch, latent), eps (..., batch, features) -> (..., batch), nats.
    Errors as for `elbo`. Poster: "Variational infomax bound", after Barber & Agakov (2003).
    """
    z = as_array("z", z)
    p = returned("decoder", decoder, "z", z)
    if eps is None and isinstance(p, Gaussian):
        raise ValueError("eps is None; a Gaussian decoder needs noise of the shape of x")

    def log_r(x):
        r = returned("auxiliary", auxiliary, "x", x, Gaussian)
        check_fit("z", shape_of(z), "the auxiliary's code", r.shape)
        return r.log_prob(z)

    return nets.add(p.expect(log_r, eps), prior_entropy(shape_of(z)[-1]))  # E log r + H(z)


# ------------------------------------------------------------- maximise ELBO subject to bound = M

C, RHO = 10.0, 5.0  # how hard the constraint is enforced


def lagrangian(gap, multiplier):
    """lambda (bound - M) - rho/2 (bound - M)^2 and its slope in the bound; gap = M - bound.

    Added to the ELBO. While training, lambda itself rises with the gap, so that at the end the gap
    is zero with whatever slope that takes: none where the constraint costs no likelihood.
    """
    return -(multiplier + RHO / 2 * gap) * gap, multiplier + RHO * gap


def penalty(gap, multiplier=None):
    """-C |bound - M| and its slope in the bound; gap = M - bound. Added to the ELBO.

    Of either term training needs the slope only: it is the bound's weight.
    """
    return -C * onp.abs(gap), C * onp.sign(gap)


METHODS = {"lagrangian": lagrangian, "penalty": penalty}

# Without a target: weights of reconstruction, KL and bound, given the number after the method's
# colon, if any, and the progress of training, 0 to 1. All methods are of this family.
# Reconstruction and bound are weighed for the decoder, the KL for the encoder.
UNCONSTRAINED = {
    "vae": lambda number, progress: (1, 1, 0),
    "beta": lambda beta, progress: (1, beta, 0),  # beta-VAE (Higgins et al., 2017)
    "anneal": lambda end, progress: (1, min(1, progress / end), 0),  # Bowman et al. (2015)
    # Barber & Agakov (2003): the bound alone, or after a start that keeps every x in use
    "im": lambda end, progress: (max(0, 1 - progress / end) if end else 0, 1, 1),
}


def _weights(method, progress, gap, multiplier):
    """Weights of reconstruction, KL and bound at this point of the training."""
    name, _, number = method.partition(":")
    if name in METHODS:
        return 1, 1, METHODS[name](gap, multiplier)[1]
    return UNCONSTRAINED[name](float(number or 0), progress)


# -------------------------------------------------------------------------- the trained models


class Likelihood(NamedTuple):
    """A family of p(x|z): what a decoder makes of its network.

    decode(network, z) -> Gaussian or Categorical over x, where network takes arrays
    (..., batch, latent + inputs) and gives (..., batch, outputs(features)). Models and more may
    come as axes in front; gradients pass through, so compute with autograd.numpy. noise: uniform
    random numbers per example, (..., batch, noise), that decode(network, z, noise) is given in the
    ELBO while training (drop-out), and there only. name: by it `load` knows the family.
    """

    name: str
    outputs: Callable
    decode: Callable
    inputs: int = 0
    noise: int = 0


def fixed_variance(std) -> Likelihood:
    """N(mean(z), std^2): the restricted decoder of the poster's Figure 4."""
    require("std", std, is_number(std) and std > 0, "a finite number > 0")
    return Likelihood(
        f"gaussian of standard deviation {float(std)!r}",
        lambda features: features,
        lambda network, z: Gaussian(network(z), 2 * math.log(std)),
    )


LIKELIHOODS = {
    family.name: family
    for family in [
        Likelihood("gaussian", lambda n: 2 * n, lambda network, z: Gaussian.unpack(network(z))),
        Likelihood("categorical", lambda n: n, lambda network, z: Categorical(network(z))),
    ]
}


@dataclass(frozen=True, eq=False, repr=False)
class Fit:
    """K trained models: callables `encoder`, `decoder`, `auxiliary` with the models on axis 0.

    targets (K,), NaN where there is none, seeds (K,) and methods (K,) say which model is which;
    history holds arrays (K, steps): "target" (in force, it rises to M), "infomax_bound" and "elbo"
    (as estimated from that step's batch, with the method's weight on the KL), "multiplier".
    diverged (K,) is the step at which a model was frozen for not being finite any more, or -1.
    fit[k] is a Fit of the one model k, without the models' axis.
    """

    params: onp.ndarray  # (K, weights): decoder, encoder, auxiliary
    targets: onp.ndarray
    seeds: onp.ndarray
    methods: onp.ndarray
    diverged: onp.ndarray
    history: dict
    likelihood: Likelihood
    features: int
    latent: int
    hidden: int

    def decoder(self, z):
        """p(x|z): z (..., batch, latent) -> Gaussian or Categorical over x."""
        return self._network(0, "z", z, self.latent)

    def encoder(self, x):
        """q(z|x): x (..., batch, features) -> Gaussian over z."""
        return self._network(1, "x", x, self.features)

    def auxiliary(self, x):
        """r(z|x): x (..., batch, features) -> Gaussian over z."""
        return self._network(2, "x", x, self.features)

    def _network(self, which, name, a, features):
        a = as_array(name, a)
        check_fit(name, shape_of(a), "the models' input", (*self.params.shape[:-1], 1, features))
        return _networks(self, self.params.astype(float))[which](a)

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, k):
        arrays = {name: getattr(self, name)[k] for name in _ARRAYS}
        return replace(self, **arrays, history={name: h[k] for name, h in self.history.items()})

    def save(self, path):
        """Write an .npz file that `load` reads."""
        save(path, {"": self})


_ARRAYS = {"params": "f", "targets": "f", "seeds": "iu", "methods": "U", "diverged": "i"}  # kinds
_HISTORY = ("target", "infomax_bound", "elbo", "multiplier")
_SETTINGS = ("features", "latent", "hidden")
_FORMAT = "mae 2"


def save(path, fits):
    """Write {name: Fit} to one .npz file, from which `load` reads any of them."""
    arrays = {"format": _FORMAT}
    for name, fit in fits.items():
        own = {key: getattr(fit, key) for key in (*_SETTINGS, *_ARRAYS)}
        own |= {f"history_{key}": values for key, values in fit.history.items()}
        own["likelihood"] = fit.likelihood.name
        arrays |= {_prefix(name) + key: value for key, value in own.items()}
    with open(path, "wb") as file:
        onp.savez(file, **arrays)


def _prefix(name):
    return f"{name}/" if name else ""


def load(path, likelihood=None, name="") -> Fit:
    """The Fit that `save` wrote; ValueError if the file is not one, OSError if there is none.

    likelihood: the Likelihood the models were trained with, if it was not one of LIKELIHOODS; name:
    of the Fit in the file, if it has one.
    """
    prefix, names = _prefix(name), []
    with open(path, "rb") as file:
        try:
            with onp.load(file, allow_pickle=False) as members:
                version = str(members["format"])
                names = [key[:-11] for key in members.files if key.endswith("/likelihood")]
                own = [key for key in members.files if key.startswith(prefix)]
                found = {key[len(prefix) :]: members[key] for key in own}
            name = str(found["likelihood"])
        except Exception as error:  # NumPy raises a dozen kinds on a damaged file
            wrong = f"holds no models named {name!r}, but {', '.join(names)}"
            wrong = wrong if names else "is not a file of trained models (mae.save)"
            raise ValueError(f"{path} {wrong}") from error
    if version != _FORMAT:
        raise ValueError(f"{path} is of format {version!r}; this version reads {_FORMAT!r}")
    likelihood = LIKELIHOODS.get(name) if likelihood is None else likelihood
    legal = isinstance(likelihood, Likelihood) and likelihood.name == name
    require("likelihood", likelihood, legal, f"the mae.Likelihood that {path} names, {name!r}")
    try:
        settings = {name: found[name].item() for name in _SETTINGS}
        arrays = {name: found[name] for name in _ARRAYS}
        history = {name: found[f"history_{name}"] for name in _HISTORY}
        fit = Fit(**arrays, history=history, likelihood=likelihood, **settings)
        lead, steps = fit.targets.shape, history["elbo"].shape[-1]
        weights, others = sum(map(nets.mlp_size, _layer_sizes(fit))), [lead] * (len(arrays) - 1)
        sound = [a.shape for a in arrays.values()] == [(*lead, weights), *others]
        sound &= {(h.dtype.kind, h.shape) for h in history.values()} == {("f", (*lead, steps))}
        sound &= all(a.dtype.kind in _ARRAYS[name] for name, a in arrays.items())
        sound &= all(is_number(n, INTEGER) and n > 0 for n in settings.values())
        sound = sound and onp.isfinite(fit.params).all()
    except (IndexError, KeyError, TypeError, ValueError):
        sound = False
    if not sound:
        raise ValueError(f"{path} is damaged: arrays are missing, do not fit or are not finite")
    return fit


# ------------------------------------------------------------------------------- training


def _layer_sizes(models):
    """Of decoder, encoder and auxiliary: the poster's "2-layer FC nets", one hidden layer each."""
    inputs = models.latent + models.likelihood.inputs
    code = (models.features, models.hidden, 2 * models.latent)
    return (inputs, models.hidden, models.likelihood.outputs(models.features)), code, code


def _networks(models, params, *noise):
    """decoder, encoder and auxiliary as functions of their inputs, for these weights."""
    decoder, encoder, auxiliary = _layer_sizes(models)
    after_decoder = nets.mlp_size(decoder)
    after_encoder = after_decoder + nets.mlp_size(encoder)
    network = lambda z: nets.mlp(params, z, decoder)
    return (
        lambda z: models.likelihood.decode(network, z, *noise),
        lambda x: Gaussian.unpack(nets.mlp(params, x, encoder, after_decoder)),
        lambda x: Gaussian.unpack(nets.mlp(params, x, auxiliary, after_encoder)),
    )


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

    data: array (n, features), rows equally likely, or a callable data(rng, n) -> (n, features);
    one-hot where p(x|z) is categorical. likelihood: "gaussian", "categorical" or a Likelihood.
    information: targets M in nats, None for no constraint (a VAE). method: one for all, or one per
    target: "lagrangian" or "penalty"; with target None also "vae", "beta:4", "anneal:0.5" (the KL's
    weight rises from 0 to 1 over that fraction of the steps), "im" (nothing but the bound),
    "im:0.2" (the same after a start over which the reconstruction's weight falls from 1 to 0).
    seeds: models per target, numbered from `seed`; models are ordered target-major, and a model is
    the same, byte for byte, in whatever company it is trained. steps: of Adam, with learning_rate
    falling to 0; batch: examples per step, made even; hidden: units per network; latent: dimension
    of the code; dtype: of training. progress(steps done, worst |bound - M|), if given, is called
    now and then. ValueError names what is not legal.
    """
    targets, methods = _checked_targets(information, method)
    if isinstance(likelihood, str):
        likelihood = LIKELIHOODS.get(likelihood, likelihood)
    rule = f"a mae.Likelihood or one of {', '.join(LIKELIHOODS)}"
    require("likelihood", likelihood, isinstance(likelihood, Likelihood), rule)
    taken = LIKELIHOODS.get(likelihood.name, likelihood) is not likelihood
    require("likelihood", likelihood, not taken, "of a name that is not one of LIKELIHOODS")
    counts = {"seeds": seeds, "steps": steps, "batch": batch, "hidden": hidden, "latent": latent}
    for name, count in counts.items():
        require(name, count, is_number(count, INTEGER) and count > 0, "an integer >= 1")
    require("seed", seed, is_number(seed, INTEGER) and seed >= 0, "an integer >= 0")
    require("dtype", dtype, str(dtype) in ("float32", "float64"), "'float32' or 'float64'")
    legal = is_number(learning_rate) and learning_rate >= 0
    require("learning_rate", learning_rate, legal, "a finite number >= 0")
    learning_rate = float(learning_rate)  # a NumPy float64 would turn float32 into float64
    require("progress", progress, progress is None or callable(progress), "a function or None")

    if not callable(data):
        rows = finite("data", data)
        require("data.shape", rows.shape, rows.ndim == 2, "(n, features)")
        data = lambda rng, n: rows[(nets.evenly(rng, n) * len(rows)).astype(int)]

    def sample(rng, n):
        x = finite("data(rng, n)", data(rng, n))
        wanted = (n, features or x.shape[-1])
        require("data(rng, n).shape", x.shape, x.shape == wanted, wanted)
        if discrete:
            nets.check_one_hot(x, "data")
        return x

    discrete, features = False, None
    features = sample(onp.random.default_rng(0), 1).shape[-1]
    empty = {name: onp.empty(0) for name in _ARRAYS}
    models = Fit(**empty, history={}, likelihood=likelihood,
                 features=features, latent=latent, hidden=hidden)  # fmt: skip
    blank = onp.zeros(sum(map(nets.mlp_size, _layer_sizes(models))))
    try:
        p = returned("decode", _networks(models, blank)[0], "z", onp.zeros((1, latent)))
        check_fit("one row", (1, features), "the decoder's x", p.shape)
    except ValueError as error:
        raise ValueError(f"data does not suit a {likelihood.name} x: {error}") from error
    discrete = isinstance(p, Categorical)
    most = math.log(features) if discrete else math.inf
    rule = f"at most log(categories) = {most:.7g} nats"
    require("information", information, not any(t > most + 1e-9 for t in targets), rule)
    nets.recycle_memory()
    targets, methods = onp.repeat(targets, seeds), onp.repeat(methods, seeds)
    numbers = onp.tile(onp.arange(seed, seed + seeds), len(targets) // seeds)
    # Models do not touch each other: train as many together as stay in cache, equal seeds first,
    # because they share their noise; then put them back in order.
    order = onp.argsort(numbers, kind="stable")
    parts = []
    for first in range(0, len(order), _SHARD):
        shard = order[first : first + _SHARD]

        def report(step, gap):
            if progress:
                progress((first * steps + len(shard) * step) / len(order), gap)

        part = replace(models, targets=targets[shard], seeds=numbers[shard], methods=methods[shard])
        with onp.errstate(all="ignore"):  # a model that diverges is frozen
            parts.append(_train(part, sample, discrete, steps, batch, learning_rate, dtype, report))
    join = lambda arrays: onp.concatenate(arrays)[onp.argsort(order)]
    arrays = {name: join([getattr(part, name) for part in parts]) for name in _ARRAYS}
    history = {name: join([part.history[name] for part in parts]) for name in parts[0].history}
    return replace(models, **arrays, history=history)


_SHARD = 96
_CHUNK = 50  # steps whose noise is drawn together
_RAMP = 0.4  # fraction of the steps over which the target rises from 0 to M; then lambda moves
_LAMBDA_RATE, _LAMBDA_MOST = 0.1, 5.0  # lambda rises by this times the gap, and not without end


def _train(models, sample, discrete, steps, batch, learning_rate, dtype, report):
    """One loop for all models: every step moves all networks, each up its own objective."""
    sizes = [nets.mlp_size(layers) for layers in _layer_sizes(models)]
    starts = onp.cumsum([0, *sizes[:-1]])
    distinct, model_of = onp.unique(models.seeds, return_inverse=True)  # same seed, same noise
    rngs = [onp.random.default_rng(int(number)) for number in distinct]
    init = [onp.concatenate([nets.init_mlp(rng, s) for s in _layer_sizes(models)]) for rng in rngs]
    params = onp.array(init, dtype)[model_of]
    m, v = onp.zeros_like(params), onp.zeros_like(params)
    constrained = ~onp.isnan(models.targets)
    targets = onp.where(constrained, models.targets, 0)
    multiplier = onp.zeros(len(params))
    names = onp.unique(models.methods)
    groups = {name: models.methods == name if len(names) > 1 else slice(None) for name in names}
    weights = onp.ones((3, len(params)), dtype)
    diverged, bound = onp.full(len(params), -1), 0
    history = {name: onp.empty((len(params), steps), "float32") for name in _HISTORY}
    for step in range(steps):
        if step % _CHUNK == 0:
            draws = [_draw(models, sample, discrete, rng, batch) for rng in rngs]
            draws = [onp.array(arrays, dtype)[model_of] for arrays in zip(*draws)]
            report(step, onp.abs(onp.where(constrained, targets - bound, 0)).max())
        x, eps_z, z, eps_x, *noise = (array[:, step % _CHUNK] for array in draws)

        def bound_of(params):
            decoder, _, auxiliary = _networks(models, params)
            return infomax_bound(decoder, auxiliary, z, eps_x)

        bound_vjp, bounds = make_vjp(bound_of, params)
        bound = bounds.sum(-1) / bounds.shape[-1]
        target = targets * min(1, step / (_RAMP * steps))
        gap = onp.where(constrained, target - bound, 0)
        for method, members in groups.items():
            chosen = _weights(method, step / steps, gap[members], multiplier[members])
            for row, weight in zip(weights, chosen):
                row[members] = weight
        reconstruction, beta, bound_weight = weights[:, :, None]

        def elbo_of(params):
            decoder, encoder, _ = _networks(models, params, *noise)
            return elbo(encoder, decoder, x, eps_z, beta)

        elbo_vjp, elbos = make_vjp(elbo_of, params)
        elbo_grad = elbo_vjp(onp.full_like(elbos, 1 / elbos.shape[-1]))
        bound_grad = bound_vjp(onp.full_like(bounds, 1 / bounds.shape[-1]))
        # the decoder goes up   reconstruction grad ELBO + bound_weight grad bound,
        # the encoder up        grad ELBO, and the auxiliary   grad bound   whatever the weights
        elbo_grad[:, : sizes[0]] *= reconstruction
        bound_grad[:, : sizes[0]] *= bound_weight
        grad = elbo_grad + bound_grad
        norm = onp.sqrt(onp.add.reduceat(grad * grad, starts, -1))
        grad *= onp.repeat(1 / onp.maximum(norm, 1), sizes, -1)
        if step >= _RAMP * steps:
            multiplier = onp.clip(multiplier + _LAMBDA_RATE * gap, -_LAMBDA_MOST, _LAMBDA_MOST)

        rate = learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        move, m, v = nets.adam(grad, m, v, step + 1, rate)
        moved = params + move
        diverged[~onp.isfinite(moved).all(-1) & (diverged < 0)] = step
        params = onp.where((diverged < 0)[:, None], moved, params)
        mean_elbo = elbos.sum(-1) / elbos.shape[-1]
        for name, value in zip(_HISTORY, (target, bound, mean_elbo, multiplier)):
            history[name][:, step] = value
    return replace(models, params=params, diverged=diverged, history=history)


def _draw(models, sample, discrete, rng, batch):
    """_CHUNK batches of x, eps_z, z, eps_x and, if wanted, noise for one seed, (_CHUNK, batch, .).

    Half of a batch is drawn, evenly spread (`nets.normal_lattice`), and comes twice, the second
    time with the sign of eps turned: what is odd in the noise cancels, and with it the force that
    lets a code drift in where nothing holds it back (split-normal without a constraint).
    """
    half = -(-batch // 2)
    twice = lambda a, sign: onp.concatenate([a, sign * a], 1)
    x = sample(rng, _CHUNK * half).reshape(half, _CHUNK, -1).swapaxes(0, 1)
    # what comes evenly in order of x must not come so in time: a golden stride through the steps
    x = x[31 * onp.arange(_CHUNK) % _CHUNK]
    eps_z = nets.normal_lattice(rng, _CHUNK, half, 1 + models.latent)[..., 1:]
    sampled = 0 if discrete else models.features  # a discrete x is summed over: no noise, so once
    noise = nets.normal_lattice(rng, _CHUNK, half, models.latent + sampled)
    z, eps_x = noise[..., : models.latent], noise[..., models.latent :]
    if not discrete:
        z, eps_x = twice(z, 1), twice(eps_x, -1)
    arrays = twice(x, 1), twice(eps_z, -1), z, eps_x
    if models.likelihood.noise:
        arrays += (rng.random((_CHUNK, 2 * half, models.likelihood.noise)),)
    return arrays


def _checked_targets(information, method):
    """The targets as floats, NaN for None, each legal and with a method that applies to it."""
    targets = list(information) if onp.iterable(information) else []
    legal = targets and all(t is None or (is_number(t) and t >= 0) for t in targets)
    rule = "a list of targets >= 0 in nats, or None for no constraint"
    require("information", information, legal, rule)
    targets = [math.nan if target is None else float(target) for target in targets]
    method = [method] * len(targets) if isinstance(method, str) else method
    methods = list(method) if onp.iterable(method) else []
    legal = len(methods) == len(targets) and all(isinstance(name, str) for name in methods)
    require("method", method, legal, "a string, or one for each target")
    for method, target in zip(methods, targets):
        name, colon, number = method.partition(":")
        rule = f"one of {', '.join(METHODS)}; without a target also vae, beta:B, anneal:T, im, im:T"
        try:
            number = float(number or "nan")
        except ValueError:
            number = -1.0
        fraction = 0 < number <= 1
        legal = {"beta": 0 <= number < math.inf, "anneal": fraction, "im": fraction or not colon}
        legal = legal.get(name, not colon)
        legal &= name in METHODS or (name in UNCONSTRAINED and math.isnan(target))
        require("method", method, legal, rule)
    return targets, methods
