"""Training: reproducible, lands near M, models do not touch each other, files round-trip."""

import autograd.core
import numpy as np
import pytest

import mae
import nets
from experiments import TEN, standard_normal


def train(information=(1.0,), data=standard_normal, **settings):
    return mae.fit(data, information=information, **{"steps": 60, "batch": 32} | settings)


def same(a, b):
    return a.params.tobytes() == b.params.tobytes()


@pytest.mark.parametrize("method", mae.METHODS)
def test_a_short_run_lands_near_its_targets(method):
    fit = train((None, 0.5, 1.0), steps=600, batch=64, method=method)
    information = mae.exact_mutual_information(fit.decoder)
    bound = mae.exact_infomax_bound(fit.decoder, fit.auxiliary)
    assert information[0] < 0.02
    np.testing.assert_allclose(information[1:], [0.5, 1.0], atol=0.06)
    np.testing.assert_allclose(bound[1:], [0.5, 1.0], atol=0.04)


def test_a_short_categorical_run_lands_near_its_target():
    fit = train((1.0,), TEN, likelihood="categorical", steps=800, batch=64)
    np.testing.assert_allclose(mae.exact_mutual_information(fit.decoder), 1.0, atol=0.05)
    log_p = mae.exact_log_likelihood(fit.decoder, TEN)
    np.testing.assert_allclose(log_p.mean(), -np.log(10), atol=0.01)


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
    np.testing.assert_array_equal(fit.targets, [np.nan, np.nan, 0.5, 0.5])
    np.testing.assert_array_equal(fit.seeds, [5, 6, 5, 6])
    np.testing.assert_array_equal(fit.history["target"][2:, -1], 0.5)
    assert all(values.shape == (4, 60) for values in fit.history.values())


