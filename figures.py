"""The figures of the experiments: each function takes (fits, rows, experiment) of a run."""

import math

import numpy as np
from matplotlib import colormaps
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

import experiments
import mae
import nets

WIDTH = 5.2  # inches, one column of a paper
ABOVE = {"loc": "outside upper center", "frameon": False, "fontsize": 8}  # a legend


def blank(height, rows=1, columns=1, width=WIDTH, **options):
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def first_models(fits, rows):
    """The only Fit's models of its first seed, each with a label for its row of the figure."""
    (fit,) = fits.values()
    for k in np.flatnonzero(fit.seeds == fit.seeds[0]):
        wanted = "VAE" if math.isnan(fit.targets[k]) else f"$M = {fit.targets[k]:.3g}$"
        yield fit[k], f"{wanted}\n$I = {rows[k]['information']:.3f}$"


def figure_of_rows(labels):
    """A figure with a labelled row of axes per model."""
    figure, axes = blank(0.9 + 0.8 * len(labels), len(labels), sharex=True)
    for axis, text in zip(axes[:, 0], labels):
        axis.set_ylabel(text, rotation=0, ha="right", va="center", fontsize=9)
    return figure, axes[:, 0]


def split_normal(fits, rows, experiment):
    """Each row: p(x|z) p(z) dz for a grid of z, coloured by z; p(x) against the truth."""
    x, z, dz = np.linspace(-3.6, 3.6, 721), np.linspace(-2.8, 2.8, 15), 0.4
    models, labels = zip(*first_models(fits, rows))
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
    figure.legend(handles, names, ncols=3, **ABOVE)
    figure.colorbar(lines, ax=axes, label="$z$", aspect=60, pad=0.02)
    return {"figure.png": figure, "history.png": history(fits, experiment)}


def categorical(fits, rows, experiment):
    """Each row: the ten p(x|z) as functions of z, and the true p(x)."""
    z = np.linspace(-3.2, 3.2, 641)
    models, labels = zip(*first_models(fits, rows))
    figure, axes = figure_of_rows(labels)
    for axis, model in zip(axes, models):
        lines = axis.plot(z, model.decoder(z[:, None]).probs, lw=1.2)
        lines += axis.plot(z, np.full_like(z, 0.1), "--", color="0.4", lw=1)
        axis.set(xlim=(z[0], z[-1]), ylim=(-0.03, 1.05), yticks=[0, 1])
    axes[-1].set_xlabel("$z$")
    names = [*map(str, range(10)), "true $p(x)$"]
    title = "$p(x|z)$ for each $x$"
    figure.legend(lines, names, ncols=11, title=title, handlelength=1, columnspacing=0.9, **ABOVE)
    return {"figure.png": figure, "history.png": history(fits, experiment)}


