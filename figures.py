"""The figures of the experiments: each takes (fits, rows, problems) of a run, all by group."""

import math

import numpy as np
from matplotlib import colormaps
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

import mae
import problems
from distributions import LOG_2PI

ABOVE = {"loc": "outside upper center", "frameon": False, "fontsize": 8}  # a legend
INFORMATION = "exact information $I(z, x)$ (nats)"


def blank(height, rows=1, columns=1, width=5.2, dpi=150, **options):
    """A figure (in inches; 5.2 is one column of a paper) and its axes, (rows, columns)."""
    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def named(target):
    return "VAE" if math.isnan(target) else f"$M = {target:.3g}$"


def row_per_model(fits, rows):
    """A figure, its axes and the models in them: a labelled row per model of the first seed."""
    (fit,) = fits.values()
    first = np.flatnonzero(fit.seeds == fit.seeds[0])
    figure, axes = blank(0.9 + 0.8 * len(first), len(first), sharex=True)
    for axis, k in zip(axes[:, 0], first):
        text = f"{named(fit.targets[k])}\n$I = {rows[k]['information']:.3f}$"
        axis.set_ylabel(text, rotation=0, ha="right", va="center", fontsize=9)
    return figure, axes[:, 0], [fit[k] for k in first]


def split_normal(fits, rows, known):
    """Each row: p(x|z) p(z) dz for a grid of z, coloured by z; p(x) against the truth."""
    (problem,) = known.values()
    x, z, dz = np.linspace(*1.5 * problem.rows[[0, -1], 0], 721), np.linspace(-2.8, 2.8, 15), 0.4
    truth = problem.truth(x[:, None])
    figure, axes, models = row_per_model(fits, rows)
    for axis, model in zip(axes, models):
        p = model.decoder(z[:, None])
        density = mae.Gaussian(p.mean[:, None], p.log_var[:, None]).log_prob(x[:, None])  # (z, x)
        pieces = np.exp(density - 0.5 * (z[:, None] ** 2 + LOG_2PI)) * dz
        lines = LineCollection([np.column_stack([x, piece]) for piece in pieces], lw=0.9)
        lines.set(array=z, cmap="viridis")
        axis.add_collection(lines)
        axis.plot(x[::3], np.exp(mae.exact_log_likelihood(model.decoder, x[::3, None])), "k", lw=1)
        axis.plot(x, truth, "--", color="tab:red", lw=1)
        axis.set(xlim=(x[0], x[-1]), ylim=(0, 1.08 * max(truth.max(), pieces.max())), yticks=[])
    axes[-1].set_xlabel("$x$")
    names = ["$p(x|z)\\,p(z)\\,dz$ for each $z$", "all $z$: $p(x)$", "truth"]
    figure.legend([lines, *axes[-1].lines], names, ncols=3, **ABOVE)
    figure.colorbar(lines, ax=axes, label="$z$", aspect=60, pad=0.02)
    return {"figure.png": figure, "history.png": history(fits, known)}


def categorical(fits, rows, known):
    """Each row: the ten p(x|z) as functions of z, and the true p(x)."""
    z = np.linspace(-3.2, 3.2, 641)
    figure, axes, models = row_per_model(fits, rows)
    (problem,) = known.values()
    truth = problem.truth(np.eye(models[0].features))
    for axis, model in zip(axes, models):
        lines = axis.plot(z, model.decoder(z[:, None]).probs, lw=1.2)
        for prob in set(truth.round(9)):
            frequency = axis.axhline(prob, ls="--", color="0.4", lw=1)
        axis.set(xlim=(z[0], z[-1]), ylim=(-0.03, 1.05), yticks=[0, 1])
    axes[-1].set_xlabel("$z$")
    names, title = [*map(str, range(len(truth))), "true $p(x)$"], "$p(x|z)$ for each $x$"
    figure.legend(
        [*lines, frequency],
        names,
        ncols=11,
        title=title,
        handlelength=1,
        columnspacing=0.9,
        **ABOVE,
    )
    return {"figure.png": figure, "history.png": history(fits, known)}


