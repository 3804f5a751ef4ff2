"""The reviewers' questions, each answered with numbers that are exact.

`train` is the loop of `mae.fit` once more, in the open, so that what the paper leaves to choose can
be exchanged: who stands in for p(z|x), what estimates I, who ascends what. A question is a set of
cases, or a function of its own -> rows of metrics.csv, one per model and `setting`, and the fits.
"""

import contextlib
import math
import re
import time
import timeit
from dataclasses import replace
from functools import partial

import numpy as np
from autograd import elementwise_grad
from autograd.tracer import getval

import batches
import claims
import mae
import models
import nets
import processes
from problems import (
    FIXED, GAUSS, LINES, SEQUENCES, STRINGS, TENS, autoregressive, evaluate, holding, values,
)  # fmt: skip

# ------------------------------------------------------------------------- training in the open

R, Q = 2, 1  # which of decoder, encoder, auxiliary stands in for p(z|x)


def one_sided(decoder, stand_in, z, eps_x, eps_r):
    """The poster's estimate of I, for either side: the infomax bound."""
    return (mae.infomax_bound(decoder, stand_in, z, eps_x),) * 2


def score_function(rng, baseline, decoder, stand_in, z, eps_x, eps_r):
    """The bound with the gradient of REINFORCE: one x drawn, (f - baseline) grad log p(x|z).

    f = log r(z|x); the baseline is the mean f of the batch's other examples, or 0.
    """
    p = decoder(z)
    logits = getval(p.logits)
    x = np.eye(logits.shape[-1])[(logits + rng.gumbel(size=logits.shape)).argmax(-1)]
    f, log_px = stand_in(x).log_prob(z), p.log_prob(x)
    others = (f.sum(-1, keepdims=True) - f) / (f.shape[-1] - 1)
    score = getval(f - others if baseline else f) * (log_px - getval(log_px))
    return (mae.prior_entropy(1) + f + score,) * 2


def train(
    data, *, likelihood, information, seeds, seed, steps, batch=64, r_samples=0, q_samples=1,
    r_steps=1, stand_in=R, estimate=None, constrained=False, look=lambda *_: None, dtype="float32",
):  # fmt: skip
    """`mae.fit` by the Lagrangian, written anew.

    r_steps: of r for each of the model, on batches of their own. stand_in: R or Q, for p(z|x) in
    the estimate of I. constrained: r ascends the constrained objective in place of the bound.
    look(step, models, estimate of I, bound of their weights on this batch) comes before every step.
    """
    sample, features, _ = batches.sampler(data, likelihood)
    sizes = {"features": features, "latent": 1, "hidden": 16}
    sizes |= {"r_samples": r_samples, "q_samples": q_samples, "likelihood": likelihood}
    fit = models.untrained(information, [mae.LAGRANGIAN] * len(information), seed, seeds, **sizes)
    params, given = batches.start(fit, sample, dtype, steps * r_steps, batch)
    m, v, multiplier = np.zeros_like(params), np.zeros_like(params), np.zeros(len(params))
    estimate = estimate or (mae.information_bounds if r_samples else one_sided)
    elbo = mae.iwae if q_samples > 1 else mae.elbo

    ascend, r = partial(_ascend, fit.layout, params, m, v), fit.layout.part["auxiliary"]
    for step in range(steps):
        rate = 1.5e-2 * 0.5 * (1 + math.cos(math.pi * step / steps))
        now = fit.networks(params)  # they move with params, but no gradient passes through them
        bound = lambda own: mae.infomax_bound(now[0], fit.networks(own)[R], *noise[:2]).mean(-1)
        for i in range(1, r_steps):
            _, _, *noise, _ = next(given)
            ascend(bound, rate, (r, step * r_steps + i))
        x, eps_q, *noise, _ = next(given)
        middle = sum(side.mean(-1) / 2 for side in estimate(now[0], now[stand_in], *noise))
        gap = fit.targets * min(1, step / (mae.RAMP * steps)) - middle
        weight = mae.lagrangian(gap, multiplier)[1][:, None].astype(dtype)
        look(step, replace(fit, params=params), middle, bound)

        def objective(params):
            own = fit.networks(params)
            lower, upper = estimate(own[0], (own if constrained else now)[stand_in], *noise)
            information = np.maximum(weight, 0) * lower + np.where(weight < 0, weight, 0) * upper
            ascent = elbo(own[Q], own[0], x, eps_q).mean(-1) + information.mean(-1)
            return ascent if constrained else ascent + bound(params)

        ascend(objective, rate, (slice(r.start), step + 1), (r, (step + 1) * r_steps))
        if step >= mae.RAMP * steps:
            multiplier = mae.ascended(multiplier, gap, r_samples > 0)
    return replace(fit, params=params, history={"multiplier": multiplier[:, None]})


