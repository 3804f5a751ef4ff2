"""The poster's experiments: `python experiments.py NAME` trains, prints a table, draws figures."""

import argparse
import contextlib
import csv
import errno
import itertools
import math
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from statistics import NormalDist
from typing import Callable, NamedTuple

# The matrices are small: a second BLAS thread costs more than it brings. A user's own setting wins.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from autograd import numpy as anp
from autograd.tracer import getval

import mae
import nets
from quadrature import integrate

# A target counts as reached if the exact bound is this near to it, and the exact information, which
# lies above the bound by the mismatch of r, this near.
BOUND_REACHED, INFORMATION_REACHED = 0.01, 0.06  # nats
LIKELIHOOD_KEPT = 0.01  # nats below the optimum that need no warning

COLUMNS = ["method", "target", "seed", "information", "infomax_bound", "encoder_information"]
COLUMNS += ["log_likelihood", "elbo", "quadrature_error", "reached"]
COLUMNS += ["group", "below_optimum", "rate", "distortion"]
EXACT = ("information", "infomax_bound", "log_likelihood", "below_optimum", "elbo")


class Problem(NamedTuple):
    """Data and what is true of them."""

    data: object  # array or callable(rng, n), as mae.fit takes it
    optimum: float = math.nan  # the best possible mean log-likelihood, -H(x)
    ceiling: float = math.inf  # the highest infomax bound that a Gaussian r can give
    most: float = math.inf  # nats that x can hold
    rows: object = None  # a sample of the data, for the encoder's information
    data_mean: Callable = None  # values(x) -> means over the true distribution, error


class Group(NamedTuple):
    """Models that are trained together."""

    problem: Problem
    likelihood: object
    models: dict  # method -> targets
    expressive: bool = True  # whether the decoder can reach the optimum


class Experiment(NamedTuple):
    summary: str
    groups: dict  # name -> Group
    draw: str  # the function of figures.py: (fits, rows, experiment) -> {file name: Figure}
    claims: Callable  # rows -> (claim, what is wanted, what was found, whether it holds)
    keys: tuple = ("target",)  # columns that tell the lines of the table apart
    heads: tuple = EXACT  # columns whose means over the seeds it shows
    settings: dict = {}  # of mae.fit, where they are not the usual ones
    evaluate: Callable = None  # (one-model Fit, Problem) -> columns; if not the exact ones


# ------------------------------------------------------------------------------ the poster's claims


def values(rows, column, **where):
    """A column of the rows that have these values in other columns."""
    chosen = (row for row in rows if all(row[name] == value for name, value in where.items()))
    return np.array([row[column] for row in chosen])


def misses(rows, column, **where):
    """Largest |column - target| of the models under constraint."""
    where = {"method": "lagrangian", **where}
    return np.abs(values(rows, column, **where) - values(rows, "target", **where)).max()


# A claim: what, the bar, the number found, whether it holds (not if the number is nan).


def at_most(claim, bar, found):
    return claim, f"<= {bar:g}", found, found <= bar


def at_least(claim, bar, found):
    return claim, f">= {bar:g}", found, found >= bar


# ---------------------------------------------------------------- splitting the normal (Figure 6)


def standard_normal(rng, n):
    """n draws from N(0, 1), evenly spread; (n, 1)."""
    return nets.normal_lattice(rng, 1, n, 1)[0]


def standard_normal_mean(values):
    """Means of values(x) = (a, b, ...) over x ~ N(0, 1), and the largest of their errors."""

    def integrand(x):
        return -0.5 * (x[:, 0] ** 2 + nets.LOG_2PI), values(x)

    _, means, errors = integrate(integrand, [-9, -4, -1.5, 1.5, 4, 9], 1e-8)
    return means, errors[1:].max()


NORMAL = Problem(
    data=standard_normal,
    optimum=-mae.prior_entropy(),
    rows=np.array([[NormalDist().inv_cdf((i + 0.5) / 64)] for i in range(64)]),
    data_mean=standard_normal_mean,
)


def split_normal_claims(rows):
    yield at_most(
        "a VAE ignores its code: I", 0.01, values(rows, "information", method="vae").max()
    )
    yield at_most("MAE: |I - M| at every M", 0.02, misses(rows, "information"))
    yield at_most("MAE: |infomax bound - M|", 0.01, misses(rows, "infomax_bound"))
    yield at_most("no likelihood lost, nats", 0.002, values(rows, "below_optimum").max())


# --------------------------------------------------------------------------- categorical (Figure 5)

