"""Every method of the distributions against its definition: values and gradients."""

import itertools
import math
from decimal import Decimal
from statistics import NormalDist

import autograd.numpy as np
import pytest
from autograd import grad
from numpy.testing import assert_allclose

import mae
from mae import Bernoulli, Categorical, Gaussian
from truths import LOG_2PI, fine_grid, log_normal, probabilities


def normals(*shapes):
    rng = np.random.default_rng(len(shapes))
    return [rng.standard_normal(shape) for shape in shapes]


def halves(formula):
    return lambda params, *rest: formula(*np.split(params, 2, -1), *rest)


def log_density(mean, log_var, x):
    return np.sum(-0.5 * ((x - mean) ** 2 / np.exp(log_var) + log_var + LOG_2PI), -1)


def sample(mean, log_var, eps):
    return mean + np.sqrt(np.exp(log_var)) * eps


def kl(mean, log_var):
    return 0.5 * np.sum(np.exp(log_var) - 1 - log_var + mean**2, -1)


def probs(logits):
    return np.exp(logits) / np.sum(np.exp(logits), -1, keepdims=True)


def chances(logits):
    return 1 / (1 + np.exp(-logits))


def log_chance(logits, x):
    return np.sum(x * np.log(chances(logits)) + (1 - x) * np.log(chances(-logits)), -1)


def mean_over_strings(logits, values):
    strings = itertools.product((0.0, 1.0), repeat=logits.shape[-1])
    every = [np.exp(log_chance(logits, np.array(x))) for x in strings]
    return sum(p * value for p, value in zip(every, values))


def mean_over_categories(logits, values):
    return sum(probs(logits)[..., c] * values[c] for c in range(logits.shape[-1]))


MANY, EVERY = (2, 4, 3), np.eye(3)[[1, 0, 2, 1]]
DEFINITIONS = {  # a method, its formula, and what to compare them on
    "log_prob": (
        lambda mean, log_var, x: Gaussian(mean, log_var).log_prob(x), log_density,
        [
            normals((4, 3), (4, 3), (4, 3)), normals(MANY, (4, 3), (5, 1, 4, 3)),
            normals((4, 3), MANY, (4, 3)), normals(MANY, (1, 1), MANY),
            [*normals((4, 2)), 0.3, np.zeros((4, 2))],
        ],
    ),
    "log_prob, unpacked": (
        lambda params, x: Gaussian.unpack(params).log_prob(x), halves(log_density),
        [
            normals((4, 2), (4, 1)), normals((4, 6), (4, 3)), normals((2, 4, 6), (4, 3)),
            normals((4, 6), MANY), normals((2, 1, 2), (5, 1, 4, 1)),
        ],
    ),
    "sample": (
        lambda params, eps: Gaussian.unpack(params).sample(eps), halves(sample),
        [normals((4, 6), (4, 3)), normals((2, 4, 2), (4, 1)), normals((1, 6), (5, 2, 4, 3))],
    ),
    "kl": (
        lambda params: Gaussian.unpack(params).kl(), halves(kl),
        [normals((4, 2)), normals((2, 4, 6))],
    ),
    "categorical log_prob": (
        lambda logits, x: Categorical(logits).log_prob(x),
        lambda logits, x: np.sum(x * np.log(probs(logits)), -1),
        [[*normals((4, 3)), EVERY], [*normals(MANY), EVERY], [*normals((4, 3)), EVERY[:2, None]]],
    ),
    "probs": (lambda logits: Categorical(logits).probs, probs, [normals((4, 3)), normals(MANY)]),
    "expect": (
        lambda logits, values: Categorical(logits).expect(lambda x: values), mean_over_categories,
        [
            normals((4, 3), (3, 4)), normals((4, 3), (3, 2, 4)),
            normals(MANY, (3, 1, 4)), normals(MANY, (3, 2, 4)),
        ],
    ),
    "std": (
        lambda params: Gaussian.unpack(params).std, halves(lambda m, v: np.sqrt(np.exp(v)) + 0 * m),
        [normals((4, 6)), normals((2, 4, 2))],
    ),
    "bernoulli log_prob": (
        lambda logits, x: Bernoulli(logits).log_prob(x), log_chance,
        [
            [*normals((4, 3)), 1.0 * (normals((4, 3))[0] > 0)],
            [*normals(MANY), chances(normals((5, 1, 4, 3))[0])],
            [*normals((1, 3)), chances(normals(MANY)[0])],
        ],
    ),
    "bernoulli probs": (
        lambda logits: Bernoulli(logits).probs, chances,
        [normals((4, 3)), normals(MANY), [np.zeros((4, 3))]],
    ),
    "bernoulli expect": (
        lambda logits, values: Bernoulli(logits).expect(lambda x: values), mean_over_strings,
        [
            normals((4, 3), (8, 4)), normals((4, 1), (2, 2, 4)), normals((4, 3), (8, 2, 4)),
            normals(MANY, (8, 1, 4)), normals(MANY, (8, 2, 4)),
        ],
    ),
}  # fmt: skip
CASES = [(name, i) for name, (*_, cases) in DEFINITIONS.items() for i in range(len(cases))]


