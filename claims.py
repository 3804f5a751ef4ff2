"""Tables of what was found, and the poster's claims: a number, a bar, and whether it holds.

Functions named like experiments take their rows and yield (claim, what is wanted, what was found,
whether it holds); a number that is nan does not hold.
"""

import math
from functools import partial

import numpy as np

from problems import INTERVAL_REACHED, REACHED, STD, UNIFORM, label, restricted_curve, values


def off(rows, column="information", **where):
    """|column - target| of the models under constraint."""
    where = {"method": "lagrangian", **where}
    return np.abs(values(rows, column, **where) - values(rows, "target", **where))


# A claim: what, the bar, the number found, the worst of several; whether it holds (not if nan).


def at_most(claim, bar, found):
    return claim, f"<= {bar:g}", np.max(found), np.max(found) <= bar


def at_least(claim, bar, found):
    return claim, f">= {bar:g}", np.min(found), np.min(found) >= bar


def split_normal(rows):
    yield at_most("a VAE ignores its code: I", 0.01, values(rows, "information", method="vae"))
    yield at_most("MAE: |I - M| at every M", 0.01, off(rows))
    yield at_most("no likelihood lost, nats", 0.002, values(rows, "below_optimum"))


def categorical(rows):
    below = [row for row in rows if not row["target"] > 2.2]
    called = sum(row["reached"] for row in rows if row["target"] > 2.2)
    above = values(rows, "infomax_bound") - UNIFORM.ceiling
    yield at_most("a VAE ignores its code: I", 0.01, values(rows, "information", method="vae"))
    yield at_most("MAE: |I - M|, M to 2.2", REACHED, off(below))
    yield at_most("no likelihood lost, nats, M to 2.2", 0.001, values(below, "below_optimum"))
    yield at_most("any Gaussian r: bound above its ceiling", 1e-8, above)
    yield at_most("M = ln 10, out of reach: models called reached", 0, called)


def likelihood(rows):
    of = partial(values, rows, group="restricted")
    above = of("log_likelihood") - restricted_curve(of("information"))
    vae = np.abs(of("information", method="vae") + math.log(STD))
    short = values(rows, "below_optimum", group="expressive")
    yield at_least("restricted: log-likelihood above its curve, nats", -0.01, above)
    yield at_most("restricted, VAE: |I - (-ln s)|", 0.02, vae)
    yield at_most("restricted, M = 0: I", 0.005, of("information", target=0.0))
    yield at_most("expressive: below the optimum at any I, nats", 0.003, short)
    yield at_most("both: |I - M|, M > 0", 0.01, off([row for row in rows if row["target"] > 0]))


def sequences(rows):
    of = lambda column, group, method="vae": values(rows, column, group=group, method=method)
    kl = of("below_optimum", "causal", "lagrangian")
    yield at_most("causal decoder, VAE: I", 0.15, of("information", "causal"))
    yield at_most("causal decoder, VAE: KL(true || model)", 0.001, of("below_optimum", "causal"))
    yield at_most("causal decoder, MAE: |I - M|", REACHED, off(rows, group="causal"))
    yield at_most("causal decoder, MAE: KL(true || model)", 0.003, kl)
    for group in ("one bit back", "factorised"):
        yield at_least(f"{group}, VAE: I", 0.7, of("information", group))
        yield at_least(f"{group}, VAE: KL, mean over seeds", 0.1, of("below_optimum", group).mean())
    annealed = {row["method"] for row in rows if row["method"].startswith("anneal")}
    means = [of("information", "causal", method).mean() for method in annealed]
    yield at_least("KL annealing: I moves with the schedule, by", 0.3, np.ptp(means))