TEN = np.eye(10)


def categorical_mean(values):
    """Means of values(x) = (a, b, ...) over the ten equally likely x; these sums have no error."""
    return np.mean(values(TEN), -1), 0.0


def categorical_ceiling(categories):
    """Best bound of a Gaussian r where x is the quantile that z falls into, which is the best x.

    H(z) + E log r = -1/2 mean_x log Var[z|x], with the variances of a truncated normal. I is
    log(categories) there; the rest is what a Gaussian loses by not being a piece of one.
    """
    ends = [NormalDist().inv_cdf(i / categories) for i in range(1, categories)]
    density = np.array([0, *map(NormalDist().pdf, ends), 0])
    moment = np.array([0, *ends, 0]) * density
    variance = 1 - categories * np.diff(moment) - (categories * np.diff(density)) ** 2
    return -0.5 * np.log(variance).mean()


UNIFORM = Problem(
    data=TEN,
    optimum=-math.log(10),
    ceiling=categorical_ceiling(10),
    most=math.log(10),
    rows=TEN,
    data_mean=categorical_mean,
)


def categorical_claims(rows):
    below = [row for row in rows if not row["target"] > UNIFORM.ceiling]
    above = [row for row in rows if row["target"] > UNIFORM.ceiling]
    yield at_most(
        "a VAE ignores its code: I", 0.01, values(rows, "information", method="vae").max()
    )
    yield at_most("MAE: |I - M|, M to 2", 0.06, misses(below, "information"))
    yield at_most("MAE: |infomax bound - M|, M to 2", 0.01, misses(below, "infomax_bound"))
    yield at_most("no likelihood lost, nats, M to 2", 0.001, values(below, "below_optimum").max())
    yield at_most(
        "M = ln 10, above any Gaussian r: called reached", 0, sum(values(above, "reached"))
    )


# ------------------------------------------------------------ likelihood and information (Figure 4)

STD = 0.5  # of the restricted decoder


def restricted_curve(information, std=STD):
    """Log-likelihood of N(a z, s^2) on N(0, 1) data at this information; highest at -log s."""
    log_var = 2 * math.log(std) + 2 * information  # of x
    return -0.5 * (nets.LOG_2PI + log_var + np.exp(-log_var))


def likelihood_claims(rows):
    of = lambda column, group, **where: values(rows, column, group=group, **where)
    above = of("log_likelihood", "restricted") - restricted_curve(of("information", "restricted"))
    chosen = of("information", "restricted", method="vae")
    short, off = (
        of("below_optimum", "expressive"),
        misses(rows, "infomax_bound", group="expressive"),
    )
    yield at_least("restricted: log-likelihood above its curve, nats", -0.01, above.min())
    yield at_most("restricted, VAE: |I - (-ln s)|", 0.02, np.abs(chosen + math.log(STD)).max())
    yield at_most("expressive: below the optimum at any I, nats", 0.003, short.max())
    yield at_most("expressive: |infomax bound - M|", 0.01, off)


# ----------------------------------------------------------- sequences (related work [2], [3], [5])

BITS, FLIP = 6, 0.1
STRINGS = np.array(list(itertools.product([0, 1], repeat=BITS)))  # all 64
PROTOTYPES = np.array([[0] * 6, [1] * 6, [0, 1] * 3, [1, 0] * 3])
FLIPS = (STRINGS != PROTOTYPES[:, None]).sum(-1)  # (prototypes, strings)
GIVEN_PROTOTYPE = FLIP**FLIPS * (1 - FLIP) ** (BITS - FLIPS)  # p(string | prototype)
P_STRINGS = GIVEN_PROTOTYPE.mean(0)
H_STRINGS = -(P_STRINGS * np.log(P_STRINGS)).sum()
# what the prototype tells of the string, in nats
I_PROTOTYPE = H_STRINGS + (GIVEN_PROTOTYPE * np.log(GIVEN_PROTOTYPE)).sum(1).mean()


def strings(rng, n):
    """n strings, one-hot (n, 64), each as often as its probability says, to within one."""
    return np.eye(64)[np.searchsorted(P_STRINGS.cumsum(), nets.evenly(rng, n) * P_STRINGS.sum())]


def strings_mean(values):
    """Means of values(x) = (a, b, ...) over the strings; these sums have no error."""
    return np.array(values(np.eye(64))) @ P_STRINGS, 0.0


