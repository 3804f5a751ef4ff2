"""Training: reproducible, lands near M, models do not touch each other, others' parts fit in."""

import math

import autograd.core
import autograd.numpy as anp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import mae
import nets

TEN = np.eye(10)


def standard_normal(rng, n):
    return nets.normal_lattice(rng, 1, n, 1)[0]


def train(information=(1.0,), data=standard_normal, **settings):
    return mae.fit(data, information=information, **{"steps": 60, "batch": 32} | settings)


def same(a, b):
    return a.params.tobytes() == b.params.tobytes()


# ----------------------------------------------------------------------------- where it lands


@pytest.mark.parametrize("method", ["lagrangian", "penalty"])
def test_a_short_run_lands_near_its_targets(method):
    fit = train((None, 0.5, 1.0), steps=600, batch=64, method=method)
    information, bound = mae.exact_information_and_bound(fit.decoder, fit.auxiliary)
    assert information[0] < 0.02
    assert_allclose(information[1:], [0.5, 1.0], atol=0.06)
    assert_allclose(bound[1:], [0.5, 1.0], atol=0.04)


def test_a_short_categorical_run_lands_near_its_target():
    fit = train((1.0,), TEN, likelihood="categorical", steps=800, batch=64)
    assert_allclose(mae.exact_mutual_information(fit.decoder), 1.0, atol=0.05)
    log_p = mae.exact_log_likelihood(fit.decoder, TEN)
    assert_allclose(log_p.mean(), -np.log(10), atol=0.01)


def test_beta_buys_a_lower_rate_and_im_all_the_information_there_is():
    settings = {"likelihood": mae.fixed_variance(0.3), "steps": 800, "batch": 64}
    fit = train((None,) * 3, method=(mae.VAE, mae.beta_vae(3), mae.infomax()), **settings)
    rates = fit.encoder(standard_normal(np.random.default_rng(0), 1000)).kl().mean(-1)
    assert rates[1] < rates[0] - 0.1
    bounds = mae.exact_infomax_bound(fit.decoder, fit.auxiliary)
    assert bounds[2] > bounds[0] + 1


def test_the_first_networks_hold_almost_no_information():
    fit = train((None,), seeds=8, steps=1, learning_rate=0.0)
    assert (mae.exact_mutual_information(fit.decoder) < 0.01).all()
    assert fit.params.shape[1] == 3 * nets.mlp_size((1, 16, 2))


def test_a_code_of_two_dimensions_trains_and_says_how_many_it_has():
    fit = train((0.5,), lambda rng, n: rng.standard_normal((n, 3)), latent=2)
    assert fit.decoder(np.zeros((4, 2))).mean.shape == (1, 4, 3)
    with pytest.raises(ValueError, match="a network of 2 inputs got an array of shape"):
        mae.exact_mutual_information(fit.decoder)
    x = np.array([[0.5, 0.0, -1.0]])
    elbo = mae.exact_elbo(fit.encoder, fit.decoder, x)
    assert elbo < mae.exact_log_likelihood(fit.decoder, x, latent=2) < elbo + 0.1  # hardly trained


# ------------------------------------------------------------------- nothing else plays a part


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not():
    assert same(train(seed=3), train(seed=3))
    assert not same(train(seed=3), train(seed=4))


def test_progress_does_not_change_training():
    calls = []
    assert same(train(), train(progress=lambda *call: calls.append(call)))
    assert calls[0][0] == 0 and all(np.isfinite(gap) for _, gap in calls)


def test_a_model_is_the_same_alone_and_in_company():
    together = train((None, 0.4, 2.0), seeds=40)  # more than one shard
    alone = train((0.4,), seed=7)
    assert (together.targets[47], together.seeds[47]) == (0.4, 7)
    assert same(together[47], alone[0])


def test_targets_come_before_seeds_and_the_history_ends_at_the_target():
    fit = train((None, 0.5), seeds=2, seed=5)
    assert_array_equal(fit.targets, [np.nan, np.nan, 0.5, 0.5])
    assert_array_equal(fit.seeds, [5, 6, 5, 6])
    assert_array_equal(fit.history["target"][2:, -1], 0.5)
    assert list(fit.history) == ["target", "lower", "upper", "elbo", "multiplier"]
    assert all(values.shape == (4, 60) for values in fit.history.values())


