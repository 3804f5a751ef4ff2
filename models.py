"""Families of decoders, methods of training, trained models, and the files they are kept in."""

import math
import os
from dataclasses import dataclass, replace
from functools import cached_property, partial
from operator import methodcaller
from pathlib import Path
from typing import Callable, NamedTuple

import numpy as np

import nets
from distributions import (
    INTEGER, MOST_BITS, Bernoulli, Categorical, Gaussian, is_number, reals, require,
)  # fmt: skip


class TrainingWarning(UserWarning):
    """A model did not become what was asked for."""


class Likelihood(NamedTuple):
    """A family of p(x|z): what a decoder makes of its network.

    decode(network, z) -> a distribution over x; network takes (..., batch, latent + inputs) and
    gives (..., batch, outputs(features)), perhaps with more axes, of models, in front. Gradients
    pass through: compute with autograd.numpy. A Fit can be pickled if both callables can, which are
    functions of a module, or partial ones. noise: how many uniform random numbers per example
    decode(network, z, noise) is given in the ELBO while training, and only there (drop-out).
    discrete: whether E f(x) is an exact sum (binary: for few features); x is one-hot, or if binary
    any zeros and ones. name: by it `load` knows the family.
    """

    name: str
    outputs: Callable
    decode: Callable
    inputs: int = 0
    noise: int = 0
    discrete: bool = False
    binary: bool = False


def one_each(features):
    return features


def two_each(features):
    return 2 * features


def gaussian(network, z):
    return Gaussian.unpack(network(z))


def categorical(network, z):
    return Categorical(network(z))


def bernoulli(network, z):
    return Bernoulli(network(z))


def gaussian_of(log_var, network, z):
    return Gaussian(network(z), log_var)


GAUSSIAN = Likelihood("gaussian", two_each, gaussian)
CATEGORICAL = Likelihood("categorical", one_each, categorical, discrete=True)
BERNOULLI = Likelihood("bernoulli", one_each, bernoulli, discrete=True, binary=True)
LIKELIHOODS = {family.name: family for family in (GAUSSIAN, CATEGORICAL, BERNOULLI)}


def fixed_variance(std) -> Likelihood:
    """N(mean(z), std^2): the restricted decoder of the poster's Figure 4."""
    require("std", std, is_number(std) and std > 0, "a finite number > 0")
    name = f"gaussian of standard deviation {float(std)!r}"
    return Likelihood(name, one_each, partial(gaussian_of, 2 * math.log(std)))


# ------------------------------------------------------------------------- methods of training


class Method(NamedTuple):
    """What is ascended: reconstruction, -KL and the estimate of I, each with a weight.

    weights(progress, gap, multiplier) -> the three weights; progress of the training from 0 to 1,
    gap = M - I (0 without a target) and multiplier: one of each per model, (models,). The
    weights of reconstruction and I are the decoder's, that of the KL is the encoder's. A method
    that holds something else than I has a gap of its own, gap(progress, networks, x, eps) of a
    step's batch, (models,), networks as `Fit.networks` gives them; the multiplier follows it.
    """

    name: str
    weights: Callable
    gap: Callable = None


VAE = Method("vae", lambda t, gap, multiplier: (1, 1, 0))


def beta_vae(beta) -> Method:
    """The KL weighed by beta (Higgins et al., 2017)."""
    require("beta", beta, is_number(beta, least=0), "a finite number >= 0")
    return Method(f"beta:{beta:g}", lambda t, gap, multiplier: (1, beta, 0))


def annealed(end) -> Method:
    """The KL's weight rises from 0 to 1 over this fraction of the steps (Bowman et al., 2015)."""
    require("end", end, is_number(end) and 0 < end <= 1, "a fraction of the steps, above 0")
    return Method(f"anneal:{end:g}", lambda t, gap, multiplier: (1, min(1, t / end), 0))


def infomax(start=0) -> Method:
    """I alone (its bound with r_samples=0: Barber & Agakov, 2003), after a start with all x in use.

    The reconstruction's weight falls from 1 to 0 over this fraction of the steps.
    """
    require("start", start, is_number(start) and 0 <= start <= 1, "a fraction of the steps")
    name = f"im:{start:g}" if start else "im"
    return Method(name, lambda t, gap, multiplier: (max(0, 1 - t / start) if start else 0, 1, 1))