def autoregressive(name, window, drop=0.0):
    """p(x|z) = prod_t p(x_t | the `window` bits before, z), each factor the one network's sigmoid.

    The network is given the code, the bits before as -1 and 1 (0: none, or not seen), and which
    bit is meant, one-hot. With drop > 0 a bit is hidden from it with that probability in training.
    x is one-hot over the 64 strings, whose probabilities are all computed: one pass over the 63
    prefixes (window 0: six; window 1: eleven) gives every factor of all of them.
    """
    contexts, factor = {}, np.empty(STRINGS.shape, int)  # factor[string, t]: which context
    for i, t in itertools.product(range(len(STRINGS)), range(BITS)):
        seen = np.where(np.arange(t) >= t - window, 2 * STRINGS[i, :t] - 1, 0)
        context = (0, *seen, *[0] * (BITS - 1 - t), *np.eye(BITS)[t])  # code, bits before, place
        factor[i, t] = contexts.setdefault(context, len(contexts))
    chosen = factor[:, :, None] == np.arange(len(contexts))  # (string, t, context)
    constants = (
        np.array([*contexts])[:, None],  # (context, 1, inputs)
        np.eye(2 * BITS)[0],  # (inputs,): where the code goes
        (chosen & (STRINGS[:, :, None] == 1)).sum(1).T,  # (context, string): which ask for a one
        chosen.sum(1).T,  # which matter at all
    )

    def decode(network, z, noise=None):
        *lead, batch, _ = getval(z).shape
        inputs, place, one, either = (a.astype(getval(z).dtype) for a in constants)
        if noise is not None:
            kept = np.ones((*lead, 1, batch, 2 * BITS), inputs.dtype)
            kept[..., 0, :, 1:BITS] = noise >= drop
            inputs = inputs * kept  # (..., context, batch, inputs)
        inputs = anp.reshape(z, (*lead, 1, batch, 1)) * place + inputs
        logits = network(anp.reshape(inputs, (*lead, len(contexts) * batch, 2 * BITS)))
        lead = getval(logits).shape[:-2]  # with the models, if only the network has them
        logits = anp.swapaxes(anp.reshape(logits, (*lead, len(contexts), batch)), -1, -2)
        # log p(1) = logit + log p(0)
        return mae.Categorical(logits @ one + nets.log_sigmoid(-logits) @ either)

    return mae.Likelihood(name, lambda n: 1, decode, 2 * BITS - 1, BITS - 1 if drop else 0)


SEQUENCES = Problem(
    data=strings,
    optimum=-H_STRINGS,
    most=math.log(64),
    rows=strings(np.random.default_rng(0), 256),
    data_mean=strings_mean,
)


ANNEALING = ("anneal:0.25", "anneal:0.5", "anneal:1")


def sequences_claims(rows):
    of = lambda column, group, method="vae": values(rows, column, group=group, method=method)
    information, kl = of("information", "causal"), of("below_optimum", "causal")
    yield at_most("causal decoder, VAE: I", 0.15, information.max())
    yield at_most("causal decoder, VAE: KL(true || model)", 0.001, kl.max())
    kl = of("below_optimum", "causal", "lagrangian")
    yield at_most("causal decoder, MAE: |I - M|", 0.05, misses(rows, "information", group="causal"))
    yield at_most("causal decoder, MAE: KL(true || model)", 0.003, kl.max())
    for group in ("one bit back", "factorised"):
        yield at_least(f"{group}, VAE: I", 0.7, of("information", group).min())
        yield at_least(f"{group}, VAE: KL, mean over seeds", 0.1, of("below_optimum", group).mean())
    spread = np.ptp([of("information", "causal", method).mean() for method in ANNEALING])
    yield at_least("KL annealing: I moves with the schedule, by", 0.3, spread)


# ------------------------------------------------------------------- methods (related work [1]-[5])

WITHOUT_TARGET = ("vae", "anneal:0.25", "anneal:0.5", "beta:0.5", "beta:2", "im", "im:0.1")
COMPARED = dict.fromkeys(WITHOUT_TARGET, (None,))
COMPARED |= {"penalty": (1.0, 2.0), "lagrangian": (1.0, 2.0)}