def test_without_proposals_the_estimate_is_the_bound_alone_and_by_default_it_is_not():
    alone, usual = train(r_samples=0), train()
    assert (alone.r_samples, usual.r_samples, usual.q_samples) == (0, 4, 1)
    assert_array_equal(alone.history["lower"], alone.history["upper"])
    assert usual.history["lower"].mean() < usual.history["upper"].mean() - 0.001
    assert same(usual, train(r_samples=4, q_samples=1))
    others = [train(r_samples=n, q_samples=k) for n in (0, 4) for k in (1, 2)]
    assert len({other.params.tobytes() for other in others}) == 4


def test_a_model_that_diverges_is_frozen_and_the_others_do_not_notice():
    stream = lambda rng: rng.bit_generator.state["state"]["inc"]
    bad = stream(np.random.default_rng(1))

    def data(rng, n):  # seed 1 gets data that no float32 holds
        return standard_normal(rng, n) * (1e30 if stream(rng) == bad else 1)

    fit = train((1.0,), data, seeds=2)
    assert fit.diverged[1] >= 0 and np.isfinite(fit.params).all()
    assert fit.diverged[0] == -1 and same(fit[0], train((1.0,))[0])


# ----------------------------------------------------------- what others write, and this library


def own(weights):
    return mae.Method("own", weights)


METHODS = [  # of the library, and its weights written anew: reconstruction, KL, bound
    (0.5, mae.LAGRANGIAN, own(lambda progress, gap, multiplier: (1, 1, multiplier + 5 * gap))),
    (0.5, mae.PENALTY, own(lambda progress, gap, multiplier: (1, 1, 10 * np.sign(gap)))),
    (None, mae.VAE, own(lambda progress, gap, multiplier: (1, 1, 0))),
    (None, mae.beta_vae(4), own(lambda progress, gap, multiplier: (1, 4, 0))),
    (None, mae.annealed(0.5), own(lambda progress, gap, multiplier: (1, min(1, 2 * progress), 0))),
    (None, mae.infomax(), own(lambda progress, gap, multiplier: (0, 1, 1))),
    (None, mae.infomax(0.2), own(lambda progress, *_: (max(0, 1 - progress / 0.2), 1, 1))),
]


def test_a_method_from_outside_trains_like_its_twin_in_a_mixed_batch():
    """Byte for byte, though each trains alone; and no two methods do the same."""
    targets, methods, twins = zip(*METHODS)
    together = train(targets, method=methods)
    assert list(together.methods) == [method.name for method in methods]
    for model, target, twin in zip(together, targets, twins):
        assert same(model, train((target,), method=twin)[0]), model.methods
    assert len({model.params.tobytes() for model in together}) == len(METHODS)
    named = train(targets[:3], method=("lagrangian", "penalty", "vae"))
    assert all(map(same, named, together)) and list(named.methods) == list(together.methods[:3])


class Laplace:
    """Of one feature, from its mean and log-scale; sampled through its distribution function."""

    def __init__(self, params):
        self.mean, self.log_scale = params[..., :1], params[..., 1:]

    def log_prob(self, x):
        distance = abs(x - self.mean) / anp.exp(self.log_scale)
        return anp.sum(-distance - self.log_scale - math.log(2), -1)

    def sample(self, eps):  # P(|noise| > -log t) = t
        noise = -np.sign(eps) * np.log(np.vectorize(math.erfc)(abs(eps) / math.sqrt(2)))
        return self.mean + anp.exp(self.log_scale) * noise.astype(eps.dtype)


LAPLACE = mae.Likelihood("laplace", lambda n: 2 * n, lambda network, z: Laplace(network(z)))


def test_a_distribution_from_outside_has_its_bounds_by_hand():
    """x = z + 2 noise; at eps = 1 a normal leaves 0.3173105 to its tails, as Laplace noise does."""
    decoder = lambda z: Laplace(np.concatenate([z, 0 * z + math.log(2)], -1))
    code = lambda x: mae.Gaussian(0.5 * x, 0 * x - 1)
    z, one = np.array([[0.7], [-1.1]]), np.array([[1.0], [-1.0]])
    bound, elbo = mae.infomax_bound(decoder, code, z, one), mae.elbo(code, decoder, z, one)
    noise = -math.log(0.31731050786291415)
    for k, (z, sign) in enumerate([(0.7, 1), (-1.1, -1)]):
        x = z + 2 * sign * noise
        log_r = -0.5 * ((z - 0.5 * x) ** 2 * math.e - 1 + math.log(2 * math.pi))
        assert_allclose(bound[k], 0.5 * math.log(2 * math.pi * math.e) + log_r, rtol=1e-12)
        code = 0.5 * z + sign * math.exp(-0.5)
        kl = 0.5 * (math.exp(-1) - 1 + 1 + (0.5 * z) ** 2)
        assert_allclose(elbo[k], -abs(z - code) / 2 - math.log(4) - kl, rtol=1e-12)