@pytest.mark.parametrize("name, i", CASES)
def test_methods_have_the_values_and_gradients_of_their_definitions(name, i):
    """In every argument, to 1e-12: autograd differentiates the plain formula."""
    method, formula, cases = DEFINITIONS[name]
    args = cases[i]
    value, wanted = method(*args), formula(*args)
    assert value.shape == wanted.shape
    assert_allclose(value, wanted, rtol=1e-12, atol=1e-12)
    (weights,) = normals(wanted.shape)
    for k, arg in enumerate(args):
        got, slope = (grad(lambda *a: np.sum(weights * f(*a)), k)(*args) for f in (method, formula))
        assert np.shape(got) == np.shape(arg)
        assert_allclose(got, slope, rtol=1e-12, atol=1e-12)


def test_the_log_density_is_that_of_single_numbers():
    mean, log_var, x = normals(MANY, (4, 3), (5, 1, 4, 3))
    log_prob = Gaussian(mean, log_var).log_prob(x)
    for i, k, b in np.ndindex(log_prob.shape):
        stds = np.exp(log_var[b] / 2)
        wanted = [NormalDist(*a).pdf(t) for *a, t in zip(mean[k, b], stds, x[i, 0, b])]
        assert_allclose(log_prob[i, k, b], sum(map(math.log, wanted)), rtol=1e-12)


def test_the_kl_is_the_integral_of_q_log_q_over_p():
    mean, log_var = 1.5 * np.array(normals((6, 2), (6, 2)))
    kl = Gaussian(mean, log_var).kl()
    assert kl.shape == (6,) and (kl > 0).all()
    for b in range(6):
        wanted = 0.0
        for m, v in zip(mean[b], log_var[b]):
            z, log_dz = fine_grid(m - 12 * math.exp(v / 2), m + 12 * math.exp(v / 2), 60)
            log_q = log_normal(z, m, v)
            wanted += np.sum(np.exp(log_q + log_dz) * (log_q - log_normal(z, 0, 0)))
        assert_allclose(kl[b], wanted, rtol=1e-11)


@pytest.mark.parametrize("size", [1e-1, 1e-3, 1e-6, 1e-9])
def test_the_kl_keeps_its_digits_near_the_prior(size):
    mean, log_var = size, -0.7 * size
    wanted = (Decimal(log_var).exp() - 1 - Decimal(log_var) + Decimal(mean) ** 2) / 2
    # expm1(v) - v leaves 1e-16 v of v^2 / 2
    assert_allclose(Gaussian([[mean]], [[log_var]]).kl(), float(wanted), rtol=1e-14 + 1e-15 / size)


def test_the_kl_is_zero_at_the_prior_and_nowhere_negative():
    assert Gaussian(np.zeros((2, 3)), 0.0).kl().tolist() == [0, 0]
    tiny = np.logspace(-20, 0, 200)[:, None]
    for sign in (1, -1):
        assert (Gaussian(0 * tiny, sign * tiny).kl() >= 0).all()


PAIRS = [((), ()), ((), (3,)), ((), (4,)), ((3,), ()), ((4,), ()), ((3,), (3,)), ((4,), (4,))]
PAIRS += [((1,), ()), ((1,), (1,)), ((1,), (3,)), ((3,), (1,)), ((2, 3), ()), ((2, 3), (2, 3))]
PAIRS += [((2, 1), (1, 3)), ((2, 3), (3,))]


