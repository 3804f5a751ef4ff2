"""The poster's experiments: `python experiments.py NAME` trains, prints a table, draws figures."""

import argparse
import csv
import math
import os
import sys
import time
from pathlib import Path
from statistics import NormalDist
from typing import Callable, NamedTuple

# The matrices are small: a second BLAS thread costs more than it brings. A user's own setting wins.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import mae
import nets
from quadrature import integrate

# A target counts as reached if the exact bound is this near to it, and the exact information, which
# lies above the bound by the mismatch of r, this near.
BOUND_REACHED, INFORMATION_REACHED = 0.01, 0.06  # nats
LIKELIHOOD_KEPT = 0.01  # nats below the optimum that need no warning


class Experiment(NamedTuple):
    """An experiment is data, likelihood and targets, what is true of them, and a drawing."""

    summary: str
    data: object  # array or callable(rng, n), as mae.fit takes it
    likelihood: str
    information: tuple  # default targets
    optimum: float  # the best possible mean log-likelihood, -H(x)
    ceiling: float  # the highest infomax bound that a Gaussian r can give
    rows: np.ndarray  # a sample of the data, for the encoder's information
    data_mean: Callable  # values(x) -> means over the true distribution, error
    draw: Callable  # (one-model fits, their labels) -> Figure


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


def draw_split_normal(models, labels):
    """Each row: p(x|z) p(z) dz for a grid of z, coloured by z; p(x) against the truth."""
    from matplotlib.collections import LineCollection

    x, z, dz = np.linspace(-3.6, 3.6, 721), np.linspace(-2.8, 2.8, 15), 0.4
    figure, axes = figure_of_rows(labels)
    for axis, model in zip(axes, models):
        p = model.decoder(z[:, None])
        density = mae.Gaussian(p.mean[:, None], p.log_var[:, None]).log_prob(x[:, None])  # (z, x)
        pieces = np.exp(density - 0.5 * (z[:, None] ** 2 + nets.LOG_2PI)) * dz
        lines = LineCollection([np.column_stack([x, piece]) for piece in pieces], lw=0.9)
        lines.set(array=z, cmap="viridis")
        axis.add_collection(lines)
        axis.plot(x[::3], np.exp(mae.exact_log_likelihood(model.decoder, x[::3, None])), "k", lw=1)
        axis.plot(x, np.exp(-0.5 * x**2) / math.sqrt(2 * math.pi), "--", color="tab:red", lw=1)
        axis.set(xlim=(x[0], x[-1]), ylim=(0, 1.08 * max(0.4, pieces.max())), yticks=[])
    axes[-1].set_xlabel("$x$")
    handles = [lines, *axes[-1].lines]
    names = ["$p(x|z)\\,p(z)\\,dz$ for each $z$", "all $z$: $p(x)$", "truth, $N(0, 1)$"]
    figure.legend(handles, names, loc="outside upper center", ncols=3, frameon=False)
    figure.colorbar(lines, ax=axes, label="$z$", aspect=60, pad=0.02)
    return figure


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


def draw_categorical(models, labels):
    """Each row: the ten p(x|z) as functions of z, and the true p(x)."""
    z = np.linspace(-3.2, 3.2, 641)
    figure, axes = figure_of_rows(labels)
    for axis, model in zip(axes, models):
        lines = axis.plot(z, model.decoder(z[:, None]).probs, lw=1.2)
        lines += axis.plot(z, np.full_like(z, 0.1), "--", color="0.4", lw=1)
        axis.set(xlim=(z[0], z[-1]), ylim=(-0.03, 1.05), yticks=[0, 1])
    axes[-1].set_xlabel("$z$")
    names = [*map(str, range(10)), "true $p(x)$"]
    title = "$p(x|z)$ for each $x$"
    figure.legend(
        lines,
        names,
        loc="outside upper center",
        ncols=11,
        frameon=False,
        title=title,
        handlelength=1,
        columnspacing=0.9,
        fontsize=8,
    )
    return figure


