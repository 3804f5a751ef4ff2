"""Exact values against closed forms, and against fine sums that know where the trouble is."""

import math
import re
from statistics import NormalDist

import numpy as np
import pytest
from numpy.testing import assert_allclose

import mae
from truths import (
    LOG_2PI, Linear, categorical, conditional_table, curved, fine_grid, information, linear,
    log_likelihood, log_normal, random_network, rough, spike, uniform_grid,
)  # fmt: skip

X = np.array([[-2.3], [0.0], [0.4], [1.7], [4.0]])
ENTROPY = 0.5 * (LOG_2PI + 1)  # of N(0, 1)


def right_or_refused(compute, wanted, tol=1e-8):
    """True if compute() is within tol, False if it raises QuadratureError; an error otherwise."""
    try:
        value = compute()
    except mae.QuadratureError:
        return False
    assert_allclose(value, wanted, rtol=0, atol=tol)
    return True


# ---------------------------------------------------------------------------- ground truths


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("target", [0.0, 1e-6, 0.3, 1.0, 2.0, 3.5])
def test_split_normal_data_have_their_optimum_at_any_information(target, sign):
    a = sign * math.sqrt(-math.expm1(-2 * target))
    decoder = code = linear(a, -2 * target)  # s = e^-M
    wanted = log_normal(X, 0, 0)[:, 0]
    assert_allclose(mae.exact_log_likelihood(decoder, X), wanted, atol=1e-11)
    assert_allclose(mae.exact_elbo(code, decoder, X), wanted, atol=1e-10)
    assert_allclose(mae.exact_mutual_information(decoder), target, atol=1e-10)
    assert_allclose(mae.exact_infomax_bound(decoder, code), target, atol=1e-10)
    x, log_dx = fine_grid(-9, 9, 20)  # over x ~ N(0, 1) both are minus its entropy
    weights, x = np.exp(log_normal(x, 0, 0) + log_dx), x[:, None]
    for value in (mae.exact_log_likelihood(decoder, x), mae.exact_elbo(code, decoder, x)):
        assert_allclose(weights @ value, -ENTROPY, atol=1e-10)


LINEAR = [(1.3, -0.8, 0.4), (0, 0, 0), (1, 0, 0), (-2, 3, 1), (0.1, -8, 5), (3, -8, 0), (50, 4, 0)]
LINEAR += [(1e-4, -2, -3)]


@pytest.mark.parametrize("slope, log_var, bias", LINEAR)
def test_a_linear_decoder_has_its_closed_forms(slope, log_var, bias):
    """I, log p(x), bound and ELBO."""
    decoder = linear(slope, log_var, bias)
    noise = math.exp(log_var)
    total = slope**2 + noise
    wanted_information = 0.5 * math.log1p(slope**2 / noise)
    wanted = log_normal(X, bias, math.log(total))[:, 0]
    posterior = linear(slope / total, math.log(noise / total), -slope * bias / total)
    assert_allclose(mae.exact_log_likelihood(decoder, X), wanted, rtol=1e-11)
    assert_allclose(mae.exact_mutual_information(decoder), wanted_information, atol=1e-10)
    assert_allclose(mae.exact_infomax_bound(decoder, posterior), wanted_information, atol=1e-9)
    assert_allclose(mae.exact_elbo(posterior, decoder, X), wanted, rtol=1e-9)


@pytest.mark.parametrize("features", [1, 3])
def test_several_features_have_the_likelihood_of_a_linear_model(features):
    model, x = Linear(1, features), 2 * np.random.default_rng(1).standard_normal((6, features))
    wanted = model.log_likelihood(x)
    assert_allclose(mae.exact_log_likelihood(model.decoder, x), wanted, rtol=1e-11)


@pytest.mark.parametrize("target", [0.2, 1.0, 1.6, 2.5])
def test_a_restricted_decoder_has_its_likelihood_at_any_information(target):
    """s fixed: the mean log-likelihood of N(0, 1) data at information I, highest at I = -log s."""
    s = math.exp(-1.6)
    slope = s * math.sqrt(math.expm1(2 * target))
    decoder = linear(slope, 2 * math.log(s))
    assert_allclose(mae.exact_mutual_information(decoder), target, atol=1e-10)
    x, log_dx = fine_grid(-9, 9, 20)
    weights = np.exp(log_normal(x, 0, 0) + log_dx)
    v = s**2 * math.exp(2 * target)
    wanted = -0.5 * math.log(2 * math.pi * v) - 0.5 / v
    assert_allclose(weights @ mae.exact_log_likelihood(decoder, x[:, None]), wanted, atol=1e-10)
    assert wanted <= -ENTROPY + 1e-10


DECILES = [NormalDist().inv_cdf(k / 10) for k in range(1, 10)]


def decile_decoder(slip, log_zero=-800.0):
    """x is the decile of z, but any of the ten with probability `slip`."""
    with np.errstate(divide="ignore"):
        logits = np.maximum(np.log(slip / 10 + (1 - slip) * np.eye(10)), log_zero)
    return lambda z: mae.Categorical(logits[np.searchsorted(DECILES, z[..., 0])])


def decile_posterior_moments():
    """Mean and variance of a standard normal within each of its deciles."""
    ends = np.array([-np.inf, *DECILES, np.inf])
    density = np.exp(-0.5 * ends**2) / math.sqrt(2 * math.pi)
    first = np.array([0.0, *(DECILES * density[1:-1]), 0.0])
    mean = -10 * np.diff(density)
    return mean, 1 - 10 * np.diff(first) - mean**2


@pytest.mark.parametrize("slip, rounded", [(0.0, 2.3025851), (0.1, 1.8022971), (0.5, 0.6256952)])
def test_deciles_have_their_information(slip, rounded):
    """I = log 10 - H(row), and every decile has log-likelihood -log 10."""
    row = slip / 10 + (1 - slip) * np.eye(10)[0]
    wanted = math.log(10) + sum(p * math.log(p) for p in row if p)
    assert_allclose(wanted, rounded, atol=1e-7)
    decoder = decile_decoder(slip)
    assert_allclose(mae.exact_mutual_information(decoder), wanted, atol=1e-10)
    assert_allclose(mae.exact_log_likelihood(decoder, np.eye(10)), -math.log(10), atol=1e-10)