def _ascend(layout, params, m, v, objective, rate, *updates):
    """Move params up the objective; updates: which weights, how many times with this one."""
    grad = layout.clip(elementwise_grad(objective)(params))
    for part, t in updates:
        move, m[:, part], v[:, part] = nets.adam(grad[:, part], m[:, part], v[:, part], t, rate)
        params[:, part] += move


# -------------------------------------------------------------------------------- kinds of cases


def fit(data, wanted, settings):
    """{Method: targets} on data = (problem, likelihood), by `mae.fit` or what the settings say."""
    (problem, likelihood), settings = data, {"seeds": 2, "steps": 1000, "batch": 64} | settings
    methods, targets = zip(*((method, m) for method in wanted for m in wanted[method]))
    way = settings.pop("way", partial(mae.fit, method=methods))
    return way(problem.data, likelihood=likelihood, information=targets, **settings)


def named(question, setting, model):
    """The columns that say which model a row is of."""
    names = {"question": question, "setting": setting, "method": str(model.methods)}
    return names | {"target": float(model.targets), "seed": int(model.seeds)}


def case(question, setting, data, wanted, settings, chosen, report=None):
    """The rows and {setting: Fit} of trained models."""
    models, rows = fit(data, wanted, settings | chosen), []
    for model in models:
        name = f"{setting}, {model.methods}" if len(wanted) > 1 else setting
        row = evaluate(model, data[0]) | named(question, name, model)
        rows.append(row | {"multiplier": float(model.history["multiplier"][-1])})
    return rows, {setting: models}


def traced(question, setting, data, target, points, settings, chosen, report):
    """Rows of the estimates of I and of the bound at so many steps, beside what they estimate."""
    settings, rows = OPEN | settings | chosen, []
    looks = np.linspace(0, settings["steps"] - 1, points).astype(int)

    def look(step, models, middle, bound):
        if step not in looks:
            return
        phase = "held" if step >= mae.RAMP * (settings["steps"] - 1) else "rising"
        for model, estimate, sampled in zip(models, middle, bound(models.params)):
            pair, i, exact = (model.decoder, model.auxiliary), math.nan, math.nan
            with contextlib.suppress(mae.QuadratureError):
                i, exact = map(float, mae.exact_information_and_bound(*pair, tol=1e-6))
            row = named(question, f"{setting}, {phase}", model) | {"step": step}
            row |= {"information": i, "infomax_bound": exact, "kl": i - exact}
            row |= {"estimate": float(estimate), "gap": float(estimate - i)}
            row |= {"sampled_bound": float(sampled), "bound_gap": float(sampled - exact)}
            rows.append(row)

    fit(data, {MAE: [target]}, settings | {"look": look})
    return rows, {}


# ----------------------------------------------------------------------------------- the questions

CLUSTERS = LINES["two clusters"], mae.GAUSSIAN
MAE, FREE = mae.LAGRANGIAN, (mae.annealed(0.5), mae.beta_vae(0.5), mae.infomax(0.1))
OPEN, N4, N16 = {"way": train, "steps": 800}, {"r_samples": 4}, {"r_samples": 16}
vae_and = lambda *methods: dict.fromkeys([mae.VAE, *methods], [None])


def penalty(c):
    return mae.Method(f"C = {c:g}", lambda t, gap, multiplier: (1, 1, c * np.sign(gap)))


def read_back(model):
    """The shares of strings and of bits that the most probable string at q's mean has right."""
    every = np.eye(len(STRINGS))
    right = STRINGS[model.decoder(model.encoder(every).mean).probs.argmax(-1)] == STRINGS
    share = lambda own: float(SEQUENCES.truth(every) @ own)  # right: (string, bit)
    return {"strings": share(right.all(-1)), "bits": share(right.mean(-1))}