@pytest.mark.parametrize("r_samples", [0, 4])
def test_a_likelihood_from_outside_trains_to_its_target(r_samples):
    """The bound alone, or I itself, each on fresh noise, too."""
    settings = {"steps": 600, "batch": 64, "r_samples": r_samples}
    fit = train((0.5, 1.0), likelihood=LAPLACE, **settings)
    draws = np.random.default_rng(0).standard_normal((2 + 16 * r_samples, 20000, 1))
    z, eps, eps_r = draws[0], draws[1], draws[2:]
    history = (fit.history["lower"] + fit.history["upper"]) / 2
    before, after = history[:, :5].mean(-1), history[:, -50:].mean(-1)
    assert (abs(before) < 0.1).all()
    assert_allclose(after, [0.5, 1.0], atol=0.04)
    bounds = mae.information_bounds(fit.decoder, fit.auxiliary, z, eps, eps_r)
    lower, upper = (bound.mean(-1) for bound in bounds)
    assert_allclose(lower, [0.5, 1.0], atol=0.04)
    assert_allclose(upper, [0.5, 1.0] if r_samples else [math.inf] * 2, atol=0.04)


# ------------------------------------------------------------------------- what makes it quick


@pytest.fixture
def nodes(monkeypatch):
    """The autograd nodes made in a test: (function, dtypes of its value and of its gradients)."""
    made = []

    class Node(autograd.core.VJPNode):
        def __init__(self, value, function, *args):
            super().__init__(value, function, *args)
            made.append((function.__name__, {np.result_type(value)}))
            types, vjp = made[-1][1], self.vjp

            def watched(g):
                grads = tuple(vjp(g))
                types.update(map(np.result_type, grads))
                return grads

            self.vjp = watched

    monkeypatch.setattr(autograd.core, "VJPNode", Node)
    return made


@pytest.mark.parametrize("samples", [(0, 1), (3, 1), (3, 2)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("likelihood", ["gaussian", "categorical", mae.fixed_variance(0.5)])
def test_nothing_changes_precision_on_the_way(nodes, monkeypatch, likelihood, dtype, samples):
    """And what comes out computes in double."""
    adam = nets.adam

    def watched(*args):
        moved = adam(*args)
        assert {np.result_type(a) for a in (*args[:3], *moved)} == {np.dtype(dtype)}
        return moved

    monkeypatch.setattr(nets, "adam", watched)
    data = TEN if likelihood == "categorical" else standard_normal
    r_samples, q_samples = samples
    no_beta = [row for row in METHODS if q_samples == 1 or row[1].name[:4] not in ("beta", "anne")]
    targets, methods, _ = zip(*no_beta)
    settings = {"likelihood": likelihood, "dtype": dtype, "steps": 2, "batch": 8}
    settings |= {"r_samples": r_samples, "q_samples": q_samples}
    fit = train(targets, data, method=methods, **settings)
    assert fit.params.dtype == dtype and len(nodes) > 10
    assert set.union(*(types for _, types in nodes)) == {np.dtype(dtype)}, nodes
    assert fit.decoder(np.zeros((2, 1))).params.dtype == np.float64


@pytest.mark.parametrize("r_samples, most", [(0, 14), (4, 26)])
@pytest.mark.parametrize("likelihood", ["gaussian", "categorical"])
def test_a_step_has_few_nodes_and_no_indexing(nodes, likelihood, r_samples, most):
    """However many proposals there are."""
    data = TEN if likelihood == "categorical" else standard_normal
    train(data=data, steps=1, batch=8, likelihood=likelihood, r_samples=r_samples)
    names = [name for name, _ in nodes]
    assert len(names) <= most and "__getitem__" not in names, names


# -------------------------------------------------------------------------------------- files


def test_saving_and_loading_gives_the_same_fit(tmp_path):
    fit = train((None, 0.5))
    fit.save(tmp_path / "models.npz")
    again = mae.load(tmp_path / "models.npz")
    x = np.linspace(-2, 2, 5)[:, None]
    for name in ("decoder", "encoder", "auxiliary"):
        assert_array_equal(getattr(again, name)(x).mean, getattr(fit, name)(x).mean)
    assert_array_equal(again.targets, fit.targets)
    assert_array_equal(again.history["elbo"], fit.history["elbo"])
    assert (again.methods == fit.methods).all() and again.likelihood == fit.likelihood