def methods_claims(rows):
    of = lambda column, method, **where: values(rows, column, method=method, **where)
    bound = of("infomax_bound", "im:0.1", group="categorical")
    above = bound.max() - UNIFORM.ceiling
    lost = of("below_optimum", "im:0.1", group="split-normal")
    yield at_least("IM on categorical: bound", 2.09, bound.min())
    yield at_most("IM on categorical: bound above its ceiling, nats", 1e-8, above)
    yield at_least("IM: likelihood lost, nats", 0.1, lost.min())
    yield at_most("beta = 2 ignores the code: I", 0.01, of("information", "beta:2").max())
    yield at_most("MAE: |infomax bound - M|", 0.01, misses(rows, "infomax_bound"))
    yield at_most("MAE: likelihood lost, nats", 0.002, of("below_optimum", "lagrangian").max())
    yield at_least("penalty: likelihood lost, nats", 0.002, of("below_optimum", "penalty").max())


# ------------------------------------------------------------------------------- faces (Figure 3)

SIDE = 20  # pixels


def draw_faces(factors):
    """Faces (n, 400), ink 1 on -1, from angle of the head and emotion, (n, 2) in [-1, 1]."""
    angle, emotion = 0.35 * factors[:, :1], factors[:, 1:]
    x, y = (a.ravel() for a in np.meshgrid(np.linspace(-1, 1, SIDE), np.linspace(1, -1, SIDE)))
    u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    ink = lambda distance: 1 / (1 + np.exp(distance / 0.1))  # soft edges: pixels vary smoothly
    head = ink(0.8 * np.abs(np.hypot(u / 0.8, v / 0.95) - 1) - 0.07)
    eyes = ink(np.hypot(np.abs(u) - 0.3, v - 0.3) - 0.1)
    bend = 1.5 * emotion * (u**2 - 0.09)
    mouth = ink(np.maximum(np.abs(v + 0.42 - bend) - 0.1, np.abs(u) - 0.42))
    return 2 * np.minimum(head + eyes + mouth, 1) - 1


def factors(rng, n):
    """n pairs of angle and emotion, evenly spread over [-1, 1]^2."""
    return 2 * np.stack([nets.evenly(rng, n), rng.permutation(nets.evenly(rng, n))], -1) - 1


def evaluate_faces(model, problem, draws=4000):
    """Sampled bounds, their standard errors; R^2 of each factor on a quadratic in the code."""
    rng = np.random.default_rng(0)
    truth, z = factors(rng, draws), rng.standard_normal((draws, 2))
    x = draw_faces(truth)
    q = model.encoder(x)
    bound = mae.infomax_bound(model.decoder, model.auxiliary, z, rng.standard_normal(x.shape))
    elbo = mae.elbo(model.encoder, model.decoder, x, rng.standard_normal(z.shape))
    a, b = q.mean.T
    powers = np.stack([np.ones_like(a), a, b, a * a, a * b, b * b], -1)
    residual = truth - powers @ np.linalg.lstsq(powers, truth, rcond=None)[0]
    r2 = 1 - residual.var(0) / truth.var(0)
    error = lambda a: a.std() / math.sqrt(draws)
    row = {"infomax_bound": bound.mean(), "bound_error": error(bound), "elbo": elbo.mean()}
    row |= {
        "elbo_error": error(elbo),
        "rate": q.kl().mean(),
        "r2_angle": r2[0],
        "r2_emotion": r2[1],
    }
    off = abs(row["infomax_bound"] - model.targets)
    return row | {"reached": bool(math.isnan(model.targets) or off <= 0.1)}


def faces_claims(rows):
    yield at_least("angle from the code, R^2", 0.9, values(rows, "r2_angle").min())
    yield at_least("emotion from the code, R^2", 0.9, values(rows, "r2_emotion").min())
    yield at_most("MAE in two dimensions: |sampled bound - M|", 0.1, misses(rows, "infomax_bound"))


# --------------------------------------------------------------------------------- the experiments