EXPERIMENTS = {
    "split-normal": Experiment(
        summary="x ~ N(0, 1): a normal learnt as an infinite mixture of normals (Figure 6)",
        data=standard_normal,
        likelihood="gaussian",
        information=(None, 0.4, 0.8, 1.2, 1.6, 2.0, 2.5, 3.0),
        optimum=-mae.prior_entropy(),
        ceiling=math.inf,
        rows=np.array([[NormalDist().inv_cdf((i + 0.5) / 64)] for i in range(64)]),
        data_mean=standard_normal_mean,
        draw=draw_split_normal,
    ),
    "categorical": Experiment(
        summary="x uniform on ten values, softmax decoder (Figure 5)",
        data=TEN,
        likelihood="categorical",
        information=(None, 0.5, 1.0, 1.5, 2.0, math.log(10)),
        optimum=-math.log(10),
        ceiling=categorical_ceiling(10),
        rows=TEN,
        data_mean=categorical_mean,
        draw=draw_categorical,
    ),
}

# ------------------------------------------------------------------------------- exact evaluation

COLUMNS = ["method", "target", "seed", "information", "infomax_bound", "encoder_information"]
COLUMNS += ["log_likelihood", "elbo", "quadrature_error", "reached"]


def evaluate(model, experiment):
    """The exact values of one model, a row of metrics.csv; nan where quadrature fails."""

    def given(x):
        log_p, log_p_error = mae.exact_log_likelihood(model.decoder, x, with_error=True)
        bound, bound_error = mae.exact_elbo(model.encoder, model.decoder, x, with_error=True)
        return log_p, bound, log_p_error + bound_error

    unconstrained = math.isnan(model.targets)
    row = dict(zip(COLUMNS, ["vae" if unconstrained else str(model.methods), float(model.targets)]))
    row["seed"] = int(model.seeds)
    try:
        (log_p, elbo, inner_error), outer_error = experiment.data_mean(given)
        (information, bound), error = mae.exact_information_and_bound(
            model.decoder, model.auxiliary, with_error=True
        )
        encoder_information, encoder_error = mae.exact_encoder_information(
            model.encoder, experiment.rows, with_error=True
        )
        values = information, bound, encoder_information, log_p, elbo
        error = max(error, encoder_error, inner_error + outer_error)
    except mae.QuadratureError:
        values, error = [math.nan] * 5, math.inf
    row |= zip(COLUMNS[3:9], map(float, [*values, error]))
    bound_gap = abs(row["infomax_bound"] - row["target"])
    information_gap = abs(row["information"] - row["target"])
    row["reached"] = model.diverged < 0 and (
        (unconstrained and math.isfinite(row["information"]))
        or (bound_gap <= BOUND_REACHED and information_gap <= INFORMATION_REACHED)
    )
    return row


# ----------------------------------------------------------------------------------------- output


def label(target):
    return "none" if math.isnan(target) else f"{target:.7g}"


def by_target(rows):
    """{label: rows}, in the order of the targets."""
    groups = {}
    for row in rows:
        groups.setdefault(label(row["target"]), []).append(row)
    return groups


def table(rows, optimum):
    """One line per target: mean over seeds, ± half their range."""
    heads = ["information", "infomax bound", "log-likelihood", "below optimum", "ELBO"]
    lines = [["target", *heads, "reached"]]
    for name, group in by_target(rows).items():
        log_p = np.array([row["log_likelihood"] for row in group])
        columns = [[row[name] for row in group] for name in ("information", "infomax_bound")]
        columns += [log_p, optimum - log_p, [row["elbo"] for row in group]]
        cells = [f"{np.mean(c).round(4) + 0:.4f} ± {np.ptp(c) / 2:.4f}" for c in columns]
        lines.append([name, *cells, f"{sum(row['reached'] for row in group)} of {len(group)}"])
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(c.rjust(w) for c, w in zip(line, widths)) for line in lines)


def shortfalls(rows, optimum, ceiling):
    """For each target that some model did not reach: what was wanted, what was had, and why."""
    for name, group in by_target(rows).items():
        short = optimum - min(row["log_likelihood"] for row in group)
        if short > LIKELIHOOD_KEPT:
            yield f"WARNING: target {name}: log-likelihood up to {short:.4f} nats below optimum."
        missed = [row for row in group if not row["reached"]]
        if not missed:
            continue
        best = max(missed, key=lambda row: row["infomax_bound"])
        yield (
            f"WARNING: target {name} was not reached by {len(missed)} of {len(group)} models; best "
            f"of these: certified (infomax bound) {best['infomax_bound']:.4f}, exact information "
            f"{best['information']:.4f} nats."
        )
        if best["target"] > ceiling:
            yield (
                f"  Why: r(z|x) is Gaussian, and no Gaussian can certify more than {ceiling:.4f} "
                f"nats on this data, whatever the information is."
            )


