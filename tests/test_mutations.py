"""The tests tested: errors that are easily made are planted one by one, and must be found."""

import math
from functools import partial
from types import SimpleNamespace

import autograd.numpy as np
import pytest
from autograd import elementwise_grad
from autograd.extend import defvjp, primitive
from autograd.tracer import getval

import distributions
import mae
import nets
import quadrature
import test_distributions as on_distributions
import test_elbo as on_elbo
import test_exact as on_exact
import test_golden as on_golden
import test_infomax as on_infomax
import test_information as on_information
import test_monte_carlo as on_average
import test_nets as on_nets
import test_objective as on_objective
import test_training as on_training

# ---------------------------------------------------------- errors: the original -> what is planted


def replaced(new):
    return lambda original: new


def scaled(factor):
    return lambda original: lambda *args, **kwargs: original(*args, **kwargs) * factor


def without_bias(mlp):
    def mutated(params, x, sizes, start=0):
        layers = zip(sizes[:-1], sizes[1:])  # the bias is the last of each row
        keep = np.concatenate([np.arange(o * (i + 1)) % (i + 1) != i for i, o in layers])
        return mlp(params[..., start : start + len(keep)] * keep, x, sizes)

    return mutated


def with_wrong_tanh(mlp):
    tanh = primitive(np.tanh)
    defvjp(tanh, lambda ans, x: lambda g: g * (1 - ans))  # for 1 - tanh^2
    return lambda params, x, sizes, start=0: on_nets.plain_mlp(params, x, sizes, start, tanh)


def with_inexact_gradient(kl):
    inexact = primitive(lambda params: kl(params))
    slope = elementwise_grad(kl)
    defvjp(inexact, lambda ans, params: lambda g: 1.0005 * g[..., None] * slope(params))
    return inexact


def uncorrected_adam(grad, m, v, t, learning_rate):
    m, v = 0.9 * m + 0.1 * grad, 0.999 * v + 0.001 * grad**2
    return learning_rate * m / (np.sqrt(v) + 1e-8), m, v


def constantly_corrected_adam(grad, m, v, t, learning_rate):
    """Divides by 1 - beta at every step, not by 1 - beta^t."""
    m, v = 0.9 * m + 0.1 * grad, 0.999 * v + 0.001 * grad**2
    return learning_rate * (m / 0.1) / (np.sqrt(v / 0.001) + 1e-8), m, v


def downhill(adam):
    def mutated(*args):
        step, m, v = adam(*args)
        return -step, m, v

    return mutated


def elbo_with_kl_added(encoder, decoder, x, eps, beta=1):
    q = encoder(x)
    return decoder(q.sample(eps)).log_prob(x) + beta * q.kl()


def reverse_kl(self):
    """KL[N(0, I) || self]."""
    terms = np.exp(-self.log_var) * (1 + self.mean**2) - 1 + self.log_var
    return 0.5 * np.sum(terms, -1)


def turned(sign, factor):
    """A constraint's term of the gap or of its negative, its slope off by a factor."""

    def mutate(term):
        def mutated(gap, multiplier=None):
            value, slope = term(sign * gap, multiplier)
            return value, factor * slope

        return mutated

    return mutate


def absolute_inside(mean_and_grad):
    """mean |bound - M| for |mean bound - M|, where M = 0."""

    def mutated(values, params):
        distance = mean_and_grad(lambda params: -np.abs(values(params)), params)[0]
        return distance, mean_and_grad(values, params)[1]

    return mutated


def one_part(layout_of):
    """What weighs the decoder's gradient weighs everybody's."""

    def mutated(layers):
        layout = layout_of(layers)
        layout.part["decoder"] = slice(None)
        return layout

    return mutated


def one_code(networks):
    def mutated(*args):
        decoder, encoder, _ = networks(*args)
        return decoder, encoder, encoder

    return mutated