def tasks():
    """All that is to be done, in the order of the questions: task(chosen, report) -> rows, fits."""
    for name, data, m, own in (
        ("normal, M = 1", GAUSS, 1.0, N4), ("normal, M = 2.5", GAUSS, 2.5, N4),
        ("ten values", TENS, 2.0, N16), ("fixed variance", FIXED, 0.25, N4),
    ):  # fmt: skip
        yield partial(traced, 1, name, data, m, 40, own)
        yield partial(traced, 2, f"{name}: 1 of r", data, m, 20, {})
        yield partial(traced, 2, f"{name}: 5 of r", data, m, 20, {"r_steps": 5})
    for name, data, m in (
        ("two clusters", CLUSTERS, [0.3, 0.7]), ("fixed variance", FIXED, [0.25, 1.0]),
        ("ten values", TENS, [1.0, 2.0]),
    ):  # fmt: skip
        q, five = {"stand_in": Q}, {"q_samples": 5}
        for judge, own in ("r", {}), ("q", q), ("r, q of 5", five), ("q of 5", q | five):
            yield partial(case, 3, f"{name}: {judge}", data, {MAE: m}, OPEN | own)
    for name, own in ("bound", {}), ("objective", {"constrained": True}):
        yield partial(case, 4, f"r ascends the {name}", FIXED, {MAE: [0.25, 0.5]}, OPEN | own)
    for n in (1, 5, 50):
        own = N16 | {"q_samples": n, "steps": 1200}
        yield partial(case, 5, f"{n} draws", TENS, {MAE: [1.0, 1.5, 2.0, 2.2]}, own)
    for name, data in ("normal", GAUSS), ("fixed variance", FIXED):
        wanted = dict.fromkeys([*map(penalty, (0.1, 0.3, 1, 3, 10, 30)), MAE], [1.0])
        yield partial(case, 6, name, data, wanted, {"seeds": 4})
    yield gradients
    yield betas
    for name, window, wanted, steps in (
        ("causal", 6, vae_and(*FREE[:2]) | {MAE: np.linspace(0.15, 3, 20).tolist()}, 600),
        ("one bit back", 1, vae_and(), 1200),
        ("factorised", 0, vae_and(), 1200),
    ):
        data = SEQUENCES._replace(extras=read_back), autoregressive(name, window)
        own = {"batch": 32, "learning_rate": 0.02, "r_samples": 1, "seeds": 1, "steps": steps}
        yield partial(case, 9, name, data, wanted, own)
    yield costs
    for name, data, m, own in ("fixed variance", FIXED, 1, N4), ("ten values", TENS, 2, N16):
        wanted = vae_and(*FREE, *holding(data[0], m)) | {mae.PENALTY: [m], MAE: [m]}
        yield partial(case, 11, name, data, wanted, own)


def gradients(chosen, report):
    """7, and the variance of the decoder's gradient at the models trained by the exact sum."""
    rng, rows, judged = np.random.default_rng(chosen["seed"]), [], None
    for name, estimate in (
        ("exact sum", one_sided),
        ("score function", partial(score_function, rng, False)),
        ("and a baseline", partial(score_function, rng, True)),
    ):
        own, fits = case(7, name, TENS, {MAE: [1.0, 2.0]}, OPEN | {"estimate": estimate}, chosen)
        judged = judged or fits[name]
        rows += [row | {"variance": variance(judged[k], estimate)} for k, row in enumerate(own)]
    return rows, {}


def variance(model, estimate, batches=400):
    """Of the gradient of the mean bound of 64 codes, summed over the decoder's weights."""
    z = np.random.default_rng(0).standard_normal((batches, 64, 1))
    params = np.tile(model.params, (batches, 1))
    r = model.networks(params)[R]
    bound = lambda own: estimate(model.networks(own)[0], r, z, None, None)[0].mean(-1)
    grad = elementwise_grad(bound)(params)[:, model.layout.part["decoder"]]
    return float(grad.var(0).sum())


