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
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image  # which matplotlib brings with it

import mae
import problems
import processes
from distributions import log_prior

matplotlib.rc_file(Path(__file__).with_name("mae.mplstyle"))  # whatever a user's own settings are
SHADES = lambda n: matplotlib.colormaps["viridis"](np.linspace(0, 0.85, n))  # dark to light
ABOVE = {"loc": "outside upper center"}  # a legend
ARROW = {"arrowstyle": "->", "lw": 0.6}


def blank(height, rows=1, columns=1, **options):
    """A figure one column wide, so many inches high, and its axes, (rows, columns)."""
    figure = Figure(figsize=(3.4, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def files(name, given, jobs):
    """{file name: bytes} of the figures of an experiment, spread over the processes."""
    tasks = [lambda report, draw=draw: both(draw(*given)) for draw in DRAWINGS[name].values()]
    saved = zip(DRAWINGS[name], processes.parallel(tasks, jobs))
    return {f"{stem}.{kind}": data for stem, own in saved for kind, data in own.items()}


def both(figure):
    """The bytes as PNG and as PDF."""
    png = to_png(figure)
    figure.set_layout_engine(None)  # it is laid out
    figure.savefig(pdf := io.BytesIO(), format="pdf", metadata={"CreationDate": None})
    return {"png": png, "pdf": pdf.getvalue()}


def to_png(figure):
    """In 256 colours, near enough, which takes a third of the bytes."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    image.quantize(256, kmeans=1000).save(png := io.BytesIO(), "PNG", optimize=True)
    return png.getvalue()


def named(target):
    return f"$M = {target:.4g}$" if target >= 0 else "VAE"


def first_seed(fits, rows):
    """(group, model, its row) for all models of the first seed."""
    for name, fit in fits.items():
        own = [row for row in rows if row["group"] == name]
        yield from ((name, fit[k], own[k]) for k in np.flatnonzero(fit.seeds == fit.seeds[0]))


def row_per_model(fits, rows, known, height=0.5):
    """A figure, and (axis, model) in it: a labelled row per model of the first seed."""
    shown = [*first_seed(fits, rows)]
    figure, axes = blank(0.8 + height * len(shown), len(shown), sharex=True)
    for axis, (name, model, row) in zip(axes[:, 0], shown):
        text = f"{name}, " * (len(fits) > 1) + named(model.targets)
        text += f"\n$I = {(row['information_low'] + row['information_high']) / 2:.3f}$ nats"
        if not row["reached"]:
            text += "\nout of reach" if model.targets > known[name].most - 1e-9 else "\nnot reached"
        axis.set_ylabel(text, rotation=0, ha="right", va="center", fontsize=7)
    return figure, [(axis, model) for axis, (_, model, _) in zip(axes[:, 0], shown)]


def note(axis, text, at, offset, **style):
    """A text so many points from a place of the axes."""
    axis.annotate(text, at, offset, textcoords="offset points", **{"ha": "center"} | style)


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


def mixture(axis, model, x, truth):
    """p(x|z) p(z) dz for a grid of z, dark to light as x rises; their sum p(x) and the truth.

    No p(x|z) is drawn narrower than the grid of x. -> the height of the highest curve
    """
    z, dz = np.linspace(-2.8, 2.8, 15), 0.4
    p = model.decoder(z[:, None])
    width = np.maximum(p.log_var, 2 * math.log(x[1] - x[0]))
    density = mae.Gaussian(p.mean[:, None], width[:, None]).log_prob(x[:, None])  # (z, x)
    pieces = np.exp(density + log_prior(z[:, None])[:, None]) * dz
    px = np.exp(mae.exact_log_likelihood(model.decoder, x[::3, None]))
    axis.fill_between(x[::3], px, color="0.9", lw=0)
    for piece, color in zip(pieces[:: 1 if z @ p.mean[:, 0] > 0 else -1], SHADES(15)):
        axis.plot(x, piece, color=color, lw=0.8)
    axis.plot(x[::3], px, "k", lw=0.8)
    axis.plot(x, truth, "--", color="#E69F00", lw=0.8)
    return max(truth.max(), pieces.max())


def split_normal(fits, rows, known):
    """Each row: p(x|z) p(z) dz for a grid of z, coloured by z; p(x) against the truth."""
    (problem,) = known.values()
    x = np.linspace(*1.5 * problem.rows[[0, -1], 0], 721)
    truth = problem.truth(x[:, None])
    figure, pairs = row_per_model(fits, rows, known)
    for axis, model in pairs:
        top = mixture(axis, model, x, truth)
        axis.set(xlim=(x[0], x[-1]), ylim=(0, 1.08 * top), yticks=[float(f"{truth.max():.1g}")])
    in_units(axis.xaxis, problem, 0)
    axis.set_xlabel((*problem.names, "$x$ (ticks: the same density in every row)")[0])
    *curves, total, true = axis.lines
    names = "$p(x|z)\\,p(z)\\,dz$, by $z$", "all $z$: $p(x)$", "truth"
    figure.legend([curves[7], total, true], names, ncols=3, **ABOVE)
    return figure


def categorical(fits, rows, known):
    """Each row: p(x|z) as functions of z, shaded and numbered by place along z."""
    z = np.linspace(-3.2, 3.2, 641)
    figure, pairs = row_per_model(fits, rows, known)
    for axis, model in pairs:
        axis.fill_between(z, np.exp(log_prior(z[:, None])), color="0.9", lw=0)
        probs, (problem,) = model.decoder(z[:, None]).probs, known.values()
        by_place(axis, z, dict(zip(problem.names or range(probs.shape[1]), probs.T)))
        axis.set(xlim=(z[0], z[-1]), ylim=(-0.03, 1.3), yticks=[0, 1])
    axis.set_xlabel("$z$")
    figure.suptitle("$p(x|z)$ for each $x$, by number or name; shaded: $p(z)$", fontsize=8)
    return figure


def by_place(axis, z, probs):
    """{name: p(name|z)}, dark to light by place along z; named where no other is as probable."""
    p = np.array([*probs.values()])  # (name, z)
    means = p @ z / p.sum(1)
    for k, color in zip(means.argsort(), SHADES(len(p))):
        axis.plot(z, p[k], color=color)
        near = np.abs(z - means[k]).argmin()
        if p[k, near] > 1.1 * np.delete(p[:, near], k).max():
            note(axis, [*probs][k], (z[near], p[k, near]), (0, 4), color=color)


def own(fits, rows, known):
    """Data of your own: as the normal, as the categories, or the course of several features."""
    (problem,), (fit,) = known.values(), fits.values()
    if fit.likelihood.discrete or fit.features == 1:
        return (categorical if fit.likelihood.discrete else split_normal)(fits, rows, known)
    models, z = [*first_seed(fits, rows)], np.linspace(-2.5, 2.5, 201)
    figure, axes = blank(0.6 + 0.9 * fit.features, fit.features, sharex=True)
    for i, (axis, name) in enumerate(zip(axes[:, 0], problem.names)):
        for (_, model, _), color in zip(models, SHADES(len(models))):
            p = model.decoder(z[:, None])
            mean, std = p.mean[:, i], p.std[:, i]
            axis.fill_between(z, mean - std, mean + std, color=color, alpha=0.2, lw=0)
            axis.plot(z, mean, color=color, label=named(model.targets))
        axis.set(ylabel=name, xlim=(z[0], z[-1]))
        in_units(axis.yaxis, problem, i)
    axis.set_xlabel("code $z$; band: one standard deviation of $p(x|z)$")
    figure.legend(*axis.get_legend_handles_labels(), ncols=4, **ABOVE)
    return figure


def in_units(axis, problem, feature):
    """Ticks of standardised data where and as they were before."""
    if problem.names:
        axis.axes.autoscale_view()
        mean, std = problem.units[0][feature], problem.units[1][feature]
        ends = axis.get_view_interval()
        low, high = mean + std * ends
        ticks = [tick for tick in MaxNLocator(4).tick_values(low, high) if low <= tick <= high]
        axis.set_ticks((np.array(ticks) - mean) / std, map("{:g}".format, ticks))


def history(fits, rows, known):
    """While training, by target: means of some steps and over seeds, and the range of the seeds."""
    (fit,) = fits.values()
    middle = (fit.history["lower"] + fit.history["upper"]) / 2
    shown = {"estimate of $I$ (nats)": middle, "ELBO (nats)": fit.history["elbo"]}
    if any(has := fit.methods == "lagrangian"):
        shown["multiplier $\\lambda$"] = np.where(has[:, None], fit.history["multiplier"], np.nan)
    steps = middle.shape[1]
    blocks = np.array_split(np.arange(steps), max(steps // 25, min(steps, 25)))
    means = lambda a: np.array([a[..., block].mean(-1) for block in blocks])
    targets, which = np.unique(np.nan_to_num(fit.targets, nan=-1), return_inverse=True)
    figure, axes = blank(0.5 + 1.4 * len(shown), len(shown), sharex=True)
    for axis, (text, values) in zip(axes[:, 0], shown.items()):
        axis.axvspan(0, mae.RAMP * steps * (targets[-1] > 0), color="0.93", lw=0)
        axis.set(ylabel=text, xlim=(0, steps))
        x, y, ends = means(np.arange(steps) + 0.5), means(values), {}  # y: (block, model)
        for i, color in enumerate(SHADES(len(targets))):
            own = y[:, which == i]
            if np.isfinite(own).any():  # the method has a multiplier
                axis.fill_between(x, own.min(1), own.max(1), color=color, alpha=0.3, lw=0)
                axis.plot(x, own.mean(1), color=color)
                ends[named(targets[i])] = x[-1], own[-1].mean()
        names_beside(axis, ends if axis is axes[0, 0] else dict([*ends.items()][-1:]), 0.11)
    axis.set_xlabel("training step; grey: the target rises")
    return figure


def likelihood(fits, rows, known):
    """Log-likelihood against information: all models, and a line through the best per target."""
    figure, ((axis,),) = blank(2.6)
    grid, peak = np.linspace(0, 2.1, 201), -math.log(problems.STD)
    curve = problems.restricted_curve(grid)
    axis.plot(grid, curve, ":k")
    below = peak, curve.max() - 0.03
    note(axis, f"$-\\ln s = {peak:.3f}$", below, (0, -45), arrowprops=ARROW)
    ends = {"linear mean,\nclosed form": (grid[-1], curve[-1])}
    point = lambda row: (row["information"], row["log_likelihood"])
    for name, line, color in (("expressive", "--", "#0072B2"), ("restricted", "-", "#D55E00")):
        own = sorted((row for row in rows if row["group"] == name), key=lambda row: point(row)[1])
        best = {row["target"]: point(row) for row in own if row["method"] != "vae"}
        vae = [point(row) for row in own if row["method"] == "vae"]
        axis.plot(*zip(*map(point, own)), ".", color=color)
        axis.plot(*np.reshape(sorted(best.values()), (-1, 2)).T, line, color=color)
        axis.plot(*np.reshape(vae, (-1, 2)).T, "*", color=color, ms=8, mec="k", mew=0.4, zorder=3)
        for at in vae[-1:]:
            note(axis, "VAE", at, (0, 5))
        ends[f"{name}\ndecoder"] = max(map(point, own))
    names_beside(axis, ends, 0.16)
    axis.set(xlabel="exact information $I(z, x)$ (nats)", ylabel="log-likelihood (nats)")
    return figure


NAMES = {"vae": "VAE", "lagrangian": "MAE", "anneal": "KL annealed", "beta": "beta-VAE", "im": "IM"}
NAMES |= {"free": "free bits", "|KL-C|": "|KL - C|", "control": "ControlVAE", "geco": "GECO"}


def human(row):
    """A method's name for readers, with its target; one that is not known here keeps its own."""
    head, _, value = row["method"].partition(":")
    target = f", {named(row['target'])}" if row["target"] >= 0 else ""
    return f"{NAMES.get(head, head)} {value}".strip() + target


def marks(axis, rows, name, x, y, line):
    """Every model: black dots the MAE, grey all else, each kind of its own shape; names beside."""
    points, shapes = {}, itertools.cycle("s^vD<>Ppd*hX")
    for row in rows:
        points.setdefault(name(row), []).append((row[x], row[y]))
    for kind, own in points.items():
        shape, color = ("o", "k") if kind.startswith("MAE") else (next(shapes), "0.55")
        axis.plot(*np.transpose(own), shape, color=color, mec="w", mew=0.3)
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter("{x:g}")
    names_beside(axis, {kind: max(own) for kind, own in points.items()}, line)


def sequences(fits, rows, known):
    """Information against KL for every model, a line for the MAE; what a code means for one."""
    own = lambda row: human(row | {"target": math.nan}) + ", by $M$" * (row["target"] >= 0)
    name = lambda row: own(row) if row["group"] == "causal" else f"VAE, {row['group']}"
    figure, ((axis,),) = blank(2.8)
    marks(axis, rows, name, "information", "below_optimum", 0.07)
    line = {}  # target: the middle of its models
    for target in fits["causal"].targets[fits["causal"].methods == "lagrangian"]:
        own = partial(problems.values, rows, method="lagrangian", target=target)
        line[target] = own("information").mean(), own("below_optimum").mean()
        note(axis, f"{target:g}", line[target], (9, -8))
    axis.plot(*np.reshape([*line.values()], (-1, 2)).T, "k-")
    note(axis, "better", (0.15, 0.75), (0, 35), xycoords="axes fraction", arrowprops=ARROW)
    axis.set(xlabel="exact information $I(z, x)$ (nats)", ylabel="KL(true $p(x)$ || model) (nats)")
    return figure


def strings(fits, rows, known):
    """Along the code: p(bit = 1 | z) for every bit, and p(prototype | z)."""
    wanted, fit = problems.I_PROTOTYPE, fits["causal"]
    model = fit[np.argmax(np.where(fit.targets <= wanted, fit.targets, -1))]  # nearest, from below
    figure, ((above,), (below,)) = blank(3.2, 2, sharex=True, height_ratios=[2, 3])
    z = np.linspace(-2, 2, 21)
    probs = model.decoder(z[:, None]).probs  # (z, strings)
    above.imshow((probs @ problems.STRINGS).T, aspect="auto", vmin=0, vmax=1,
                 extent=(-2.1, 2.1, 6.5, 0.5))  # fmt: skip
    above.set(ylabel="bit", yticks=range(1, 7), title="p(bit = 1 | z), black is 1")
    posterior = problems.GIVEN_PROTOTYPE / problems.GIVEN_PROTOTYPE.sum(0)
    names = ["".join(map(str, prototype)) for prototype in problems.PROTOTYPES]
    by_place(below, z, dict(zip(names, posterior @ probs.T)))
    below.set(xlabel=f"code $z$ ({named(model.targets)})", ylabel="p(prototype | z)",
              ylim=(0, 1.15), xlim=(-2.1, 2.1))  # fmt: skip
    return figure


def methods(fits, rows, known):
    """ELBO lost, of the best that there is, against rate: what each method pays for what."""
    least, height = 1e-4, 0.12 * len({*map(human, rows)})
    figure, axes = blank(0.3 + len(fits) * (height + 0.7), len(fits))
    for axis, group in zip(axes[:, 0], fits):
        lost = lambda row: {"lost": max(known[group].optimum - row["elbo"], least)}
        own = [row | lost(row) for row in rows if row["group"] == group]
        marks(axis, own, human, "rate", "lost", 0.115 / height)
        axis.yaxis.set_major_formatter(lambda y, _: f"{y:g}" if y > least else f"≤ {least:g}")
        axis.set(title=group, ylabel="ELBO lost (nats)")
    axis.set_xlabel("rate, KL[$q(z|x)$ || $p(z)$] (nats)")
    return figure


def faces(fits, rows, known):
    """Decoded faces over a grid of codes; the codes of the data, shaded by each factor."""
    models = [model for _, model, _ in first_seed(fits, rows)]
    truth = problems.factors(np.random.default_rng(0), 300)
    codes = np.array([model.encoder(problems.draw_faces(truth)).mean for model in models])
    most = 1.05 * np.abs(codes).max()
    z = np.stack(np.meshgrid(np.linspace(-1.8, 1.8, 7), np.linspace(1.8, -1.8, 7)), -1)
    figure, axes = blank(0.5 + 1.25 * len(models), len(models), 3, width_ratios=[3, 2, 2])
    for row, model, code in zip(axes, models, codes):
        drawn = model.decoder(z).mean.reshape(7, 7, problems.SIDE, problems.SIDE)
        row[0].imshow(np.block([list(line) for line in drawn]), vmin=-1, vmax=1,
                      extent=(-2.1, 2.1, -2.1, 2.1))  # fmt: skip
        for axis, factor in zip(row[1:], truth.T):
            axis.scatter(*code.T, s=3, lw=0, cmap="viridis", c=factor, vmin=-1, vmax=1.35)
            axis.set(aspect="equal", anchor="N", xlim=(-most, most), ylim=(-most, most))
        for axis in row:
            axis.set(xticks=[-2, 0, 2], yticks=[-2, 0, 2], xlabel="first code")
            axis.set_ylabel(f"{named(model.targets)}\nsecond code")
            axis.label_outer()
    axes[0, 0].set_title("decoded faces", fontsize=7)
    axes[0, 1].set_title("codes: angle\n(dark is right)", fontsize=7)
    axes[0, 2].set_title("codes: emotion\n(dark is sad)", fontsize=7)
    return figure


def digits(fits, rows, known):
    """Digits decoded from ten codes of the prior, for every model."""
    figure, pairs = row_per_model(fits, rows, known, 0.35)
    for axis, model in pairs:
        z = np.random.default_rng(0).standard_normal((10, model.latent))
        drawn = model.decoder(z).mean.reshape(10, problems.PIXELS, problems.PIXELS)
        axis.imshow(np.block([list(drawn)]), vmin=-1, vmax=1)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    return figure


def had(rows):
    """M of every row; the middle and half the length of the interval that I is known to lie in."""
    column = partial(problems.values, rows)
    target, low, high = map(column, ("target", "information_low", "information_high"))
    return target, (low + high) / 2, (high - low) / 2


def posteriors(fits, rows, known):
    """Exact p(z|x) against q and r, for x a tenth, a half and nine tenths along the code."""
    shown = []
    for name in "two clusters, bound alone", "ten categories, bound alone":
        models = [*first_seed({name: fits[name]}, rows)]
        shown += models[:1] + models[1:][-1:]  # of the first and the last target
    figure, axes = blank(0.6 + 1.1 * len(shown), len(shown), sharex=True)
    for axis, (name, model, row) in zip(axes[:, 0], shown):
        x = known[name].rows
        place = model.encoder(x).mean[:, 0].argsort()
        x = x[place[[len(x) // 10, len(x) // 2, -1 - len(x) // 10]]]
        q, r = model.encoder(x), model.auxiliary(x)
        near = [p.mean + np.exp(p.log_var / 2) * np.linspace(-6, 6, 201) for p in (q, r)]
        grid = np.unique(np.append(np.linspace(-3.5, 3.5, 701), near))
        z, exact = grid[:, None, None], mae.exact_posterior(model.decoder, x, grid[:, None])
        for density, shade in zip(exact, SHADES(3)):
            area = axis.fill_between(grid, density, color=shade, alpha=0.5, lw=0)
        dashed, *_ = axis.plot(grid, np.exp(q.log_prob(z)), "k--")
        dotted, *_ = axis.plot(grid, np.exp(r.log_prob(z)), "k:")
        text = f"{name.partition(',')[0]}, {named(model.targets)}: $I = {row['information']:.3f}$"
        axis.set_title(f"{text}, bound {round(row['infomax_bound'], 3) + 0:.3f} nats")
        axis.set(xlim=(-3, 3), ylabel="density")
    axis.set_xlabel("$z$")
    names = "exact $p(z|x)$, three $x$", "$q(z|x)$", "$r(z|x)$"
    figure.legend([area, dashed, dotted], names, ncols=3, **ABOVE)
    return figure


def information(fits, rows, known):
    """I - M, by the bound alone and from both sides: a line for each kind of data and each M."""
    kind = lambda row: (row["group"].partition(",")[0], problems.label(row["target"]))
    lines = [*dict.fromkeys(map(kind, rows))]
    figure, ((axis,),) = blank(0.8 + 0.13 * len(lines))
    axis.axvspan(-problems.REACHED, problems.REACHED, color="0.88", lw=0)
    for way, style in (("bound alone", {"mfc": "w"}), ("both sides", {})):
        own = [row for row in rows if row["group"].endswith(way)]
        target, middle, half = had(own)
        places = [lines.index(kind(row)) for row in own]
        axis.errorbar(middle - target, places, xerr=half, label=way, fmt="ok", **style)
    axis.set_xscale("symlog", linthresh=0.05)
    ends, ticks = axis.get_xlim(), [-5, -0.5, -0.05, 0, 0.05, 0.5, 5]
    axis.set_xticks(ticks, map("{:g}".format, ticks))
    first = dict(reversed(lines))  # target of each name
    texts = [f"{name}  $M = {m}$" if m == first[name] else m for name, m in lines]
    axis.set_yticks(range(len(lines)), texts)
    axis.set(xlim=ends, ylim=(len(lines) - 0.5, -0.5), xlabel="$I(z, x) - M$ (nats); grey: ± 0.02")
    figure.legend(ncols=2, title="trained by", **ABOVE)
    return figure


def summary(rows):
    """I against M for every model of the MAE of every experiment."""
    figure, ((axis,),) = blank(2.9)
    axis.axline((0, 0), slope=1, color="0.7", zorder=0)
    asked = [row for row in rows if row["method"] == "lagrangian"]
    for alone, text, style in ((True, "the bound alone", {"mfc": "w"}), (False, "all others", {})):
        own = [row for row in asked if row["group"].endswith("bound alone") == alone]
        reached = f"{text}: {sum(row['reached'] for row in own)} of {len(own)} reached"
        axis.errorbar(*had(own), label=reached, fmt="ok", **style)
    axis.set(xlabel="asked for: $M$ (nats)", ylabel="had: $I(z, x)$ (nats)")
    figure.legend(title="trained by", **ABOVE)
    return figure


def scaling(rows):
    """Seconds against each of the four, and what growing in proportion would be."""
    figure, axes = blank(3.2, 2, 2, sharey=True)
    for axis, what in zip(axes.flat, dict.fromkeys(row["grows"] for row in rows)):
        x, y = (problems.values(rows, column, grows=what) for column in ("value", "seconds"))
        if what == "r_samples":  # of which there may be none
            x, what = x + 1, "r_samples + 1"
        axis.loglog(x, y, "ok-", label="measured")
        axis.loglog(x, y[-1] * x / x[-1], "--", color="0.5", label="in proportion")
        axis.minorticks_off()
        axis.set_xticks(x, map("{:g}".format, x))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.set(xlabel=what, ylabel="seconds")
    figure.legend(*axis.get_legend_handles_labels(), ncols=2, **ABOVE)
    return figure


# ------------------------------------------------------------------ of the reviewers' questions

BLUE, RED, ORANGE = "#0072B2", "#D55E00", "#E69F00"  # also told apart in grey


def trace(fits, rows):
    """The estimates along training, of the first seed, against what is exact."""
    models = {}
    for row in rows:
        if row["question"] == 1:
            name = row["setting"].partition(",")[0], row["target"]
            models.setdefault(name, []).append(row)
    figure, axes = blank(4.6, len(models), sharex=True)
    for axis, ((name, target), own) in zip(axes[:, 0], models.items()):
        of = partial(problems.values, own, seed=own[0]["seed"])
        axis.axhline(target, color="0.75", lw=0.8)
        axis.plot(of("step"), of("estimate"), "o", ms=2.5, color=ORANGE, label="$I$, estimated")
        axis.plot(of("step"), of("information"), color=BLUE, label="$I$, exact")
        sampled = {"ms": 3, "mew": 0.7, "color": "0.35", "label": "bound, sampled"}
        axis.plot(of("step"), of("sampled_bound"), "x", **sampled)
        axis.plot(of("step"), of("infomax_bound"), "--", color=RED, label="bound, exact")
        axis.set_title(f"{name}, M = {target:g}", loc="left", pad=2, fontsize=7)
    axis.set_xlabel("training step")
    figure.supylabel("nats", fontsize=7)
    figure.legend(*axis.get_legend_handles_labels(), ncols=2, **ABOVE)
    return figure


def encoders(fits, rows):
    """p(z|x), q and r for three values of x, M = 2: an encoder of one draw, and of fifty.

    And q as its k draws are resampled: E p(x, z) / mean(w(z), w_2 ... w_k), w = p(x, z) / q(z|x).
    """
    z, tens = np.linspace(-3, 3, 301)[:, None], np.eye(10)
    figure, axes = blank(2.9, 3, 2, sharex=True)
    for column, name in zip(axes.T, ("1 draws", "50 draws")):
        model, rng = fits[name][int(np.argmax(fits[name].targets == 2))], np.random.default_rng(0)
        k = model.q_samples
        for axis, i in zip(column, model.encoder(tens).mean[:, 0].argsort()[[1, 4, 7]]):
            x = tens[[i]]
            q, r = model.encoder(x), model.auxiliary(x)
            joint = lambda z: np.exp(model.decoder(z).log_prob(x) + log_prior(z))
            others = q.sample(rng.standard_normal((1000, k - 1, 1)))
            weights = np.sum(joint(others) / np.exp(q.log_prob(others)), -1)[:, None]
            density = np.exp(q.log_prob(z))
            resampled = np.mean(k * joint(z) * density / (joint(z) + weights * density), 0)
            (exact,) = mae.exact_posterior(model.decoder, x, z, tol=1e-6)
            axis.fill_between(z[:, 0], exact, color="0.8", lw=0, label="$p(z|x)$, exact")
            axis.plot(z, np.exp(r.log_prob(z)), "--", color=RED, label="$r(z|x)$")
            axis.plot(z, density, color=BLUE, label="$q(z|x)$")
            axis.plot(z, resampled, ":k", label="$q$, resampled")
            axis.set(yticks=[], xlim=(-1.9, 1.9))
        column[0].set_title(f"encoder of {k} draw{'s' * (k > 1)}", pad=2, fontsize=7)
        axis.set_xlabel("$z$")
    figure.legend(*axis.get_legend_handles_labels(), ncols=2, **ABOVE)
    return figure


def read_back(fits, rows):
    """Strings and bits read back, ELBO and likelihood against the exact I; other models by name."""
    rows = [row for row in rows if row["question"] == 9]
    held, others = ([row for row in rows if (row["target"] > 0) == own] for own in (True, False))
    figure, ((above,), (below,)) = blank(4, 2, sharex=True)
    solid, dashed = {"color": BLUE, "marker": "o"}, {"color": RED, "marker": "s", "ls": "--"}
    lines = [  # the last: which point the name stands at, and how far off
        (above, "strings", "strings", solid, 2, (0, 4)),
        (above, "bits", "bits", dashed, 2, (0, 4)),
        (below, "elbo", "ELBO", solid, -6, (-14, -20)),
        (below, "log_likelihood", "log-likelihood", dashed, -5, (4, 2)),
    ]
    for axis, column, name, style, at, offset in lines:
        points = [(row["information"], row[column]) for row in held]
        axis.plot(*zip(*points), ms=2.5, **style)
        note(axis, name, points[at], offset, ha="left", color=style["color"])
        for row, mark in zip(others, np.repeat([*"*PvX^"], len(others) // 5)):
            other = style | {"marker": mark, "ms": 6, "mec": "w", "mew": 0.4}
            axis.plot(row["information"], row[column], **other)
    spots = [(0, -5, "left", "top"), (0, 7, "center", "bottom"), (0, -5, "center", "top"),
             (-5, 0, "right", "center"), (0, -5, "center", "top")]  # fmt: skip
    for row, (*offset, ha, va) in zip(others[:: len(others) // 5], spots):
        name = row["setting"].removeprefix("causal, ").replace("vae", "VAE").replace(":", " ")
        note(below, name, (row["information"], row["elbo"]), offset, ha=ha, va=va)
    known = {"which prototype ": problems.I_PROTOTYPE, "$H(x)$ ": -problems.SEQUENCES.optimum}
    for text, at in known.items():
        for axis in (above, below):
            axis.axvline(at, color="0.6", lw=0.8, ls=":")
        above.text(at, 0.02, text, rotation=90, ha="right", color="0.3")
    below.margins(y=0.12)
    above.set(ylabel="share right", ylim=(0, 1.05))
    below.set(ylabel="nats", xlabel="exact $I(z, x)$ (nats)")
    return figure


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