def test_categories_may_be_impossible():
    """A noiseless decoder: logits of -inf are log 0, and x tells exactly where z is."""
    cuts, logits = [-0.5, 0.5], np.where(np.eye(3) > 0, 0, -np.inf)
    decoder = lambda z: mae.Categorical(logits[np.searchsorted(cuts, z[..., 0])])
    probs = np.diff([0, *map(NormalDist().cdf, cuts), 1])
    assert_allclose(mae.exact_mutual_information(decoder), -probs @ np.log(probs), atol=1e-10)
    assert_allclose(mae.exact_log_likelihood(decoder, np.eye(3)), np.log(probs), atol=1e-10)


def test_no_gaussian_certifies_all_of_the_deciles():
    """H(z) - mean log(2 pi e variance) / 2: log 10 cannot be certified by a Gaussian r."""
    mean, variance = decile_posterior_moments()
    wanted = -0.5 * np.mean(np.log(variance))
    assert_allclose(wanted, 2.1040224, atol=5e-8)
    moments = np.stack([mean, np.log(variance)], -1)
    best = lambda x: mae.Gaussian.unpack(x @ moments)
    bound = mae.exact_infomax_bound(decile_decoder(0.0), best)
    assert_allclose(bound, wanted, atol=1e-10)
    for change in (np.array([0.01, 0]), np.array([0, 0.01]), np.array([0, -0.01])):
        worse = lambda x: mae.Gaussian.unpack(x @ (moments + change))
        assert mae.exact_infomax_bound(decile_decoder(0.0), worse) < bound - 1e-6


def test_the_moments_of_deciles_are_right_by_sums():
    for k, (mean, variance) in enumerate(zip(*decile_posterior_moments())):
        low, high = [-14, *DECILES, 14][k : k + 2]
        z, log_dz = fine_grid(low, high, 60)
        weights = 10 * np.exp(log_normal(z, 0, 0) + log_dz)
        assert_allclose([weights.sum(), weights @ z], [1, mean], atol=1e-13)
        assert_allclose(weights @ z**2 - mean**2, variance, atol=1e-13)


def test_codes_that_do_not_overlap_name_their_row():
    """I_q = log n; codes that are the same: 0; others: by a sum."""
    for n in (1, 2, 5):
        x = np.arange(n)[:, None] * 1.0
        assert_allclose(mae.exact_encoder_information(linear(3, -12), x), math.log(n), atol=1e-10)
        assert_allclose(mae.exact_encoder_information(linear(0, -12), x), 0, atol=1e-10)
    z, log_dz = fine_grid(-30, 30, 300)
    encoder = lambda x: mae.Gaussian(np.sin(3 * x), x - 2)
    log_q = log_normal(z, encoder(X).mean, encoder(X).log_var)
    log_mixture = np.logaddexp.reduce(log_q, 0) - math.log(len(X))
    wanted = np.sum(np.exp(log_q + log_dz) * (log_q - log_mixture)) / len(X)
    assert_allclose(mae.exact_encoder_information(encoder, X), wanted, atol=1e-10)


# -------------------------------------------------------------------------------- identities


CURVED_Z, CURVED_X = fine_grid(-10, 10, 60), fine_grid(-14, 14, 180)


def test_the_elbo_falls_short_by_the_kl_to_the_posterior():
    """log p(x) - ELBO = KL(q || p(z|x)), the KL summed on a grid of its own."""
    z, log_dz = CURVED_Z
    for decoder, x in ((curved, X), (categorical, np.eye(3))):
        wanted_log_p, log_posterior = log_likelihood(decoder, x, z, log_dz)
        q = rough(x)
        log_q = log_normal(z, q.mean, q.log_var) + log_dz
        kl = np.sum(np.exp(log_q) * (log_q - log_posterior), -1)
        log_p = mae.exact_log_likelihood(decoder, x)
        gap = log_p - mae.exact_elbo(rough, decoder, x)
        assert_allclose(log_p, wanted_log_p, atol=1e-11)
        assert (gap > 0).all()
        assert_allclose(gap, kl, rtol=1e-9, atol=1e-9)


def test_the_bound_falls_short_by_the_kl_from_the_posterior():
    """I - bound = E_x KL(p(z|x) || r), and I = H(x) - H(x|z) on the test's own grids."""
    z, log_dz = CURVED_Z
    for decoder, (x, log_dx) in ((curved, CURVED_X), (categorical, (None, np.zeros(3)))):
        x = np.eye(3) if x is None else x[:, None]
        log_p, log_posterior = log_likelihood(decoder, x, z, log_dz)
        r = rough(x)
        log_ratio = log_posterior - log_normal(z, r.mean, r.log_var) - log_dz
        weights = np.exp(log_p + log_dx)
        kl = weights @ np.sum(np.exp(log_posterior) * log_ratio, -1)
        exact = mae.exact_mutual_information(decoder)
        assert_allclose(weights.sum(), 1, atol=1e-12)
        assert_allclose(exact, information(decoder, x, log_dx, z, log_dz), atol=1e-10)
        assert_allclose(exact - mae.exact_infomax_bound(decoder, rough), kl, atol=1e-10)


def test_models_side_by_side_have_the_values_of_each_alone():
    """The models' axis gives what each model gives alone."""
    slope = np.array([0.5, 1.0, -3.0])[:, None, None]
    log_var = np.array([-1.0, -3.0, 1.0])[:, None, None]
    decoder = lambda k: lambda z: mae.Gaussian(np.sin(slope[k] * z), log_var[k] + 0 * z)
    code = lambda k: lambda x: mae.Gaussian(slope[k] * np.tanh(x), log_var[k] / 4 + 0 * x)
    logits = lambda k: lambda z: mae.Categorical(slope[k] * np.concatenate([z, 0 * z], -1))
    for function in (
        lambda k: mae.exact_log_likelihood(decoder(k), X),
        lambda k: mae.exact_elbo(code(k), decoder(k), X),
        lambda k: mae.exact_mutual_information(decoder(k)),
        lambda k: mae.exact_infomax_bound(decoder(k), code(k)),
        lambda k: mae.exact_encoder_information(code(k), X),
        lambda k: mae.exact_mutual_information(logits(k)),
        lambda k: mae.exact_infomax_bound(logits(k), lambda x: code(k)(x[..., :1])),
    ):
        together = function(slice(None))
        assert together.shape[:1] == (3,)
        for k in range(3):
            assert_allclose(together[k], function(k), rtol=0, atol=2e-10)


SLOPES = np.array([0.5, 2.0])