VAE = {"vae": (None,)}
SWEEP = VAE | {"lagrangian": tuple(np.linspace(0, 2, 9).tolist())}
CAUSAL = autoregressive("causal", BITS)
EXPERIMENTS = {
    "split-normal": Experiment(
        summary="x ~ N(0, 1): a normal learnt as an infinite mixture of normals (Figure 6)",
        groups={
            "split-normal": Group(
                NORMAL, "gaussian", {"lagrangian": (None, 0.4, 0.8, 1.2, 1.6, 2.0, 2.5, 3.0)}
            )
        },
        draw="split_normal",
        claims=split_normal_claims,
    ),
    "categorical": Experiment(
        summary="x uniform on ten values, softmax decoder (Figure 5)",
        groups={
            "categorical": Group(
                UNIFORM, "categorical", {"lagrangian": (None, 0.5, 1.0, 1.5, 2.0, math.log(10))}
            )
        },
        draw="categorical",
        claims=categorical_claims,
    ),
    "likelihood": Experiment(
        summary="log-likelihood against information, by what the decoder can do (Figure 4)",
        groups={
            "expressive": Group(NORMAL, "gaussian", SWEEP),
            "restricted": Group(NORMAL, mae.fixed_variance(STD), SWEEP, False),
        },
        draw="likelihood",
        claims=likelihood_claims,
        keys=("group", "target"),
    ),
    "sequences": Experiment(
        summary="strings of bits: decoders that need no code, and some that do (related work)",
        groups={
            "causal": Group(
                SEQUENCES,
                CAUSAL,
                dict.fromkeys(("vae", *ANNEALING), (None,))
                | {"lagrangian": (0.0, 0.35, 0.7, 1.0, 1.2)},
            ),
            "bits dropped": Group(SEQUENCES, autoregressive("dropped", BITS, 0.5), VAE, False),
            "one bit back": Group(SEQUENCES, autoregressive("one bit back", 1), VAE, False),
            "factorised": Group(SEQUENCES, autoregressive("factorised", 0), VAE, False),
        },
        draw="sequences",
        claims=sequences_claims,
        keys=("group", "method", "target"),
        settings={"seeds": 3, "steps": 1000, "batch": 64},
    ),
    "methods": Experiment(
        summary="VAE, annealing, beta-VAE, IM, both forms of the MAE, side by side (related work)",
        groups={
            "split-normal": Group(NORMAL, "gaussian", COMPARED),
            "categorical": Group(UNIFORM, "categorical", COMPARED),
        },
        draw="methods",
        claims=methods_claims,
        keys=("group", "method", "target"),
        heads=(*COLUMNS[3:6], "rate", "distortion", "log_likelihood", "elbo"),
        settings={"seeds": 3, "steps": 6000, "batch": 64, "learning_rate": 0.02},
    ),
    "faces": Experiment(
        summary="faces with two hidden factors, laid out by a two-dimensional code (Figure 3)",
        groups={
            "faces": Group(
                Problem(data=lambda rng, n: draw_faces(factors(rng, n))),
                mae.fixed_variance(0.3),
                VAE | {"lagrangian": (3.0, 4.0)},
            )
        },
        draw="faces",
        claims=faces_claims,
        keys=("method", "target"),
        heads=("infomax_bound", "elbo", "rate", "r2_angle", "r2_emotion"),
        settings={
            "seeds": 2,
            "steps": 1000,
            "batch": 32,
            "hidden": 128,
            "latent": 2,
            "learning_rate": 3e-3,
        },
        evaluate=evaluate_faces,
    ),
}

# ------------------------------------------------------------------------------- exact evaluation


def evaluate(model, problem):
    """The exact values of one model, to 1e-8 or else to 1e-6; nan if that fails or it diverged."""
    names = *COLUMNS[3:8], "below_optimum", "rate", "distortion", "quadrature_error"
    row = dict.fromkeys(names, math.nan) | {"quadrature_error": math.inf}
    for tol in (1e-8, 1e-6) if model.diverged < 0 else ():
        with contextlib.suppress(mae.QuadratureError):
            row = dict(zip(names, map(float, exact_values(model, problem, tol))))
            break
    near = abs(row["infomax_bound"] - model.targets) <= BOUND_REACHED
    near &= abs(row["information"] - model.targets) <= INFORMATION_REACHED
    unconstrained = math.isnan(model.targets) and math.isfinite(row["information"])
    return row | {"reached": bool(near or unconstrained)}


def exact_values(model, problem, tol):
    """Information, bound, encoder's information, log p, ELBO, shortfall, rate, distortion, error.

    All exact; the error is the largest of their estimates.
    """
    settings = {"tol": tol, "with_error": True}

    def given(x):
        log_p, log_p_error = mae.exact_log_likelihood(model.decoder, x, **settings)
        bound, bound_error = mae.exact_elbo(model.encoder, model.decoder, x, **settings)
        return log_p, bound, model.encoder(x).kl(), log_p_error + bound_error

    (log_p, elbo, rate, inner_error), outer_error = problem.data_mean(given)
    (information, bound), error = mae.exact_information_and_bound(
        model.decoder, model.auxiliary, **settings
    )
    encoder_information, encoder_error = mae.exact_encoder_information(
        model.encoder, problem.rows, **settings
    )
    error = max(error, encoder_error, inner_error + outer_error)
    short = problem.optimum - log_p
    return information, bound, encoder_information, log_p, elbo, short, rate, -elbo - rate, error


