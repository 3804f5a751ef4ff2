"""I from both sides: by its definition, against truths in any dimension, and in training."""

import math
import warnings

import autograd.numpy as np
import pytest
from autograd import grad
from autograd.test_util import check_grads
from numpy.testing import assert_allclose, assert_array_equal

import mae
from truths import curved, rough


def normals(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


def wide(x):
    """A code that is nobody's posterior, and wider than any."""
    return mae.Gaussian(0.5 * np.tanh(x[..., :1]), 0.2 + 0 * x[..., :1])


class Laplace:
    """From outside, with no more than log_prob and sample."""

    def __init__(self, mean):
        self.mean = mean

    def log_prob(self, x):
        return (-np.abs(x - self.mean) - math.log(2)).sum(-1)

    def sample(self, eps):  # skewed: nobody asks
        return self.mean + eps + 0.1 * eps**2


class Coin:
    """From outside, with no more than log_prob and expect; one feature, 0 or 1."""

    def __init__(self, logit):
        self.p = 1 / (1 + np.exp(-logit))

    def log_prob(self, x):
        return np.log(x * self.p + (1 - x) * (1 - self.p))[..., 0]

    def expect(self, f, eps):
        p, x = self.p[..., 0], np.zeros(self.p.shape)
        return p * f(x + 1) + (1 - p) * f(x)


FAMILIES = {  # p(x|z) of three numbers, r(z|x) of a mean; how many features
    "Gaussian": (lambda y: mae.Gaussian(y[..., :2], 0.3 * y[..., 1:]), mae.Gaussian, 2),
    "Categorical": (mae.Categorical, mae.Gaussian, 3),
    "only log_prob and sample": (Laplace, lambda m, log_var: Laplace(m), 3),
    "only log_prob and expect": (lambda y: Coin(y[..., :1]), mae.Gaussian, 1),
}


def outcomes(p, eps):
    """(probability, x) of all x that the expectation is over, for a p of one example."""
    if isinstance(p, mae.Categorical):
        return zip(p.probs[0], np.eye(3)[:, None])
    if isinstance(p, Coin):
        return [(p.p[0, 0], np.ones((1, 1))), (1 - p.p[0, 0], np.zeros((1, 1)))]
    return [(1, p.sample(eps))]


def weight(decoder, r, z, x):
    density = lambda p, at: math.exp(p.log_prob(at)[0])
    return density(decoder(z), x) * density(mae.Gaussian(0 * z, 0 * z), z) / density(r, z)


def by_definition(decoder, auxiliary, z, eps, eps_r):
    """Lower and upper bound of one example, its arrays having a batch of one."""
    lower = upper = 0
    for probability, x in outcomes(decoder(z), eps):
        r, log_p = auxiliary(x), decoder(z).log_prob(x)[0]
        others = [weight(decoder, r, r.sample(noise), x) for noise in eps_r]
        together = weight(decoder, r, z, x) + sum(others)
        lower += probability * (log_p - math.log(together / (len(others) + 1)))
        upper += probability * (log_p - math.log(sum(others) / len(others)))
    return lower, upper


# --------------------------------------------------------------------------------- definitions


@pytest.mark.parametrize("name", FAMILIES)
def test_without_proposals_they_are_the_infomax_bound_and_infinity(name):
    kind, r, features = FAMILIES[name]
    w, v, z, eps = normals(0, (2, 3), (features, 2), (5, 2), (5, features if "G" in name else 3))
    decoder, auxiliary = lambda z: kind(z @ w), lambda x: r(x @ v, 0.3)
    lower, upper = mae.information_bounds(decoder, auxiliary, z, eps, np.zeros((0, 5, 2)))
    assert_array_equal(lower, mae.infomax_bound(decoder, auxiliary, z, eps))
    assert_array_equal(upper, np.full(5, np.inf))


@pytest.mark.parametrize("noises", ["of each example", "shared", "of each model"])
@pytest.mark.parametrize("models", [((), ()), ((3,), ()), ((), (3,)), ((3,), (3,))])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_bounds_are_those_of_plain_loops(name, models, noises):
    kind, r, features = FAMILIES[name]
    w, v = normals(1, (*models[0], 2, 3), (*models[1], features, 2))
    z, eps = normals(2, (5, 2), (5, features))
    shape = {"of each example": (5,), "shared": (1,), "of each model": (3, 5)}[noises]
    (eps_r,) = normals(3, (4, *shape, 2))
    if noises == "of each model" and models != ((3,), (3,)):
        pytest.skip("one model")
    both = lambda w, v: (lambda z: kind(z @ w), lambda x: r(x @ v, 0.3))
    found = mae.information_bounds(*both(w, v), z, eps, eps_r)
    all_models = np.broadcast_shapes(*models)
    eps_r = np.broadcast_to(eps_r, (4, 5, 2)) if len(shape) == 1 else eps_r
    assert [bound.shape for bound in found] == [(*all_models, 5)] * 2
    for k in np.ndindex(all_models):
        one = both(w[k] if models[0] else w, v[k] if models[1] else v)
        for i in range(5):
            own = eps_r[(slice(None), *(k if len(shape) == 2 else ()), slice(i, i + 1))]
            wanted = by_definition(*one, z[i : i + 1], eps[i : i + 1], own)
            assert_allclose([bound[(*k, i)] for bound in found], wanted, rtol=1e-11, atol=1e-12)


def by_hand(decoder, auxiliary, z, eps, eps_r, share=lambda w: w / w.sum(0)):
    """The bounds of each z_i as the true one, and their mean weighted by share(all w)."""
    x = decoder(z).sample(eps)
    r = auxiliary(x)
    every = [z, *(r.sample(noise) for noise in eps_r)]
    log_p = np.array([decoder(z).log_prob(x) for z in every])
    log_prior = [mae.Gaussian(0 * z, 0 * z).log_prob(z) for z in every]
    w = np.exp(log_p + log_prior - np.array([r.log_prob(z) for z in every]))
    others = np.array([np.delete(w, i, 0).mean(0) for i in range(len(w))])
    both = log_p - np.log(w.mean(0)), log_p - np.log(others)
    return [(share(w) * bound).sum(0) for bound in both]


@pytest.mark.parametrize("n", [1, 2, 8])
def test_the_averaged_bounds_weigh_each_code_by_its_chance_to_be_the_true_one(n):
    noise = normals(4, (50, 1), (50, 1), (n, 50, 1))
    for r in (rough, wide):
        found = mae.averaged_bounds(curved, r, *noise)
        assert_allclose(found, by_hand(curved, r, *noise), rtol=1e-8, atol=1e-10)


def test_the_averaged_bounds_have_the_same_means_and_a_smaller_variance():
    noise = normals(5, (20000, 1), (20000, 1), (8, 20000, 1))
    plain = mae.information_bounds(curved, wide, *noise)
    averaged = mae.averaged_bounds(curved, wide, *noise)
    for one, other in zip(plain, averaged):
        assert abs((one - other).mean()) < 4 * (one - other).std() / math.sqrt(20000)
        assert other.var() < one.var() / 2
    far = mae.averaged_bounds(curved, lambda x: mae.Gaussian(x + 30, 0 * x - 4), *noise)
    assert np.isfinite(far).all()


# ------------------------------------------------------------------------ truths in d dimensions


def linear(weights):
    """x = W z + noise of variance one: decoder, the best r of diagonal covariance, I."""
    precision = np.eye(weights.shape[1]) + weights.T @ weights
    covariance = np.linalg.inv(precision)
    return (
        lambda z: mae.Gaussian(z @ weights.T, 0),
        lambda x: mae.Gaussian(x @ (weights @ covariance), np.log(np.diag(covariance)) + 0 * x),
        np.linalg.slogdet(precision)[1] / 2,
    )


def intervals(decoder, auxiliary, latent, features, seeds, examples, n, **options):
    """Low and high ends, (2, seeds)."""
    shapes = (examples, latent), (examples, features), (n, examples, latent)
    own = lambda seed: mae.information_interval(
        decoder, auxiliary, *normals((n, seed), *shapes), **options
    )
    return np.transpose([own(seed) for seed in range(seeds)])


@pytest.mark.parametrize("dim", [1, 2, 5, 16])
def test_the_interval_holds_the_information_of_linear_decoders(dim):
    """I = 1/2 log det(I + W' S^-1 W), r the best with a diagonal covariance, a hundred seeds."""
    (weights,) = normals(dim, (dim, dim))
    decoder, auxiliary, truth = linear(weights * 0.4 / np.linalg.norm(weights))
    low, high = intervals(decoder, auxiliary, dim, dim, 100, 1500, 8)
    assert ((low <= truth) & (truth <= high)).sum() >= 97
    assert (high - low).max() < 0.02


@pytest.mark.parametrize("r, confidence", [("exact", 0.99), ("prior", 0.99), ("exact", 0.9)])
def test_either_end_misses_as_seldom_as_it_claims(r, confidence):
    """In 300 repetitions: by no more at the posterior, hardly ever where there is a gap."""
    decoder, posterior, truth = linear(np.array([[1.0]]))
    auxiliary = posterior if r == "exact" else lambda x: mae.Gaussian(0 * x, 0 * x)
    low, high = intervals(decoder, auxiliary, 1, 1, 300, 1000, 2, confidence=confidence)
    held, wanted = np.array([(low <= truth).mean(), (high >= truth).mean()]), confidence - 0.005
    print("COVER", r, confidence, held)
    assert (held > wanted - 3 * math.sqrt(wanted * (1 - wanted) / 300)).all()
    if (r, confidence) == ("exact", 0.9):
        assert (held < 0.95).all()  # and they are no wider than they have to be


def copies(dim, order, rotation):
    """`dim` copies of one decoder, codes rotated, features reordered; a linear r to go with it."""
    single = lambda u: mae.Gaussian(np.tanh(1.5 * u) + 0.2 * u, -1 + 0.5 * np.tanh(u))
    u, eps = normals(0, (4000, 1), (4000, 1))
    x = single(u).sample(eps)
    slope = (u * x).mean() / (x * x).mean()
    log_var = math.log((u - slope * x).var()) + 0.1
    own = lambda z: single((z @ rotation.T)[..., order])
    back = np.argsort(order)
    return own, lambda x: mae.Gaussian(slope * x[..., back] @ rotation, log_var), single


@pytest.mark.parametrize("dim", [2, 4])
def test_the_interval_holds_the_information_of_hidden_products(dim):
    """I of d rotated copies of a decoder is d times its exact I."""
    rng = np.random.default_rng(dim)
    rotation, order = np.linalg.qr(rng.standard_normal((dim, dim)))[0], rng.permutation(dim)
    decoder, auxiliary, single = copies(dim, order, rotation)
    low, high = intervals(decoder, auxiliary, dim, dim, 20, 2000, 64)
    truth = dim * mae.exact_mutual_information(single)
    print("PROD", dim, truth, (low > truth).sum(), (high < truth).sum(), (high - low).max())
    assert ((low <= truth) & (truth <= high)).sum() >= 19
    assert (high - low).max() < 0.06 * dim


def test_the_interval_holds_the_information_of_a_code_seen_through_784_features():
    """x = a f(z) + noise, |a| = 1: a'x is sufficient."""
    z, eps, eps_r, a = normals(8, (2000, 1), (2000, 784), (32, 2000, 1), (784, 1))
    a, f = a / np.linalg.norm(a), lambda z: 1.5 * np.tanh(2 * z)
    single = lambda z: mae.Gaussian(f(z), -1.5)
    auxiliary = lambda x: mae.Gaussian(0.7 * (x @ a), -1.0)
    low, high = mae.information_interval(
        lambda z: mae.Gaussian(f(z) @ a.T, -1.5), auxiliary, z, eps, eps_r
    )
    assert low < mae.exact_mutual_information(single) < high < low + 0.1


def parity(z):
    """The sign of z1 z2, wrong one time in ten."""
    right = 0.4 * np.sign(z[..., :1] * z[..., 1:])
    return mae.Categorical(np.log(np.concatenate([0.5 + right, 0.5 - right], -1)))


def test_parity_is_held_from_both_sides_though_no_factorised_code_certifies_any():
    truth = math.log(2) + 0.1 * math.log(0.1) + 0.9 * math.log(0.9)
    z, slope, bias = normals(9, (4000, 2), (10, 2, 2), (10, 1, 2))
    anything = lambda x: mae.Gaussian(0.3 * (x @ slope + bias), 0.1 * bias)
    assert (mae.infomax_bound(parity, anything, z).mean(-1) < 0.02).all()
    prior, widths = lambda x: mae.Gaussian(0 * x, 0 * x), []
    for n in (1, 8, 64):
        eps_r = normals(10, (n, 4000, 2))[0]
        low, high = mae.information_interval(parity, prior, z, None, eps_r)
        assert low < truth < high
        widths.append(high - low)
    assert widths[0] > 3 * widths[1] and widths[1] > 3 * widths[2] and widths[2] < 0.05


def dense(dim):
    return np.full((2 * dim, 2 * dim), 0.5) + 0.5 * np.eye(2 * dim)


def pairs(dim, rho):
    eye = np.eye(dim)
    return np.block([[eye, rho * eye], [rho * eye, eye]])


BMI = {  # Czyz et al. (2023): the covariance of (x, y), I(x, y)
    "1 x 1": (pairs(1, 0.75), 0.4133392866),
    "two pairs": (pairs(2, 0.8), 1.0216512),
    **{
        f"dense {dim}": (dense(dim), value)
        for dim, value in zip(
            (2, 3, 5, 25, 50), (0.2938933, 0.4133393, 0.5928118, 1.2921837, 1.6242654)
        )
    },
}


@pytest.mark.parametrize("name", BMI)
def test_the_interval_holds_the_gaussian_tasks_of_the_bmi_benchmark(name):
    """y | x with its noise whitened, x with its covariance, in its principal axes."""
    covariance, truth = BMI[name]
    dim = len(covariance) // 2
    x, xy, y = covariance[:dim, :dim], covariance[:dim, dim:], covariance[dim:, dim:]
    half = np.linalg.inv(np.linalg.cholesky(x))
    noise = y - xy.T @ np.linalg.solve(x, xy)
    weights = np.linalg.solve(np.linalg.cholesky(noise), (half @ xy).T)
    decoder, auxiliary, information = linear(weights @ np.linalg.svd(weights)[2].T)
    assert_allclose(information, truth, rtol=2e-7)
    noise = normals(11, (4000, dim), (4000, dim), (8, 4000, dim))
    low, high = mae.information_interval(decoder, auxiliary, *noise)
    assert low < truth < high < low + 0.08


def test_the_bounds_fall_together_as_proposals_grow():
    z, eps, eps_r = normals(12, (20000, 1), (20000, 1), (64, 20000, 1))
    truth, before = mae.exact_mutual_information(curved), None
    error = lambda a: 4 * a.std() / math.sqrt(len(a))
    for n in (1, 4, 16, 64):
        lower, upper = mae.averaged_bounds(curved, wide, z, eps, eps_r[:n])
        assert lower.mean() < truth + error(lower) and upper.mean() > truth - error(upper)
        if before:
            assert (lower - before[0]).mean() > error(lower - before[0])
            assert (before[1] - upper).mean() > error(before[1] - upper)
        before = lower, upper
    assert (upper - lower).mean() < 0.1


@pytest.mark.parametrize(
    "name, change",
    [
        ("eps_r.shape", {"eps_r": np.zeros((4, 1, 1))}),
        ("eps_r.shape", {"eps_r": np.zeros((0, 9, 1))}),
        ("confidence", {"confidence": 0.5}),
        ("confidence", {"confidence": 1}),
        ("confidence", {"confidence": math.nan}),
    ],
)
def test_the_interval_names_what_it_rests_on(name, change):
    given = {"z": np.ones((9, 1)), "eps": np.ones((9, 1)), "eps_r": np.ones((4, 9, 1))} | change
    with pytest.raises(ValueError, match=name):
        mae.information_interval(curved, rough, **given)


# ---------------------------------------------------------------------------------------- iwae


def test_one_draw_is_the_elbo_with_a_sampled_kl():
    x, (eps,) = np.full((20000, 1), 0.7), normals(13, (1, 20000, 1))
    found, q = mae.iwae(rough, curved, x, eps), rough(x)
    z = q.sample(eps[0])
    log_prior = mae.Gaussian(0 * z, 0 * z).log_prob(z)
    assert_allclose(found, curved(z).log_prob(x) + log_prior - q.log_prob(z), rtol=1e-12)
    difference = found - mae.elbo(rough, curved, x, eps[0])
    assert abs(difference.mean()) < 4 * difference.std() / math.sqrt(len(x))


@pytest.mark.parametrize("x", [-1.0, 0.2, 2.0])
def test_more_draws_come_closer_to_the_log_likelihood_from_below(x):
    x, (eps,) = np.full((20000, 1), x), normals(14, (16, 20000, 1))
    values = [mae.iwae(rough, curved, x, eps[:k]).mean() for k in (1, 2, 4, 16)]
    truth = mae.exact_log_likelihood(curved, x[:1])[0]
    assert values == sorted(values) and values[0] < values[-1] - 0.01 and values[-1] < truth + 0.01


def test_at_the_true_posterior_any_draws_give_the_log_likelihood():
    weights = np.array([[2.0, 0], [0, 0.5], [0, -1]])
    decoder, posterior, _ = linear(weights)
    x, eps = normals(15, (5, 3), (3, 5, 2))
    covariance = weights @ weights.T + np.eye(3)
    square = (x @ np.linalg.inv(covariance) * x).sum(-1)
    truth = -0.5 * (square + np.linalg.slogdet(2 * math.pi * covariance)[1])
    assert_allclose(mae.iwae(posterior, decoder, x, eps), truth, rtol=1e-13)


@pytest.mark.parametrize("bound", ["iwae", "information_bounds"])
def test_gradients_go_through_proposals_and_weights(bound):
    """Finite differences."""
    w, v, x, z, eps = normals(16, (2, 6), (3, 4), (5, 3), (5, 2), (3, 5, 2))

    def value(w, v):
        decoder = lambda z: mae.Gaussian.unpack(np.tanh(z @ w))
        code = lambda x: mae.Gaussian.unpack(np.tanh(x @ v))
        if bound == "iwae":
            return mae.iwae(code, decoder, x, eps)
        return np.concatenate(mae.information_bounds(decoder, code, z, x, eps))

    check_grads(value, modes=["rev"], order=1)(w, v)


# ------------------------------------------------------------------------------------ training

COIN = mae.Likelihood("coin", lambda n: n, lambda network, z: Coin(network(z)))
LAPLACE = mae.Likelihood("laplace", lambda n: n, lambda network, z: Laplace(network(z)))
LINE = np.linspace(-2, 2, 64)[:, None]
DATA = {  # likelihood, rows, target
    "gaussian": ("gaussian", LINE, 0.5),
    "categorical": ("categorical", np.eye(4), 0.5),
    "coin": (COIN, np.array([[0.0], [1.0]]), 0.2),
    "laplace": (LAPLACE, 3 * LINE, 0.3),
}


def train(name, **settings):
    likelihood, rows, target = DATA[name]
    few = {"steps": 400, "batch": 64, "hidden": 8, "r_samples": 4, "q_samples": 3}
    few |= {"likelihood": likelihood, "information": (target,)}
    return mae.fit(rows, **few | settings)


@pytest.mark.parametrize("name", DATA)
def test_training_by_both_sides_arrives_and_knows_no_company(name):
    target = DATA[name][2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is near, and has nothing to say
        together = train(name, information=(target / 2, target), seeds=2)
    alone = train(name, seed=1)
    assert alone.params.tobytes() == together.params[3:].tobytes()
    for side in ("lower", "upper"):
        assert alone.history[side].tobytes() == together.history[side][3:].tobytes()
    z, eps = normals(17, (4000, 1), (4000, together.features))
    bounds = mae.information_bounds(
        together.decoder, together.auxiliary, z, eps, *normals(18, (32, 4000, 1))
    )
    assert_allclose(np.mean(bounds, (0, -1)), together.targets, atol=0.05)


def test_training_without_proposals_calls_none(monkeypatch):
    def never(*args):
        raise AssertionError("proposals")

    monkeypatch.setattr(mae, "both_bounds", never)
    monkeypatch.setattr(mae, "iwae", never)
    model = train("gaussian", r_samples=0, q_samples=1, steps=5)
    assert_array_equal(model.history["lower"], model.history["upper"])
    with pytest.raises(AssertionError, match="proposals"):
        train("gaussian", r_samples=1, q_samples=1, steps=1)


@pytest.mark.parametrize("n", [0, 3])
@pytest.mark.parametrize("name", ["gaussian", "categorical"])
def test_theta_climbs_the_lower_bound_or_descends_the_upper_and_omega_the_infomax_bound(name, n):
    discrete = name == "categorical"
    models = train(name, steps=2, information=(0.1, 0.2, 0.3), dtype="float64")
    (params,) = normals(19, models.params.shape)
    noise = normals(20, (3, 6, 1), (3, 6, 0 if discrete else 1), (n, 3, 1 if discrete else 6, 1))
    theta, phi, omega = (models.layout.part[k] for k in ("decoder", "encoder", "auxiliary"))

    def bounds(params):
        decoder, _, auxiliary = models.networks(params)
        both = mae.information_bounds(decoder, auxiliary, *noise) if n else ()
        return [mae.infomax_bound(decoder, auxiliary, *noise[:2]), *both]

    slopes = [
        grad(lambda p, k=k: bounds(p)[k].mean(-1).sum())(params) for k in range(3 if n else 1)
    ]
    lower, upper, ascent = mae._information(models, params, *noise)
    assert_allclose([lower, upper], np.mean(bounds(params)[-2:], -1) * np.ones((2, 1)), rtol=1e-12)
    weights = np.array([[2.0], [-3.0], [0.0]])
    found = ascent(weights)
    up, down = slopes[-2:] if n else slopes * 2
    wanted = np.maximum(weights, 0) * up + np.minimum(weights, 0) * down
    assert_allclose(found[:, theta], wanted[:, theta], rtol=1e-9, atol=1e-12)
    assert_allclose(found[:, omega], slopes[0][:, omega], rtol=1e-9, atol=1e-12)
    assert not found[:, phi].any()


def test_training_says_what_did_not_become_what_was_asked_for():
    with pytest.warns(mae.TrainingWarning, match="lagrangian, target 2, seed 7: I is between"):
        train("gaussian", information=(2,), seed=7, steps=20)
    with pytest.warns(mae.TrainingWarning, match="target 0.5, seed 0: diverged and was frozen"):
        train("gaussian", learning_rate=1e30, steps=20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train("gaussian", information=(None,), method="vae", steps=20)


def test_a_fit_shows_a_line_per_model():
    model = train("gaussian", information=(0.25, None), seeds=2, seed=5, steps=20)
    head, *lines = repr(model).splitlines()
    assert head.split()[:3] == ["target", "seed", "method"]
    for line, k in zip(lines, range(4), strict=True):
        target, seed, method, *interval = line.split()
        assert target == ("0.25", "none")[k // 2] and (seed, method) == (
            str(5 + k % 2),
            "lagrangian",
        )
        lower, upper = (model.history[side][k, -2:].mean() for side in ("lower", "upper"))
        assert " ".join(interval) == f"[{lower:.3f}, {upper:.3f}]"
    assert repr(model[1]).splitlines() == [head, lines[1]]