@pytest.mark.parametrize(
    "function",
    [
        lambda a: mae.exact_infomax_bound(linear(1.0, -1.0), linear(a, -1.0)),
        lambda a: mae.exact_infomax_bound(linear(a, -1.0), linear(1.0, -1.0)),
        lambda a: mae.exact_infomax_bound(
            categorical, lambda x: mae.Gaussian(a * x[..., :1], -1.0 + 0 * x[..., :1])
        ),
        lambda a: mae.exact_elbo(linear(1.0, -1.0), linear(a, -1.0), X),
        lambda a: mae.exact_elbo(linear(a, -1.0), linear(1.0, -1.0), X),
    ],
)
def test_models_may_be_on_one_side_only(function):
    many = function(SLOPES[:, None, None])
    for value, slope in zip(many, SLOPES):
        assert_allclose(value, function(slope), rtol=0, atol=1e-10)


def test_one_distribution_may_serve_every_row():
    """A batch of one fits any batch: networks that ignore their input may return just one row."""
    one = lambda t: mae.Gaussian([[0.0]], [[0.0]])
    log_p = log_normal(X, 0, 0)[:, 0]
    code = linear(0.5, -1.0)
    kl = 0.5 * (math.exp(-1) - 1 + 1 + (0.5 * X[:, 0]) ** 2)
    assert_allclose(mae.exact_elbo(one, one, X), log_p, atol=1e-10)
    assert_allclose(mae.exact_elbo(code, one, X), log_p - kl, atol=1e-10)
    assert_allclose(mae.exact_encoder_information(one, X), 0, atol=1e-10)
    assert_allclose(mae.exact_infomax_bound(linear(1.0, 0.0), one), 0, atol=1e-10)
    assert_allclose(mae.exact_log_likelihood(one, X), log_p, atol=1e-10)
    assert_allclose(mae.exact_mutual_information(one), 0, atol=1e-10)
    wanted = ENTROPY - 0.5 * (LOG_2PI - 1 + (1 + 0.25) * math.e)
    assert_allclose(mae.exact_infomax_bound(one, code), wanted, atol=1e-10)


def test_many_rows_are_as_good_as_one():
    """More rows than are integrated together, in no order."""
    x = np.random.default_rng(0).permutation(np.linspace(-6, 6, 301))[:, None]
    together = mae.exact_log_likelihood(curved, x)
    assert_allclose(together, log_likelihood(curved, x, *CURVED_Z)[0], atol=1e-9)
    assert_allclose(together[7], mae.exact_log_likelihood(curved, x[7:8])[0], atol=1e-9)


# ---------------------------------------------------------------------------------- refusals


def test_the_tolerance_is_respected():
    decoder = linear(1.0, -1.0)
    x = np.array([[1e3]])  # log p = -1e6: no double holds it to 1e-12
    with pytest.raises(mae.QuadratureError) as caught:
        mae.exact_log_likelihood(decoder, x, tol=1e-12)
    message = str(caught.value)
    reached, asked = (float(a) for a in re.findall(r"\d\.\d+e[-+]\d+", message))
    assert "exact_log_likelihood" in message and asked == 1e-12 and reached > asked
    value, error = mae.exact_log_likelihood(decoder, x, tol=1e-4, with_error=True)
    wanted = log_normal(1e3, 0, math.log(1 + math.exp(-1)))
    assert np.abs(value - wanted) <= error <= 1e-4


@pytest.mark.parametrize(
    "function",
    [
        lambda **k: mae.exact_log_likelihood(curved, X, **k),
        lambda **k: mae.exact_mutual_information(curved, **k),
        lambda **k: mae.exact_infomax_bound(curved, rough, **k),
        lambda **k: mae.exact_elbo(rough, curved, X, **k),
        lambda **k: mae.exact_encoder_information(rough, X, **k),
    ],
)
def test_a_loose_value_is_within_the_error_that_it_states(function):
    """A looser value agrees with a tighter one within the error that it states."""
    value, error = function(tol=1e-4, with_error=True)
    assert (np.abs(value - function(tol=1e-9)) <= error + 1e-9).all()
    with pytest.raises(mae.QuadratureError, match="1.0e-18"):
        function(tol=1e-18)
    assert issubclass(mae.QuadratureError, ValueError)


def codes(n):
    return lambda x: mae.Gaussian(np.concatenate([x[..., :1]] * n, -1), 0.0)


def of_codes(n):
    """A decoder that takes codes of n dimensions, and no others."""
    return lambda z: mae.Gaussian(z @ np.eye(n)[:, :1], 0.0)


@pytest.mark.parametrize(
    "call",
    [
        lambda: mae.exact_log_likelihood(of_codes(3), X, latent=3),
        lambda: mae.exact_mutual_information(of_codes(3), latent=3),
        lambda: mae.exact_infomax_bound(of_codes(3), codes(3), latent=3),
        lambda: mae.exact_elbo(codes(3), of_codes(3), X),
        lambda: mae.exact_encoder_information(codes(3), X),
        lambda: mae.exact_posterior(of_codes(3), X, np.zeros((5, 3))),
    ],
)
def test_three_dimensions_are_refused_and_what_serves_is_named(call):
    with pytest.raises(ValueError, match="latent is 3; .*mae.information_interval") as caught:
        call()
    assert not isinstance(caught.value, mae.QuadratureError)


@pytest.mark.parametrize(
    "call, named",
    [
        (lambda: mae.exact_mutual_information(codes(2)), "features"),
        (lambda: mae.exact_infomax_bound(curved, codes(2)), "auxiliary's dimension is 2"),
        (lambda: mae.exact_infomax_bound(of_codes(2), codes(1), latent=2), "dimension is 1"),
    ],
)
def test_dimensions_that_do_not_fit_are_named(call, named):
    with pytest.raises(ValueError, match=named) as caught:
        call()
    assert not isinstance(caught.value, mae.QuadratureError)


def test_a_decoders_own_exception_comes_out():
    """With a note, where Python has notes, of what it was given."""

    class Own(Exception):
        pass

    def broken(z):
        raise Own("of its own")

    with pytest.raises(Own, match="^of its own") as caught:
        mae.exact_log_likelihood(broken, X)
    assert "latent" in str(getattr(caught.value, "__notes__", "latent"))
    with pytest.raises(ValueError, match="matmul"):
        mae.exact_log_likelihood(of_codes(2), X)
    assert_allclose(
        mae.exact_log_likelihood(of_codes(2), X, latent=2), log_normal(X[:, 0], 0, math.log(2))
    )