@pytest.mark.parametrize("p_models, f_models", PAIRS)
def test_an_expectation_is_a_sum_with_and_without_models(p_models, f_models):
    """Models on either side; three are as many as the categories, and must not be mixed up."""
    logits, table, z = normals((*p_models, 5, 3), (*f_models, 3, 2), (5, 1))
    mean = Categorical(logits).expect(lambda x: Gaussian.unpack(x @ table).log_prob(z))
    models = np.broadcast_shapes(p_models, f_models)
    assert mean.shape == (*models, 5)
    logits = np.broadcast_to(logits, (*models, 5, 3)).reshape(-1, 5, 3)
    table = np.broadcast_to(table, (*models, 3, 2)).reshape(-1, 3, 2)
    for k, b in np.ndindex(len(logits), 5):
        weights = map(float, probabilities(logits[k, b]))
        wanted = sum(p * log_normal(z[b, 0], *row) for p, row in zip(weights, table[k]))
        assert_allclose(mean.reshape(-1, 5)[k, b], wanted, rtol=1e-12)


def test_an_expectation_sees_every_category_once():
    seen = []
    Categorical(np.zeros((5, 4))).expect(lambda x: seen.append(x) or x[..., 0])
    assert len(seen) == 1 and seen[0].reshape(4, 4).tolist() == np.eye(4).tolist()


# ------------------------------------------------------------------------------- bits


def bits_by_hand(logits, x):
    """log p(x) to 50 digits; no bit of this x is impossible."""
    total = Decimal(0)
    for a, bit in zip(logits, x):
        a = a if bit else -a
        total -= (1 + Decimal(-float(a)).exp()).ln() if a < math.inf else 0
    return total


FAR_BITS = [(1e4, -1e4, 0.25), (-1e4, -1e4, 1e4), (40, -40, 0), (-700, 3, 1e-9)]
FAR_BITS += [(math.inf, -math.inf, -2), (math.inf, 1e4, -30)]


@pytest.mark.parametrize("dtype, rtol", [("float64", 1e-14), ("float32", 1e-6)])
@pytest.mark.parametrize("logits", FAR_BITS)
def test_bits_far_out_have_their_probabilities_and_slopes(logits, dtype, rtol):
    """A logit of inf or -inf is a bit that never changes; what it never is has -inf."""
    array = np.array([logits], dtype)
    p, exact = Bernoulli(array), array[0].tolist()
    for x in itertools.product((0, 1), repeat=3):
        row = np.array([x], dtype)
        log_prob = p.log_prob(row)
        impossible = any(abs(a) == math.inf and bit != (a > 0) for a, bit in zip(exact, x))
        wanted = -math.inf if impossible else float(bits_by_hand(exact, x))
        assert log_prob.dtype == dtype
        assert_allclose(log_prob, wanted, rtol=rtol)
        slope = grad(lambda a: np.sum(Bernoulli(a).log_prob(row)))(array)
        assert_allclose(slope, row - p.probs, rtol=rtol, atol=rtol)
    one = [float(bits_by_hand([a], [1]).exp()) if a > -math.inf else 0 for a in exact]
    assert_allclose(p.probs[0], one, rtol=rtol, atol=1e-37 if dtype == "float32" else 1e-300)
    f = lambda x: np.sum(x * np.array([1, 2, 4], dtype), -1)
    assert_allclose(p.expect(f), np.dot(one, [1, 2, 4]), rtol=5 * rtol)
    assert np.isfinite(grad(lambda a: np.sum(Bernoulli(a).expect(f)))(array)).all()
    every = p.values()
    table = p.table(every)[0]
    for own, x in zip(table, every):
        assert_allclose(max(own, -1e29), max(p.log_prob(x[None])[0], -1e29), rtol=5 * rtol)
    assert_allclose(p.highest(), table.max(), rtol=5 * rtol, atol=1e-30)


def test_values_are_all_strings_in_order_and_not_too_many():
    for bits in (1, 3, 12):
        strings = list(itertools.product((0.0, 1.0), repeat=bits))
        assert Bernoulli(np.zeros((2, bits))).values().tolist() == list(map(list, strings))
    assert Categorical(np.zeros((2, 3))).values().tolist() == np.eye(3).tolist()
    with pytest.raises(ValueError, match="^features is 13; it must be at most 12.*_interval"):
        Bernoulli(np.zeros((2, 13))).values()


