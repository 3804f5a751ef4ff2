"""The figures of each experiment, drawn from what a run gives: its fits, rows and problems.

All are one column of a paper wide, in the one style of mae.mplstyle, and say the same in grey.
"""

import io
import itertools
import math
from functools import partial
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

import mae
import problems
import processes
from claims import grouped
from distributions import log_prior
from problems import values

matplotlib.rc_file(Path(__file__).with_name("mae.mplstyle"))  # whatever a user's own settings are
BLUE, RED, ORANGE = "#0072B2", "#D55E00", "#E69F00"
EXACT = "exact information $I(z, x)$ (nats)"
ARROW = {"arrowstyle": "->", "lw": 0.6}


def files(name, given, jobs):
    """{file name: bytes} of the figures of an experiment, spread over the processes."""
    tasks = [partial(drawn, stem, draw, given) for stem, draw in DRAWINGS[name].items()]
    return dict(itertools.chain(*processes.parallel(tasks, jobs)))


def drawn(stem, draw, given, report):
    """(file name, bytes) of one figure, as PNG and as PDF."""
    figure, png, pdf = draw(*given), io.BytesIO(), io.BytesIO()
    figure.savefig(png)
    figure.set_layout_engine(None)  # it is laid out
    figure.savefig(pdf, format="pdf", metadata={"CreationDate": None})
    return (f"{stem}.png", png.getvalue()), (f"{stem}.pdf", pdf.getvalue())


# ----------------------------------------------------------------------- what figures are made of


def shades(n):
    """n colours from dark to light."""
    return matplotlib.colormaps["viridis"](np.linspace(0, 0.85, n))