def rows_of(fit, name, problem, evaluate):
    """The rows of metrics.csv for one group of models."""
    for k in range(len(fit)):
        row = dict.fromkeys(COLUMNS, math.nan) | evaluate(fit[k], problem)
        row["reached"] &= bool(fit.diverged[k] < 0)
        row |= {"group": name, "method": str(fit.methods[k]), "target": float(fit.targets[k])}
        yield row | {"seed": int(fit.seeds[k])}


# ----------------------------------------------------------------------------------------- output


def label(value):
    """A key of the table as text."""
    return value if isinstance(value, str) else "none" if math.isnan(value) else f"{value:.7g}"


def by_keys(rows, keys):
    """{labels of these columns: rows}, in order."""
    groups = {}
    for row in rows:
        groups.setdefault(tuple(label(row[key]) for key in keys), []).append(row)
    return groups


HEADS = {"infomax_bound": "infomax bound", "log_likelihood": "log-likelihood", "elbo": "ELBO"}
HEADS |= {"below_optimum": "below optimum", "encoder_information": "encoder inf."}
HEADS |= {"r2_angle": "R2 angle", "r2_emotion": "R2 emotion", "group": "data or decoder"}


def table(rows, keys, heads):
    """One line per target (and method, and group): mean over seeds, ± half their range."""
    lines = [[*(HEADS.get(name, name) for name in (*keys, *heads)), "reached"]]
    for names, group in by_keys(rows, keys).items():
        columns = [np.array([row[head] for row in group]) for head in heads]
        known = [c[~np.isnan(c)] if not np.isnan(c).all() else c for c in columns]
        cells = [f"{c.mean().round(4) + 0:.4f} ± {np.ptp(c) / 2:.4f}" for c in known]
        lines.append([*names, *cells, f"{sum(row['reached'] for row in group)} of {len(group)}"])
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(c.rjust(w) for c, w in zip(line, widths)) for line in lines)


def warnings(rows, keys, experiment):
    """What was wanted and not had: targets, and likelihood where nothing stands in its way."""
    for names, group in by_keys(rows, keys).items():
        name = ", ".join(f"{key} {text}" for key, text in zip(keys, names))
        problem, _, _, expressive = experiment.groups[group[0]["group"]]
        short = max(row["below_optimum"] for row in group)
        promised = expressive and group[0]["method"] in ("vae", *mae.METHODS)
        if promised and short > LIKELIHOOD_KEPT:
            yield f"WARNING: {name}: log-likelihood up to {short:.4f} nats below optimum."
        missed = [row for row in group if not row["reached"]]
        if not missed:
            continue
        off = lambda row: abs(row["infomax_bound"] - row["target"])
        best = min(missed, key=lambda row: (math.isnan(off(row)), off(row)))
        yield (
            f"WARNING: {name} was not reached by {len(missed)} of {len(group)} models; nearest "
            f"of these: certified (infomax bound) {best['infomax_bound']:.4f}, exact information "
            f"{best['information']:.4f} nats."
        )
        if best["target"] > problem.ceiling:
            yield (
                f"  Why: r(z|x) is Gaussian, and no Gaussian can certify more than "
                f"{problem.ceiling:.4f} nats on this data, whatever the information is."
            )


def write_metrics(rows, path):
    text = {float: lambda v: "" if math.isnan(v) else v, bool: lambda v: str(v).lower()}
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(rows[0])
        for row in rows:
            writer.writerow([text.get(type(v), lambda v: v)(v) for v in row.values()])


UNFINISHED = []  # temporary files, for `stop`