def test_a_decoder_that_answers_by_chance_or_company_is_found_out():
    rng = np.random.default_rng(0)
    drop_out = lambda z: mae.Gaussian(np.tanh(z) * (rng.random(z.shape) < 0.9), 0.0)
    batch_norm = lambda z: mae.Gaussian((z - z.mean(-2)) / z.std(-2), 0.0)
    for decoder in (drop_out, batch_norm):
        with pytest.raises(ValueError, match="drop-out and batch normalisation must be off"):
            mae.exact_log_likelihood(decoder, X)


NO_DENSITIES = {
    "mean of nan": lambda z: (np.where(z > 1, math.nan, 0 * z), 0 * z),
    "mean of inf": lambda z: (np.where(z > 1, math.inf, 0 * z), 0 * z),
    "infinite at 0": lambda z: (0 * z, -z * z),
    "infinite everywhere": lambda z: (0 * z, 0 * z - np.inf),
    "nothing at all": lambda z: (0 * z, 0 * z / 0),
}


@pytest.mark.parametrize("name", NO_DENSITIES)
def test_a_density_that_is_not_one_is_refused(name):
    """No number may come out."""
    decoder = lambda z: mae.Gaussian(*NO_DENSITIES[name](z))
    with np.errstate(invalid="ignore"), pytest.raises(mae.QuadratureError):
        mae.exact_log_likelihood(decoder, [[0.0]])


def test_single_precision_is_refused_or_read_in_double():
    """Its rounding makes steps of 1e-7: at 1e-8 it is no function of z, at 1e-5 it is one."""
    decoder = lambda z: mae.Gaussian((0.8 * z).astype("float32"), np.float32(-1))
    with pytest.raises(mae.QuadratureError, match="single precision"):
        mae.exact_mutual_information(decoder)
    wanted = 0.5 * math.log1p(0.64 * math.e)
    assert_allclose(mae.exact_mutual_information(decoder, tol=1e-5), wanted, atol=1e-6)


# ------------------------------------------------------------------------- hostile decoders


def tanh_step(center, steepness, scale=1.0, s=0.1):
    mean = lambda z: scale * np.tanh(steepness * (z - center))
    return lambda z: mae.Gaussian(mean(z), 2 * math.log(s) + 0 * z)


def bump(start, width, s=0.1):
    """Mean 1 between start and start + width, 0 elsewhere."""
    k = 8 / width
    mean = lambda z: 0.5 * (np.tanh(k * (z - start)) - np.tanh(k * (z - start - width)))
    return lambda z: mae.Gaussian(mean(z), 2 * math.log(s) + 0 * z)


def window(start, width):
    """Category 1 between start and start + width only."""
    k = 8 / width
    edge = lambda z, a: 30 * np.tanh(k * (z - a))
    logits = lambda z: edge(z, start) - edge(z, start + width) - 30
    return lambda z: mae.Categorical(np.concatenate([0 * z, logits(z)], -1))