def weigher(models, methods, dtype):
    """weigh(progress, gap, multiplier, networks, x, eps) -> gap, weights, by each model's method.

    The gap is the method's own where it has one; the weights, (3, models, 1), are those of
    reconstruction, KL and I.
    """
    members = {method: np.array([own == method for own in methods]) for method in methods}
    weights = np.ones((3, len(methods), 1), dtype)

    def weigh(progress, gap, multiplier, *seen):
        gap = gap.copy()
        for method, own in members.items():
            if method.gap:
                gap[own] = method.gap(progress, *seen)[own]
            chosen = method.weights(progress, gap[own], multiplier[own])
            legal = np.iterable(chosen) and len(chosen) == 3
            require(f"{method.name}.weights", chosen, legal, "three: of reconstruction, KL and I")
            for row, weight in zip(weights, chosen):
                row[own, 0] = weight
        _, beta, weight = weights
        legal = models.q_samples == 1 or (beta == 1).all()
        require("q_samples", models.q_samples, legal, "1 for methods that weigh the KL")
        legal = not models.bits_drawn or (weight == 0).all()
        rule = f"at most {MOST_BITS} for binary x and a weight on I: draws of x have no gradient"
        require("features", models.features, legal, rule)
        return gap, weights

    return weigh


# ------------------------------------------------------------------------------ trained models

LAMBDA_MOST = {True: 50.0, False: 5.0}  # with proposals; without, r may never certify M
OFF = 0.05  # nats from M, by the training's own estimate, of which a warning tells


@dataclass(frozen=True, eq=False, repr=False)
class Fit:
    """K trained models: callables `encoder`, `decoder`, `auxiliary` with the models on axis 0.

    targets (K,), NaN where there is none, seeds (K,) and methods (K,) say which model is which.
    history has "target" (in force, it rises to M), "lower", "upper" and "elbo" (of that step's
    batch, with the method's weight on the KL) and "multiplier", (K, steps) each. diverged (K,) is
    the step at which a model was frozen because it was not finite any more, or -1. fit[k] is the
    one model k, without the models' axis.
    """

    params: np.ndarray  # (K, weights), of all three networks as `layout` says
    targets: np.ndarray
    seeds: np.ndarray
    methods: np.ndarray
    diverged: np.ndarray
    history: dict
    likelihood: Likelihood
    features: int
    latent: int
    hidden: int
    r_samples: int
    q_samples: int

    def decoder(self, z):
        """p(x|z): z (..., batch, latent) -> distribution over x."""
        return self.networks()[0](reals("z", z))

    def encoder(self, x):
        """q(z|x): x (..., batch, features) -> Gaussian over z."""
        return self.networks()[1](reals("x", x))

    def auxiliary(self, x):
        """r(z|x): x (..., batch, features) -> Gaussian over z."""
        return self.networks()[2](reals("x", x))

    @cached_property
    def layout(self):
        """Of the three networks: the poster's "2-layer FC nets", one hidden layer each."""
        inputs, outputs = self.latent + self.likelihood.inputs, self.likelihood.outputs
        code = (self.features, self.hidden, 2 * self.latent)
        decoder = (inputs, self.hidden, outputs(self.features))
        return nets.Layout({"decoder": decoder, "encoder": code, "auxiliary": code})

    @property
    def bits_drawn(self):
        """Whether x has too many bits to sum over all x: they are drawn, without a gradient."""
        return self.likelihood.binary and self.features > MOST_BITS

    @property
    def summed(self):
        """Whether E f(x), x ~ p(x|z), is a sum over all x, not a draw."""
        return self.likelihood.discrete and not self.bits_drawn

    def networks(self, params=None, *noise):
        """decoder, encoder and auxiliary as functions of their inputs, for these or own weights."""
        params = self.params.astype(float) if params is None else params
        decoder, encoder, auxiliary = self.layout.networks(params)
        return (
            lambda z: self.likelihood.decode(decoder, z, *noise),
            lambda x: Gaussian.unpack(encoder(x)),
            lambda x: Gaussian.unpack(auxiliary(x)),
        )

    def at_the_end(self):
        """Estimates of I from below and above, means over the last tenth of the steps, (K,)."""
        last = -(-self.history["lower"].shape[-1] // 10)
        return [self.history[side][..., -last:].mean(-1) for side in ("lower", "upper")]

    def faults(self):
        """A line for each model that was frozen, or ended away from its target by its estimate."""
        for model in self:
            name = f"{model.methods}, target {model.targets:.7g}, seed {model.seeds}"
            lower, upper = model.at_the_end()
            most, last = LAMBDA_MOST[self.r_samples > 0], model.history["multiplier"][-1]
            if model.diverged >= 0:
                yield f"{name}: diverged and was frozen at step {model.diverged}"
            elif abs((lower + upper) / 2 - model.targets) > OFF:
                why = "more steps, or " + ("units, or a lower M" if last > 0 else "r_samples")
                limit = model.methods == "lagrangian" and abs(last) >= most
                why = f"; the multiplier is at its limit: {why}" if limit else ""
                yield f"{name}: I is between {lower:.3f} and {upper:.3f} by its estimate{why}"

    def __repr__(self):
        """A line per model: target, seed, method, training's estimates of I (no sure interval)."""
        lines = ["  target  seed       method  I, training's lower and upper estimate"]
        columns = map(np.atleast_1d, (self.targets, self.seeds, self.methods, *self.at_the_end()))
        for target, seed, method, lower, upper in zip(*columns):
            wanted = "none" if math.isnan(target) else f"{target:.4g}"
            lines.append(f"{wanted:>8} {seed:5} {method:>12}  [{lower:.3f}, {upper:.3f}]")
        return "\n".join(lines)

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, k):
        arrays = {name: getattr(self, name)[k] for name in ARRAYS}
        return replace(self, **arrays, history={name: h[k] for name, h in self.history.items()})

    def select(self, **wanted):
        """The one model of this target (None: it has none), seed and method, any of the three."""
        columns = {"target": self.targets, "seed": self.seeds, "method": self.methods}
        require("select", [*wanted], wanted.keys() <= columns.keys(), f"some of {[*columns]}")
        same = np.full(len(self), True)
        for name, value in wanted.items():
            free = value is None and name == "target"
            same &= np.isnan(self.targets) if free else columns[name] == value
        found = np.flatnonzero(same)
        if len(found) != 1:
            known = ", ".join(f"{n}s {np.unique(own).tolist()}" for n, own in columns.items())
            raise ValueError(f"{len(found)} models, not one, have {wanted}; there are {known}")
        return self[found[0]]

    def save(self, path):
        """Write an .npz file that `load` reads."""
        save(path, {"": self})