def history(fits, experiment):
    """Bound against target, ELBO and multiplier while training, as means of 25 steps."""
    ((name, fit),) = fits.items()
    optimum = experiment.groups[name].problem.optimum
    figure, axes = blank(6, 3, sharex=True)
    axes = axes[:, 0]
    targets = list(dict.fromkeys(map(experiments.label, fit.targets)))
    colors = colormaps["viridis"](np.linspace(0, 0.92, len(targets)))
    for k, (target, seed) in enumerate(zip(fit.targets, fit.seeds)):
        text, first = experiments.label(target), seed == fit.seeds[0]
        color = colors[targets.index(text)]
        for axis, name in zip(axes, ("infomax_bound", "elbo", "multiplier")):
            blocks = np.array_split(fit.history[name][k], max(fit.history[name].shape[1] // 25, 1))
            middles = (np.arange(len(blocks)) + 0.5) * len(fit.history[name][k]) / len(blocks)
            means = [block.mean() for block in blocks]
            axis.plot(middles, means, color=color, lw=0.7, label=text if first else None)
        if first and not math.isnan(target):
            axes[0].plot(fit.history["target"][k], "--", color=color, lw=0.7)
    axes[0].set_ylabel("infomax bound (nats),\ntarget dashed")
    axes[1].set_ylabel("ELBO (nats)")
    axes[1].axhline(optimum, color="0.4", ls="--", lw=0.8)
    axes[1].set_ylim(optimum - 0.3, optimum + 0.1)
    axes[2].set_ylabel("multiplier $\\lambda$")
    axes[2].set_xlabel("training step")
    handles = axes[0].get_legend_handles_labels()
    figure.legend(*handles, ncols=5, title="target $M$ (nats)", **ABOVE)
    return figure


def likelihood(fits, rows, experiment):
    """Log-likelihood against information: dashed the expressive decoder, solid the restricted."""
    figure, ((axis,),) = blank(3.6)
    column = lambda name, group, method="lagrangian": experiments.values(
        rows, name, group=group, method=method
    )
    for name, style, color in (("expressive", "--", "tab:blue"), ("restricted", "-", "tab:orange")):
        information, log_p = column("information", name), column("log_likelihood", name)
        best = {}  # target: its best model
        for target, *point in zip(column("target", name), information, log_p):
            best[target] = max(best.get(target, point), point, key=lambda p: p[1])
        axis.plot(information, log_p, ".", color=color, ms=4, alpha=0.5)
        axis.plot(*np.transpose([*best.values()]), style, color=color, label=f"{name} decoder")
        vae = [column(c, name, "vae") for c in ("information", "log_likelihood")]
        axis.plot(*vae, "*", color=color, ms=10, mec="k", mew=0.5, label=f"{name}, VAE")
    grid = np.linspace(0, 2.1, 201)
    curve = experiments.restricted_curve(grid)
    axis.plot(grid, curve, ":", color="k", lw=1, label="restricted, linear mean (closed form)")
    peak = -math.log(experiments.STD)
    axis.axvline(peak, color="0.6", lw=0.8)
    axis.annotate(f"$-\\ln s = {peak:.3f}$", (peak, curve.min()), (4, 0),
                  textcoords="offset points", fontsize=8)  # fmt: skip
    axis.set(xlabel="exact information $I(z, x)$ (nats)", ylabel="log-likelihood (nats)")
    figure.legend(ncols=2, **ABOVE)
    return {"figure.png": figure}


def marks(axis, rows, names, x, y):
    """One mark per model, coloured and shaped by its name."""
    shapes, colors = "osD^v<>PX*hp", [*colormaps["tab10"].colors, "k", "gold"]
    for i, name in enumerate(dict.fromkeys(names)):
        chosen = [row for row, own in zip(rows, names) if own == name]
        points = np.array([[row[x], row[y]] for row in chosen])
        axis.plot(*points.T, shapes[i % len(shapes)], color=colors[i % len(colors)], ms=6,
                  mec="w", mew=0.4, alpha=0.8, label=name)  # fmt: skip


def sequences(fits, rows, experiment):
    """Information against KL for every model; what a code means for one MAE model."""
    figure, ((axis,),) = blank(4.2, width=6.4)
    kinds = {"vae": "VAE", "lagrangian": "MAE"}
    part = {"1": "all"}
    kinds |= {
        name: f"KL annealed over {part.get(name[7:], name[7:])} of the steps"
        for name in experiments.ANNEALING
    }
    names = [
        kinds[row["method"]] if row["group"] == "causal" else f"VAE, {row['group']}" for row in rows
    ]
    marks(axis, rows, names, "information", "below_optimum")
    wanted = experiments.I_PROTOTYPE
    axis.axvline(wanted, color="0.6", lw=0.8)
    axis.annotate("which prototype", (wanted, 1), (3, -8), xycoords=("data", "axes fraction"),
                  textcoords="offset points", fontsize=8, color="0.4")  # fmt: skip
    axis.set(yscale="log", xlabel="exact information $I(z, x)$ (nats)",
             ylabel="KL(true $p(x)$ || model) (nats)")  # fmt: skip
    figure.legend(ncols=3, **ABOVE)

    fit = fits["causal"]
    reachable = np.where(fit.targets <= wanted, fit.targets, -1)
    k = np.argmax(reachable)
    z = np.linspace(-2.4, 2.4, 25)
    probs = fit[k].decoder(z[:, None]).probs  # (z, strings)
    decoded, axes = blank(4.4, 2, sharex=True, width=6.4, height_ratios=[2, 3])
    bits = probs @ experiments.STRINGS  # (z, bit): probability of a one
    image = axes[0, 0].imshow(bits.T, aspect="auto", cmap="gray_r", vmin=0, vmax=1,
                              extent=(-2.5, 2.5, 6.5, 0.5))  # fmt: skip
    axes[0, 0].set(ylabel="bit", yticks=range(1, 7))
    for at, string in zip(z[::2], probs.argmax(-1)[::2]):
        text = "".join(map(str, experiments.STRINGS[string]))
        axes[0, 0].annotate(text, (at, 1), (0, 3), xycoords=("data", "axes fraction"), rotation=90,
                            textcoords="offset points", ha="center", va="bottom", fontsize=7,
                            family="monospace")  # fmt: skip
    decoded.colorbar(image, ax=axes[0, 0], label="p(bit = 1 | z)")
    posterior = experiments.GIVEN_PROTOTYPE / experiments.GIVEN_PROTOTYPE.sum(0)
    shares = probs @ posterior.T  # p(prototype | z)
    names = ["".join(map(str, prototype)) for prototype in experiments.PROTOTYPES]
    for share, name in zip(shares.T, names):
        axes[1, 0].plot(z, share, label=name)
    axes[1, 0].set(xlabel="code $z$", ylabel="p(prototype | z)", ylim=(0, 1), xlim=(-2.5, 2.5))
    axes[1, 0].legend(frameon=False, fontsize=8, ncols=2, prop={"family": "monospace", "size": 8})
    label = "M" if not math.isnan(fit.targets[k]) else "VAE"
    decoded.suptitle(f"most probable string and bits along the code, "
                     f"${label} = {fit.targets[k]:.3g}$", fontsize=9)  # fmt: skip
    return {"figure.png": figure, "strings.png": decoded}


def methods(fits, rows, experiment):
    """Rate against distortion for every model, and lines of equal ELBO: solid the best."""
    figure, axes = blank(4, 1, len(fits), width=8)
    for axis, name in zip(axes[0], fits):
        own = [row for row in rows if row["group"] == name]
        labels = [
            row["method"] + ("" if math.isnan(row["target"]) else f", M = {row['target']:.3g}")
            for row in own
        ]
        marks(axis, own, labels, "rate", "distortion")
        entropy = -experiment.groups[name].problem.optimum
        most = max((row["rate"] for row in own if row["rate"] < 10), default=1) + 0.5
        rate = np.array([-0.2, most])
        for lost in (0, 0.5, 1):
            style = {"color": "0.6", "lw": 0.8, "zorder": 0, "ls": ":" if lost else "-"}
            named = {0: "best ELBO", 0.5: "1/2 and 1 nat less"}.get(lost)
            axis.plot(rate, entropy + lost - rate, **style, label=named)
        bottom, top = entropy - most, entropy + 1.4
        beyond = {text for row, text in zip(own, labels) if not bottom < row["distortion"] < top}
        if beyond:  # drawn, they would squeeze the rest
            axis.text(0.97, 0.97, "not in view: " + "; ".join(sorted(beyond)), ha="right", va="top",
                      transform=axis.transAxes, fontsize=8)  # fmt: skip
        axis.set(xlim=rate, ylim=(bottom, top), xlabel="rate (nats)", title=name)
    axes[0, 0].set_ylabel("distortion (nats)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), ncols=6, **ABOVE)
    return {"figure.png": figure}


def faces(fits, rows, experiment):
    """Decoded faces over a grid of codes; the codes of the data, coloured by each factor."""
    (fit,) = fits.values()
    first = np.flatnonzero(fit.seeds == fit.seeds[0])
    side = experiments.SIDE
    truth = experiments.factors(np.random.default_rng(0), 1500)
    x = experiments.draw_faces(truth)
    grid = np.linspace(-1.8, 1.8, 9)
    figure, axes = blank(1.8 * len(first), len(first), 3, width=6)
    for row, k in zip(axes, first):
        a, b = np.meshgrid(grid, grid[::-1])
        z = np.stack([a, b], -1).reshape(-1, 2)
        drawn = fit[k].decoder(z).mean.reshape(9, 9, side, side).transpose(0, 2, 1, 3)
        row[0].imshow(drawn.reshape(9 * side, -1), cmap="gray_r", vmin=-1, vmax=1,
                      extent=(-2, 2, -2, 2))  # fmt: skip
        wanted = "VAE" if math.isnan(fit.targets[k]) else f"MAE, $M = {fit.targets[k]:.3g}$"
        row[0].set(ylabel=f"{wanted}\n$z_2$", xlabel="$z_1$")
        codes = fit[k].encoder(x).mean
        for axis, factor in zip(row[1:], truth.T):
            colors = {"c": factor, "cmap": "coolwarm", "vmin": -1, "vmax": 1}
            dots = axis.scatter(*codes.T, s=1.5, linewidths=0, **colors)
            axis.set(xlabel="$z_1$", ylabel="$z_2$",
                     xlim=(-2.7, 2.7), ylim=(-2.7, 2.7), aspect="equal")  # fmt: skip
            figure.colorbar(dots, ax=axis, ticks=[-1, 0, 1], shrink=0.8)
    for axis, title in zip(axes[0], ("decoder means", "codes by angle", "codes by emotion")):
        axis.set_title(title, fontsize=10)
    return {"figure.png": figure}


def scaling(rows):
    """Seconds against each of the three, and what growing in proportion would be."""
    figure, axes = blank(2.6, 1, 3, width=7, sharey=True)
    for axis, what in zip(axes[0], dict.fromkeys(row["grows"] for row in rows)):
        x, y = np.array([(row["value"], row["seconds"]) for row in rows if row["grows"] == what]).T
        axis.loglog(x, y, "o-", ms=4, label="measured")
        axis.loglog(x, y[-1] * x / x[-1], "--", color="0.5", lw=1, label="in proportion")
        axis.set_xlabel(what)
        axis.set_xticks(x, [f"{value:.0f}" for value in x])
        axis.minorticks_off()
    axes[0, 0].set_ylabel("seconds")
    axes[0, 0].legend(frameon=False, fontsize=8)
    return figure