HOSTILE = {  # decoder, values of x, and codes near which the truth needs small panels
    "wide to narrow": (lambda z: mae.Gaussian(z, -5 + 9 * np.tanh(z)), [-2, 0, 0.1, 3, 9], []),
    "narrow to wide": (lambda z: mae.Gaussian(z, -5 - 9 * np.tanh(z)), [-3, 0, 0.1, 1, 3], [3, 1]),
    "exp": (lambda z: mae.Gaussian(np.exp(z), -10 + 4 * np.tanh(3 * z)), [0.01, 1, 20], [0, 3]),
    "50 z": (linear(50.0, -14.0), [2, 50, 201, 500], [0.04, 1, 4.02, 10]),
    "50 z, wide": (linear(50.0, 4.0), [2, 50, 500], []),
    "0.1 z": (linear(0.1, 2 * math.log(0.01)), [2, 5, 20], [20, 50, 200]),
    "sin 5 z": (lambda z: mae.Gaussian(np.sin(5 * z), 0 * z - 9), [0, 0.3, 1, 1.02, 3], []),
    "z^2": (
        lambda z: mae.Gaussian(z * z, -9 + 6 * np.tanh(2 * z)),
        [0, 1, 9, 25],
        [1, -1, 3, -3, 5, -5],
    ),
    "step": (tanh_step(0.473, 300), [-1, 0.1, 0.5, 0.9, 3], [0.473]),
    "steep step": (tanh_step(1.57, 3000, s=0.03), [-1, 0, 0.1, 0.5, 0.9], [1.57]),
    "step out of sight": (tanh_step(12, 20, s=0.05), [-1, 0, 0.5, 1, 5], [12]),
    "large step out of sight": (
        tanh_step(12.3, 200, 20, s=0.05),
        [-20, 0, 10, 20],
        [12.3, 12.3 + math.atanh(0.5) / 200],
    ),
    "steepest step": (tanh_step(0.473, 1e5), [-1, 0, 1], [0.473]),
    "narrow beyond 6": (
        lambda z: mae.Gaussian(z, -7 - 7 * np.tanh(30 * (z - 6))),
        [0, 6.5, 9],
        [6, 6.5, 9],
    ),
    "bump": (bump(0.473, 0.1), [0, 0.5, 1, 2], [0.473, 0.573]),
    "narrow bump": (bump(0.473, 0.03, s=0.01), [0, 0.5, 1, 2], [0.473, 0.503]),
    "narrowest bump": (bump(0.473, 0.003, s=0.01), [0, 0.5, 1, 2], [0.473, 0.476]),
    "bump in the tail": (bump(12.05, 0.1, s=0.01), [0, 0.5, 1, 2], [12.05, 12.15]),
    "narrow bump in the tail": (bump(11.3, 0.02), [0, 0.5, 1, 2], [11.3, 11.32]),
    "dip of the variance": (
        lambda z: mae.Gaussian(0 * z, 6 * (np.tanh(90 * (z - 0.53)) - np.tanh(90 * (z - 0.47)))),
        [0, 0.001, 0.5],
        [0.47, 0.53],
    ),
    "two widths": (  # z near 1 and z near -1 both explain x = 1, one of them 10^4 times narrower
        lambda z: mae.Gaussian(np.where(z > 0, 1e4 * (z - 1) + 1, -z), 0 * z - 4),
        [0.9, 1, 1.3],
        [1, -1, 0],
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_likelihoods_are_right_or_refused(name):
    decoder, x, near = HOSTILE[name]
    x = np.array(x, float)[:, None]
    far = 300 if name == "0.1 z" else 25
    z, log_dz = fine_grid(-far, far, 5000, near, 1e-8)
    wanted = log_likelihood(decoder, x, z, log_dz)[0]
    solved = 0
    for row, truth in zip(x, wanted):
        compute = lambda: mae.exact_log_likelihood(decoder, row[None])[0]
        # the sum of the truth itself rounds at 1e-16 of the exponent
        solved += right_or_refused(compute, truth, 1e-8 + 1e-13 * abs(truth))
    assert solved >= len(x) - 1


# A feature much narrower than the distance of the surveyed codes, in front of a background that is
# flat, leaves no trace at any point. These are the limits of sampling a callable.
NARROW = "narrower than the distance of the surveyed codes"
UNSEEN = {
    "step of 1e-10, symmetric": (tanh_step(0.473, 1e10), [[0.0]], [0.473]),
    "bump of 0.0001": (bump(0.4733, 0.0001), [[1.0]], [0.4733, 0.4734]),
    "window of 0.0001": (window(0.4733, 0.0001), [[1.0, 0.0], [0.0, 1.0]], [0.4733, 0.4734]),
}


@pytest.mark.xfail(strict=True, raises=AssertionError, reason=NARROW)
@pytest.mark.parametrize("name", UNSEEN)
def test_what_no_survey_sees_is_right_or_refused(name):
    decoder, x, near = UNSEEN[name]
    x = np.array(x)
    wanted = log_likelihood(decoder, x, *fine_grid(-30, 30, 600, near, 1e-12))[0]
    right_or_refused(lambda: mae.exact_log_likelihood(decoder, x), wanted)


def linear_bound(auxiliary, log_var, x, log_dx):
    """The bound for the decoder N(z, e^log_var), whose posteriors are known in closed form."""
    noise = math.exp(log_var)
    r = auxiliary(x[:, None])
    mean, log_r_var = r.mean[:, 0], r.log_var[:, 0]
    square = (x / (1 + noise) - mean) ** 2 + noise / (1 + noise)
    log_r = -0.5 * (square * np.exp(-log_r_var) + log_r_var + LOG_2PI)
    log_p = log_normal(x, 0, math.log1p(noise))
    return ENTROPY + np.exp(log_p + log_dx) @ log_r


@pytest.mark.parametrize("steepness", [3, 30, 100])
@pytest.mark.parametrize("log_var", [0.5, -1.0, -3.0])
def test_steep_auxiliaries_are_right_or_refused(steepness, log_var):
    """Networks of several widths, steep in x, under a decoder in closed form."""
    x, log_dx = uniform_grid(-14, 14, 0.02 / steepness)
    for hidden in (1, 4, 64):
        auxiliary = random_network(np.random.default_rng(hidden), hidden, steepness, -1.0)
        compute = lambda: mae.exact_infomax_bound(linear(1.0, log_var), auxiliary)
        right_or_refused(compute, linear_bound(auxiliary, log_var, x, log_dx))


def test_a_narrow_feature_of_the_auxiliary_is_seen():
    """A stretch of x, 0.02 short, on which r is much wider than elsewhere."""
    edge = lambda x, a: np.tanh(400 * (x - a))
    auxiliary = lambda x: mae.Gaussian(0 * x, 1.5 * (edge(x, 1.013) - edge(x, 1.033)))
    wanted = linear_bound(auxiliary, -1.0, *fine_grid(-14, 14, 300, [1.013, 1.033], 1e-6))
    assert right_or_refused(lambda: mae.exact_infomax_bound(linear(1.0, -1.0), auxiliary), wanted)


@pytest.mark.parametrize("width", [0.3, 0.03, 0.003])
def test_a_category_on_a_short_stretch_is_seen(width):
    """A category of its own on a short stretch of z."""
    z, log_dz = fine_grid(-10, 10, 100, [0.473, 0.473 + width], 1e-6)
    decoder = window(0.473, width)
    wanted = log_likelihood(decoder, np.eye(2), z, log_dz)[0]
    assert_allclose(mae.exact_log_likelihood(decoder, np.eye(2)), wanted, atol=1e-9)
    wanted = information(decoder, np.eye(2), np.zeros(2), z, log_dz)
    assert_allclose(mae.exact_mutual_information(decoder), wanted, atol=1e-9)


JOINT = {  # decoder; codes, values of x near which the truth needs small panels; x from, to; panels
    "step": (tanh_step(0.473, 300), [0.473], [-1, 1], -3, 3, 120, 40),
    "sin 5 z": (lambda z: mae.Gaussian(np.sin(5 * z), 0 * z - 4), [], [-1, 1], -3, 3, 160, 40),
    "narrow in the tail": (
        lambda z: mae.Gaussian(z, -2.5 - 2.5 * np.tanh(5 * (z - 3))), [], [3], -12, 10, 160, 120,
    ),
    "spike of p(x)": (
        lambda z: mae.Gaussian(0 * z, -6 - 6 * np.tanh(5 * (z - 1))), [], [0], -12, 12, 120, 60,
    ),
    "far spike": (
        lambda z: mae.Gaussian(5 + 0 * z, -6 - 6 * np.tanh(20 * (z - 3.3))),
        [3.3], [5], -8, 18, 60, 60,
    ),
    "bump": (bump(0.473, 0.03, 0.3), [0.473, 0.503], [], -4, 5, 60, 40),
    "narrow bump": (bump(0.473, 0.005, 0.3), [0.473, 0.478], [], -4, 5, 60, 40),
}  # fmt: skip
AUXILIARIES = {
    "flat": linear(0.4, -1.0),
    "steep": lambda x: mae.Gaussian(np.tanh(300 * (x - 0.2)), -2 + np.tanh(300 * (x - 0.2))),
    "narrow": linear(0.5, -12.0),
    "hat": lambda x: mae.Gaussian(0 * x, 2 * np.tanh(90 * (x - 0.2)) - 2 * np.tanh(90 * (x - 0.3))),
}


@pytest.mark.parametrize("name", JOINT)
def test_hostile_joints_are_right_or_refused(name):
    """I and every auxiliary's bound, against one table of p(x, z)."""
    decoder, near_z, near_x, low, high, panels_z, panels_x = JOINT[name]
    z, log_dz = fine_grid(-9, 9, panels_z, near_z, 1e-4)
    x, log_dx = fine_grid(low, high, panels_x, [*near_x, 0.2, 0.3], 1e-3)
    log_p_given = conditional_table(decoder, z, x[:, None])
    joint = log_p_given + log_normal(z, 0, 0) + log_dz
    log_p = np.logaddexp.reduce(joint, -1)
    weights = np.exp(joint + log_dx[:, None])
    assert_allclose(weights.sum(), 1, atol=1e-11)
    truth = np.sum(weights * log_p_given) - np.exp(log_p + log_dx) @ log_p
    right_or_refused(lambda: mae.exact_mutual_information(decoder), truth)
    moments = [weights @ z**power for power in range(3)]
    for auxiliary in AUXILIARIES.values():
        r = auxiliary(x[:, None])
        mean, log_var = r.mean[:, 0], r.log_var[:, 0]
        square = moments[2] - 2 * mean * moments[1] + mean**2 * moments[0]
        log_r = -0.5 * (square * np.exp(-log_var) + moments[0] * (log_var + LOG_2PI))
        truth = ENTROPY + log_r.sum()
        right_or_refused(lambda: mae.exact_infomax_bound(decoder, auxiliary), truth)


@pytest.mark.parametrize("log_var", [-60.0, -30.0, -14.0, 2.0, 5.0])
def test_encoders_of_any_width_are_right(log_var):
    """E_q log p(x|z) of decoders with a known mean under a Gaussian: a line, and a sine."""
    x, variance, noise = X[:, 0], math.exp(log_var), math.exp(-2.0)
    m = 0.7 * x
    kl = 0.5 * (math.expm1(log_var) - log_var + m**2)
    line = (x - m) ** 2 + variance
    first = math.exp(-12.5 * variance) * np.sin(5 * m)
    second = 0.5 * (1 - math.exp(-50 * variance) * np.cos(10 * m))
    sine = x**2 - 2 * x * first + second
    wave = lambda z: mae.Gaussian(np.sin(5 * z), -2.0)
    for decoder, square in ((linear(1.0, -2.0), line), (wave, sine)):
        wanted = -0.5 * (square / noise - 2 + LOG_2PI) - kl
        compute = lambda: mae.exact_elbo(linear(0.7, log_var), decoder, X)
        assert right_or_refused(compute, wanted) or log_var < -40


@pytest.mark.parametrize("log_var", [-60.0, -30.0, -2.0, 3.0])
@pytest.mark.parametrize("distance", [1e-8, 1.0, 1e3, 1e7])
def test_two_codes_have_their_information_or_none(distance, log_var):
    """Codes d standard deviations apart: log 2 less the mean of log(1 + e^(-d^2/2 - d t))."""
    d = distance * math.exp(-log_var / 2)
    t, log_dt = fine_grid(-12, 12, 60, [max(-d / 2, -12)])
    overlap = np.logaddexp(0, np.maximum(-0.5 * d * d - d * t, -1000))
    wanted = math.log(2) - np.exp(log_normal(t, 0, 0) + log_dt) @ overlap
    x = np.array([[0.0], [distance]])
    right_or_refused(lambda: mae.exact_encoder_information(linear(1.0, log_var), x), wanted)


# --------------------------------------------------------- what has fooled a quadrature before


@pytest.mark.parametrize("rate, x", [(4, 1.0), (6, 0.1), (5, 0.5), (-4, 1.0)])
def test_tails_that_grow_are_part_of_the_elbo(rate, x):
    """q = N(0, 1), decoder N(0, e^(-rate z)): E x^2 e^(rate z) = x^2 e^(rate^2 / 2)."""
    decoder = lambda z: mae.Gaussian(0 * z, -rate * z)
    one = lambda x: mae.Gaussian(0 * x, 0.0)
    wanted = -0.5 * (LOG_2PI + x**2 * math.exp(rate**2 / 2))
    value, error = mae.exact_elbo(one, decoder, [[x]], tol=1e-4, with_error=True)
    assert abs(value - wanted) <= error + 1e-15 * abs(wanted)
    assert right_or_refused(lambda: mae.exact_elbo(one, decoder, [[x]]), wanted) or rate > 5


@pytest.mark.parametrize("width", [0.1, 0.03, 0.01])
@pytest.mark.parametrize("angle", [0.0, 0.5])
def test_a_narrow_ridge_in_the_plane_of_two_codes_is_seen(angle, width):
    """p(x|z) of u'z alone, |u| = 1: the values are those of a one-dimensional code, summed here."""
    u = np.array([[math.cos(angle)], [math.sin(angle)]])
    mean = lambda v: 5 * np.exp(-0.5 * ((v - 0.37) / width) ** 2)
    v = np.linspace(-9, 9, 400_001)
    log_p = -0.5 * v**2 - 0.5 * (2 - mean(v)) ** 2 * math.exp(3) + 1.5 - LOG_2PI
    wanted = math.log(np.exp(log_p).sum() * (v[1] - v[0]))
    decoder = lambda z: mae.Gaussian(mean(z @ u), -3.0)
    assert_allclose(mae.exact_log_likelihood(decoder, [[2.0]], latent=2), wanted, atol=1e-6)


@pytest.mark.parametrize("angle", [0, 0.4])
@pytest.mark.parametrize("height", [0.5, 1, 3])
@pytest.mark.parametrize("middle, half", [(0.82, 0.04), (0.4, 0.05), (1.1, 0.06)])
def test_a_ridge_of_straight_sides_in_the_plane_of_two_codes_is_seen(angle, height, middle, half):
    """The value is that of one code; no two panels of the line need be equally long."""
    bump = lambda s: s + height * np.maximum(0, 1 - np.abs(s - middle) / half)
    direction = np.array([[np.cos(angle)], [np.sin(angle)]])
    found, estimate = mae.exact_log_likelihood(
        lambda z: mae.Gaussian(bump(z @ direction), 0.0), [[2.0]], with_error=True, latent=2
    )
    wanted = mae.exact_log_likelihood(lambda z: mae.Gaussian(bump(z), 0.0), [[2.0]])
    assert abs(found - wanted) <= estimate + 1e-8 and estimate <= 1e-6


@pytest.mark.parametrize("offset", [0.0, 1.0, 10.0, 1000.0])
def test_a_small_detail_is_seen_however_large_x_is(offset):
    middle, half, height = 0.475, 0.02, 0.9e-6 * (1 + offset)
    bump = lambda z: height * np.maximum(0, 1 - np.abs(z - middle) / half)
    decoder = lambda z: mae.Gaussian(offset + bump(z), 0.0)
    found, estimate = mae.exact_log_likelihood(decoder, [[offset + 3]], with_error=True)
    z, weights = fine_grid(-10, 10, 400, near=(middle - half, middle, middle + half))
    truth = np.logaddexp.reduce(weights + log_normal(z, 0, 0) + log_normal(3 - bump(z), 0, 0))
    assert abs(found - truth) <= 1e-8


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.4, 0.45, 0.47])
def test_tails_that_grow_are_part_of_the_bound(rate):
    """r = N(0, e^(-rate x^2)) under N(.8 z, .36): E e^(rate x^2) = (1 - 2 rate)^(-1/2)."""
    auxiliary = lambda x: mae.Gaussian(0 * x, -rate * x * x)
    v = 1 / (1 - 2 * rate)
    wanted = ENTROPY - 0.5 * (LOG_2PI - rate + (0.64 * v + 0.36) * math.sqrt(v))
    decoder = linear(0.8, math.log(0.36))
    solved = right_or_refused(lambda: mae.exact_infomax_bound(decoder, auxiliary), wanted)
    assert solved or rate > 0.45