def test_drawn_bits_have_their_probabilities_and_no_gradient():
    logits = np.array([-3.0, 0, 0.5, 4, -math.inf, math.inf] * 3)
    p, (eps,) = Bernoulli(logits + np.zeros((20000, 18))), normals((20000, 18))
    x, error = p.sample(eps), 4 * np.sqrt(p.probs[0] * (1 - p.probs[0]) / 20000)
    assert set(x.ravel()) == {0, 1} and (abs(x.mean(0) - p.probs[0]) <= error).all()
    assert_allclose(p.expect(lambda x: x[..., 0], eps), x[:, 0])
    for call in (lambda p: p.sample(eps), lambda p: p.expect(lambda x: x[..., 0], eps)):
        with pytest.raises(ValueError, match="^logits are differentiated; .*bits are drawn"):
            grad(lambda a: np.sum(call(Bernoulli(a))))(logits + np.zeros((20000, 18)))
    with pytest.raises(ValueError, match="^eps .*NoneType"):
        p.expect(lambda x: x[..., 0])


def digit_vae(latent, features, scale=1.0):
    """A decoder of bits, an encoder, and the logits' weights."""
    w, b = normals((latent, features), (features,))
    code = lambda x: Gaussian.unpack(np.tanh(x @ np.concatenate([w, w]).T / features))
    return lambda z: Bernoulli(scale * np.tanh(z @ w) + b), code, w, b


def test_a_vae_of_784_bits_has_its_elbo_iwae_and_log_likelihood():
    """By plain sums over features, draws and a fine grid of codes."""
    decoder, encoder, w, b = digit_vae(1, 784)
    z, eps, noise = normals((6, 1), (6, 784), (6, 1))
    x = decoder(z).sample(eps)
    given = lambda z: log_chance(np.tanh(z @ w) + b, x)
    q = encoder(x)
    code = q.sample(noise)
    assert_allclose(mae.elbo(encoder, decoder, x, noise), given(code) - q.kl(), rtol=1e-12)
    draws = q.sample(normals((4, 6, 1))[0])
    weights = given(draws) + log_normal(draws, 0, 0)[..., 0] - q.log_prob(draws)
    wanted = np.log(np.mean(np.exp(weights - weights.max(0)), 0)) + weights.max(0)
    assert_allclose(mae.iwae(encoder, decoder, x, normals((4, 6, 1))[0]), wanted, rtol=1e-12)
    grid, log_dz = fine_grid(-9, 9, 600)
    each = [given(np.full((6, 1), t)) for t in grid]
    joint = np.array(each) + (log_normal(grid, 0, 0) + log_dz)[:, None]
    top = joint.max(0)
    truth = top + np.log(np.exp(joint - top).sum(0))
    assert_allclose(mae.exact_log_likelihood(decoder, x), truth, atol=2e-8)
    assert (mae.exact_elbo(encoder, decoder, x) < truth).all()


@pytest.mark.parametrize("features, draws", [(8, 2000), (784, 400)])
def test_the_interval_holds_the_information_of_bits(features, draws):
    """With two codes from both bounds; with one from log p(x), whatever r is."""
    decoder, _, w, b = digit_vae(1, features, scale=0.3)
    good = lambda x: Gaussian((x - chances(b)) @ w.T * 0.5 / features**0.5, 0.0)
    wrong = lambda x: Gaussian(0 * x[..., :1] + 5, -3.0)
    z, eps, eps_r = normals((draws, 1), (draws, features), (64, draws, 1))
    low, high = mae.information_interval(decoder, wrong, z, eps, eps_r)
    assert 0 < low < high < low + 0.3
    models = [a[None] for a in (z, eps)]  # a models' axis: by the bounds
    lowest, highest = mae.information_interval(decoder, good, *models, eps_r[:, None])
    assert lowest < high and low < highest
    if features == 8:
        assert low < mae.exact_mutual_information(decoder) < high
    twice = lambda z: Bernoulli(np.concatenate([decoder(z[..., [i]]).logits for i in (0, 1)], -1))
    both = lambda x: Gaussian(
        np.concatenate([good(x[..., :features]).mean, good(x[..., features:]).mean], -1), 0.0
    )
    noise = normals((draws, 2), (draws, 2 * features), (64, draws, 2))
    lowest, highest = mae.information_interval(twice, both, *noise)
    assert lowest < 2 * high and 2 * low < highest