def write(folder, files):
    """Save all files under hidden temporary names, then rename all.

    A run that is interrupted or runs out of disk leaves the old results or the new ones, not a
    mixture, never half a file and no temporary one. So does one that is killed (SIGKILL, power),
    but for hidden leftovers, which may be deleted, and unless it was between two of the renames.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = [str(folder / name) for name in files]
    temporary = [str(folder / f".{os.getpid()}-{name}") for name in files]
    for path in filter(os.path.isdir, final):  # else found out between the renames
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    try:
        UNFINISHED.extend(temporary)
        for path, save in zip(temporary, files.values()):
            save(path)
            with open(path, "rb+") as file:  # on disk now, or the renames would wait for it
                os.fsync(file.fileno())
        # One call into C, with plain strings: a signal's handler has to wait until it is done.
        list(map(os.replace, temporary, final))
    finally:
        for path in temporary:
            Path(path).unlink(missing_ok=True)
    print(*final, sep="\n")


def show_progress(name, steps):
    """A callback for mae.fit that keeps one line on the terminal, or None where there is none."""
    if not sys.stderr.isatty():
        return None
    start = time.perf_counter()

    def show(done, gap):
        left = (time.perf_counter() - start) * (steps / max(done, 1) - 1)
        line = (
            f"{name}: step {done:.0f}/{steps}  worst |bound - target| {gap:.3f}  {left:.0f} s left"
        )
        print(f"\r{line:<78}", end="", file=sys.stderr, flush=True)

    return show


# ------------------------------------------------------------------------------------------ scaling

SCALING = "seconds of training against models, steps and batch, to plan a sweep"
CURVES = {  # what grows, from the common point of 24 models, 400 steps, batches of 64
    "models": [6, 24, 96, 384],
    "steps": [100, 200, 400, 800],
    "batch": [16, 64, 256, 1024],
}


def seconds(models=24, steps=400, batch=64):
    """Time of one split-normal fit; a quarter of the models share each target."""
    information = np.linspace(0, 2, max(models // 4, 1))
    start = time.perf_counter()
    mae.fit(standard_normal, information=information, seeds=4, steps=steps, batch=batch)
    return time.perf_counter() - start


def scaling(folder, plot):
    """Measure and print the three curves, each point the best of three."""
    seconds(steps=50)  # warm up
    print("   grows  value  seconds  ms/step  of one step of 24 models and 64 examples")
    rows, common = [], min(seconds() for _ in range(3)) / 400
    for what, sizes in CURVES.items():
        for size in sizes:
            taken = min(seconds(**{what: size}) for _ in range(3))
            per_step = taken / (size if what == "steps" else 400)
            numbers = what, size, taken, 1e3 * per_step, per_step / common
            names = "grows", "value", "seconds", "ms_per_step", "relative_step"
            rows.append(dict(zip(names, numbers)))
            print("{:>8}{:>7}{:>9.3f}{:>9.3f}{:>8.2f}".format(*numbers))
    files = {"metrics.csv": lambda path: write_metrics(rows, path)}
    if plot:
        import figures

        files["figure.png"] = figures.scaling(rows).savefig
    write(folder, files)


# ------------------------------------------------------------------------------------ command line

ALL = "every experiment above, and a summary of the poster's claims"
USUAL = {"seeds": 4, "steps": 4000, "batch": 128, "hidden": 16}


def target(text):
    """A target on the command line: a number of nats, or "none"."""
    if text == "none":
        return None
    value = float(text)
    if not 0 <= value <= 1e6:
        raise ValueError
    return value


def integer_within(lowest, highest):
    def integer(text):
        value = int(text)
        if not lowest <= value <= highest:
            raise ValueError
        return value

    integer.__name__ = f"integer from {lowest} to {highest}"
    return integer


target.__name__ = "target (from 0 to 1e6 nats, or none)"


def parse(arguments):
    summaries = {name: experiment.summary for name, experiment in EXPERIMENTS.items()}
    summaries |= {"scaling": SCALING, "all": ALL}
    own = [
        f"{name}: {', '.join(f'{k} {v}' for k, v in e.settings.items() if k in USUAL)}"
        for name, e in EXPERIMENTS.items()
        if e.settings
    ]
    parser = argparse.ArgumentParser(
        usage="python experiments.py NAME [options]",
        description=__doc__,
        epilog="\n".join(
            ["experiments:", *(f"  {name:14}{text}" for name, text in summaries.items())]
            + ["", "defaults of their own:", *(f"  {line}" for line in own)]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("name", metavar="NAME", choices=summaries, help="the experiment, see below; comes first")
    targets = "targets for I(z, x) in nats; none: no constraint, a VAE (default: the README's rows)"
    add("--information", metavar="M", type=target, nargs="+", help=targets)
    integers = {
        "seeds": ("N", 1, 10**6, "models per target"),
        "seed": ("S", 0, 10**9, "the first one's seed"),
        "steps": ("T", 1, 10**6, "training steps"),
        "batch": ("B", 1, 10**6, "examples per step"),
        "hidden": ("H", 1, 10**6, "hidden units per network"),
    }
    for name, (metavar, lowest, highest, text) in integers.items():
        text = f"{text} (default: {USUAL.get(name, 0)})"
        add(f"--{name}", metavar=metavar, type=integer_within(lowest, highest), help=text)
    text = "how the constraint is enforced, in split-normal and categorical (default: lagrangian)"
    add("--method", choices=mae.METHODS, help=text)
    text = "write to DIR/NAME/ (default: out)"
    add("--out", metavar="DIR", type=Path, default=Path("out"), help=text)
    add("--no-plot", action="store_true", help="no figures")
    options = parser.parse_args(arguments)

    experiment = EXPERIMENTS.get(options.name)
    # a method can be chosen where nothing but the target tells the lines of the table apart
    for name in ("information", "method", *integers):
        applies = experiment and (name != "method" or len(experiment.keys) == 1)
        if getattr(options, name) is not None and not applies:
            parser.error(f"argument --{name}: does not apply to {options.name}")
    if experiment:
        most = min(group.problem.most for group in experiment.groups.values())
        for value in options.information or []:
            if value is not None and value > most + 1e-9:
                parser.error(f"argument --information: {value} is more than x can hold, {most:.7g}")
    return options


def run(name, options):
    """Train, evaluate, print and write one experiment -> its rows."""
    experiment, folder = EXPERIMENTS[name], options.out / name
    chosen = {key: getattr(options, key) for key in ("seed", *USUAL)}
    settings = {"seed": 0, **USUAL, **experiment.settings}
    settings |= {key: value for key, value in chosen.items() if value is not None}
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()  # fails now, not after training, if it has to
    fits, rows = {}, []
    for group_name, (problem, likelihood, models, _) in experiment.groups.items():
        pairs = []
        for method, targets in models.items():
            if method in mae.METHODS:
                method, targets = options.method or method, options.information or targets
            for target in targets:
                free = target is None and method in mae.METHODS
                pairs.append(("vae" if free else method, target))
        progress = show_progress(group_name, settings["steps"])
        methods, targets = zip(*dict.fromkeys(pairs))  # each once
        fits[group_name] = fit = mae.fit(
            problem.data,
            likelihood=likelihood,
            information=targets,
            method=methods,
            progress=progress,
            **settings,
        )
        if progress:
            print("\r" + " " * 78 + "\r", end="", file=sys.stderr)
        rows += rows_of(fit, group_name, problem, experiment.evaluate or evaluate)

    print(table(rows, experiment.keys, experiment.heads))
    for line in warnings(rows, experiment.keys, experiment):
        print(line)
    for fit in fits.values():
        for k in np.flatnonzero(fit.diverged >= 0):
            model = f"{fit.methods[k]}, target {label(fit.targets[k])}, seed {fit.seeds[k]}"
            print(f"WARNING: {model} diverged and was frozen at step {fit.diverged[k]}.")
    files = {"metrics.csv": lambda path: write_metrics(rows, path)}
    named = fits if len(fits) > 1 else {"": fit}
    files["models.npz"] = lambda path: mae.save(path, named)
    if not options.no_plot:
        import figures  # and with it matplotlib, which takes its time

        drawn = getattr(figures, experiment.draw)(fits, rows, experiment)
        files |= {file: figure.savefig for file, figure in drawn.items()}
    write(folder, files)
    return rows


def summary(claims):
    """Each claim of the poster: the number wanted, the number found, holds or not."""
    lines = [["experiment", "claim", "wanted", "found", ""]]
    for name, (claim, wanted, found, holds) in claims:
        lines.append([name, claim, wanted, f"{found:.4f}", "holds" if holds else "DOES NOT HOLD"])
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip() for line in lines)


def main(arguments=None):
    options = parse(arguments)
    if options.name == "scaling":
        return scaling(options.out / "scaling", not options.no_plot)
    if options.name != "all":
        run(options.name, options)
        return
    claims = []
    for name, experiment in EXPERIMENTS.items():
        print(f"\n{name}: {experiment.summary}")
        rows = run(name, options)
        claims += [(name, claim) for claim in experiment.claims(rows)]
    print("\n" + summary(claims))


def stop(status, message):
    """End at once, wherever the run is, with one line on stderr and no temporary file."""
    print("\n" * sys.stderr.isatty() + f"experiments.py: {message}", file=sys.stderr, flush=True)
    for path in UNFINISHED:
        Path(path).unlink(missing_ok=True)
    with contextlib.suppress(OSError, RuntimeError):  # what was printed, unless just being printed
        sys.stdout.flush()
    os._exit(status)  # an exception would be lost, or made another, inside other people's imports


if __name__ == "__main__":
    for number, status, word in [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "ended"),
    ]:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_, end=(status, word): stop(*end))
    try:
        main()
    except (OSError, MemoryError) as error:
        stop(2, f"error: {str(error) or 'out of memory'}")
