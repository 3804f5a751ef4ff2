"""Writes golden.json: the method once more, from its definitions, at 50 digits and in plain loops.

    python tests/make_golden.py            # rewrite tests/golden.json
    python tests/make_golden.py --check    # recompute and compare

Nothing of the project is imported: this file is a second witness. It knows no arrays, no automatic
differentiation and no adaptive quadrature: one example after the other, differences for gradients,
sums on uniform grids for integrals. Read it as the naive definition of every quantity.
"""

import json
import sys
from decimal import Decimal as D
from decimal import getcontext
from pathlib import Path

OUTPUT = Path(__file__).with_name("golden.json")

getcontext().prec = 50
PI = D("3.1415926535897932384626433832795028841971693993751058209749")
LOG_2PI = (2 * PI).ln()

# ------------------------------------------------------------------------------ what is given


def numbers(text):
    return [D(word) for word in text.split()]


def rows(text):
    return [numbers(row) for row in text.split("/")]


def blocks(text):
    return [rows(block) for block in text.split("//")]


# Weights: a line for each layer or two; a wide gap ends a row; a row is one unit, its bias last.
PROBLEMS = {
    "gaussian": {
        "likelihood": "gaussian",
        "sizes": {"decoder": [1, 3, 2], "encoder": [1, 3, 2], "auxiliary": [1, 3, 2]},
        "decoder": numbers("""
            0.9 0.2   -1.3 0.4   0.35 -0.8
            1.1 -0.7 0.45 0.15   0.3 0.25 -0.5 -1.2"""),
        "encoder": numbers("""
            0.8 -0.1   -0.55 0.7   1.2 0.3
            0.6 -0.9 0.35 -0.05   -0.4 0.2 0.15 -1.1"""),
        "auxiliary": numbers("""
            0.7 -0.25   1.15 0.1   -0.45 -0.6
            0.75 0.4 -0.85 -0.3   0.2 -0.35 0.5 -0.9"""),
        "x": rows("0.62 / -1.35 / 2.21 / -0.48 / 0.07"),
        "eps_z": rows("-0.71 / 1.32 / 0.44 / -1.87 / 0.09"),
        "z": rows("0.83 / -1.46 / 0.27 / 1.95 / -0.58"),
        "eps_x": rows("0.37 / 0.91 / -1.24 / -0.16 / 0.53"),
        "target": {"above": D("1.3"), "below": D("0.12")},
        "multiplier": {"above": D("-0.35"), "below": D("0.8")},
        "eps_r": blocks("""
            0.58 / -0.93 / 1.41 / 0.22 / -1.67 // -0.34 / 0.76 / -0.11 / 1.08 / 0.49 //
            -1.25 / 0.31 / 0.87 / -0.68 / 0.02"""),
        "eps_q": blocks("""
            0.15 / -1.12 / 0.66 / 0.91 / -0.27 // 1.73 / 0.38 / -0.84 / -0.05 / 0.59 //
            -0.46 / 1.29 / 0.12 / -1.54 / 0.97"""),
    },
    "categorical": {
        "likelihood": "categorical",
        "sizes": {"decoder": [1, 3, 4], "encoder": [4, 3, 2], "auxiliary": [4, 3, 2]},
        "decoder": numbers("""
            1.4 -0.3   -0.9 0.65   1.7 1.2
            -1.9 0.8 -0.6 0.25   0.7 1.1 1.6 -0.4   0.45 -1.2 0.9 0.1   1.8 -0.75 -0.5 -0.15"""),
        "encoder": numbers("""
            0.85 -0.4 0.3 -1.1 0.2   -0.7 0.15 0.95 0.5 -0.35   0.4 1.25 -0.6 -0.2 0.05
            -1.05 0.55 -0.3 0.1   0.35 -0.45 0.2 -0.8"""),
        "auxiliary": numbers("""
            -1.2 -0.35 0.45 1.1 0.15   0.6 -0.5 0.25 -0.9 -0.1   -0.2 0.75 0.4 0.65 -0.55
            0.95 -0.65 0.3 -0.05   -0.25 0.4 -0.15 -0.7"""),
        "x": rows("0 0 1 0 / 1 0 0 0 / 0 0 0 1 / 0 1 0 0 / 0 0 1 0"),
        "eps_z": rows("0.47 / -1.58 / 0.93 / 0.12 / -0.66"),
        "z": rows("-1.21 / 0.54 / 1.73 / -0.32 / 0.08"),
        "target": {"above": D("0.9"), "below": D("0.05")},
        "multiplier": {"above": D("0.6"), "below": D("-0.45")},
        "eps_r": blocks("0.72 // -1.18 // 0.29"),
        "eps_q": blocks("""
            -0.36 / 0.84 / 1.27 / -0.59 / 0.18 // 0.95 / -0.23 / -1.41 / 0.67 / 1.06 //
            -0.08 / 1.62 / 0.33 / -0.77 / -1.15"""),
    },
    # two codes and three features: here a mean in place of a sum over features shows
    "multivariate": {
        "likelihood": "gaussian",
        "sizes": {"decoder": [2, 3, 6], "encoder": [3, 3, 4], "auxiliary": [3, 3, 4]},
        "decoder": numbers("""
            0.8 -0.5 0.1   0.3 1.1 -0.2   -0.6 0.7 0.45
            1.2 0.4 -0.3 0.05   -0.35 0.9 0.65 -0.1   0.5 -0.8 0.25 0.3
            0.2 -0.15 0.4 -1.3   -0.3 0.1 0.25 -0.9   0.15 0.35 -0.2 -1.6"""),
        "encoder": numbers("""
            0.55 -0.1 0.2 -0.04   0.15 0.27 -0.45 0.35   0.5 0.2 -0.7 0.33
            1.05 -0.2 0.8 -0.06   -0.45 1.6 0.1 -0.07
            -0.1 0.15 -0.35 -0.85   0.12 -0.05 -0.1 -1.4"""),
        "auxiliary": numbers("""
            0.52 0.1 0.15 0.45   0.3 0.25 -0.55 0.4   -0.45 0.25 0.23 0.55
            1.1 0.35 -0.95 -0.05   -0.5 1.6 0.55 -0.1
            0.08 -0.2 0.4 -1.05   0.4 -0.15 0.25 -1.6"""),
        "x": rows("0.4 -0.9 1.3 / -1.1 0.25 0.6 / 0.75 1.4 -0.35 / -0.2 -0.65 -0.8 / 1.8 0.1 0.45"),
        "eps_z": rows("0.3 -1.2 / -0.85 0.6 / 1.45 0.15 / -0.4 -0.7 / 0.95 1.1"),
        "z": rows("0.65 -0.4 / -1.3 0.9 / 0.2 1.55 / 1.1 0.35 / -0.75 -1.05"),
        "eps_x": rows("-0.5 0.8 0.2 / 1.1 -0.3 -0.9 / 0.1 0.7 -1.4 / -0.2 -1.6 0.4 / 0.9 0.35 0.6"),
        "target": {"above": D("2.4"), "below": D("0.3")},
        "multiplier": {"above": D("-0.7"), "below": D("0.25")},
        "eps_r": blocks("""
            0.42 -0.67 / 1.15 0.08 / -0.91 0.54 / -0.26 -1.33 / 0.73 1.48 //
            -0.58 0.39 / 0.17 -1.06 / 1.37 0.82 / -0.44 0.21 / 0.05 -0.95 //
            0.88 1.24 / -1.52 0.63 / 0.31 -0.19 / 0.69 0.47 / -0.78 -0.13"""),
        "eps_q": blocks("""
            -0.33 0.74 / 0.61 1.19 / -1.08 -0.52 / 0.27 0.86 / 1.55 -0.41 //
            0.94 -0.16 / -0.72 0.35 / 0.48 1.31 / -1.27 0.03 / -0.64 0.57 //
            0.11 -1.43 / 1.02 -0.88 / -0.29 0.65 / 0.83 -0.37 / -0.06 1.21"""),
    },
}
CONSTANTS = {"C": D(10), "rho": D(5)}