R_OF_X = {
    "flat": lambda x: mae.Gaussian(0.3 * np.tanh(x), -1.0),
    "narrow on the spike": lambda x: mae.Gaussian(0 * x, -10 / (1 + (30 * (x - 0.7)) ** 2)),
    "bump": lambda x: mae.Gaussian(np.exp(-((x - 2.345) ** 2) / 2e-3), 0.0),
}


@pytest.mark.parametrize("name", R_OF_X)
@pytest.mark.parametrize("cut", [-6.0, 0.3, 4.0, 6.0, 7.0])
@pytest.mark.parametrize("ratio", [1e-4, 1e-2])
def test_a_spike_in_a_slab_is_right(cut, ratio, name):
    """Whatever its mass: above 6 it is 1e-9, and carries 1e-9 log 1e9."""
    near = [0.7, 2.345 - 0.05, 2.345, 2.345 + 0.05]
    decoder, wanted = spike(cut, 0.7, ratio * 3, 3.0, R_OF_X[name], near)
    compute = lambda: mae.exact_information_and_bound(decoder, R_OF_X[name])
    solved = right_or_refused(compute, wanted)
    assert solved or wanted[1] < -2000  # which would be a relative error of 4e-12


def test_a_thousand_categories_have_their_information():
    w, b = np.random.default_rng(0).standard_normal((2, 1000))
    decoder = lambda z: mae.Categorical(2 * w * z + b)
    z, log_dz = uniform_grid(-10, 10, 0.02)
    wanted = information(decoder, np.eye(1000), np.zeros(1000), z, log_dz)
    assert_allclose(mae.exact_mutual_information(decoder), wanted, atol=1e-10)
    with pytest.raises(ValueError, match="features is 4097; it must be at most 4096"):
        mae.exact_mutual_information(lambda z: mae.Categorical(z * np.ones(4097)))