def clipped_together(clip):
    """All networks by one norm."""
    return lambda self, grad: grad / np.maximum(np.sqrt((grad * grad).sum(-1, keepdims=True)), 1)


def first_method_for_all(weigher):
    return lambda models, methods, dtype: weigher(models, [methods[0]] * len(methods), dtype)


def careless(integrate):
    """Takes the first sums for good and claims that there is no error."""

    def mutated(integrand, edges, tol, *args):
        log_mass, means, errors = integrate(integrand, edges, 1e6, *args)
        return log_mass, means, 0 * errors

    return mutated


def lower_without(log_w0, log_w):
    """z0 in neither of the two."""
    return np.stack([distributions.log_mean_exp(log_w)] * 2)


def upper_with(log_means):
    """z0 in both of the two."""

    def mutated(log_w0, log_w):
        both = log_means(log_w0, log_w)
        return np.stack([both[0], both[0]])

    return mutated


def divided_by_n(log_means):
    """The sum of n + 1 weights over n."""

    def mutated(log_w0, log_w):
        both = log_means(log_w0, log_w)
        return np.stack([both[0] + math.log(1 + 1 / len(log_w)), both[1]])

    return mutated


def without_log_prob(draw):
    def mutated(p, eps):
        z, log_prob = draw(p, eps)
        return z, 0 * log_prob

    return mutated


def by_deviation(module):
    """The standard deviation for the standard error: nothing is divided by a square root."""
    return SimpleNamespace(**{**vars(module), "sqrt": lambda n: 1.0})


class OtherProposals:
    """Models whose r, where it is to be held fixed, is another network."""

    def __init__(self, models, choose):
        self.layout, self.models, self.choose, self.latest = models.layout, models, choose, []
        self.bits_drawn = models.bits_drawn

    def networks(self, params):
        self.latest.append(self.models.networks(params))
        if len(self.latest) > 1:
            return self.latest[-1]
        return *self.latest[0][:2], lambda x: self.choose(*self.latest)(x)


def proposals_from(choose):
    return lambda information: (
        lambda models, *args: information(OtherProposals(models, choose), *args)
    )


def sides_swapped(information):
    """Ascends the upper one, descends the lower one; omega as it should be."""

    def mutated(*args):
        lower, upper, ascent = information(*args)
        return lower, upper, lambda weight: 2 * ascent(0 * weight) - ascent(-weight)

    return mutated


G, C, B = mae.Gaussian, mae.Categorical, mae.Bernoulli
per_feature = lambda method: lambda self, *args: method(self, *args) / self.shape[-1]
reuse_z = lambda bound: lambda decoder, auxiliary, z, eps=None: bound(decoder, auxiliary, z, z)
use_mean = replaced(lambda p, f, eps: f(p.mean))
over_batch = lambda self: np.exp(self.params) / np.exp(self.params).sum(-2, keepdims=True)
double_log_var = lambda log_prob: lambda self, x: log_prob(G(self.mean, 2 * self.log_var), x)

# ---------------------------------------------------------------------------------- finders

definition = lambda *case: partial(
    on_distributions.test_methods_have_the_values_and_gradients_of_their_definitions, *case
)
golden = lambda problem, *path: partial(
    on_golden.test_the_project_computes_the_golden_numbers, problem, path[0], path[1:]
)
network_sums = partial(
    on_nets.test_networks_have_the_values_and_gradients_of_their_sums, (3,), (2, 3), on_nets.SIZES
)
tight_elbo = partial(on_elbo.test_the_elbo_is_log_p_at_the_true_posterior, 2, 5)
tight_bound = partial(on_infomax.test_the_bound_is_the_information_at_the_true_posterior, 2, 5)
unbiased_bound = partial(on_average.test_the_infomax_bound_is_unbiased, "curved")
linear_decoder = partial(on_exact.test_a_linear_decoder_has_its_closed_forms, *on_exact.LINEAR[0])
steep_step = partial(on_exact.test_hostile_likelihoods_are_right_or_refused, "step")
terms = on_objective.test_the_terms_are_right_by_hand
weight = lambda *case: partial(
    on_objective.test_a_weight_moves_the_network_that_it_is_for_and_no_other, *case
)
both_sides = partial(
    on_information.test_theta_goes_by_the_bound_of_its_weights_sign_and_omega_by_the_infomax_bound,
    "gaussian", 3,
)  # fmt: skip
climbs = on_objective.test_training_climbs_and_the_auxiliary_finds_the_posterior
gap = partial(on_objective.test_a_method_is_given_the_gap_of_the_mean_bound, 0)
mixed = on_training.test_a_method_from_outside_trains_like_its_twin_in_a_mixed_batch


