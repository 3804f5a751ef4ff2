"""I from both sides: by its definition, against truths in any dimension, and in training."""

import math
from dataclasses import replace
from types import SimpleNamespace

import autograd.numpy as np
import pytest
from autograd import grad
from autograd.test_util import check_grads
from numpy.testing import assert_allclose, assert_array_equal

import mae
import models
from truths import curved, rough

prior = lambda t: mae.Gaussian(0 * t, 0 * t)
wide = lambda x: mae.Gaussian(0.5 * np.tanh(x[..., :1]), 0.2 + 0 * x[..., :1])  # no posterior
error = lambda a: 4 * a.std() / math.sqrt(len(a))


def normals(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


def laplace(mean, _=None):
    """From outside, with no more than log_prob and sample (what it draws is not quite Laplace)."""
    log_prob = lambda x: (-np.abs(x - mean) - math.log(2)).sum(-1)
    return SimpleNamespace(log_prob=log_prob, sample=lambda eps: mean + eps + 0.1 * eps**2)


def coin(logit):
    """With no more than log_prob and expect; one feature, 0 or 1."""
    p, ones = 1 / (1 + np.exp(-logit)), np.ones(logit.shape)
    log_prob = lambda x: np.log(x * p + (1 - x) * (1 - p))[..., 0]
    expect = lambda f, eps: p[..., 0] * f(ones) + (1 - p[..., 0]) * f(0 * ones)
    return SimpleNamespace(log_prob=log_prob, expect=expect, probs=np.concatenate([1 - p, p], -1))


FAMILIES = {  # p(x|z) of three numbers, r(z|x) of means and log-variances; how many features
    "gaussian": (lambda y: mae.Gaussian(y[..., :2], 0.3 * y[..., 1:]), mae.Gaussian, 2),
    "categorical": (mae.Categorical, mae.Gaussian, 3),
    "only log_prob and sample": (laplace, laplace, 3),
    "only log_prob and expect": (lambda y: coin(y[..., :1]), mae.Gaussian, 1),
}


def by_definition(decoder, auxiliary, z, eps, eps_r):
    """Lower and upper bound of one example: its arrays have a batch of one."""
    p, density = decoder(z), lambda p, at: math.exp(p.log_prob(at)[0])
    weight = lambda r, z, x: density(decoder(z), x) * density(prior(z), z) / density(r, z)
    values = np.eye(3) if isinstance(p, mae.Categorical) else np.array([[0.0], [1.0]])
    sampled, lower, upper = hasattr(p, "sample"), 0, 0
    for chance, x in [(1, p.sample(eps))] if sampled else zip(p.probs[0], values[:, None]):
        r, log_p = auxiliary(x), p.log_prob(x)[0]
        others = sum(weight(r, r.sample(noise), x) for noise in eps_r)
        lower += chance * (log_p - math.log((weight(r, z, x) + others) / (len(eps_r) + 1)))
        upper += chance * (log_p - math.log(others / len(eps_r)))
    return lower, upper


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("models", [((), ()), ((3,), ()), ((), (3,)), ((3,), (3,))])
def test_the_bounds_are_those_of_plain_loops_and_infomax_and_infinity_for_none(name, models):
    """Models on either side; noise of each example, shared, and of each model."""
    (kind, code, features), every = FAMILIES[name], np.broadcast_shapes(*models)
    w, v = normals(1, (*models[0], 2, 3), (*models[1], features, 2))
    z, eps = normals(2, (5, 2), (5, features))
    both = lambda w, v: (lambda z: kind(z @ w), lambda x: code(x @ v, 0.3))
    for shape in ((5,), (1,), *([(3, 5)] if models == ((3,), (3,)) else [])):
        (eps_r,) = normals(3, (4, *shape, 2))
        found = mae.information_bounds(*both(w, v), z, eps, eps_r)
        assert [bound.shape for bound in found] == [(*every, 5)] * 2
        for *k, i in np.ndindex(*every, 5):
            one = both(w[tuple(k)] if models[0] else w, v[tuple(k)] if models[1] else v)
            own = (eps_r[:, k[0]] if len(shape) == 2 else eps_r)[:, [i if shape[-1] > 1 else 0]]
            wanted = by_definition(*one, z[i : i + 1], eps[i : i + 1], own)
            assert_allclose([bound[(*k, i)] for bound in found], wanted, rtol=1e-11, atol=1e-12)
    lower, upper = mae.information_bounds(*both(w, v), z, eps, np.zeros((0, 5, 2)))
    assert_allclose(lower, mae.infomax_bound(*both(w, v), z, eps), rtol=1e-14)
    assert_array_equal(upper, np.full((*every, 5), np.inf))


def averaged_by_hand(decoder, auxiliary, z, eps, eps_r, share=lambda w: w / w.sum(0)):
    """The bounds with each z_i as the true one, weighted by the chance that it is."""
    x = decoder(z).sample(eps)
    r = auxiliary(x)
    every = [z, *(r.sample(noise) for noise in eps_r)]
    log_p = np.array([decoder(z).log_prob(x) for z in every])
    w = np.exp(log_p + np.array([prior(z).log_prob(z) - r.log_prob(z) for z in every]))
    others = np.array([np.delete(w, i, 0).mean(0) for i in range(len(w))])
    return [(share(w) * (log_p - np.log(mean))).sum(0) for mean in (w.mean(0), others)]


def test_averaged_bounds_have_the_same_means_and_a_smaller_variance():
    for n in (1, 2, 8):
        noise = normals(4, (50, 1), (50, 1), (n, 50, 1))
        wanted = averaged_by_hand(curved, wide, *noise)
        assert_allclose(mae.averaged_bounds(curved, wide, *noise), wanted, rtol=1e-9, atol=1e-11)
    far = lambda x: mae.Gaussian(x + 30, 0 * x - 4)
    assert np.isfinite(mae.averaged_bounds(curved, far, *noise)).all()
    noise = normals(5, (20000, 1), (20000, 1), (8, 20000, 1))
    averaged = mae.averaged_bounds(curved, wide, *noise)
    for one, other in zip(mae.information_bounds(curved, wide, *noise), averaged):
        assert abs((one - other).mean()) < error(one - other) and other.var() < one.var() / 2


def linear(weights):
    """x = W z + noise of variance one: decoder, the best r of diagonal covariance, I."""
    precision = np.eye(weights.shape[1]) + weights.T @ weights
    covariance = np.linalg.inv(precision)
    code = lambda x: x @ weights @ covariance
    auxiliary = lambda x: mae.Gaussian(code(x), np.log(np.diag(covariance)) + 0 * code(x))
    return lambda z: mae.Gaussian(z @ weights.T, 0), auxiliary, np.linalg.slogdet(precision)[1] / 2


def intervals(decoder, auxiliary, latent, features, seeds, examples, n, models=(), **options):
    """Low and high ends, (2, seeds times models)."""
    shapes = [(*models, examples, latent), (*models, examples, features)]
    noise = lambda seed: normals((n, seed), *shapes, (n, *shapes[0]))
    own = lambda seed: mae.information_interval(decoder, auxiliary, *noise(seed), **options)
    return np.moveaxis([own(seed) for seed in range(seeds)], 1, 0).reshape(2, -1)


def assert_held(truth, ends, at_least, width):
    low, high = ends
    assert ((low <= truth) & (truth <= high)).sum() >= at_least and (high - low).max() < width


@pytest.mark.parametrize("dim", [1, 2, 5, 16])
def test_the_interval_holds_the_information_of_linear_decoders(dim):
    """I = 1/2 log det(I + W' S^-1 W); a hundred seeds."""
    (weights,) = normals(dim, (dim, dim))
    decoder, auxiliary, truth = linear(weights * 0.4 / np.linalg.norm(weights))
    assert_held(truth, intervals(decoder, auxiliary, dim, dim, 20, 2000, 8, (5,)), 97, 0.02)


@pytest.mark.parametrize("r, confidence", [("exact", 0.99), ("prior", 0.99), ("exact", 0.9)])
def test_either_end_misses_as_seldom_as_it_claims(r, confidence):
    """In 300 repetitions; the normal quantile is right to half a percent for 1000 examples."""
    decoder, posterior, truth = linear(np.ones((1, 1)))
    auxiliary = posterior if r == "exact" else prior
    low, high = intervals(decoder, auxiliary, 1, 1, 300, 1000, 2, confidence=confidence)
    held, wanted = np.array([(low <= truth).mean(), (high >= truth).mean()]), confidence - 0.005
    assert (held > wanted - 3 * math.sqrt(wanted * (1 - wanted) / 300)).all()
    assert confidence > 0.9 or (held < 0.95).all()  # no wider than it has to be


@pytest.mark.parametrize("dim", [2, 4])
def test_the_interval_holds_the_information_of_hidden_products(dim):
    """I of d copies of a decoder, codes rotated and features reordered, is d times its exact I."""
    single = lambda u: mae.Gaussian(np.tanh(1.5 * u) + 0.2 * u, -1 + 0.5 * np.tanh(u))
    turn, order = np.linalg.qr(normals(dim, (dim, dim))[0])[0], np.roll(np.arange(dim), 1)
    decoder = lambda z: single((z @ turn.T)[..., order])
    auxiliary = lambda x: mae.Gaussian(0.65 * x[..., np.argsort(order)] @ turn, -0.6)
    truth = dim * mae.exact_mutual_information(single)
    assert_held(truth, intervals(decoder, auxiliary, dim, dim, 20, 2000, 64), 19, 0.06 * dim)


def test_the_interval_holds_the_information_of_a_code_seen_through_784_features():
    """x = a f(z) + noise, |a| = 1: a'x is sufficient."""
    (a,), f = normals(8, (784, 1)), lambda z: 1.5 * np.tanh(2 * z)
    a = a / np.linalg.norm(a)
    networks = lambda z: mae.Gaussian(f(z) @ a.T, -1.5), lambda x: mae.Gaussian(0.7 * x @ a, -1.0)
    truth = mae.exact_mutual_information(lambda z: mae.Gaussian(f(z), -1.5))
    assert_held(truth, intervals(*networks, 1, 784, 1, 2000, 32), 1, 0.1)


def test_parity_is_held_from_both_sides_though_no_factorised_code_certifies_any():
    """x is the sign of z1 z2, wrong one time in ten."""
    right = lambda z: 0.4 * np.sign(z[..., :1] * z[..., 1:]) * np.array([1, -1])
    parity = lambda z: mae.Categorical(np.log(0.5 + right(z)))
    truth = math.log(2) + 0.1 * math.log(0.1) + 0.9 * math.log(0.9)
    z, slope, bias = normals(9, (4000, 2), (10, 2, 2), (10, 1, 2))
    anything = lambda x: mae.Gaussian(0.3 * (x @ slope + bias), 0.1 * bias)
    assert (mae.infomax_bound(parity, anything, z).mean(-1) < 0.02).all()
    before = math.inf
    for n in (1, 8, 64):
        noise = z, None, normals(10, (n, 4000, 2))[0]
        low, high = mae.information_interval(parity, prior, *noise)
        assert low < truth < high < low + before / 3
        before = high - low
    assert before < 0.05


BMI = [(1, 0.75, 0, 0.4133392866), (2, 0.8, 0, 1.0216512), (2, 0.5, 0.5, 0.2938933)]
BMI += [(3, 0.5, 0.5, 0.4133393), (5, 0.5, 0.5, 0.5928118), (25, 0.5, 0.5, 1.2921837)]


@pytest.mark.parametrize("dim, rho, inside, truth", [*BMI, (50, 0.5, 0.5, 1.6242654)])
def test_the_interval_holds_the_gaussian_tasks_of_the_bmi_benchmark(dim, rho, inside, truth):
    """Of x and y, inside correlated among themselves, rho with each other, all or in pairs."""
    own = inside + (1 - inside) * np.eye(dim)
    across = np.full((dim, dim), rho) if inside else rho * np.eye(dim)
    half = np.linalg.inv(np.linalg.cholesky(own))
    noise = np.linalg.cholesky(own - across @ np.linalg.solve(own, across))
    weights = np.linalg.solve(noise, (half @ across).T)  # x and the noise of y | x made N(0, I)
    decoder, auxiliary, information = linear(weights @ np.linalg.svd(weights)[2].T)
    assert_allclose(information, truth, rtol=2e-7)
    assert_held(truth, intervals(decoder, auxiliary, dim, dim, 1, 4000, 8), 1, 0.08)


def test_the_bounds_fall_together_as_proposals_grow():
    z, eps, eps_r = normals(12, (20000, 1), (20000, 1), (64, 20000, 1))
    truth, before = mae.exact_mutual_information(curved), np.array([[-9], [99]])
    for n in (1, 4, 16, 64):
        lower, upper = mae.averaged_bounds(curved, wide, z, eps, eps_r[:n])
        assert lower.mean() < truth + error(lower) and upper.mean() > truth - error(upper)
        rise, fall = lower - before[0], before[1] - upper
        assert rise.mean() > error(rise) and fall.mean() > error(fall)
        before = lower, upper
    assert (upper - lower).mean() < 0.1


def test_the_interval_names_what_it_rests_on():
    faults = [("eps_r.shape", {"eps_r": np.zeros(shape)}) for shape in [(4, 1, 1), (0, 9, 1)]]
    faults += [("confidence", {"confidence": value}) for value in (0.5, 1, math.nan)]
    for name, change in faults:
        given = {"z": np.ones((9, 1)), "eps": np.ones((9, 1)), "eps_r": np.ones((4, 9, 1))}
        with pytest.raises(ValueError, match=name):
            mae.information_interval(curved, rough, **given | change)


def test_the_interval_takes_models_that_only_the_auxiliary_has():
    """A decoder of two dimensions without models' axis, three auxiliaries side by side."""
    shifts = np.array([-0.3, 0.0, 0.4])[:, None, None]
    decoder = lambda z: mae.Gaussian(z @ np.array([[1.0, 0.5], [-0.2, 0.8]]), -1.0)
    auxiliary = lambda shift: lambda x: mae.Gaussian(0.5 * x + shift, -0.5)
    z, eps, eps_r = normals(17, (400, 2), (400, 2), (4, 400, 2))
    together = mae.information_interval(decoder, auxiliary(shifts), z, eps, eps_r)
    each = [mae.information_interval(decoder, auxiliary(s), z, eps, eps_r) for s in shifts]
    assert_allclose(together, np.transpose(each), rtol=1e-12)


def test_one_draw_is_the_elbo_with_a_sampled_kl():
    x, (eps,) = np.full((20000, 1), 0.7), normals(13, (1, 20000, 1))
    found, q = mae.iwae(rough, curved, x, eps), rough(x)
    z = q.sample(eps[0])
    wanted = curved(z).log_prob(x) + prior(z).log_prob(z) - q.log_prob(z)
    assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
    difference = found - mae.elbo(rough, curved, x, eps[0])
    assert abs(difference.mean()) < error(difference)


@pytest.mark.parametrize("x", [-1.0, 0.2, 2.0])
def test_more_draws_come_closer_to_the_log_likelihood_from_below(x):
    x, (eps,) = np.full((20000, 1), x), normals(14, (16, 20000, 1))
    values = [mae.iwae(rough, curved, x, eps[:k]) for k in (1, 2, 4, 16)]
    for fewer, more in zip(values, values[1:]):
        assert (more - fewer).mean() > error(more - fewer)
    assert values[-1].mean() < mae.exact_log_likelihood(curved, x[:1])[0] + error(values[-1])


def test_at_the_true_posterior_any_draws_give_the_log_likelihood():
    weights = np.array([[2.0, 0], [0, 0.5], [0, -1]])
    decoder, posterior, _ = linear(weights)
    (x, eps), covariance = normals(15, (5, 3), (3, 5, 2)), weights @ weights.T + np.eye(3)
    square = (x @ np.linalg.inv(covariance) * x).sum(-1)
    truth = -0.5 * (square + np.linalg.slogdet(2 * math.pi * covariance)[1])
    assert_allclose(mae.iwae(posterior, decoder, x, eps), truth, rtol=1e-13)


def test_gradients_go_through_proposals_and_weights():
    w, v, x, z, eps = normals(16, (2, 6), (3, 4), (5, 3), (5, 2), (3, 5, 2))
    decoder = lambda w: lambda z: mae.Gaussian.unpack(np.tanh(z @ w))
    code = lambda v: lambda x: mae.Gaussian.unpack(np.tanh(x @ v))
    bounds = lambda w, v: np.concatenate(mae.information_bounds(decoder(w), code(v), z, x, eps))
    for value in (lambda w, v: mae.iwae(code(v), decoder(w), x, eps), bounds):
        check_grads(value, modes=["rev"], order=1)(w, v)


COIN = mae.Likelihood("coin", lambda n: n, lambda network, z: coin(network(z)))
DATA = {  # likelihood, rows, target
    "gaussian": ("gaussian", np.linspace(-2, 2, 64)[:, None], 0.5),
    "categorical": ("categorical", np.eye(4), 0.5),
    "from outside": (COIN, np.array([[0.0], [1.0]]), 0.2),
}


def train(name, **settings):
    likelihood, rows, target = DATA[name]
    few = {"likelihood": likelihood, "information": (target,), "r_samples": 4, "q_samples": 3}
    return mae.fit(rows, **few | {"steps": 400, "batch": 64, "hidden": 8} | settings)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", DATA)
def test_training_by_both_sides_arrives_silently_and_knows_no_company(name):
    target = DATA[name][2]
    together = train(name, information=(target / 2, target), seeds=2)
    alone = train(name, seed=1)
    assert alone.params.tobytes() == together.params[3:].tobytes()
    noise = normals(17, (4000, 1), (4000, together.features), (32, 4000, 1))
    bounds = mae.information_bounds(together.decoder, together.auxiliary, *noise)
    assert_allclose(np.mean(bounds, (0, -1)), together.targets, atol=0.05)


def test_training_without_proposals_calls_none(monkeypatch):
    monkeypatch.setattr(mae, "both_bounds", None)
    monkeypatch.setattr(mae, "iwae", None)
    model = train("gaussian", r_samples=0, q_samples=1, steps=5)
    assert_array_equal(model.history["lower"], model.history["upper"])


@pytest.mark.parametrize("n", [0, 3])
@pytest.mark.parametrize("name", ["gaussian", "categorical"])
def test_theta_goes_by_the_bound_of_its_weights_sign_and_omega_by_the_infomax_bound(name, n):
    models = train(name, steps=2, information=(0.1, 0.2, 0.3), dtype="float64")
    features, rows = (1, 6) if name == "gaussian" else (0, 1)
    params, *noise = normals(19, models.params.shape, (3, 6, 1), (3, 6, features), (n, 3, rows, 1))

    def bounds(params):
        decoder, _, auxiliary = models.networks(params)
        both = mae.information_bounds(decoder, auxiliary, *noise) if n else ()
        return [mae.infomax_bound(decoder, auxiliary, *noise[:2]), *both]

    slope = lambda k: grad(lambda params: bounds(params)[k].mean(-1).sum())(params)
    lower, upper, ascent = mae._information(models, params, *noise)
    assert_allclose([lower, upper], np.mean(bounds(params)[-2:], -1) * np.ones((2, 1)), rtol=1e-12)
    weights, (theta, phi, omega) = np.array([[2.0], [-3.0], [0.0]]), models.layout.part.values()
    found, wanted = ascent(weights), np.where(weights > 0, slope(-2 * (n > 0)), slope(-1)) * weights
    assert_allclose(found[:, theta], wanted[:, theta], rtol=1e-9, atol=1e-12)
    assert_allclose(found[:, omega], slope(0)[:, omega], rtol=1e-9, atol=1e-12)
    assert not found[:, phi].any()


def test_training_says_what_did_not_become_what_was_asked_for():
    with pytest.warns(mae.TrainingWarning, match="lagrangian, target 2, seed 7: I is between"):
        train("gaussian", information=(2,), seed=7, steps=20)
    with pytest.warns(mae.TrainingWarning, match="target 0.5, seed 0: diverged and was frozen"):
        train("gaussian", learning_rate=1e30, steps=20)


def test_a_fit_shows_a_line_per_model():
    model = train("gaussian", information=(0.25, None), seeds=2, seed=5, steps=20)
    head, *lines = repr(model).splitlines()
    for line, target, seed, k in zip(lines, "0.25 0.25 none none".split(), "5656", range(4)):
        lower, upper = (model.history[side][k, -2:].mean() for side in ("lower", "upper"))
        assert line.split() == [target, seed, "lagrangian", f"[{lower:.3f},", f"{upper:.3f}]"]
        assert repr(model[k]).splitlines() == [head, line]
    assert len(lines) == 4 and head.split()[:3] == ["target", "seed", "method"]


@pytest.mark.parametrize(
    "method, multiplier, advice",
    [
        ("lagrangian", 5.0, "; the multiplier is at its limit: more steps, or units, or a lower M"),
        ("lagrangian", -5.0, "; the multiplier is at its limit: more steps, or r_samples"),
        ("lagrangian", 1.0, ""),
        ("vae", 5.0, ""),  # which asks no multiplier
    ],
)
def test_the_warning_advises_what_helps(method, multiplier, advice):
    history = {name: np.zeros((1, 20)) for name in ("lower", "upper")}
    history["multiplier"] = np.full((1, 20), multiplier)
    sizes = dict.fromkeys(("features", "latent", "hidden", "q_samples"), 1) | {"r_samples": 0}
    asked = models.untrained([1.0], [mae.METHODS[method]], 0, 1, likelihood=mae.GAUSSIAN, **sizes)
    (fault,) = replace(asked, history=history).faults()
    assert (
        fault == f"{method}, target 1, seed 0: I is between 0.000 and 0.000 by its estimate{advice}"
    )