def blank(height, rows=1, columns=1, **options):
    """A figure one column wide, so many inches high, and its axes, row by row."""
    figure = Figure(figsize=(3.4, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options).ravel()


def finished(axis, ncols=3, title=None, **labels):
    """The figure, its last axes labelled, and what is named in them, each once, above all axes."""
    axis.set(**labels)
    handles, names = axis.get_legend_handles_labels()
    shown = dict(zip(names, handles))
    axis.figure.legend(shown.values(), shown, loc="outside upper center", ncols=ncols, title=title)
    return axis.figure


def named(target):
    return f"$M = {target:.4g}$" if target >= 0 else "VAE"


def first_seed(fits, rows):
    """(group, model, its row) for all models of the first seed."""
    for name, fit in fits.items():
        for model, row in zip(fit, (row for row in rows if row["group"] == name)):
            if model.seeds == fit.seeds[0]:
                yield name, model, row


def per_model(draw, fits, rows, known, height=0.5):
    """A row with I for each model of the first seed: draw(axis, model, problem)."""
    shown = [*first_seed(fits, rows)]
    figure, axes = blank(0.8 + height * len(shown), len(shown), sharex=True)
    for axis, (name, model, row) in zip(axes, shown):
        draw(axis, model, known[name])
        text = f"{name}, " * (len(fits) > 1) + named(model.targets)
        text += f"\n$I = {(row['information_low'] + row['information_high']) / 2:.3f}$ nats"
        if not row["reached"]:
            text += "\nout of reach" if model.targets > known[name].most - 1e-9 else "\nnot reached"
        axis.set_ylabel(text, rotation=0, ha="right", va="center", fontsize=7)
        axis.label_outer()
    return finished(axis)


def note(axis, text, at, offset, **style):
    """A text so many points from a place of the axes."""
    halo = [withStroke(linewidth=2, foreground="w")]  # it may stand on a line
    style = {"ha": "center", "path_effects": halo} | style
    axis.annotate(text, at, offset, textcoords="offset points", **style)


def names_beside(axis, points, line):
    """{name: point}: right of the axes, level with the point but for room for lines of text."""
    axis.autoscale_view()
    at = (axis.transScale + axis.transLimits).transform(np.reshape([*points.values()], (-1, 2)))
    order, room = at[:, 1].argsort(), line * np.arange(len(at))
    free = np.clip(at[order, 1] - room, 0, max(1 - line * (len(at) - 1), 0))
    levels = (np.maximum.accumulate(free) + np.minimum.accumulate(free[::-1])[::-1]) / 2 + room
    lead = {"arrowstyle": "-", "lw": 0.4, "color": "0.7", "relpos": (0, 0.5), "shrinkB": 2}
    for (name, point), level in zip([[*points.items()][i] for i in order], levels):
        axis.annotate(name, point, (1.05, level), textcoords="axes fraction", va="center", zorder=1,
                      arrowprops=lead, annotation_clip=False)  # fmt: skip


NAMES = {"vae": "VAE", "lagrangian": "MAE", "anneal": "KL annealed", "beta": "beta-VAE", "im": "IM"}
NAMES |= {"free": "free bits", "|KL-C|": "|KL - C|", "control": "ControlVAE", "geco": "GECO"}


def human(row, target=""):
    """A method's name for readers, and of its target; one that is not known here keeps its own."""
    head, _, value = row["method"].partition(":")
    return f"{NAMES.get(head, head)} {value}".strip() + target * (row["target"] >= 0)


def marks(axis, rows, name, x, y, line):
    """Every model: black dots the MAE, grey all else, each kind of its own shape; names beside."""
    points, shapes = {}, itertools.cycle("s^vD<>Ppd*hX")
    for kind, own in grouped(rows, name).items():
        points[kind] = [(row[x], row[y]) for row in own]
        shape, color = ("o", "k") if kind.startswith("MAE") else (next(shapes), "0.55")
        axis.plot(*np.transpose(points[kind]), shape, color=color, mec="w", mew=0.3)
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter("{x:g}")
    names_beside(axis, {kind: max(own) for kind, own in points.items()}, line)


def by_place(axis, z, probs, names):
    """p(name|z), (z, names), dark to light by place along z; named where the most probable."""
    means = z @ probs / probs.sum(0)
    for k, color in zip(means.argsort(), shades(len(means))):
        axis.plot(z, probs[:, k], color=color)
        near = np.abs(z - means[k]).argmin()
        if probs[near, k] > 1.1 * np.delete(probs[near], k).max():
            note(axis, names[k], (z[near], probs[near, k]), (0, 4), color=color)


def three_posteriors(shown):
    """{title: (model, rows)}: exact p(z|x) against q and r, for three x along the code."""
    figure, axes = blank(0.6 + 1.1 * len(shown), len(shown), sharex=True)
    for axis, (title, (model, rows)) in zip(axes, shown.items()):
        n, place = len(rows), model.encoder(rows).mean[:, 0].argsort()
        x = rows[place[[n // 10, n // 2, -1 - n // 10]]]
        q, r = model.encoder(x), model.auxiliary(x)
        near = [p.mean + p.std * np.linspace(-6, 6, 201) for p in (q, r)]
        grid = np.unique(np.append(np.linspace(-3.5, 3.5, 701), near))
        z, exact = grid[:, None, None], mae.exact_posterior(model.decoder, x, grid[:, None], 1e-6)
        for density, shade in zip(exact, shades(3)):
            axis.fill_between(grid, density, color=shade, alpha=0.5, lw=0, label="exact $p(z|x)$")
        axis.plot(grid, np.exp(q.log_prob(z)), "k--", label="$q(z|x)$")
        axis.plot(grid, np.exp(r.log_prob(z)), "k:", label="$r(z|x)$")
        if model.q_samples > 1:
            axis.plot(grid, resampled(model, x, z), color=RED, label="$q$, resampled")
        axis.set(title=title, xlim=(-3, 3), ylabel="density")
    return finished(axis, 4, xlabel="$z$")


def resampled(model, x, z, n=1000):
    """What the k draws of q(z|x) are once one is chosen by its weight w = p(x, z) / q(z|x).

    E p(x, z) / mean(w(z), w_2 ... w_k), over n draws of the others.
    """
    q, k, rng = model.encoder(x), model.q_samples, np.random.default_rng(0)
    joint = lambda z: np.exp(model.decoder(z).log_prob(x) + log_prior(z))
    others = q.sample(rng.standard_normal((k - 1, n, 1, len(x), 1)))
    weights = np.sum(joint(others) / np.exp(q.log_prob(others)), 0)  # (n, 1, x)
    p, density = joint(z), np.exp(q.log_prob(z))  # (z, x)
    return np.mean(k * p * density / (p + weights * density), 0)


# ------------------------------------------------------------------------------ the experiments


def mixture(axis, model, problem):
    """p(x|z) p(z) dz for a grid of z, dark to light as x rises; their sum p(x) and the truth.

    No p(x|z) is drawn narrower than the grid of x.
    """
    x, z, dz = np.linspace(*1.5 * problem.rows[[0, -1]], 721), np.linspace(-2.8, 2.8, 15), 0.4
    p = model.decoder(z[:, None, None])
    p = mae.Gaussian(p.mean, np.maximum(p.log_var, 2 * math.log(x[1, 0] - x[0, 0])))
    pieces = np.exp(p.log_prob(x) + log_prior(z[:, None, None])) * dz  # (z, x)
    px = np.exp(mae.exact_log_likelihood(model.decoder, x))
    mean, std = problem.units
    pieces, px, truth = pieces / std, px / std, problem.truth(x) / std
    x = (mean + std * x)[:, 0]
    axis.fill_between(x, px, color="0.9", lw=0)
    for piece, color in zip(pieces[:: 1 if z @ p.mean[:, 0, 0] > 0 else -1], shades(15)):
        axis.plot(x, piece, color=color, lw=0.8, label="$p(x|z)\\,p(z)\\,dz$, by $z$")
    axis.plot(x, px, "k", lw=0.8, label="all $z$: $p(x)$")
    axis.plot(x, truth, "--", color=ORANGE, lw=0.8, label="data")
    axis.set_xlabel((*problem.names, "$x$ (ticks: the same density in every row)")[0])
    axis.set(xlim=x[[0, -1]], ylim=(0, 1.08 * max(truth.max(), pieces.max())))
    axis.set_yticks([float(f"{truth.max():.1g}")])


def categories(axis, model, problem):
    """p(x|z) as functions of z, shaded and numbered by place along z."""
    z = np.linspace(-3.2, 3.2, 641)
    axis.fill_between(z, np.exp(log_prior(z[:, None])), color="0.9", lw=0, label="$p(z)$")
    by_place(axis, z, model.decoder(z[:, None]).probs, problem.names or range(model.features))
    axis.lines[0].set_label("$p(x|z)$ of each $x$, by number or name")
    axis.set(xlabel="$z$", xlim=(z[0], z[-1]), ylim=(-0.03, 1.3), yticks=[0, 1])


def ten_digits(axis, model, problem):
    """Digits decoded from ten codes of the prior."""
    z = np.random.default_rng(0).standard_normal((10, model.latent))
    drawn = model.decoder(z).mean.reshape(10, problems.PIXELS, problems.PIXELS)
    axis.imshow(np.hstack(drawn), vmin=-1, vmax=1)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


split_normal, categorical = partial(per_model, mixture), partial(per_model, categories)
digits = partial(per_model, ten_digits, height=0.35)


def own(fits, rows, known):
    """Data of your own: as the normal, as the categories, or the course of several features."""
    (problem,), (fit,) = known.values(), fits.values()
    if fit.likelihood.discrete or fit.features == 1:
        return (categorical if fit.likelihood.discrete else split_normal)(fits, rows, known)
    models, z, (mean, std) = [*first_seed(fits, rows)], np.linspace(-2.5, 2.5, 201), problem.units
    figure, axes = blank(0.6 + 0.9 * fit.features, fit.features, sharex=True)
    for (_, model, _), color in zip(models, shades(len(models))):
        p = model.decoder(z[:, None])
        curves = (mean + std * p.mean).T, (std * p.std).T
        for axis, name, middle, band in zip(axes, problem.names, *curves):
            axis.fill_between(z, middle - band, middle + band, color=color, alpha=0.2, lw=0)
            axis.plot(z, middle, color=color, label=named(model.targets))
            axis.set(ylabel=name, xlim=(z[0], z[-1]))
    return finished(axis, 4, xlabel="code $z$; band: one standard deviation of $p(x|z)$")


def history(fits, rows, known):
    """While training, by target: means of some steps and over seeds, and the range of the seeds."""
    (fit,) = fits.values()
    middle = (fit.history["lower"] + fit.history["upper"]) / 2
    curves = {"estimate of $I$ (nats)": middle, "ELBO (nats)": fit.history["elbo"]}
    if any(has := fit.methods == "lagrangian"):
        curves["multiplier $\\lambda$"] = np.where(has[:, None], fit.history["multiplier"], np.nan)
    targets, steps = np.nan_to_num(fit.targets, nan=-1), middle.shape[1]
    distinct, edges = np.unique(targets), np.linspace(0, steps, min(steps, 160) + 1).astype(int)
    figure, axes = blank(0.5 + 1.4 * len(curves), len(curves), sharex=True)
    for axis, (text, curve) in zip(axes, curves.items()):
        axis.axvspan(0, mae.RAMP * steps * (distinct[-1] > 0), color="0.93", lw=0)
        axis.set(ylabel=text, xlim=(0, steps))
        x, y = (edges[:-1] + edges[1:]) / 2, np.add.reduceat(curve, edges[:-1], 1) / np.diff(edges)
        for target, color in zip(distinct, shades(len(distinct))):
            seeds = y[targets == target]
            if np.isfinite(seeds).any():  # the method has a multiplier
                axis.fill_between(x, seeds.min(0), seeds.max(0), color=color, alpha=0.3, lw=0)
                axis.plot(x, seeds.mean(0), color=color)
    ends = [line.get_xydata()[-1] for line in axes[0].lines]
    names_beside(axes[0], dict(zip(map(named, distinct), ends)), 0.11)
    return finished(axis, xlabel="training step; grey: the target rises")


def likelihood(fits, rows, known):
    """Log-likelihood against information: all models, and a line through the best per target."""
    figure, (axis,) = blank(2.6)
    grid = np.linspace(0, 2.1, 201)
    (curve,) = axis.plot(grid, problems.restricted_curve(grid), ":k")
    ends = {"linear mean,\nclosed form": curve.get_xydata()[-1]}
    point = lambda row: (row["information"], row["log_likelihood"])
    for name, line, color in (("expressive", "--", BLUE), ("restricted", "-", RED)):
        own = sorted((row for row in rows if row["group"] == name), key=lambda row: point(row)[1])
        best = {problems.label(row["target"]): point(row) for row in own}  # the last, of each
        axis.plot(*zip(*map(point, own)), ".", color=color)
        if vae := best.pop("none", None):
            axis.plot(*vae, "*", color=color, ms=8, mec="k", mew=0.4, zorder=3)
            note(axis, "VAE", vae, (0, 5))
        axis.plot(*np.reshape(sorted(best.values()), (-1, 2)).T, line, color=color)
        ends[f"{name}\ndecoder"] = max(map(point, own))
    names_beside(axis, ends, 0.16)
    return finished(axis, xlabel=EXACT, ylabel="log-likelihood (nats)")


def sequences(fits, rows, known):
    """Information against KL for every model, a line for the MAE."""
    names = lambda row: (
        human(row, ", by $M$") if row["group"] == "causal" else f"VAE, {row['group']}"
    )
    figure, (axis,) = blank(2.8)
    marks(axis, rows, names, "information", "below_optimum", 0.07)
    middle = lambda own: (values(own, "information").mean(), values(own, "below_optimum").mean())
    asked = grouped([row for row in rows if row["target"] >= 0], lambda row: row["target"])
    for target, own in asked.items():
        note(axis, f"{target:g}", middle(own), (9, -8))
    axis.plot(*np.reshape([*map(middle, asked.values())], (-1, 2)).T, "k-")
    note(axis, "better", (0.15, 0.75), (0, 35), xycoords="axes fraction", arrowprops=ARROW)
    return finished(axis, xlabel=EXACT, ylabel="KL(true $p(x)$ || model) (nats)")


def strings(fits, rows, known):
    """p(prototype | z) along the code."""
    wanted, fit = problems.I_PROTOTYPE, fits["causal"]
    model = fit[np.argmax(np.where(fit.targets <= wanted, fit.targets, -1))]  # nearest, from below
    figure, (axis,) = blank(2)
    z = np.linspace(-2, 2, 81)
    posterior = problems.GIVEN_PROTOTYPE / problems.GIVEN_PROTOTYPE.sum(0)
    names = ["".join(map(str, prototype)) for prototype in problems.PROTOTYPES]
    by_place(axis, z, model.decoder(z[:, None]).probs @ posterior.T, names)
    axis.set_ylim(0, 1.15)
    return finished(axis, xlabel=f"code $z$ ({named(model.targets)})", ylabel="p(prototype | z)")


def methods(fits, rows, known):
    """ELBO lost, of the best that there is, against rate: what each method pays for what."""
    least, names = 1e-4, lambda row: human(row, f", {named(row['target'])}")
    height = 0.12 * len({*map(names, rows)})
    figure, axes = blank(0.3 + len(fits) * (height + 0.7), len(fits))
    for axis, group in zip(axes, fits):
        lost = lambda row: {"lost": max(known[group].optimum - row["elbo"], least)}
        own = [row | lost(row) for row in rows if row["group"] == group]
        marks(axis, own, names, "rate", "lost", 0.115 / height)
        axis.yaxis.set_major_formatter(lambda y, _: f"{y:g}" if y > least else f"≤ {least:g}")
        axis.set(title=group, ylabel="ELBO lost (nats)")
    return finished(axis, xlabel="rate, KL[$q(z|x)$ || $p(z)$] (nats)")


def faces(fits, rows, known):
    """Decoded faces over a grid of codes; the codes of the data, shaded by each factor."""
    models = [model for _, model, _ in first_seed(fits, rows)]
    truth = problems.factors(np.random.default_rng(0), 300)
    codes = np.array([model.encoder(problems.draw_faces(truth)).mean for model in models])
    most = 1.05 * np.abs(codes).max()
    grid = np.linspace(-1.8, 1.8, 7)
    z = np.stack(np.meshgrid(grid, -grid), -1)
    figure, axes = blank(0.5 + 1.25 * len(models), len(models), 3, width_ratios=[3, 2, 2])
    for row, model, code in zip(axes.reshape(-1, 3), models, codes):
        drawn = model.decoder(z).mean.reshape(7, 7, problems.SIDE, -1).swapaxes(1, 2)
        drawn = drawn.reshape(7 * problems.SIDE, -1)
        row[0].imshow(drawn, vmin=-1, vmax=1, extent=(-2.1, 2.1, -2.1, 2.1))
        for axis, factor in zip(row[1:], truth.T):
            axis.scatter(*code.T, s=3, lw=0, cmap="viridis", c=factor, vmin=-1, vmax=1.35)
            axis.set(aspect="equal", anchor="N", xlim=(-most, most), ylim=(-most, most))
        for axis in row:
            axis.set(xlabel="first code", ylabel=f"{named(model.targets)}\nsecond code")
            axis.set(xticks=[-2, 0, 2], yticks=[-2, 0, 2])
            axis.label_outer()
    titles = "decoded faces", "codes: angle\n(dark is right)", "codes: emotion\n(dark is sad)"
    for axis, title in zip(axes, titles):
        axis.set_title(title, fontsize=7)
    return figure


def posteriors(fits, rows, known):
    """The posteriors of the first and the last target, on a line and on categories."""
    shown = {}
    for name in "two clusters, bound alone", "ten categories, bound alone":
        for k in sorted({0, len(fits[name]) - 1}):
            row = [row for row in rows if row["group"] == name][k]
            title = (
                f"{name.partition(',')[0]}, {named(row['target'])}: $I = {row['information']:.3f}$"
            )
            title += f", bound {round(row['infomax_bound'], 3) + 0:.3f} nats"
            shown[title] = fits[name][k], known[name].rows
    return three_posteriors(shown)


def had(rows):
    """M, and I of each row: the middle of the interval that it is known to lie in, and its half."""
    target, low, high = (
        values(rows, column) for column in ("target", "information_low", "information_high")
    )
    return target, (low + high) / 2, (high - low) / 2


def by_training(rows):
    """(models of the MAE, style with a label): by the bound alone, and from both sides."""
    rows = [row for row in rows if row["method"] == "lagrangian"]
    for text, style in (("the bound alone", {"mfc": "w"}), ("both sides", {})):
        own = [row for row in rows if (row["r_samples"] == 0) == bool(style)]
        reached = f"{text}: {values(own, 'reached').sum()} of {len(own)} reached"
        yield own, style | {"fmt": "ok", "label": reached}


def information(fits, rows, known):
    """I - M by the bound alone and from both sides, a line for each kind of data and each M."""
    name = lambda row: f"{row['group'].partition(',')[0]}, {named(row['target'])}"
    lines, ticks = [*grouped(rows, name)], [-1, -0.1, 0, 0.1, 1]
    figure, (axis,) = blank(0.8 + 0.13 * len(lines))
    axis.axvspan(-problems.REACHED, problems.REACHED, color="0.88", lw=0)
    for own, style in by_training(rows):
        target, middle, half = had(own)
        places = [lines.index(name(row)) for row in own]
        axis.errorbar(middle - target, places, xerr=half, **style)
    axis.set_xscale("symlog", linthresh=problems.REACHED)
    axis.set(xticks=ticks, xticklabels=ticks, xlim=axis.get_xlim())
    axis.set(yticks=range(len(lines)), yticklabels=lines, ylim=(len(lines) - 0.5, -0.5))
    return finished(axis, 1, "trained by", xlabel="$I(z, x) - M$ (nats); grey: ± 0.02")


def summary(rows):
    """I against M for every model of the MAE of every experiment."""
    figure, (axis,) = blank(2.9)
    axis.axline((0, 0), slope=1, color="0.7", zorder=0)
    for own, style in by_training(rows):
        target, middle, half = had(own)
        axis.errorbar(target, middle, yerr=half, **style)
    labels = {"xlabel": "asked for: $M$ (nats)", "ylabel": "had: $I(z, x)$ (nats)"}
    return finished(axis, 1, "trained by", **labels)


def scaling(rows):
    """Seconds against each of the four, and what growing in proportion would be."""
    figure, axes = blank(3.2, 2, 2, sharey=True)
    for axis, (what, own) in zip(axes, grouped(rows, lambda row: row["grows"]).items()):
        x, y = values(own, "value"), values(own, "seconds")
        if what == "r_samples":  # of which there may be none
            x, what = x + 1, "r_samples + 1"
        axis.loglog(x, y, "ok-", label="measured")
        axis.loglog(x, y[-1] * x / x[-1], "--", color="0.5", label="in proportion")
        axis.minorticks_off()
        axis.set_xticks(x, map("{:g}".format, x))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.set(xlabel=what, ylabel="seconds")
    return finished(axis)


# ------------------------------------------------------------------ of the reviewers' questions


def trace(fits, rows):
    """The estimates along training, of the first seed, against what is exact."""
    rows = [row for row in rows if row["question"] == 1 and row["seed"] == rows[0]["seed"]]
    models = grouped(rows, lambda row: (row["setting"].partition(",")[0], row["target"]))
    figure, axes = blank(4.6, len(models), sharex=True)
    for axis, ((name, target), own) in zip(axes, models.items()):
        of = lambda column: (values(own, "step"), values(own, column))
        axis.axhline(target, color="0.75", lw=0.8)
        axis.plot(*of("estimate"), "o", ms=2.5, color=ORANGE, label="$I$, estimated")
        axis.plot(*of("information"), color=BLUE, label="$I$, exact")
        axis.plot(*of("sampled_bound"), "x", ms=3, mew=0.7, color="0.35", label="bound, sampled")
        axis.plot(*of("infomax_bound"), "--", color=RED, label="bound, exact")
        axis.set_title(f"{name}, M = {target:g}", loc="left")
    figure.supylabel("nats")
    return finished(axis, 2, xlabel="training step")


def encoders(fits, rows):
    """The posteriors at M = 2, with an encoder trained with one draw, and with fifty."""
    two = lambda fit: fit[np.argmax(fit.targets == 2)]
    fits = {k: two(fits[f"{k} draws"]) for k in (1, 50)}
    return three_posteriors({f"encoder of k = {k}": (fits[k], np.eye(10)) for k in fits})


def read_back(fits, rows):
    """Strings and bits read back, ELBO and likelihood against the exact I, of every model."""
    causal = lambda row: row["setting"].startswith("causal")
    name = lambda row: human(row) if causal(row) else f"VAE, {row['setting']}"
    models = grouped([row for row in rows if row["question"] == 9], name)
    figure, (above, below) = blank(4.2, 2, sharex=True)
    filled, opened = {"color": BLUE}, {"color": RED, "mfc": "w", "ls": "--"}
    for axis, column, style in (
        (above, "strings", filled), (above, "bits", opened),
        (below, "elbo", filled), (below, "log_likelihood", opened),
    ):  # fmt: skip
        for (name, own), mark in zip(models.items(), "*PvosX"):
            line = {"ls": "-"} | style if name == "MAE" else style | {"ls": ""}
            axis.plot(values(own, "information"), values(own, column), mark, label=name, **line)
    for at, text in (problems.I_PROTOTYPE, "prototype "), (-problems.SEQUENCES.optimum, "$H(x)$ "):
        above.text(at, 0.02, text, rotation=90, ha="right", color="0.3")
        for axis in above, below:
            axis.axvline(at, color="0.6", lw=0.8, ls=":")
    above.set(ylabel="share right\nfilled: strings, open: bits", ylim=(0, 1.05))
    return finished(below, xlabel=EXACT, ylabel="nats\nfilled: ELBO, open: log-likelihood")


DRAWINGS = {  # of an experiment: {name: what draws it}
    "split-normal": {"figure": split_normal, "history": history},
    "categorical": {"figure": categorical, "history": history},
    "own": {"figure": own, "history": history},
    "likelihood": {"figure": likelihood},
    "sequences": {"figure": sequences, "strings": strings},
    "methods": {"figure": methods},
    "faces": {"figure": faces},
    "digits": {"figure": digits},
    "information": {"figure": information, "posteriors": posteriors},
    "questions": {"questions-trace": trace, "questions-posteriors": encoders,
                  "questions-targets": read_back},
    "all": {"figure": summary},
    "scaling": {"figure": scaling},
}  # fmt: skip