def slope(term):
    return partial(on_objective.test_a_slope_is_the_derivative_of_its_term_in_the_bound, term)


MUTATIONS = {  # what is wrong: (where, what, how, the test that must fail)
    "log-density: mean over features": (G, "log_prob", per_feature, definition("log_prob", 0)),
    "log-density: 0.1 %": (G, "log_prob", scaled(1.001), tight_elbo),
    "log-density: log_var is log std": (
        G, "log_prob", double_log_var,
        on_distributions.test_the_log_density_is_that_of_single_numbers,
    ),
    "sample: log_var is log std": (
        G, "sample", replaced(lambda self, eps: self.mean + np.exp(self.log_var) * eps),
        definition("sample", 0),
    ),
    "KL: mean over features": (G, "kl", per_feature, tight_elbo),
    "KL: wrong direction": (
        G, "kl", replaced(reverse_kl),
        on_distributions.test_the_kl_is_the_integral_of_q_log_q_over_p,
    ),
    "KL: 0.1 %": (G, "kl", scaled(1.001), golden("gaussian", "values", "elbo")),
    "KL: gradient 0.05 % off": (
        distributions, "gaussian_kl", with_inexact_gradient, definition("kl", 0),
    ),
    "softmax missing": (
        C, "log_prob", replaced(lambda self, x: np.sum(x * self.logits, -1)),
        definition("categorical log_prob", 0),
    ),
    "softmax over the batch": (C, "probs", replaced(property(over_batch)), definition("probs", 0)),
    "categories equally likely": (
        C, "expect", lambda expect: lambda self, f, eps=None: expect(C(0 * self.logits), f),
        golden("categorical", "values", "infomax_bound"),
    ),
    "bits: the ones alone": (
        B, "log_prob", lambda f: lambda self, x: np.sum(x * np.log(self.probs), -1),
        definition("bernoulli log_prob", 0),
    ),
    "bits: probs for logits": (
        B, "probs", replaced(property(lambda self: self.params)), definition("bernoulli probs", 0),
    ),
    "bits: drawn from noise on the wrong side": (
        B, "sample", lambda f: lambda self, eps: 1 - f(self, eps),
        on_distributions.test_drawn_bits_have_their_probabilities_and_no_gradient,
    ),
    "bits: strings equally likely": (
        B, "joint", lambda f: lambda self, x: 0 * f(self, x), definition("bernoulli expect", 0),
    ),
    "ELBO: plus KL": (
        mae, "elbo", replaced(elbo_with_kl_added), golden("gaussian", "values", "elbo"),
    ),
    "ELBO: sign": (mae, "elbo", scaled(-1), tight_elbo),
    "ELBO: no sampling of z": (
        mae, "elbo", lambda f: lambda q, p, x, eps: f(q, p, x, 0 * eps), tight_elbo,
    ),
    "H(z) missing": (mae, "prior_entropy", scaled(0), tight_bound),
    "H(z) of one dimension": (mae, "prior_entropy", lambda f: lambda dim=1: f(1), tight_bound),
    "H(z) missing in the exact bound": (
        quadrature, "prior_entropy", scaled(0),
        on_exact.test_the_bound_falls_short_by_the_kl_from_the_posterior,
    ),
    "decoder's mean for a sample": (mae, "expect", use_mean, tight_bound),
    "decoder's mean, on average": (mae, "expect", use_mean, unbiased_bound),
    "no gradient through the mean of x": (
        mae, "expect",
        replaced(lambda p, f, eps: f(getval(p.mean) + np.exp(p.log_var / 2) * eps)),
        on_infomax.test_the_gradient_in_theta_goes_through_x,
    ),
    "eps shared": (
        mae, "infomax_bound", reuse_z, golden("gaussian", "values", "infomax_bound"),
    ),
    "eps shared, on average": (mae, "infomax_bound", reuse_z, unbiased_bound),
    "bound: 0.1 %": (mae, "infomax_bound", scaled(1.001), tight_bound),
    "bias dropped": (nets, "mlp", without_bias, network_sums),
    "tanh on the last layer": (
        nets, "mlp", lambda mlp: lambda *args: np.tanh(mlp(*args)), network_sums,
    ),
    "derivative of tanh": (nets, "mlp", with_wrong_tanh, network_sums),
    "Adam without bias correction": (
        nets, "adam", replaced(uncorrected_adam),
        on_nets.test_adam_climbs_by_the_learning_rate_whatever_the_size_of_a_constant_gradient,
    ),
    "Adam with a constant correction": (
        nets, "adam", replaced(constantly_corrected_adam),
        partial(on_golden.test_adam_takes_the_golden_steps, "step"),
    ),
    "noise: 0.1 % wide": (
        nets, "normal_quantile", scaled(1.001),
        on_nets.test_the_normal_quantile_is_that_of_its_cell,
    ),
    "noise: half of the line": (
        nets, "normal_quantile", lambda f: lambda u: np.abs(f(u)),
        on_nets.test_lattice_points_are_normal_together_and_by_themselves,
    ),
    "Lagrangian: slope's sign": (mae, "lagrangian", turned(1, -1), terms),
    "Lagrangian: bound minus target": (mae, "lagrangian", turned(-1, 1), terms),
    "penalty: bound minus target": (mae, "penalty", turned(-1, 1), terms),
    "Lagrangian: slope 0.1 % off": (mae, "lagrangian", turned(1, 1.001), slope("lagrangian")),
    "penalty: slope 0.1 % off": (mae, "penalty", turned(1, 1.001), slope("penalty")),
    "Lagrangian: a slope that its method does not have": (
        mae, "lagrangian", turned(1, 1.001), mixed,
    ),
    "|.| inside the mean": (mae, "_mean_and_grad", absolute_inside, gap),
    "multiplier runs away from the gap": (mae, "LAMBDA_RATE", lambda rate: -rate, gap),
    "omega ascends the constrained objective": (
        nets, "Layout", one_part, partial(both_sides.func, "gaussian", 0),
    ),
    "the ELBO is weighed for the encoder": (
        nets, "Layout", one_part, weight((1, 1, 1), (0, 1, 1), "decoder"),
    ),
    "networks are clipped together": (
        nets.Layout, "clip", clipped_together,
        on_nets.test_each_network_has_a_gradient_of_norm_one_at_most,
    ),
    "one method for a mixed batch": (mae, "weigher", first_method_for_all, mixed),
    "downhill": (nets, "adam", downhill, climbs),
    "encoder used as auxiliary": (
        mae.Fit, "networks", one_code, on_objective.test_the_networks_are_three,
    ),
    "information in bits": (
        mae, "exact_mutual_information", scaled(1 / np.log(2)), linear_decoder,
    ),
    "information: 0.1 %": (
        mae, "exact_mutual_information", scaled(1.001),
        on_exact.test_the_bound_falls_short_by_the_kl_from_the_posterior,
    ),
    "log-likelihood: 1e-9": (mae, "exact_log_likelihood", scaled(1 + 1e-9), linear_decoder),
    "exact ELBO without the KL": (
        mae, "exact_elbo", lambda f: lambda q, p, x: f(q, p, x) + q(x).kl(),
        on_exact.test_the_elbo_falls_short_by_the_kl_to_the_posterior,
    ),
    "encoder information is the mean KL to the prior": (
        mae, "exact_encoder_information", replaced(lambda encoder, x: encoder(x).kl().mean(-1)),
        on_exact.test_codes_that_do_not_overlap_name_their_row,
    ),
    "models averaged": (
        mae, "exact_elbo", lambda f: lambda *args: 0 * f(*args) + f(*args).mean(0),
        on_exact.test_models_side_by_side_have_the_values_of_each_alone,
    ),
    "quadrature that trusts itself": (quadrature, "integrate", careless, steep_step),
    "quadrature that ignores tol": (
        quadrature, "_checked", replaced(lambda name, value, error, tol, with_error: value),
        on_exact.test_the_tolerance_is_respected,
    ),
    "z0 left out of the lower mean": (
        mae, "log_means", replaced(lower_without),
        golden("gaussian", "values", "mean_information_lower"),
    ),
    "z0 left out of the lower mean, on average": (
        mae, "log_means", replaced(lower_without),
        on_information.test_averaged_bounds_have_the_same_means_and_a_smaller_variance,
    ),
    "z0 put into the upper mean": (
        mae, "log_means", upper_with, golden("categorical", "values", "mean_information_upper"),
    ),
    "lower mean: divided by n": (
        mae, "log_means", divided_by_n, golden("gaussian", "values", "information_lower"),
    ),
    "weights without the prior": (
        mae, "log_prior", scaled(0), golden("multivariate", "values", "information_upper"),
    ),
    "weights without the prior, by a truth": (
        mae, "log_prior", scaled(0),
        partial(on_information.test_the_interval_holds_the_information_of_linear_decoders, 1),
    ),
    "weights without the proposal's log_prob": (
        mae, "draw", without_log_prob, golden("gaussian", "values", "iwae"),
    ),
    "no gradient through the weights": (
        mae, "log_weight", lambda f: lambda log_p, *rest: f(getval(log_p), *rest),
        golden("gaussian", "gradients", "information_upper", "decoder"),
    ),
    "no gradient through the prior of the proposals": (
        mae, "log_weight", lambda f: lambda log_p, z, log_q: f(log_p, getval(z), log_q),
        on_information.test_gradients_go_through_proposals_and_weights,
    ),
    "IWAE: sum for mean": (
        mae, "log_mean_exp", lambda f: lambda a: f(a) + math.log(len(a)),
        on_information.test_at_the_true_posterior_any_draws_give_the_log_likelihood,
    ),
    "averaged bounds: all codes alike": (
        mae, "averaged_bounds",
        replaced(partial(on_information.averaged_by_hand, share=lambda w: 1 / len(w))),
        on_information.test_averaged_bounds_have_the_same_means_and_a_smaller_variance,
    ),
    "interval: deviation for error": (
        mae, "math", by_deviation,
        partial(on_information.test_either_end_misses_as_seldom_as_it_claims, "exact", 0.9),
    ),
    "training: proposals from the encoder": (
        mae, "_information", proposals_from(lambda first, *later: first[1]), both_sides,
    ),
    "training: the two sides swapped": (mae, "_information", sides_swapped, both_sides),
    "training: omega moved by both sides": (
        mae, "_information", proposals_from(lambda first, *later: (later or [first])[-1][2]),
        both_sides,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_planted_error_is_found_and_nothing_without_it(name, monkeypatch):
    owner, attribute, mutate, finder = MUTATIONS[name]
    finder()
    monkeypatch.setattr(owner, attribute, mutate(getattr(owner, attribute)))
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        finder()
