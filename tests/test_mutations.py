"""The tests tested: errors that are easily made are planted one by one, and must be found."""

import inspect

import autograd.numpy as np
import pytest
from autograd.extend import defvjp, primitive
from autograd.tracer import getval

import mae
import nets
import quadrature
import test_distributions as distributions
import test_elbo as elbo
import test_exact as exact
import test_infomax as infomax
import test_monte_carlo as monte_carlo
import test_nets as networks
import test_objective as objective


def replaced(new):
    return lambda original: new


def scaled(factor):
    return lambda original: lambda *args, **kwargs: original(*args, **kwargs) * factor


def line(old, new):
    """A function of mae with one line of its source changed."""

    def mutate(function):
        source, scope = inspect.getsource(function), {}
        assert source.count(old) == 1, f"{old!r} has changed: plant this error anew"
        exec(source.replace(old, new), vars(mae), scope)
        return scope[function.__name__]

    return mutate


def without_bias(mlp):
    def mutated(params, x, sizes, start=0):
        layers = zip(sizes[:-1], sizes[1:])  # the bias is the last of each row
        keep = np.concatenate([np.arange(o * (i + 1)) % (i + 1) != i for i, o in layers])
        return mlp(params[..., start : start + len(keep)] * keep, x, sizes)

    return mutated


def with_wrong_tanh(mlp):
    tanh = primitive(np.tanh)
    defvjp(tanh, lambda ans, x: lambda g: g * (1 - ans))  # for 1 - tanh^2
    return lambda params, x, sizes, start=0: networks.plain_mlp(params, x, sizes, start, tanh)


def uncorrected_adam(grad, m, v, t, learning_rate):
    m, v = 0.9 * m + 0.1 * grad, 0.999 * v + 0.001 * grad**2
    return learning_rate * m / (np.sqrt(v) + 1e-8), m, v


def constantly_corrected_adam(grad, m, v, t, learning_rate):
    """Divides by 1 - beta at every step, not by 1 - beta^t."""
    m, v = 0.9 * m + 0.1 * grad, 0.999 * v + 0.001 * grad**2
    return learning_rate * (m / 0.1) / (np.sqrt(v / 0.001) + 1e-8), m, v


def elbo_with_kl_added(encoder, decoder, x, eps):
    q = encoder(x)
    return decoder(q.sample(eps)).log_prob(x) + q.kl()


def reverse_kl(self):
    """KL[N(0, I) || self]."""
    terms = np.exp(-self.log_var) * (1 + self.mean**2) - 1 + self.log_var
    return 0.5 * np.sum(terms, -1)


def turned(term, sign, factor):
    """A constraint's term of the gap's negative, its slope off by a factor."""

    def mutated(gap, multiplier):
        value, slope = term(sign * gap, multiplier)
        return value, factor * slope

    return mutated


def careless(integrate):
    """Takes the first sums for good and claims that there is no error."""

    def mutated(integrand, edges, tol, *args):
        log_mass, means, errors = integrate(integrand, edges, 1e6, *args)
        return log_mass, means, 0 * errors

    return mutated


G, C = mae.Gaussian, mae.Categorical
by_loops = networks.check_mlp_by_loops
definition = lambda name: lambda: networks.check_definition(name, 1)
hostile = lambda name: lambda: exact.test_hostile_log_likelihood(name)
per_feature = lambda method: lambda self, *args: method(self, *args) / self.shape[-1]
reuse_z = lambda bound: lambda decoder, auxiliary, z, eps=None: bound(decoder, auxiliary, z, z)
use_mean = replaced(lambda self, f, eps: f(self.mean))
over_batch = lambda self: np.exp(self.params) / np.exp(self.params).sum(-2, keepdims=True)
double_log_var = lambda log_prob: lambda self, x: log_prob(G(self.mean, 2 * self.log_var), x)