def betas(chosen, report):
    """8: beta chosen on other seeds so that I = M; on these, and the MAE; and dI / dbeta there."""
    rows, other = [], chosen | {"seeds": 2, "seed": chosen["seed"] + 1000}
    for name, data, target, grid in (  # of beta, around the one that gives the target
        ("ten values", TENS, 1.0, np.linspace(0.88, 0.98, 6)),
        ("two clusters", CLUSTERS, 1.0, np.linspace(0.92, 1, 6)),
        ("fixed variance", FIXED, 0.4, np.linspace(2.4, 3, 4)),
    ):
        sweep, _ = case("8 sweep", name, data, vae_and(*map(mae.beta_vae, grid)), {}, other)
        found = values(sweep, "information")[2:].reshape(-1, 2).mean(1)  # without the VAE's
        beta = round(float(np.interp(-target, -found, grid)), 4)
        slope = float(np.interp(beta, grid, np.gradient(found, grid)))
        wanted = {mae.beta_vae(beta): [None], MAE: [target]}
        own, _ = case(8, name, data, wanted, {"seeds": 4}, chosen)
        rows += [row | {"target": target, "slope": slope} for row in own] + sweep
    return rows, {}


def costs(chosen, report):
    """10: milliseconds of processor time per step of 16 models, 64 examples, ten values of x."""
    free_of_i = lambda decoder, stand_in, z, *noise: (0 * z[..., 0],) * 2
    score = partial(score_function, np.random.default_rng(0), True)
    rows, settings = [], {"seeds": 16, "seed": chosen["seed"], "steps": 50}
    for name, own in {
        "VAE, annealing, beta": OPEN | {"estimate": free_of_i, "constrained": True},
        "MAE, penalty, IM: the bound": {"r_samples": 0},
        "the same, 4 proposals": N4,
        "the same, 16 proposals": N16,
        "the bound, 5 steps of r": OPEN | {"r_steps": 5},
        "the bound, score function": OPEN | {"estimate": score},
        "4 proposals, q of 5": N4 | {"q_samples": 5},
        "4 proposals, q of 50": N4 | {"q_samples": 50},
    }.items():
        once = partial(fit, TENS, {MAE: [1.0]}, own | settings)
        seconds = min(timeit.repeat(once, timer=time.process_time, repeat=3, number=1))
        ms = 1000 * seconds / settings["steps"]
        rows.append({"question": 10, "setting": name, "target": 1.0, "ms": ms})
        rows[-1]["relative"] = rows[-1]["ms"] / rows[0]["ms"]
    return rows, {}


# ----------------------------------------------------------------------------------------- answers


def run(chosen, jobs, progress):
    """Rows of all questions, and {setting: Fit}."""
    todo = [partial(task, {"seed": 0} | chosen) for task in tasks()]
    found = processes.parallel(todo, jobs, progress)
    return sum((rows for rows, _ in found), []), {k: own[k] for _, own in found for k in own}


BOUND = {"information": "I", "infomax_bound": "bound", "below_optimum": "likelihood lost"}
HOLD = {"information": "I", "below_optimum": "likelihood lost"}
COLUMNS = {  # of the table of each question
    1: {"gap": "estimate - I", "bound_gap": "sampled bound - bound"},
    2: {"kl": "KL[p(z|x) || r]"},
    3: BOUND, 4: BOUND,
    5: HOLD | {"multiplier": "multiplier", "elbo": "ELBO"},
    6: HOLD, 7: {"variance": "variance"} | HOLD,
    8: HOLD | {"slope": "dI / d beta"},
    9: HOLD | {"elbo": "ELBO", "strings": "strings", "bits": "bits"},
    10: {"ms": "ms", "relative": "in those of a VAE"},
    11: {"rate": "rate", "distortion": "distortion", "information": "I_p",
         "encoder_information": "I_q", "marginal_kl": "KL[q(z)||p]"},
}  # fmt: skip


def tables(rows):
    """{question: a line per setting and target, of up to four columns ± half the range}."""
    found = {}
    for question, columns in COLUMNS.items():
        own = [row for row in rows if row["question"] == question]
        spread = columns if len(columns) <= 4 else ()
        lines = claims.cells(own, ("setting", "target"), columns, 4, spread)
        found[question] = claims.aligned([["", "M", *columns.values()], *lines], left=1)
    return found


def page(text, tables):
    """A page with these tables, each in the block under its mark, <!-- question -->."""
    for question, own in tables.items():
        block = rf"(?s)(<!-- {question} -->\n```).*?\n```"
        if question != 10:  # times do not last
            text = re.sub(block, lambda found: f"{found[1]}\n{own}\n```", text)
    return text