@pytest.mark.parametrize("name", ["gaussian", "categorical", "bernoulli"])
def test_no_information_is_zero_and_never_less(name):
    """A decoder that ignores its code; of 1 and 2 dimensions."""
    for level in np.linspace(-3, 3, 5):
        decoder = {
            "gaussian": lambda z: mae.Gaussian(0 * z[..., :1] + level, level),
            "categorical": lambda z: mae.Categorical(0 * z[..., :1] + [0, level, 1]),
            "bernoulli": lambda z: mae.Bernoulli(0 * z[..., :1] + [level, 1]),
        }[name]
        for latent in (1, 2):
            assert 0 <= mae.exact_mutual_information(decoder, latent=latent) <= 1e-10


# ------------------------------------------------------------------------ codes of two dimensions

TURN = np.array([[0.6, -0.8], [0.8, 0.6]])


def test_two_codes_have_the_values_of_a_linear_model():
    """log p(x), ELBO and I, where the posterior is Gaussian with diagonal covariance."""
    model = Linear(2, 4, diagonal_posterior=True)
    x = 2 * np.random.default_rng(3).standard_normal((5, 4))
    wanted = model.log_likelihood(x)
    assert_allclose(mae.exact_log_likelihood(model.decoder, x, latent=2), wanted, atol=1e-8)
    assert_allclose(mae.exact_elbo(model.posterior, model.decoder, x), wanted, atol=1e-8)
    one, posterior = Linear(2, 1, seed=2), lambda x: mae.Gaussian(0 * x @ [[1.0, 1.0]], 0.0)
    i = mae.exact_information_and_bound(one.decoder, posterior, latent=2)
    assert_allclose(i, [one.information, 0], atol=1e-8)
    density = mae.exact_posterior(model.decoder, x, np.zeros((1, 2)))[:, 0]
    precision = np.linalg.inv(model.posterior_covariance)
    mean = (x - model.bias) @ model.posterior_weights.T
    square = np.sum(mean @ precision * mean, -1)
    assert_allclose(
        density, np.sqrt(np.linalg.det(precision)) / (2 * math.pi) * np.exp(-square / 2)
    )


def test_a_decoder_of_one_direction_among_two_is_one_of_one_code():
    """log p(x), p(z|x) and the mean of log p(x|z) over a q(z|x) whose axes are others."""
    along, across = TURN.T[:, :, None]
    decoder = lambda z: curved(z @ along)
    wanted = mae.exact_log_likelihood(curved, X)
    assert_allclose(mae.exact_log_likelihood(decoder, X, latent=2), wanted, atol=1e-7)
    z = np.random.default_rng(0).standard_normal((50, 2))
    wanted = mae.exact_posterior(curved, X, z @ along) * np.exp(log_normal(z @ across, 0, 0)[:, 0])
    assert_allclose(mae.exact_posterior(decoder, X, z), wanted, rtol=1e-6)
    q = lambda x: mae.Gaussian(x @ [[0.3, -0.2]], -1.0)
    q_along = lambda x: mae.Gaussian(q(x).mean @ along, -1.0)
    wanted = mae.exact_elbo(q_along, curved, X) + q_along(X).kl()
    assert_allclose(mae.exact_elbo(q, decoder, X) + q(X).kl(), wanted, atol=1e-6)


def test_a_step_along_an_axis_and_a_slope_across_it_are_right():
    """x = .3 (z1 + z2) + (z1 > .2) + noise, which is normal given z1: turned axes would not do."""
    decoder = lambda z: mae.Gaussian(z @ [[0.3], [0.3]] + (z[:, :1] > 0.2), -2.0)
    z, log_dz = fine_grid(-9, 9, 100, [0.2])
    log_px = log_normal(X, 0.3 * z + (z > 0.2), math.log(math.exp(-2) + 0.09))
    wanted = np.logaddexp.reduce(log_px + log_normal(z, 0, 0) + log_dz, -1)
    assert_allclose(mae.exact_log_likelihood(decoder, X, latent=2), wanted, atol=1e-6)