def test_exact_values_of_few_bits_are_sums_over_all_strings():
    decoder, encoder, w, b = digit_vae(1, 4)
    grid, log_dz = fine_grid(-9, 9, 200)
    strings = np.array(list(itertools.product((0.0, 1.0), repeat=4)))
    table = np.array([log_chance(np.tanh(grid[:, None] @ w) + b, x) for x in strings])
    log_joint = table + log_normal(grid, 0, 0) + log_dz
    log_px = np.log(np.exp(log_joint).sum(-1))
    assert_allclose(mae.exact_log_likelihood(decoder, strings), log_px, atol=1e-9)
    information = np.sum(np.exp(log_joint) * (table - log_px[:, None]))
    assert_allclose(mae.exact_mutual_information(decoder), information, atol=2e-8)
    r = encoder(strings)
    log_r = log_normal(grid, r.mean, r.log_var)
    bound = np.sum(np.exp(log_joint) * log_r) + mae.prior_entropy()
    assert_allclose(mae.exact_infomax_bound(decoder, encoder), bound, atol=2e-8)
    z = normals((300, 1))[0]
    assert_allclose(
        mae.infomax_bound(decoder, encoder, z),
        mean_over_strings(decoder(z).logits, [encoder(x[None]).log_prob(z) for x in strings])
        + mae.prior_entropy(),
        rtol=1e-12,
    )


# ------------------------------------------------------------- training on bits

FOUR = np.array([[0, 0, 0], [1, 1, 1], [1, 0, 1], [0, 1, 0]])


@pytest.mark.parametrize("r_samples", [0, 4])
def test_few_bits_are_trained_to_a_target(r_samples, tmp_path):
    settings = {"steps": 1500, "r_samples": r_samples, "likelihood": "bernoulli"}
    fit = mae.fit(FOUR, information=(0.3, 0.6), **settings)
    both = mae.exact_information_and_bound(fit.decoder, fit.auxiliary)
    assert_allclose(both[0 if r_samples else 1], [0.3, 0.6], atol=0.05)  # what is held at M
    fit.save(tmp_path / "bits.npz")
    assert mae.load(tmp_path / "bits.npz").likelihood is mae.BERNOULLI
    with pytest.raises(ValueError, match="at most 1.386294, which is all that x can hold"):
        mae.fit(FOUR, information=(1.39,), likelihood="bernoulli")
    with pytest.raises(ValueError, match="at most 2.079442, which"):
        mae.fit(lambda rng, n: FOUR[[0] * n], information=(2.08,), likelihood="bernoulli")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("r_samples", [0, 4])
def test_many_bits_are_trained_without_a_target_and_no_other_way(r_samples):
    rows = 1.0 * (normals((64, 1))[0] + normals((1, 20), (64, 20))[1] > 0)
    train = lambda **how: mae.fit(
        rows, likelihood="bernoulli", r_samples=r_samples, **{"steps": 300} | how
    )
    before, after = train(steps=1).history["elbo"][0, 0], train().history["elbo"][0, -50:].mean()
    assert after > before + 0.5
    methods = [{"method": "im"}, {"information": (0.5,)}, {"information": (None, 0)}]
    for how in (*methods, {"information": (0.5,), "method": "penalty"}):
        with pytest.raises(ValueError, match="^features is 20; it must be at most 12 for binary"):
            train(**how)


def test_data_of_bits_are_zeros_and_ones():
    for rows in (FOUR / 2, 2 * FOUR, -FOUR, FOUR * math.nan):
        with pytest.raises(ValueError, match="^data of shape .* must be zeros and ones"):
            mae.fit(rows, likelihood="bernoulli")
    with pytest.raises(ValueError, match="^x of shape .*in \\[0, 1\\]"):
        Bernoulli(np.zeros((4, 3))).log_prob(2 * FOUR)


# ------------------------------------------------------------- tables for the quadrature


@pytest.mark.parametrize("log_var", [0.0, -4.0, -12.0, -30.0])
def test_a_table_of_many_features_is_right_to_a_nanonat(log_var):
    """No digits are lost between codes and x that are far apart, on the scale of the noise."""
    mean, noise = normals((40, 100), (6, 100))
    x = mean[:6] + math.exp(log_var / 2) * noise
    table = Gaussian(mean, log_var).table(x)
    wanted = np.array([log_density(own, log_var + 0 * own, x) for own in mean])
    assert_allclose(table, wanted, rtol=1e-12, atol=1e-9)