def history(fits, known):
    """I by its estimate against target, ELBO and multiplier while training: means of 25 steps."""
    ((name, fit),) = fits.items()
    optimum = known[name].optimum
    figure, axes = blank(6, 3, sharex=True)
    information, elbo, multiplier = axes[:, 0]
    middle = (fit.history["lower"] + fit.history["upper"]) / 2
    shown = (middle, fit.history["elbo"], fit.history["multiplier"])
    targets = dict.fromkeys(map(problems.label, fit.targets))
    colors = dict(zip(targets, colormaps["viridis"](np.linspace(0, 0.92, len(targets)))))
    middles = np.arange(fit.history["elbo"].shape[1]) + 0.5  # of the steps
    for k, target in enumerate(fit.targets):
        text, first = problems.label(target), fit.seeds[k] == fit.seeds[0]
        style = {"color": colors[text], "lw": 0.7}
        for axis, values in zip(axes[:, 0], shown):
            points = np.array([middles, values[k]])
            blocks = np.array_split(points, max(len(middles) // 25, 1), axis=1)
            means = np.transpose([block.mean(1) for block in blocks])
            axis.plot(*means, **style, label=text if first else None)
        if first and not math.isnan(target):
            information.plot(fit.history["target"][k], "--", **style)
    most = np.nanmax([1, *fit.targets])
    information.set(ylabel="estimate of $I$ (nats),\ntarget dashed", ylim=(-0.1, 1.15 * most))
    elbo.axhline(optimum, color="0.4", ls="--", lw=0.8)
    elbo.set(ylabel="ELBO (nats)", ylim=(optimum - 0.3, optimum + 0.1))
    multiplier.set(ylabel="multiplier $\\lambda$", xlabel="training step")
    handles = information.get_legend_handles_labels()
    figure.legend(*handles, ncols=5, title="target $M$ (nats)", **ABOVE)
    return figure


def likelihood(fits, rows, known):
    """Log-likelihood against information: dashed the expressive decoder, solid the restricted."""
    figure, ((axis,),) = blank(3.6)
    for name, style, color in (("expressive", "--", "tab:blue"), ("restricted", "-", "tab:orange")):
        column = lambda column, method: problems.values(rows, column, group=name, method=method)
        points = lambda method: [column(c, method) for c in ("information", "log_likelihood")]
        best = {}  # target: its best model
        for target, *point in zip(column("target", "lagrangian"), *points("lagrangian")):
            best[target] = max(best.get(target, point), point, key=lambda p: p[1])
        axis.plot(*points("lagrangian"), ".", color=color, ms=4, alpha=0.5)
        axis.plot(*np.transpose([*best.values()]), style, color=color, label=f"{name} decoder")
        star = {"ms": 10, "mec": "k", "mew": 0.5}
        axis.plot(*points("vae"), "*", color=color, **star, label=f"{name}, VAE")
    grid = np.linspace(0, 2.1, 201)
    curve = problems.restricted_curve(grid)
    axis.plot(grid, curve, ":", color="k", lw=1, label="restricted, linear mean (closed form)")
    peak = -math.log(problems.STD)
    axis.axvline(peak, color="0.6", lw=0.8)
    axis.annotate(f"$-\\ln s = {peak:.3f}$", (peak, curve.min()), (4, 0),
                  textcoords="offset points", fontsize=8)  # fmt: skip
    axis.set(xlabel=INFORMATION, ylabel="log-likelihood (nats)")
    figure.legend(ncols=2, **ABOVE)
    return {"figure.png": figure}


def marks(axis, rows, names, x, y):
    """One mark per model, coloured and shaped by its name."""
    shapes, colors = "osD^v<>PX*hp", [*colormaps["tab10"].colors, "k", "gold"]
    for i, name in enumerate(dict.fromkeys(names)):
        points = np.array([[row[x], row[y]] for row, own in zip(rows, names) if own == name])
        style = {"color": colors[i % len(colors)], "mec": "w", "mew": 0.4, "alpha": 0.8}
        axis.plot(*points.T, shapes[i % len(shapes)], ms=6, **style, label=name)


def sequences(fits, rows, known):
    """Information against KL for every model; what a code means for one MAE model."""

    def kind(row):
        method, _, part = row["method"].partition(":")
        if row["group"] != "causal":
            return f"VAE, {row['group']}"
        if part:
            return f"KL annealed over {'all' if part == '1' else part} of the steps"
        return "VAE" if method == "vae" else "MAE"

    figure, ((axis,),) = blank(4.2, width=6.4)
    marks(axis, rows, [kind(row) for row in rows], "information", "below_optimum")
    wanted = problems.I_PROTOTYPE
    axis.axvline(wanted, color="0.6", lw=0.8)
    axis.annotate("which prototype", (wanted, 1), (3, -8), xycoords=("data", "axes fraction"),
                  textcoords="offset points", fontsize=8, color="0.4")  # fmt: skip
    axis.set(yscale="log", xlabel=INFORMATION, ylabel="KL(true $p(x)$ || model) (nats)")
    figure.legend(ncols=3, **ABOVE)
    fit = fits["causal"]
    nearest = np.argmax(np.where(fit.targets <= wanted, fit.targets, -1))  # from below
    return {"figure.png": figure, "strings.png": strings(fit[nearest])}


def strings(model):
    """Along the code: the most probable string, p(bit = 1 | z) and p(prototype | z)."""
    figure, ((above,), (below,)) = blank(4.4, 2, sharex=True, width=6.4, height_ratios=[2, 3])
    written = lambda string: "".join(map(str, string))
    z = np.linspace(-2.4, 2.4, 25)
    probs = model.decoder(z[:, None]).probs  # (z, strings)
    image = above.imshow((probs @ problems.STRINGS).T, aspect="auto", cmap="gray_r", vmin=0, vmax=1,
                         extent=(-2.5, 2.5, 6.5, 0.5))  # fmt: skip
    above.set(ylabel="bit", yticks=range(1, 7))
    for at, likely in zip(z[::2], problems.STRINGS[probs.argmax(-1)[::2]]):
        above.annotate(written(likely), (at, 1), (0, 3), xycoords=("data", "axes fraction"),
                       textcoords="offset points", rotation=90, ha="center", va="bottom",
                       fontsize=7, family="monospace")  # fmt: skip
    figure.colorbar(image, ax=above, label="p(bit = 1 | z)")
    posterior = problems.GIVEN_PROTOTYPE / problems.GIVEN_PROTOTYPE.sum(0)
    below.plot(z, probs @ posterior.T, label=[*map(written, problems.PROTOTYPES)])
    below.set(xlabel="code $z$", ylabel="p(prototype | z)", ylim=(0, 1), xlim=(-2.5, 2.5))
    below.legend(frameon=False, ncols=2, prop={"family": "monospace", "size": 8})
    title = f"most probable string and bits along the code, {named(model.targets)}"
    figure.suptitle(title, fontsize=9)
    return figure


def methods(fits, rows, known):
    """Rate against distortion for every model, and lines of equal ELBO: solid the best."""
    target = lambda row: "" if math.isnan(row["target"]) else f", M = {row['target']:.3g}"
    figure, axes = blank(4, 1, len(fits), width=8)
    for axis, name in zip(axes[0], fits):
        own = [row for row in rows if row["group"] == name]
        labels = [row["method"] + target(row) for row in own]
        marks(axis, own, labels, "rate", "distortion")
        entropy = -known[name].optimum
        most = max((row["rate"] for row in own if row["rate"] < 10), default=1) + 0.5
        rate = np.array([-0.2, most])
        less = "1/2 and 1 nat less"
        for lost, style, text in ((0, "-", "best ELBO"), (0.5, ":", less), (1, ":", None)):
            axis.plot(rate, entropy + lost - rate, style, color="0.6", lw=0.8, zorder=0, label=text)
        bottom, top = entropy - most, entropy + 1.4
        beyond = {text for row, text in zip(own, labels) if not bottom < row["distortion"] < top}
        if beyond:  # drawn, they would squeeze the rest
            axis.text(0.97, 0.97, "not in view: " + "; ".join(sorted(beyond)), ha="right", va="top",
                      transform=axis.transAxes, fontsize=8)  # fmt: skip
        axis.set(xlim=rate, ylim=(bottom, top), xlabel="rate (nats)", title=name)
    axes[0, 0].set_ylabel("distortion (nats)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), ncols=6, **ABOVE)
    return {"figure.png": figure}


def faces(fits, rows, known):
    """Decoded faces over a grid of codes; the codes of the data, coloured by each factor."""
    (fit,) = fits.values()
    first = np.flatnonzero(fit.seeds == fit.seeds[0])
    truth = problems.factors(np.random.default_rng(0), 1500)
    x = problems.draw_faces(truth)
    z_1, z_2 = np.meshgrid(np.linspace(-1.8, 1.8, 9), np.linspace(1.8, -1.8, 9))
    z = np.stack([z_1, z_2], -1)  # (row, column, 2)
    figure, axes = blank(1.8 * len(first), len(first), 3, width=6, dpi=110)
    for row, k in zip(axes, first):
        drawn = fit[k].decoder(z).mean.reshape(9, 9, problems.SIDE, problems.SIDE)
        row[0].imshow(np.block([list(line) for line in drawn]), cmap="gray_r", vmin=-1, vmax=1,
                      extent=(-2, 2, -2, 2))  # fmt: skip
        text = named(fit.targets[k]).replace("$M", "MAE, $M")
        row[0].set(ylabel=f"{text}\n$z_2$", xlabel="$z_1$")
        codes = fit[k].encoder(x).mean
        for axis, factor in zip(row[1:], truth.T):
            colors = {"c": factor, "cmap": "coolwarm", "vmin": -1, "vmax": 1}
            dots = axis.scatter(*codes.T, s=1.5, linewidths=0, **colors)
            limits = {"xlim": (-2.7, 2.7), "ylim": (-2.7, 2.7)}
            axis.set(xlabel="$z_1$", ylabel="$z_2$", aspect="equal", **limits)
            figure.colorbar(dots, ax=axis, ticks=[-1, 0, 1], shrink=0.8)
    for axis, title in zip(axes[0], ("decoder means", "codes by angle", "codes by emotion")):
        axis.set_title(title, fontsize=10)
    return {"figure.png": figure}


def digits(fits, rows, known):
    """Digits decoded from twelve codes of the prior, for every model."""
    models = [(name, fit[k]) for name, fit in fits.items() for k in range(len(fit))]
    models = [(name, model) for name, model in models if model.seeds == models[0][1].seeds]
    figure, axes = blank(0.4 + 0.5 * len(models), len(models), width=6)
    for axis, (name, model) in zip(axes[:, 0], models):
        z = np.random.default_rng(0).standard_normal((12, model.latent))
        drawn = model.decoder(z).mean.reshape(12, problems.PIXELS, problems.PIXELS)
        axis.imshow(np.block([list(drawn)]), cmap="gray_r", vmin=-1, vmax=1)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
        text = f"{name}\n{named(model.targets)}"
        axis.set_ylabel(text, rotation=0, ha="right", va="center", fontsize=8)
    return {"figure.png": figure}


def information(fits, rows, known):
    """I - M against M: by the bound alone, and from both sides."""
    figure, axes = blank(3.4, 1, 2, width=7, sharex=True, sharey=True)
    names = list(dict.fromkeys(name.split(",")[0] for name in fits))
    for axis, way in zip(axes[0], ("bound alone", "both sides")):
        axis.axhspan(-problems.REACHED, problems.REACHED, color="0.85", lw=0, zorder=0)
        for name, shape in zip(names, "osD^v<>P"):
            own = problems.values(rows, "target", group=f"{name}, {way}")
            low, high = (
                problems.values(rows, f"information_{end}", group=f"{name}, {way}") - own
                for end in ("low", "high")
            )
            style = {"fmt": shape, "ms": 5, "alpha": 0.8, "mec": "w", "mew": 0.4, "label": name}
            axis.errorbar(own, (low + high) / 2, (high - low) / 2, **style)
        axis.set(title=f"trained by {way}", xlabel="asked for: $M$ (nats)")
        axis.set_yscale("symlog", linthresh=0.05)
        axis.set_yticks([-0.05, 0, 0.05, 0.5, 2], ["-0.05", "0", "0.05", "0.5", "2"])
    axes[0, 0].set_ylabel("had more: $I(z, x) - M$ (nats)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), ncols=4, **ABOVE)
    return {"figure.png": figure}


def scaling(rows):
    """Seconds against each of the three, and what growing in proportion would be."""
    figure, axes = blank(2.6, 1, 4, width=8, sharey=True)
    for axis, what in zip(axes[0], dict.fromkeys(row["grows"] for row in rows)):
        x, y = (problems.values(rows, column, grows=what) for column in ("value", "seconds"))
        if what == "r_samples":  # of which there may be none
            x, what = x + 1, "r_samples + 1"
        axis.loglog(x, y, "o-", ms=4, label="measured")
        axis.loglog(x, y[-1] * x / x[-1], "--", color="0.5", lw=1, label="in proportion")
        axis.set_xlabel(what)
        axis.set_xticks(x, x)
        axis.minorticks_off()
    axes[0, 0].set_ylabel("seconds")
    axes[0, 0].legend(frameon=False, fontsize=8)
    return figure


EXPERIMENTS = (
    split_normal, categorical, likelihood, sequences, methods, faces, digits, information,
)  # fmt: skip
DRAWINGS = {draw.__name__.replace("_", "-"): draw for draw in EXPERIMENTS}