def write_metrics(rows, path):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in rows:
            row = row | {"reached": str(row["reached"]).lower()}
            if math.isnan(row["target"]):
                row["target"] = ""
            writer.writerow([row[column] for column in COLUMNS])


def figure_of_rows(labels):
    """A figure, one paper column wide, with a labelled row of axes per model."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 0.9 + 0.8 * len(labels)), dpi=150, layout="constrained")
    axes = figure.subplots(len(labels), sharex=True, squeeze=False)[:, 0]
    for axis, text in zip(axes, labels):
        axis.set_ylabel(text, rotation=0, ha="right", va="center", fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def draw_history(fit, optimum):
    """Bound against target, ELBO and multiplier while training, as means of 25 steps."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 6), dpi=150, layout="constrained")
    axes = figure.subplots(3, sharex=True)
    targets = list(dict.fromkeys(map(label, fit.targets)))
    colors = colormaps["viridis"](np.linspace(0, 0.92, len(targets)))
    for k, (target, seed) in enumerate(zip(fit.targets, fit.seeds)):
        color = colors[targets.index(label(target))]
        first = seed == fit.seeds[0]
        for axis, name in zip(axes, ("infomax_bound", "elbo", "multiplier")):
            blocks = np.array_split(fit.history[name][k], max(fit.history[name].shape[1] // 25, 1))
            middles = (np.arange(len(blocks)) + 0.5) * len(fit.history[name][k]) / len(blocks)
            means = [block.mean() for block in blocks]
            axis.plot(middles, means, color=color, lw=0.7, label=label(target) if first else None)
        if first and not math.isnan(target):
            axes[0].plot(fit.history["target"][k], "--", color=color, lw=0.7)
    axes[0].set_ylabel("infomax bound (nats),\ntarget dashed")
    axes[1].set_ylabel("ELBO (nats)")
    axes[1].axhline(optimum, color="0.4", ls="--", lw=0.8)
    axes[1].set_ylim(optimum - 0.3, optimum + 0.1)
    axes[2].set_ylabel("multiplier $\\lambda$")
    axes[2].set_xlabel("training step")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5,
                  frameon=False, title="target $M$ (nats)", fontsize=8)  # fmt: skip
    return figure


def show_progress(steps):
    """A callback for mae.fit that keeps one line on the terminal, or None where there is none."""
    if not sys.stderr.isatty():
        return None
    start = time.perf_counter()

    def show(done, gap):
        left = (time.perf_counter() - start) * (steps / max(done, 1) - 1)
        line = f"step {done:.0f}/{steps}  worst |bound - target| {gap:.3f}  {left:.0f} s left"
        print(f"\r{line:<70}", end="", file=sys.stderr, flush=True)

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
    lines, common = [], min(seconds() for _ in range(3)) / 400
    for what, values in CURVES.items():
        for value in values:
            taken = min(seconds(**{what: value}) for _ in range(3))
            per_step = taken / (value if what == "steps" else 400)
            lines.append([what, value, taken, 1e3 * per_step, per_step / common])
            print("{:>8}{:>7}{:>9.3f}{:>9.3f}{:>8.2f}".format(*lines[-1]))

    def save(path):
        with open(path, "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows(
                [["grows", "value", "seconds", "ms_per_step", "relative_step"], *lines]
            )

    write(folder / "metrics.csv", save)
    if plot:
        write(folder / "figure.png", draw_scaling(lines).savefig)


def draw_scaling(lines):
    """Seconds against each of the three, and what growing in proportion would be."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 2.6), dpi=150, layout="constrained")
    for axis, what in zip(figure.subplots(1, len(CURVES), sharey=True), CURVES):
        x, y = np.array([line[1:3] for line in lines if line[0] == what]).T
        axis.loglog(x, y, "o-", ms=4, label="measured")
        axis.loglog(x, y[-1] * x / x[-1], "--", color="0.5", lw=1, label="in proportion")
        axis.set_xlabel(what)
        axis.set_xticks(x, [f"{value:.0f}" for value in x])
        axis.minorticks_off()
    figure.axes[0].set_ylabel("seconds")
    figure.axes[0].legend(frameon=False, fontsize=8)
    return figure


# ------------------------------------------------------------------------------------ command line


def target(text):
    """A target on the command line: a number of nats, or "none"."""
    if text == "none":
        return None
    value = float(text)
    if not 0 <= value < math.inf:
        raise ValueError
    return value


def at_least(lowest):
    def integer(text):
        value = int(text)
        if value < lowest:
            raise ValueError
        return value

    integer.__name__ = f"integer >= {lowest}"
    return integer


target.__name__ = "target (nats >= 0, or none)"


def parse(arguments):
    summaries = {name: experiment.summary for name, experiment in EXPERIMENTS.items()}
    summaries["scaling"] = SCALING
    parser = argparse.ArgumentParser(
        usage="python experiments.py NAME [options]",
        description=__doc__,
        epilog="\n".join(
            ["experiments:", *(f"  {name:14}{text}" for name, text in summaries.items())]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("name", metavar="NAME", choices=summaries, help="the experiment, see below; comes first")
    targets = "targets for I(z, x) in nats; none: no constraint, a VAE (default: the README's rows)"
    add("--information", metavar="M", type=target, nargs="+", help=targets)
    integers = {
        "seeds": ("N", 1, 4, "models per target"),
        "seed": ("S", 0, 0, "the first one's seed"),
        "steps": ("T", 1, 4000, "training steps"),
        "batch": ("B", 1, 128, "examples per step"),
        "hidden": ("H", 1, 16, "hidden units per network"),
    }
    for name, (metavar, lowest, default, text) in integers.items():
        text = f"{text} (default: {default})"
        add(f"--{name}", metavar=metavar, type=at_least(lowest), default=default, help=text)
    text = "how the constraint is enforced (default: lagrangian)"
    add("--method", choices=mae.METHODS, default="lagrangian", help=text)
    text = "write to DIR/NAME/ (default: out)"
    add("--out", metavar="DIR", type=Path, default=Path("out"), help=text)
    add("--no-plot", action="store_true", help="no figures")
    options = parser.parse_args(arguments)
    for name in ("information", "method", *integers):
        if options.name == "scaling" and getattr(options, name) != parser.get_default(name):
            parser.error(f"--{name} does not apply to scaling")
    return options


def main(arguments=None):
    options = parse(arguments)
    folder = options.out / options.name
    folder.mkdir(parents=True, exist_ok=True)
    if options.name == "scaling":
        return scaling(folder, not options.no_plot)
    experiment = EXPERIMENTS[options.name]
    progress = show_progress(options.steps)
    fit = mae.fit(
        experiment.data,
        likelihood=experiment.likelihood,
        information=options.information or experiment.information,
        seeds=options.seeds,
        seed=options.seed,
        steps=options.steps,
        batch=options.batch,
        hidden=options.hidden,
        method=options.method,
        progress=progress,
    )
    if progress:
        print("\r" + " " * 70 + "\r", end="", file=sys.stderr)
    rows = [evaluate(fit[k], experiment) for k in range(len(fit))]
    print(table(rows, experiment.optimum))
    for line in shortfalls(rows, experiment.optimum, experiment.ceiling):
        print(line)
    for k in np.flatnonzero(fit.diverged >= 0):
        name = f"target {label(fit.targets[k])}, seed {fit.seeds[k]}"
        print(f"WARNING: {name} diverged and was frozen at step {fit.diverged[k]}.")

    write(folder / "metrics.csv", lambda path: write_metrics(rows, path))
    write(folder / "models.npz", fit.save)
    if not options.no_plot:
        first = [k for k in range(len(fit)) if fit.seeds[k] == options.seed]
        labels = [row_label(rows[k]) for k in first]
        write(folder / "figure.png", experiment.draw([fit[k] for k in first], labels).savefig)
        write(folder / "history.png", draw_history(fit, experiment.optimum).savefig)


def write(path, save):
    """Save under a temporary name, then rename: never half a file."""
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        save(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    print(path)


def row_label(row):
    wanted = "VAE" if math.isnan(row["target"]) else f"$M = {row['target']:.3g}$"
    return f"{wanted}\n$I = {row['information']:.3f}$"


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("experiments.py: interrupted", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        print(f"experiments.py: error: {error}", file=sys.stderr)
        sys.exit(2)