def methods(rows):
    of = lambda column, method, **where: values(rows, column, method=method, **where)
    bound = of("infomax_bound", "im:0.1", group="categorical")
    dear, hard = of("below_optimum", "im:0.1", group="split-normal"), of("below_optimum", "penalty")
    able = [row for row in rows if row["group"] != "restricted"]  # to have the optimum at any I
    lost = values(able, "below_optimum", method="lagrangian")
    rate = [row["information"] for row in rows if row not in able and ":1" in row["method"]]
    yield at_least("IM on categorical: bound", 2.09, bound)
    yield at_most("IM on categorical: bound above its ceiling, nats", 1e-8, bound - UNIFORM.ceiling)
    yield at_least("IM pays with likelihood: nats lost", 0.1, dear)
    yield at_most("beta = 2 ignores the code: I", 0.01, of("information", "beta:2"))
    yield at_most("MAE: |I - M|", REACHED, off(rows))
    yield at_most("MAE: likelihood lost, nats", 0.002, lost)
    yield at_least("penalty pays with likelihood: nats lost", 0.002, hard.max())
    yield at_least("rate held at 1, restricted: I below 1 by", 0.15, 1 - max(rate))


def digits(rows):
    ends = [off(rows, end) for end in ("information_low", "information_high")]
    yield at_most("MAE: M to the ends of the interval of I", INTERVAL_REACHED, ends)


def faces(rows):
    yield at_least("angle from the code, R^2", 0.97, values(rows, "r2_angle"))
    yield at_least("emotion from the code, R^2", 0.97, values(rows, "r2_emotion"))
    yield from digits(rows)


def information(rows):
    ends = off(rows, "information_low"), off(rows, "information_high")
    most, both, exact = np.maximum(*ends), values(rows, "r_samples") > 0, ends[0] == ends[1]
    worst, faces = most[~both & exact].max(), most[~both & ~exact].max()
    yield at_most("both sides: |I - M| on all data of one feature", REACHED, most[both & exact])
    yield at_least("bound alone: |I - M| of the worst of these", 0.2, worst)
    yield at_most("both sides, faces: M to the ends", INTERVAL_REACHED, most[both & ~exact])
    yield at_least("bound alone, faces: M to the ends", 1, faces)


def questions(rows):
    def of(column, question, text=""):
        own = (row for row in rows if row["question"] == question and text in row["setting"])
        return np.array([row[column] for row in own])

    away = lambda *which: np.abs(of("information", *which) - of("target", *which)).max()
    lost = partial(of, "below_optimum")
    one, five = (of("kl", 2, f"{n} of r, held").mean() for n in (1, 5))
    score = of("variance", 7, "score").mean() / of("variance", 7, "sum").mean()
    beta, own = (np.ptp(of("information", 8, f"ten values, {name}")) for name in ("beta", "lag"))
    others, held = np.split(of("strings", 9, "causal"), [3 * of("strings", 9, "vae").size])
    draws = lost(5, "1 draws").mean() - lost(5, "50 draws").mean()
    dear = of("relative", 10, "same, 4") > 8
    yield at_most("1 I estimated by a batch: mean |error|", 0.1, np.abs(of("gap", 1)).mean())
    yield at_most("2 one step of r: I - bound, M held", 0.1, one)
    yield at_most("2 five steps of r: the same, relative", 1, five / one)
    yield at_least("3 q of 5 draws for r: |I - M|", 0.15, away(3, ": q of 5"))
    yield at_least("4 r ascends the objective: I, M = 0.25", 0.6, of("information", 4, "obj"))
    yield at_most("5 likelihood lost by 1 draw less by 50", 0.002, draws)
    yield at_least("6 C = 0.1, fixed variance: |I - M|", 0.2, away(6, "variance, C = 0.1"))
    yield at_least("6 C = 30, normal: likelihood lost", 0.02, lost(6, "normal, C = 30").max())
    yield at_least("7 score function: variance, relative", 5, score)
    yield at_least("7 score function: I short of M by more", 0.2, away(7, "score") - away(7, "sum"))
    yield at_least("8 I over seeds: spread by beta, relative", 3, beta / max(own, 1e-9))
    yield at_least("9 strings right: MAE less any other", 0.03, held.max() - others.max())
    yield at_most("10 both sides: over 8 times a VAE's step", 0, dear.sum())
    yield at_most("11 |KL - C| holds 2 nats: least I", 1.8, of("information", 11, "KL").min())


# ------------------------------------------------------------------------------------- tables

HEADS = {"infomax_bound": "infomax bound", "log_likelihood": "log-likelihood", "elbo": "ELBO"}
HEADS |= {"below_optimum": "lost", "encoder_information": "I of q", "marginal_kl": "KL[q||p]"}
HEADS |= {"information_low": "I from", "information_high": "to", "group": "data"}
HEADS |= {"r2_angle": "R2 angle", "r2_emotion": "R2 emotion"}
LIKELIHOOD_KEPT = 0.01  # nats below the optimum that need no warning