# The gradients of the three steps reach from 0 and 1e-9 (where Adam's eps matters) to 1e3.
ADAM = {
    "learning_rate": D("0.01"),
    "beta1": D("0.9"),
    "beta2": D("0.999"),
    "eps": D("1e-8"),
    "start": PROBLEMS["gaussian"]["decoder"],
    "gradients": rows("""
        0.3 -1.2 0 2e-8 45 -0.007 1e-9 -0.6 1.5 -3e-8 0.02 -800 0.11 -0.45 /
        -0.8 -1.1 0 -1e-8 12 0.009 4e-9 0.6 0 5e-8 -0.03 650 0.13 0.9 /
        0.25 0.4 0.7 3e-8 -90 -0.001 -2e-9 0.3 -2.5 1e-8 0.05 1000 0.12 -0.2"""),
}

# ------------------------------------------------------------------------------ building blocks


def mean(values):
    return sum(values) / len(values)


def tanh(t):
    e = (2 * t).exp()
    return (e - 1) / (e + 1)


def mlp(weights, values, sizes):
    """One example through a fully connected network, tanh after every layer but the last."""
    position = 0
    for layer, outputs in enumerate(sizes[1:], 1):
        inputs, values = values, []
        for _ in range(outputs):
            total = D(0)
            for value in inputs:
                total += weights[position] * value
                position += 1
            total += weights[position]  # the bias
            position += 1
            values.append(total if layer == len(sizes) - 1 else tanh(total))
    return values