def checked_targets(information, method, known, most):
    """The targets, NaN for None, and as many methods."""
    listed = lambda a: isinstance(a, (list, tuple, range)) or getattr(a, "ndim", 0) > 0
    legal = lambda t: t is None or (is_number(t, least=0) and t <= most + 1e-9)
    targets = list(information) if listed(information) else []
    limit = f" and at most {most:.7g}, which is all that x can hold" * math.isfinite(most)
    rule = f"a list of targets >= 0 in nats{limit}, with None for no constraint"
    require("information", information, targets and all(map(legal, targets)), rule)
    methods = [method] * len(targets) if isinstance(method, (str, Method)) else method
    legal = listed(methods) and len(methods) == len(targets)
    require("method", method, legal, f"one for all, or one for each of the {len(targets)} targets")
    methods = [named("method", own, known, Method) for own in methods]
    return [math.nan if target is None else float(target) for target in targets], methods


def named(name, value, known, kind):
    """`value`, or what is known by this name."""
    found = known.get(value) if isinstance(value, str) else value
    require(name, value, isinstance(found, kind), f"a mae.{kind.__name__} or one of {[*known]}")
    if isinstance(found, Likelihood):  # `load` goes by names
        require("likelihood", found.name, known.get(found.name, found) == found, "a new name")
    return found


def check_numbers(counts, seed, r_samples, learning_rate, dtype):
    """ValueError, naming it, for a setting of `fit` that is not legal."""
    for name, count in counts.items():
        require(name, count, is_number(count, INTEGER, 1), "an integer >= 1")
    legal = is_number(seed, INTEGER, 0) and int(seed) <= 2**63 - int(counts["seeds"])
    require("seed", seed, legal, "an integer from 0 to 2^63 - seeds")
    require("r_samples", r_samples, is_number(r_samples, INTEGER, 0), "an integer >= 0")
    require("learning_rate", learning_rate, is_number(learning_rate, least=0), "finite and >= 0")
    require("dtype", dtype, dtype in ("float32", "float64"), "'float32' or 'float64'")


def untrained(targets, methods, seed, seeds, **settings) -> Fit:
    """A model without weights for each target (and its method) and each of the seeds."""
    return Fit(
        params=np.empty((len(targets) * seeds, 0)),
        targets=np.repeat(targets, seeds),
        seeds=np.tile(seed + np.arange(seeds), len(targets)),
        methods=np.repeat([method.name for method in methods], seeds),
        diverged=np.full(len(targets) * seeds, -1),
        history={},
        **settings,
    )


# --------------------------------------------------------------------------------------- files

FORMAT = 3
SETTINGS = ("features", "latent", "hidden", "r_samples", "q_samples")
ARRAYS = {"params": "f", "targets": "f", "seeds": "iu", "methods": "U", "diverged": "i"}
HISTORY = ("target", "lower", "upper", "elbo", "multiplier")
KINDS = dict.fromkeys(SETTINGS, "i") | ARRAYS | {f"history_{name}": "f" for name in HISTORY}