def grouped(rows, key):
    """{key(row): the rows that have it}, in order."""
    groups = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def by_keys(rows, keys):
    """{labels of these columns: rows}, in order."""
    return grouped(rows, lambda row: tuple(label(row[key]) for key in keys))


def aligned(lines, left=0):
    """The lines as one text, so many of their columns flush left, the others flush right."""
    widths = [max(map(len, column)) for column in zip(*lines)]
    sides = "<" * left + ">" * (len(widths) - left)
    cells = (map("{:{}{}}".format, line, sides, widths) for line in lines)
    return "\n".join("  ".join(line).rstrip() for line in cells)


def cell(found, digits, spread):
    """Of several models: how many, or the mean of what is known; if asked ± half the range."""
    if found.dtype == bool:
        return f"{found.sum()} of {len(found)}"
    known = found[~np.isnan(found)]
    text = f"{known.mean().round(digits) + 0:.{digits}f}" if len(known) else "-"
    return text + f" ± {np.ptp(known) / 2:.{digits}f}" if spread and len(known) > 1 else text


def cells(rows, keys, columns, digits=3, spread=("information",)):
    """A line for the rows that agree in the keys: these, and a cell for each column."""
    return [
        [*names, *(cell(values(own, name), digits, name in spread) for name in columns)]
        for names, own in by_keys(rows, keys).items()
    ]


def table(rows, keys, heads):
    """One line per target (and method): means over seeds, of I ± half the range; by group."""
    if len(keys) > 2:
        parts = by_keys(rows, keys[:1]).items()
        return "\n\n".join(f"{name}:\n{table(own, keys[1:], heads)}" for (name,), own in parts)
    heads = *heads, "reached"
    return aligned([[HEADS.get(name, name) for name in keys + heads], *cells(rows, keys, heads)])


def complaints(rows, experiment):
    """What was wanted and not had: targets, and likelihood where nothing stands in its way."""
    for names, group in by_keys(rows, experiment.keys).items():
        name = ", ".join(f"{key} {text}" for key, text in zip(experiment.keys, names))
        chosen = experiment.groups[group[0]["group"]]
        short = max(row["below_optimum"] for row in group)
        promised = group[0]["method"] in ("vae", "lagrangian", "penalty") and chosen.expressive
        if promised and short > LIKELIHOOD_KEPT:
            yield f"WARNING: {name}: log-likelihood up to {short:.4f} nats below optimum."
        missed = [row for row in group if not row["reached"]]
        if not missed:
            continue
        ends = lambda row: np.array([row["information_low"], row["information_high"]])
        away = lambda row: np.nan_to_num(abs(ends(row).mean() - row["target"]), nan=math.inf)
        low, high = (f"{end:.4f}" for end in ends(min(missed, key=away)))
        known = f"I is {low}" if low == high else f"I is between {low} and {high}"
        known = "nothing is known of I" if low == "nan" else f"{known} in the nearest"
        yield f"WARNING: {name} was not reached by {len(missed)} of {len(group)} models; {known}."
        if missed[0]["target"] > chosen.problem.ceiling:
            why = "p(x|z) would have to switch between values of x within no width of z at all"
            most = f"the bound alone could not certify more than {chosen.problem.ceiling:.4f} nats"
            yield f"  Why: {why}; {most}."


def divergences(fit):
    for k in np.flatnonzero(fit.diverged >= 0):
        model = f"{fit.methods[k]}, target {label(fit.targets[k])}, seed {fit.seeds[k]}"
        yield f"WARNING: {model} diverged and was frozen at step {fit.diverged[k]}."


def summary(claimed):
    """Each claim of the poster: the number wanted, the number found, holds or not."""
    lines = [["experiment", "claim", "wanted", "found", ""]]
    for name, (claim, wanted, found, holds) in claimed:
        lines.append([name, claim, wanted, f"{found:.2g}", "holds" if holds else "DOES NOT HOLD"])
    return aligned(lines, left=5)