MUTATIONS = {  # what is wrong: (where, what, how, the check that must fail)
    "log-density: mean over features": (
        G, "log_prob", per_feature, distributions.check_gaussian_log_prob,
    ),
    "log-density: 0.1 %": (G, "log_prob", scaled(1.001), elbo.check_elbo_is_tight),
    "log-density: log_var is log std": (
        G, "log_prob", double_log_var, distributions.check_gaussian_log_prob,
    ),
    "sample: log_var is log std": (
        G, "sample", replaced(lambda self, eps: self.mean + np.exp(self.log_var) * eps),
        distributions.check_sample,
    ),
    "KL: mean over features": (G, "kl", per_feature, elbo.check_elbo_is_tight),
    "KL: wrong direction": (G, "kl", replaced(reverse_kl), distributions.check_kl_by_quadrature),
    "KL: 0.1 %": (G, "kl", scaled(1.001), elbo.check_elbo_by_hand),
    "softmax missing": (
        C, "log_prob", replaced(lambda self, x: np.sum(x * self.logits, -1)),
        distributions.check_categorical,
    ),
    "softmax over the batch": (
        C, "probs", replaced(property(over_batch)), distributions.check_categorical,
    ),
    "categories equally likely": (
        C, "expect", lambda expect: lambda self, f, eps=None: expect(C(0 * self.logits), f),
        infomax.check_categorical_bound,
    ),
    "ELBO: plus KL": (mae, "elbo", replaced(elbo_with_kl_added), elbo.check_elbo_by_hand),
    "ELBO: sign": (mae, "elbo", scaled(-1), elbo.check_elbo_is_tight),
    "ELBO: no sampling of z": (
        mae, "elbo", lambda f: lambda q, p, x, eps: f(q, p, x, 0 * eps), elbo.check_elbo_is_tight,
    ),
    "H(z) missing": (mae, "prior_entropy", scaled(0), infomax.check_bound_is_tight),
    "H(z) of one dimension": (
        mae, "prior_entropy", lambda f: lambda dim=1: f(1), infomax.check_bound_is_tight,
    ),
    "H(z) missing in the exact bound": (
        quadrature, "prior_entropy", scaled(0), exact.check_bound_gap,
    ),
    "decoder's mean for a sample": (G, "expect", use_mean, infomax.check_bound_is_tight),
    "decoder's mean, on average": (G, "expect", use_mean, monte_carlo.check_bound_is_unbiased),
    "no gradient through the mean of x": (
        G, "expect",
        replaced(lambda self, f, eps: f(getval(self.mean) + np.exp(self.log_var / 2) * eps)),
        infomax.check_theta_gradient,
    ),
    "eps shared": (mae, "infomax_bound", reuse_z, infomax.check_bound_by_hand),
    "eps shared, on average": (mae, "infomax_bound", reuse_z, monte_carlo.check_bound_is_unbiased),
    "bound: 0.1 %": (mae, "infomax_bound", scaled(1.001), infomax.check_bound_is_tight),
    "bias dropped": (nets, "mlp", without_bias, by_loops),
    "tanh on the last layer": (
        nets, "mlp", lambda f: lambda *args: np.tanh(f(*args)), by_loops,
    ),
    "derivative of tanh": (nets, "mlp", with_wrong_tanh, definition("mlp")),
    "Adam without bias correction": (
        nets, "adam", replaced(uncorrected_adam), networks.check_adam_constant_gradient,
    ),
    "Adam with a constant correction": (
        nets, "adam", replaced(constantly_corrected_adam), networks.check_adam_first_steps,
    ),
    "noise: 0.1 % wide": (nets, "normal_quantile", scaled(1.001), networks.check_normal_quantile),
    "noise: half of the line": (
        nets, "normal_quantile", lambda f: lambda u: np.abs(f(u)), networks.check_lattice_margins,
    ),
    "constraint: slope's sign": (
        mae, "lagrangian", lambda f: lambda gap, m: (f(gap, m)[0], -f(gap, m)[1]),
        objective.check_terms_by_hand,
    ),
    "constraint: bound minus target": (
        mae, "METHODS", lambda methods: {k: turned(f, -1, 1) for k, f in methods.items()},
        objective.check_signs,
    ),
    "constraint: slope 0.1 % off": (
        mae, "METHODS", lambda methods: {k: turned(f, 1, 1.001) for k, f in methods.items()},
        objective.check_slopes_by_finite_differences,
    ),
    "|.| inside the mean": (
        mae, "_train",
        line("target - bound, 0", "abs(target[:, None] - bounds).mean(-1), 0"),
        objective.check_gap_is_of_the_mean,
    ),
    "omega ascends the constrained objective": (
        mae, "_train",
        line("bound_grad[:, : sizes[0]] *= bound_weight", "bound_grad *= bound_weight"),
        objective.check_omega_follows_the_bound_only,
    ),
    "downhill": (
        mae, "_train", line("moved = params + move", "moved = params - move"),
        objective.check_auxiliary_climbs,
    ),
    "encoder used as auxiliary": (
        mae, "_networks", lambda f: lambda *args: (*f(*args)[:2], f(*args)[1]),
        objective.check_networks_are_three,
    ),
    "information in bits": (
        mae, "exact_mutual_information", scaled(1 / np.log(2)), exact.check_linear_decoder,
    ),
    "information: 0.1 %": (mae, "exact_mutual_information", scaled(1.001), exact.check_bound_gap),
    "log-likelihood: 1e-9": (
        mae, "exact_log_likelihood", scaled(1 + 1e-9), exact.check_linear_decoder,
    ),
    "exact ELBO without the KL": (
        mae, "exact_elbo", lambda f: lambda q, p, x: f(q, p, x) + q(x).kl(), exact.check_elbo_gap,
    ),
    "encoder information is the mean KL to the prior": (
        mae, "exact_encoder_information", replaced(lambda encoder, x: encoder(x).kl().mean(-1)),
        exact.check_encoder_information,
    ),
    "models averaged": (
        mae, "exact_elbo", lambda f: lambda *args: 0 * f(*args) + f(*args).mean(0),
        exact.check_models_side_by_side,
    ),
    "quadrature that trusts itself": (quadrature, "integrate", careless, hostile("step")),
    "quadrature that ignores tol": (
        quadrature, "_checked", replaced(lambda name, value, error, tol, with_error: value),
        exact.check_tolerance_is_respected,
    ),
}  # fmt: skip


def run(check, monkeypatch):
    check(monkeypatch) if "monkeypatch" in inspect.signature(check).parameters else check()


@pytest.mark.parametrize("name", MUTATIONS)
def test_planted_error_is_found(name, monkeypatch):
    owner, attribute, mutate, check = MUTATIONS[name]
    monkeypatch.setattr(owner, attribute, mutate(getattr(owner, attribute)))
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        run(check, monkeypatch)


@pytest.mark.parametrize("check", dict.fromkeys(row[-1] for row in MUTATIONS.values()))
def test_nothing_is_found_without_it(check, monkeypatch):
    run(check, monkeypatch)