def decoder(p, z):
    """Means, then log-variances, of x; or logits."""
    return mlp(p["decoder"], z, p["sizes"]["decoder"])


def encoder(p, x):
    """Means, then log-variances, of z."""
    return mlp(p["encoder"], x, p["sizes"]["encoder"])


def auxiliary(p, x):
    """Means, then log-variances, of z."""
    return mlp(p["auxiliary"], x, p["sizes"]["auxiliary"])


def halves(params):
    return params[: len(params) // 2], params[len(params) // 2 :]


def gaussian_log_prob(x, params):
    total = D(0)
    for t, m, log_var in zip(x, *halves(params)):
        total -= (LOG_2PI + log_var + (t - m) ** 2 / log_var.exp()) / 2
    return total


def log_prior(z):
    return gaussian_log_prob(z, [D(0)] * (2 * len(z)))


def gaussian_sample(params, eps):
    return [m + (log_var / 2).exp() * e for m, log_var, e in zip(*halves(params), eps)]


def gaussian_kl(params):
    """KL[N(m, e^log_var) || N(0, 1)], summed over the features."""
    return sum((log_var.exp() - 1 - log_var + m**2) / 2 for m, log_var in zip(*halves(params)))


def softmax(logits):
    weights = [logit.exp() for logit in logits]
    total = sum(weights)
    return [weight / total for weight in weights]


def decoder_log_prob(p, x, params):
    """log p(x|z), params the decoder's output at z."""
    if p["likelihood"] == "gaussian":
        return gaussian_log_prob(x, params)
    return sum(t * prob.ln() for t, prob in zip(x, softmax(params)) if t)


def one_hots(p):
    categories = p["sizes"]["decoder"][-1]
    return [[D(i == j) for i in range(categories)] for j in range(categories)]


# ------------------------------------------------------------------------------ the two bounds


def prior_entropy(dim):
    """H(z) of z ~ N(0, I)."""
    return dim * (LOG_2PI + 1) / 2


def elbo(p, i):
    """log p(x|z) - KL[q(z|x) || N(0, I)] of example i, z the encoder's sample with noise eps_z."""
    q = encoder(p, p["x"][i])
    z = gaussian_sample(q, p["eps_z"][i])
    return decoder_log_prob(p, p["x"][i], decoder(p, z)) - gaussian_kl(q)


def infomax_bound(p, i):
    """H(z) + log r(z|x) of code i, x = the decoder's sample with noise eps_x.

    Of a categorical x the expectation: the sum over the categories, weighted by p(x|z).
    """
    z = p["z"][i]
    params = decoder(p, z)
    if p["likelihood"] == "gaussian":
        x = gaussian_sample(params, p["eps_x"][i])
        log_r = gaussian_log_prob(z, auxiliary(p, x))
    else:
        log_r = D(0)
        for prob, x in zip(softmax(params), one_hots(p)):
            log_r += prob * gaussian_log_prob(z, auxiliary(p, x))
    return prior_entropy(len(z)) + log_r


def mean_elbo(p):
    return mean([elbo(p, i) for i in range(len(p["x"]))])


def mean_infomax_bound(p):
    return mean([infomax_bound(p, i) for i in range(len(p["z"]))])


# ------------------------------------------------------------------------- I from both sides


def weight(p, x, z, proposal):
    """p(x|z) p(z) / proposal(z|x), proposal a Gaussian's parameters."""
    log_joint = decoder_log_prob(p, x, decoder(p, z)) + log_prior(z)
    return (log_joint - gaussian_log_prob(z, proposal)).exp()


def information_bounds(p, i):
    """log p(x|z) - log mean w of code i, lower and upper: with and without z's own w.

    x = the decoder's sample with noise eps_x, the other w are of samples of r(z|x) with each of the
    noises eps_r. Of a categorical x the expectation; eps_r is then that of all codes.
    """
    z = p["z"][i]
    params = decoder(p, z)

    def of_x(x):
        r = auxiliary(p, x)
        noises = [block[i if len(block) > 1 else 0] for block in p["eps_r"]]
        others = [weight(p, x, gaussian_sample(r, eps), r) for eps in noises]
        log_p = decoder_log_prob(p, x, params)
        return log_p - mean([weight(p, x, z, r), *others]).ln(), log_p - mean(others).ln()

    if p["likelihood"] == "gaussian":
        return of_x(gaussian_sample(params, p["eps_x"][i]))
    every = [of_x(x) for x in one_hots(p)]
    return tuple(sum(q * b for q, b in zip(softmax(params), bounds)) for bounds in zip(*every))


def iwae(p, i):
    """log mean w of example i, the w of samples of q(z|x) with each of the noises eps_q."""
    x = p["x"][i]
    q = encoder(p, x)
    return mean([weight(p, x, gaussian_sample(q, block[i]), q) for block in p["eps_q"]]).ln()


def mean_information_bounds(p):
    return [mean(side) for side in zip(*[information_bounds(p, i) for i in range(len(p["z"]))])]


def mean_iwae(p):
    return mean([iwae(p, i) for i in range(len(p["x"]))])


# ------------------------------------------------------------------------ constrained objectives


def penalty(p, side):
    """-C |B - M|, B the mean bound and M the target."""
    return -CONSTANTS["C"] * abs(mean_infomax_bound(p) - p["target"][side])


def lagrangian(p, side):
    """lambda (B - M) - rho/2 (B - M)^2."""
    excess = mean_infomax_bound(p) - p["target"][side]
    return p["multiplier"][side] * excess - CONSTANTS["rho"] / 2 * excess**2


def penalty_slope(p, side):
    """Derivative of the penalty with respect to B."""
    return CONSTANTS["C"] * (1 if mean_infomax_bound(p) < p["target"][side] else -1)


def lagrangian_slope(p, side):
    """Derivative of the Lagrangian term with respect to B."""
    excess = mean_infomax_bound(p) - p["target"][side]
    return p["multiplier"][side] - CONSTANTS["rho"] * excess


# ------------------------------------------------------------------------ gradients and Adam


def gradient(f, p, network):
    """Central differences: the step errs by about 1e-24, rounding by 1e-38."""
    return gradient_of_all(lambda p: [f(p)], p, network)[0]


def gradient_of_all(functions, p, network):
    """Those of several values that are computed together: a list for each."""
    step = D("1e-12")
    slopes = []
    for k in range(len(p[network])):
        up, down = list(p[network]), list(p[network])
        up[k] += step
        down[k] -= step
        ends = zip(functions({**p, network: up}), functions({**p, network: down}))
        slopes.append([(high - low) / (2 * step) for high, low in ends])
    return [list(own) for own in zip(*slopes)]


def adam():
    """Steps uphill from the start; the state after each of the gradients."""
    beta1, beta2 = ADAM["beta1"], ADAM["beta2"]
    weights = list(ADAM["start"])
    m, v = [D(0)] * len(weights), [D(0)] * len(weights)
    states = {"step": [], "m": [], "v": [], "weights": []}
    for t, grad in enumerate(ADAM["gradients"], 1):
        step = []
        for k, g in enumerate(grad):
            m[k] = beta1 * m[k] + (1 - beta1) * g
            v[k] = beta2 * v[k] + (1 - beta2) * g * g
            m_hat, v_hat = m[k] / (1 - beta1**t), v[k] / (1 - beta2**t)
            step.append(ADAM["learning_rate"] * m_hat / (v_hat.sqrt() + ADAM["eps"]))
            weights[k] += step[k]
        for name, values in (("step", step), ("m", m), ("v", v), ("weights", weights)):
            states[name].append(list(values))
    return states


# ------------------------------------------------------------------ exact values, one-dimensional z


def settled(integral):
    """An integral over the line, (points, step) -> value, on a grid so fine that 18 decimals stay.

    The integrands are smooth and vanish far out. There the trapezoidal rule, which is then the sum
    over the points times the step, converges exponentially: to halve the step and to go further out
    must change nothing at 1e-18.
    """
    coarse = None
    for step, reach in (("0.125", 12), ("0.0625", 14), ("0.03125", 16)):
        step = D(step)
        last = int(reach / step)
        fine = integral([k * step for k in range(-last, last + 1)], step)
        if coarse is not None and abs(fine - coarse) < D("1e-18"):
            return fine
        coarse = fine
    raise AssertionError("an integral has not settled")


def exact_log_likelihood(p, i):
    """log integral p(z) p(x|z) dz for example i."""

    def log_p_x(points, step):
        total = D(0)
        for z in points:
            log_p_x_z = decoder_log_prob(p, p["x"][i], decoder(p, [z]))
            total += step * (log_prior([z]) + log_p_x_z).exp()
        return total.ln()

    return settled(log_p_x)


def exact_elbo(p, i):
    """integral q(z|x) log p(x|z) dz - KL[q(z|x) || N(0, 1)] for example i."""
    q = encoder(p, p["x"][i])

    def reconstruction(points, step):
        total = D(0)
        for z in points:
            log_p_x_z = decoder_log_prob(p, p["x"][i], decoder(p, [z]))
            total += step * gaussian_log_prob([z], q).exp() * log_p_x_z
        return total

    return settled(reconstruction) - gaussian_kl(q)


def exact_encoder_information(p):
    """The mean over the examples of KL[q(z|x) || the mean over the examples of q(z|x)]."""
    codes = [encoder(p, x) for x in p["x"]]

    def information(points, step):
        total = D(0)
        for z in points:
            log_q = [gaussian_log_prob([z], q) for q in codes]
            log_mean = mean([t.exp() for t in log_q]).ln()
            total += step * mean([t.exp() * (t - log_mean) for t in log_q])
        return total

    return settled(information)


def joint_mean(p, value):
    """E value(z, log p(x|z), log p(x), r), z, x ~ p(z) p(x|z), r the auxiliary's output at x."""

    def expectation(points, step):
        codes = [(z, log_prior([z]), decoder(p, [z])) for z in points]
        if p["likelihood"] == "gaussian":  # x runs over the same grid as z
            all_x, cell = [[x] for x in points], step
        else:
            all_x, cell = one_hots(p), 1
        total = D(0)
        for x in all_x:
            r = auxiliary(p, x)
            log_p_x_z = [decoder_log_prob(p, x, params) for _, _, params in codes]
            mass = [step * (code[1] + t).exp() for code, t in zip(codes, log_p_x_z)]
            log_p_x = sum(mass).ln()
            for j, code in enumerate(codes):
                total += cell * mass[j] * value(code[0], log_p_x_z[j], log_p_x, r)
        return total

    return settled(expectation)


def exact_mutual_information(p):
    """E [log p(x|z) - log p(x)]."""
    return joint_mean(p, lambda z, log_p_x_z, log_p_x, r: log_p_x_z - log_p_x)


def exact_infomax_bound(p):
    """H(z) + E log r(z|x)."""
    return prior_entropy(1) + joint_mean(p, lambda z, _, __, r: gaussian_log_prob([z], r))


# ------------------------------------------------------------------------------ the file

FIELDS = {
    "units": "Informations, entropies, log-densities and bounds are in nats; higher is better.",
    "numbers": "All inputs (given, constants, and of adam all but its results) are short decimals; "
    "read them as the nearest doubles. Every result is the double nearest to the true value.",
    "weights": "A network's weights are one flat list: layer by layer, in a layer row by row. A "
    "row is one output unit: its inputs' weights first, its bias last. tanh after every layer but "
    "the last. Gradients have the same order.",
    "gaussian parameters": "A network's outputs for a Gaussian are all means, then all "
    "log-variances. The features are independent; log_prob and KL sum over them.",
    "constants": "C and rho of the constrained objectives.",
    "prior_entropy": "H(z) of z ~ N(0, I) in 1, 2 and 3 dimensions: [3].",
    "adam": {
        "learning_rate, beta1, beta2, eps": "Adam's constants; eps stands outside the square root.",
        "start": "The weights before the first step, the gaussian problem's decoder: [14].",
        "gradients": "The gradients of three consecutive steps, whatever the weights: [3][14].",
        "step": "What each step adds to the weights; steps go uphill, bias-corrected: [3][14].",
        "m, v": "First and second moments after each step, not bias-corrected: [3][14].",
        "weights": "The weights after each step: [3][14].",
    },
    "problems": "gaussian: Gaussian x with one feature, one code. categorical: x one-hot over four "
    "categories, one code. multivariate: Gaussian x with three features, two codes. "
    "N = 5 examples; F features (or categories), L codes, P outputs of the decoder: 2F or F.",
    "given": {
        "likelihood": "The distribution of x: gaussian or categorical.",
        "sizes": "Layer sizes of the networks: inputs, hidden units, outputs.",
        "decoder": "Weights of z -> parameters of p(x|z): means and log-variances, or logits.",
        "encoder": "Weights of x -> parameters of q(z|x).",
        "auxiliary": "Weights of x -> parameters of r(z|x).",
        "x": "Observations: [N][F].",
        "eps_z": "Standard normal noise of the encoder's samples, for the ELBO: [N][L].",
        "z": "Codes, for the infomax bound: [N][L].",
        "eps_x": "Standard normal noise of the decoder's samples (Gaussian x only): [N][F].",
        "target": "M of the constrained objectives, one above and one below the mean bound B.",
        "multiplier": "lambda of the Lagrangian that goes with either target.",
        "eps_r": "Standard normal noise of 3 proposals from r(z|x): [3][N][L], or [3][1][L] where "
        "all codes and all categories share it.",
        "eps_q": "Standard normal noise of 3 samples from q(z|x), for the IWAE bound: [3][N][L].",
    },
    "values": {
        "decoder_output": "Outputs of the decoder's network at z: [N][P].",
        "encoder_output": "Outputs of the encoder's network at x: [N][2L].",
        "auxiliary_output": "Outputs of the auxiliary network at x: [N][2L].",
        "decoder_probs": "softmax of the logits at z (categorical x only): [N][F].",
        "decoder_sample": "mean + exp(log-variance / 2) eps_x at z (Gaussian x only): [N][F].",
        "encoder_sample": "mean + exp(log-variance / 2) eps_z of q(z|x): [N][L].",
        "decoder_log_prob": "log p(x|z), example i of x under code i of z: [N].",
        "auxiliary_log_prob": "log r(z|x), code i of z under example i of x: [N].",
        "encoder_kl": "KL[q(z|x) || N(0, I)] in closed form: [N].",
        "elbo": "log p(x|encoder_sample) - encoder_kl, one draw per example: [N].",
        "infomax_bound": "prior_entropy(L) + log r(z|decoder_sample), one draw per code; for a "
        "categorical x prior_entropy(L) + the sum over the categories of p(x|z) log r(z|x): [N].",
        "mean_elbo": "E, the mean of elbo over the examples.",
        "mean_infomax_bound": "B, the mean of infomax_bound over the codes.",
        "information_lower": "log p(x|z) - log of the mean of 4 weights, z's own and those of the "
        "3 proposals; x = decoder_sample, or the sum over the categories as above. The weight of z "
        "is p(x|z) N(z; 0, I) / r(z|x): [N].",
        "information_upper": "The same with the mean of the 3 proposals' weights alone: [N].",
        "iwae": "log of the mean over 3 samples z of q(z|x) of p(x|z) N(z; 0, I) / q(z|x): [N].",
        "mean_information_lower, mean_information_upper, mean_iwae": "Their means.",
    },
    "objectives": {
        "penalty": "Term -C |B - M| and its slope, the derivative in B; objective = E + term.",
        "lagrangian": "Term lambda (B - M) - rho/2 (B - M)^2, its slope, and E + term.",
        "above, below": "Which of the two targets M, and of the two multipliers lambda.",
    },
    "gradients": {
        "elbo": "Gradient of E in the weights of decoder and encoder. In the auxiliary's it is "
        "zero (left out).",
        "infomax_bound": "Gradient of B in the weights of decoder and auxiliary, through the "
        "sample of x or the sum over x as well. In the encoder's it is zero (left out).",
        "penalty, lagrangian": "Gradients of the objectives in the decoder's weights, by target.",
        "information_lower, information_upper": "Gradients of their means in the weights of decoder "
        "and auxiliary: through x, through the proposals and through all weights.",
        "iwae": "Gradient of its mean in the weights of decoder and encoder.",
    },
    "exact": {
        "log_likelihood": "log p(x) = log integral p(z) p(x|z) dz of every example: [N].",
        "elbo": "E_{z ~ q(z|x)} log p(x|z) - KL, the expectation over all z: [N].",
        "mutual_information": "I_p(z, x) = E [log p(x|z) - log p(x)], z, x ~ p(z) p(x|z).",
        "infomax_bound": "prior_entropy(1) + E log r(z|x), z, x ~ p(z) p(x|z); at most I_p.",
        "encoder_information": "The mean over the N examples of KL[q(z|x) || their mean q(z|x)].",
        "where": "By quadrature over all of z and x, for the problems with one code only.",
    },
}


def values(p):
    examples = range(len(p["x"]))
    lower, upper = zip(*[information_bounds(p, i) for i in examples])
    decoded = [decoder(p, z) for z in p["z"]]
    encoded = [encoder(p, x) for x in p["x"]]
    recovered = [auxiliary(p, x) for x in p["x"]]
    if p["likelihood"] == "gaussian":
        eps_x = p["eps_x"]
        own = {"decoder_sample": [gaussian_sample(decoded[i], eps_x[i]) for i in examples]}
    else:
        own = {"decoder_probs": [softmax(logits) for logits in decoded]}
    return {
        "decoder_output": decoded,
        "encoder_output": encoded,
        "auxiliary_output": recovered,
        **own,
        "encoder_sample": [gaussian_sample(encoded[i], p["eps_z"][i]) for i in examples],
        "decoder_log_prob": [decoder_log_prob(p, p["x"][i], decoded[i]) for i in examples],
        "auxiliary_log_prob": [gaussian_log_prob(p["z"][i], recovered[i]) for i in examples],
        "encoder_kl": [gaussian_kl(q) for q in encoded],
        "elbo": [elbo(p, i) for i in examples],
        "infomax_bound": [infomax_bound(p, i) for i in examples],
        "mean_elbo": mean_elbo(p),
        "mean_infomax_bound": mean_infomax_bound(p),
        "information_lower": list(lower),
        "information_upper": list(upper),
        "iwae": [iwae(p, i) for i in examples],
        "mean_information_lower": mean(lower),
        "mean_information_upper": mean(upper),
        "mean_iwae": mean_iwae(p),
    }


SIDES = ("above", "below")
TERMS = {"penalty": (penalty, penalty_slope), "lagrangian": (lagrangian, lagrangian_slope)}


def objectives(p):
    def parts(term, slope, side):
        value = term(p, side)
        return {"term": value, "slope": slope(p, side), "objective": mean_elbo(p) + value}

    return {
        name: {side: parts(term, slope, side) for side in SIDES}
        for name, (term, slope) in TERMS.items()
    }


def gradients(p):
    both = {
        "elbo": {name: gradient(mean_elbo, p, name) for name in ("decoder", "encoder")},
        "infomax_bound": {
            name: gradient(mean_infomax_bound, p, name) for name in ("decoder", "auxiliary")
        },
    }
    for name, (term, _) in TERMS.items():
        both[name] = {
            side: gradient(lambda p: mean_elbo(p) + term(p, side), p, "decoder") for side in SIDES
        }
    both["iwae"] = {name: gradient(mean_iwae, p, name) for name in ("decoder", "encoder")}
    sides = {
        name: gradient_of_all(mean_information_bounds, p, name) for name in ("decoder", "auxiliary")
    }
    for k, side in enumerate(("information_lower", "information_upper")):
        both[side] = {name: slopes[k] for name, slopes in sides.items()}
    return both


def exact(p):
    examples = range(len(p["x"]))
    found = {
        "log_likelihood": [exact_log_likelihood(p, i) for i in examples],
        "elbo": [exact_elbo(p, i) for i in examples],
        "mutual_information": exact_mutual_information(p),
        "infomax_bound": exact_infomax_bound(p),
        "encoder_information": exact_encoder_information(p),
    }
    assert all(lower < upper for lower, upper in zip(found["elbo"], found["log_likelihood"]))
    assert found["infomax_bound"] < found["mutual_information"]
    return found


def problem(p, integrals=True):
    """One problem of the file; without the exact values (seconds) if integrals is False."""
    for side, sign in (("above", 1), ("below", -1)):
        assert sign * (p["target"][side] - mean_infomax_bound(p)) > 0
    parts = {
        "given": p,
        "values": values(p),
        "objectives": objectives(p),
        "gradients": gradients(p),
    }
    if integrals and len(p["z"][0]) == 1:
        parts["exact"] = exact(p)
    return plain(parts)


def plain(value):
    """Decimals as the nearest doubles, all the way down."""
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    return float(value) if isinstance(value, D) else value


def layout(value, line="\n"):
    """JSON with a line for every field and every row of numbers."""
    indented = line + "  "
    if isinstance(value, dict):
        items = [f"{json.dumps(key)}: {layout(v, indented)}" for key, v in value.items()]
        return "{" + indented + ("," + indented).join(items) + line + "}"
    if isinstance(value, list) and isinstance(value[0], list):
        return "[" + indented + ("," + indented).join(map(json.dumps, value)) + line + "]"
    return json.dumps(value)


def head():
    """The file without its problems."""
    entropies = [prior_entropy(dim) for dim in (1, 2, 3)]
    constants = {"constants": CONSTANTS, "prior_entropy": entropies, "adam": {**ADAM, **adam()}}
    return {"fields": FIELDS, **plain(constants)}


def main():
    problems = {name: problem(p) for name, p in PROBLEMS.items()}
    text = layout({**head(), "problems": problems}) + "\n"
    if "--check" not in sys.argv:
        OUTPUT.write_text(text)
    elif OUTPUT.read_text() != text:
        sys.exit(f"{OUTPUT} is not what this script computes")


if __name__ == "__main__":
    main()