def save(path, fits, made=""):
    """Write {name: Fit} to one .npz file, whole or not at all; made: a text, how they were made."""
    arrays = {"format": f"mae {FORMAT}", "made": made}
    for name, fit in fits.items():
        own = {key: getattr(fit, key) for key in (*SETTINGS, *ARRAYS)}
        own |= {f"history_{key}": values for key, values in fit.history.items()}
        own["likelihood"] = fit.likelihood.name
        arrays |= {f"{name}/{key}" if name else key: value for key, value in own.items()}

    def write_to(name):
        with open(name, "wb") as file:
            np.savez(file, **arrays)

    write(Path(path).parent, {Path(path).name: write_to})


def load(path, likelihood=None, name="") -> Fit:
    """The Fit that `save` wrote, by its name there; ValueError or OSError if there is none.

    likelihood: the one that the models were trained with, needed if it is not in LIKELIHOODS.
    """
    fits = _read(path)
    require("name", name, name in fits, f"one of those in {path}: {sorted(fits)}")
    found, family = fits[name], str(fits[name].get("likelihood"))
    likelihood = LIKELIHOODS.get(family) if likelihood is None else likelihood
    legal = isinstance(likelihood, Likelihood) and likelihood.name == family
    require("likelihood", likelihood, legal, f"the mae.Likelihood that {path} names: {family}")
    try:
        settings = {key: found[key].item() for key in SETTINGS}
        arrays = {key: found[key] for key in ARRAYS}
        history = {key: found[f"history_{key}"] for key in HISTORY}
        fit = Fit(**arrays, history=history, likelihood=likelihood, **settings)
        models, steps = fit.targets.shape, history["elbo"].shape[-1:]
        shapes = [(*models, fit.layout.size), *[models] * 4, *[models + steps] * len(history)]
        sound = [a.shape for a in (*arrays.values(), *history.values())] == shapes
        sound &= all(found[key].dtype.kind in kinds for key, kinds in KINDS.items())
        if not (sound and fit.r_samples >= 0 < fit.q_samples and np.isfinite(fit.params).all()):
            raise ValueError("its arrays do not fit or are not finite")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    return fit


def _read(path):
    """The file as {name of a Fit: {key: array}}."""
    fits = {}
    with open(path, "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as members:
                found = dict(members)
            written = found.pop("format", "mae 1" if "settings" in found else "")
            _, version = str(written).split(" ")
            version = int(version)
        except Exception as error:  # NumPy raises a dozen kinds on a damaged file
            raise ValueError(f"{path} is not a file of trained models (mae.save)") from error
    if version != FORMAT:
        which = f"{'an earlier' if version < FORMAT else 'a later'} version, format {version}"
        raise ValueError(f"{path} was written by {which}; this one reads {FORMAT}")
    found.pop("made", None)
    for key, array in found.items():
        name, _, own = key.rpartition("/")
        fits.setdefault(name, {})[own] = array
    return fits


UNFINISHED = []  # temporary files, for whoever ends the process without unwinding


def write(folder, contents, stale=()):
    """Save all files under hidden temporary names, then rename all; {name: save(path)} -> paths.

    Old ones, and files of the stale names, are moved aside first. A run that is interrupted, out of
    disk or not allowed to replace a file leaves the old files or the new ones, no mixture, half
    file or temporary one. One killed outright (SIGKILL, power) may leave hidden files, and lack
    visible ones only if it was between two of the renames.
    """
    hidden = lambda name, end="": str(folder / f".{os.getpid()}-{name}{end}")
    new = {hidden(name): str(folder / name) for name in contents}
    for path in filter(os.path.isdir, new.values()):
        raise IsADirectoryError(f"{path} is a directory; a file is to be written there")
    old = [name for name in (*contents, *stale) if (folder / name).exists()]
    old = {str(folder / name): hidden(name, ".old") for name in old}
    moves = [*old.items(), *new.items()]
    try:
        UNFINISHED.extend(new)
        for path, save_to in zip(new, contents.values()):
            save_to(path)
            with open(path, "rb+") as file:  # on disk now, or the renames would wait for it
                os.fsync(file.fileno())
        # One call into C, with plain strings: a signal's handler has to wait until it is done.
        calls = [partial(os.replace, *move) for move in moves]
        calls += [partial(os.unlink, path) for path in old.values()]
        try:
            list(map(methodcaller("__call__"), calls))
        except OSError:
            for source, target in reversed(moves):
                if not os.path.exists(source):
                    os.replace(target, source)
            raise
    finally:
        for path in new:
            Path(path).unlink(missing_ok=True)
    return [*new.values()]