def test_a_model_that_diverges_is_frozen_and_the_others_do_not_notice():
    stream = lambda rng: rng.bit_generator.state["state"]["inc"]
    bad = stream(np.random.default_rng(1))

    def data(rng, n):  # seed 1 gets data that no float32 holds
        return standard_normal(rng, n) * (1e30 if stream(rng) == bad else 1)

    fit = train((1.0,), data, seeds=2)
    assert fit.diverged[1] >= 0 and np.isfinite(fit.params).all()
    assert fit.diverged[0] == -1 and same(fit[0], train((1.0,))[0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_dtype_of_training(dtype):
    fit = train(dtype=dtype)
    assert fit.params.dtype == dtype
    assert fit.decoder(np.zeros((2, 1))).mean.dtype == np.float64


EVERY_METHOD = {
    "information": (0.5, 0.5, None, None, None, None),
    "method": ("lagrangian", "penalty", "vae", "beta:4", "anneal:0.5", "im"),
}


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


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("likelihood", ["gaussian", "categorical", mae.fixed_variance(0.5)])
def test_nothing_changes_precision_on_the_way(nodes, monkeypatch, likelihood, dtype):
    adam = nets.adam

    def watched(*args):
        moved = adam(*args)
        assert {np.result_type(a) for a in (*args[:3], *moved)} == {np.dtype(dtype)}
        return moved

    monkeypatch.setattr(nets, "adam", watched)
    data = TEN if likelihood == "categorical" else standard_normal
    settings = {"likelihood": likelihood, "dtype": dtype, "steps": 2, "batch": 8}
    fit = train(data=data, **settings | EVERY_METHOD)
    assert fit.params.dtype == dtype and len(nodes) > 10
    assert set.union(*(types for _, types in nodes)) == {np.dtype(dtype)}, nodes


@pytest.mark.parametrize("likelihood", ["gaussian", "categorical"])
def test_a_step_has_few_nodes_and_no_indexing(nodes, likelihood):
    train(data=TEN if likelihood == "categorical" else standard_normal, steps=1, batch=8)
    names = [name for name, _ in nodes]
    assert len(names) <= 2 * 7 and "__getitem__" not in names, names


def test_every_method_is_the_same_in_a_mixed_batch_as_alone():
    together = train(**EVERY_METHOD)
    for k, (method, target) in enumerate(zip(EVERY_METHOD["method"], EVERY_METHOD["information"])):
        assert same(together[k], train((target,), method=method)[0]), method
    assert len({fit.params.tobytes() for fit in map(together.__getitem__, range(6))}) == 6


def test_a_beta_of_one_and_a_finished_annealing_are_a_vae():
    fit = train((None,) * 3, method=("vae", "beta:1", "anneal:1e-9"))
    assert same(fit[0], fit[1])
    assert not same(fit[0], fit[2])  # its first step has weight 0 ...
    fit = train((None,) * 2, method=("beta:0", "anneal:1"), steps=1)
    assert same(fit[0], fit[1])  # ... which is beta = 0


def test_beta_buys_a_lower_rate_and_im_all_the_information_there_is():
    settings = {"likelihood": mae.fixed_variance(0.3), "steps": 800, "batch": 64}
    fit = train((None,) * 3, method=("vae", "beta:3", "im"), **settings)
    rates = fit.encoder(standard_normal(np.random.default_rng(0), 1000)).kl().mean(-1)
    assert rates[1] < rates[0] - 0.1
    bounds = mae.exact_infomax_bound(fit.decoder, fit.auxiliary)
    assert bounds[2] > bounds[0] + 1


def test_a_code_of_two_dimensions_trains_but_has_no_exact_values():
    fit = train((0.5,), lambda rng, n: rng.standard_normal((n, 3)), latent=2)
    assert fit.decoder(np.zeros((4, 2))).mean.shape == (1, 4, 3)
    with pytest.raises(ValueError, match="one-dimensional code"):
        mae.exact_mutual_information(fit.decoder)


def test_rows_of_an_array_come_equally_often():
    counts = TEN[(10 * nets.evenly(np.random.default_rng(0), 64)).astype(int)].sum(0)
    assert set(counts) <= {6, 7} and counts.sum() == 64


def test_saving_and_loading_gives_the_same_fit(tmp_path):
    fit = train((None, 0.5))
    fit.save(tmp_path / "models.npz")
    again = mae.load(tmp_path / "models.npz")
    x = np.linspace(-2, 2, 5)[:, None]
    for name in ("decoder", "encoder", "auxiliary"):
        np.testing.assert_array_equal(getattr(again, name)(x).mean, getattr(fit, name)(x).mean)
    np.testing.assert_array_equal(again.targets, fit.targets)
    np.testing.assert_array_equal(again.history["elbo"], fit.history["elbo"])
    assert (again.methods == fit.methods).all() and again.likelihood == fit.likelihood


def test_the_first_networks_hold_almost_no_information():
    fit = train((None,), seeds=8, steps=1, learning_rate=0.0)
    assert (mae.exact_mutual_information(fit.decoder) < 0.01).all()
    assert fit.params.shape[1] == 3 * nets.mlp_size((1, 16, 2))


@pytest.mark.parametrize(
    "name, settings",
    [
        ("information", {"information": (-1.0,)}),
        ("information", {"information": (np.nan,)}),
        ("information", {"information": (np.inf,)}),
        ("information", {"information": ()}),
        ("steps", {"steps": 0}),
        ("batch", {"batch": 0}),
        ("seeds", {"seeds": 1.5}),
        ("seed", {"seed": -1}),
        ("hidden", {"hidden": 0}),
        ("latent", {"latent": 0}),
        ("method", {"method": "magic"}),
        ("likelihood", {"likelihood": "poisson"}),
        ("data", {"data": np.zeros((0, 1))}),
        ("data", {"data": np.zeros(5)}),
        ("data", {"data": np.array([[np.nan]])}),
        ("data", {"data": lambda rng, n: np.zeros((n + 1, 1))}),
        ("data", {"data": lambda rng, n: np.zeros(n)}),
        ("data", {"data": np.arange(5.0)[:, None], "likelihood": "categorical"}),
    ],
)
def test_what_cannot_be_trained_is_named(name, settings):
    with pytest.raises(ValueError, match=f"^{name}"):
        train(**settings)


def test_what_is_not_a_model_file_is_called_so(tmp_path):
    path = tmp_path / "models.npz"
    path.write_text("no models")
    with pytest.raises(ValueError, match="models.npz is not a file of trained models"):
        mae.load(path)
    np.savez(path, a=1)
    with pytest.raises(ValueError, match="models.npz is not a file of trained models"):
        mae.load(path)
    with pytest.raises(FileNotFoundError):
        mae.load(tmp_path / "nowhere.npz")