def test_an_encoder_of_two_codes_has_the_information_of_its_rows():
    """Codes that differ along a direction are those of one dimension; far apart they are log n."""
    x = np.array([[0.0], [1.0], [2.5]])
    along = lambda x: mae.Gaussian(np.concatenate([x, 0 * x], -1), -1.0)
    wanted = mae.exact_encoder_information(linear(1.0, -1.0), x)
    assert_allclose(mae.exact_encoder_information(along, x), wanted, atol=1e-7)
    far = lambda x: mae.Gaussian(x @ [[30.0, -20.0]], -1.0)
    assert_allclose(mae.exact_encoder_information(far, x), math.log(3), atol=1e-7)


def turned_bits(z):
    return mae.Bernoulli(np.array([3.0, 2.0]) * np.tanh(2 * (z @ TURN)))


def xor(z):
    return mae.Categorical(np.log(np.where(z.prod(-1, keepdims=True) > 0, [0.9, 0.1], [0.1, 0.9])))


TWO = {  # decoder; features of x that are drawn, if any
    "turned bits": (turned_bits, 2),
    "parity": (xor, 0),
    "linear": (lambda z: mae.Gaussian(z @ [[1.0], [0.5]], 0.0), 1),
}


@pytest.mark.parametrize("name", TWO)
def test_the_bracket_of_the_interval_holds_the_exact_value(name):
    decoder, features = TWO[name]
    rng, r = np.random.default_rng(5), lambda x: mae.Gaussian(0 * x[..., :1] @ [[1.0, 1.0]], 0.3)
    z, eps_r = rng.standard_normal((4000, 2)), rng.standard_normal((32, 4000, 2))
    eps = rng.standard_normal((4000, features)) if features else None
    low, high = mae.information_interval(decoder, r, z, eps, eps_r, confidence=0.9999)
    exact = mae.exact_mutual_information(decoder, latent=2)
    assert low < exact < high < low + 0.3
    assert mae.exact_infomax_bound(decoder, r, latent=2) <= exact


# ---------------------------------------------------------------------- a sweep over networks


def sweep_one(seed):
    """Every exact value of a random network against uniform log-space sums."""
    rng = np.random.default_rng(seed)
    hidden, steepness = (1, 2, 4, 8, 16, 32, 64)[seed % 7], 0.3 * 100 ** rng.random()
    decoder = random_network(rng, hidden, steepness, rng.uniform(-7, 1))
    p = decoder(np.linspace(-10, 10, 20001)[:, None])
    mean, s = p.mean[:, 0], np.exp(p.log_var[:, 0] / 2)
    width = np.min(s[1:] / np.maximum(np.abs(np.diff(mean)) / 1e-3, 1e-3))
    z, log_dz = uniform_grid(-10, 10, min(0.4 * width, 0.03 / steepness, 0.02))
    x = decoder(rng.standard_normal((4, 1))).sample(np.array([[-1.0], [0], [2], [5]]))
    log_p, log_posterior = log_likelihood(decoder, x, z, log_dz)
    assert log_posterior[:, [0, -1]].max() < -40  # the truth's grid is wide enough
    right_or_refused(lambda: mae.exact_log_likelihood(decoder, x), log_p)

    code = lambda x: mae.Gaussian(np.tanh(steepness * x), -3 + 2 * np.tanh(x))
    q = code(x)
    weights = np.exp(log_normal(z, q.mean, q.log_var) + log_dz)
    expected = np.sum(weights * conditional_table(decoder, z, x), -1)
    kl = 0.5 * (np.exp(q.log_var) - 1 - q.log_var + q.mean**2)[:, 0]
    right_or_refused(lambda: mae.exact_elbo(code, decoder, x), expected - kl)

    # p log p has branch points as near as p's zeros: a finer step than p alone would need
    x, log_dx = uniform_grid(np.min(mean - 9 * s), np.max(mean + 9 * s), 0.25 * s.min())
    if len(x) * len(z) < 3e6:
        truth = information(decoder, x[:, None], log_dx, z, log_dz)
        right_or_refused(lambda: mae.exact_mutual_information(decoder), truth)


@pytest.mark.parametrize("seed", range(12))
def test_random_categorical_networks_are_right_or_refused(seed):
    rng = np.random.default_rng(seed)
    hidden, steepness = (2, 8, 32)[seed % 3], 0.3 * 100 ** rng.random()
    w, b = steepness * rng.standard_normal((2, hidden))
    v, table = 4 * rng.standard_normal((hidden, 5)) / math.sqrt(hidden), rng.standard_normal((5, 2))
    decoder = lambda z: mae.Categorical(np.tanh(z * w + b) @ v)
    z, log_dz = uniform_grid(-10, 10, 0.02 / max(1, steepness))
    log_p, log_posterior = log_likelihood(decoder, np.eye(5), z, log_dz)
    right_or_refused(lambda: mae.exact_log_likelihood(decoder, np.eye(5)), log_p)
    truth = information(decoder, np.eye(5), np.zeros(5), z, log_dz)
    right_or_refused(lambda: mae.exact_mutual_information(decoder), truth)
    log_r = log_normal(z, table[:, :1], table[:, 1:])
    expected = np.sum(np.exp(log_p[:, None] + log_posterior) * log_r)
    truth = ENTROPY + expected
    auxiliary = lambda x: mae.Gaussian.unpack(x @ table)
    right_or_refused(lambda: mae.exact_infomax_bound(decoder, auxiliary), truth)


SLOW = [pytest.param(first, marks=pytest.mark.slow) for first in range(40, 200, 10)]


@pytest.mark.parametrize("first", [*range(0, 40, 10), *SLOW])
def test_random_networks_are_right_or_refused(first):
    for seed in range(first, first + 10):
        sweep_one(seed)


def test_an_encoder_made_for_these_rows_alone_is_served():
    """It takes no other number of rows; q is the posterior, so that the ELBO is log p(x)."""
    mean, x = np.array([[0.4], [-0.8]]), np.array([[0.5], [-1.0]])
    encoder = lambda x: mae.Gaussian(mean + 0 * x, math.log(0.36))
    wanted = mae.Gaussian(0 * x, 0.0).log_prob(x)
    assert_allclose(mae.exact_elbo(encoder, linear(0.8, math.log(0.36)), x), wanted, atol=1e-8)
