import inspect
from dataclasses import replace

import autograd.numpy as np
import pytest
from autograd import grad
from numpy.testing import assert_allclose

import mae
import nets

GAPS = np.array([-1.3, -0.02, 0.02, 0.9])  # target - bound, on both sides of the kink


def check_terms_by_hand():
    gap, multiplier = np.array([0.5, -2.0, 0.0]), np.array([0.0, 1.0, -1.0])
    value, slope = mae.lagrangian(gap, multiplier)
    # multiplier (bound - M) - 5/2 (bound - M)^2
    assert_allclose(value, [-0.625, 2.0 - 10.0, 0.0], rtol=1e-14)
    assert_allclose(slope, [2.5, -9.0, -1.0], rtol=1e-14)
    value, slope = mae.penalty(gap, multiplier)
    assert_allclose(value, [-5.0, -20.0, 0.0], rtol=1e-14)
    assert_allclose(slope, [10.0, -10.0, 0.0], rtol=1e-14)


def check_slopes_by_finite_differences():
    """The slope is the term's derivative in the bound, that is, minus the one in the gap."""
    h = 1e-6
    for term in mae.METHODS.values():
        for multiplier in (-0.8, 0.0, 0.8):
            slope = term(GAPS, multiplier)[1]
            higher, lower = term(GAPS - h, multiplier)[0], term(GAPS + h, multiplier)[0]
            assert_allclose(slope, (higher - lower) / (2 * h), rtol=1e-7)


def check_signs():
    """Too little information pulls the bound up, too much pushes it down; none at the target."""
    for term in mae.METHODS.values():
        assert (np.sign(term(GAPS, 0.0)[1]) == np.sign(GAPS)).all()
        assert term(np.zeros(1), 0.0)[0] == 0
        assert (term(GAPS, 0.0)[0] < 0).all()
    assert mae.METHODS["lagrangian"] is mae.lagrangian and mae.METHODS["penalty"] is mae.penalty


@pytest.mark.parametrize("method", ["lagrangian", "penalty"])
@pytest.mark.parametrize("gap", [-0.3, 0.3])
def test_gradient_of_the_constrained_objective(method, gap):
    """grad ELBO + slope grad bound, the slope taken at the *mean* bound, with I > M and I < M."""
    term, multiplier = mae.METHODS[method], {"lagrangian": 0.7, "penalty": 0.0}[method]
    sizes, rng = (1, 4, 2), np.random.default_rng(0)
    theta, phi = rng.standard_normal((2, nets.mlp_size(sizes)))
    noise, x = rng.standard_normal((3, 32, 1)), rng.standard_normal((32, 1))
    network = lambda params: lambda t: mae.Gaussian.unpack(nets.mlp(params, t, sizes))

    elbo = lambda theta: np.mean(mae.elbo(network(phi), network(theta), x, noise[0]))
    bound = lambda theta: np.mean(
        mae.infomax_bound(network(theta), lambda x: mae.Gaussian(0.3 * x, -0.5), noise[1], noise[2])
    )
    target = bound(theta) + gap
    objective = lambda theta: elbo(theta) + term(target - bound(theta), multiplier)[0]
    slope = term(target - bound(theta), multiplier)[1]
    gradient = grad(elbo)(theta) + slope * grad(bound)(theta)
    h = 1e-6
    for i, direction in enumerate(np.eye(len(theta))):
        wanted = (objective(theta + h * direction) - objective(theta - h * direction)) / (2 * h)
        assert_allclose(gradient[i], wanted, rtol=1e-6, atol=1e-6)


# ----------------------------------------------------------- what the training does with these


def train(monkeypatch, term, steps=1, **settings):
    monkeypatch.setitem(mae.METHODS, "penalty", term)
    data = np.linspace(-2, 2, 64)[:, None]
    settings = {"steps": steps, "batch": 16, "hidden": 4, "dtype": "float64", **settings}
    return mae.fit(data, method="penalty", information=(0.5, 1.0), **settings)


def thirds(model):
    """The weights of decoder, encoder and auxiliary."""
    decoder, code = nets.mlp_size((1, model.hidden, 2)), nets.mlp_size((1, model.hidden, 2))
    return np.split(model.params, [decoder, decoder + code], axis=-1)


def check_omega_follows_the_bound_only(monkeypatch):
    """Whatever the sign of the slope, encoder and auxiliary move alike; the decoder does not."""
    up, down = (
        thirds(train(monkeypatch, lambda gap, multiplier: (0 * gap, sign + 0 * gap)))
        for sign in (3.0, -3.0)
    )
    assert not (up[0] == down[0]).all()
    assert (up[1] == down[1]).all()
    assert (up[2] == down[2]).all()


def check_auxiliary_climbs(monkeypatch):
    """The ELBO rises, and the auxiliary finds the posterior of what the decoder makes."""
    model = train(monkeypatch, lambda gap, multiplier: (0 * gap, 0 * gap), 300, learning_rate=1e-2)
    elbo = model.history["elbo"]
    assert (elbo[:, -50:].mean(-1) > elbo[:, :50].mean(-1)).all()
    gap = mae.exact_mutual_information(model.decoder) - mae.exact_infomax_bound(
        model.decoder, model.auxiliary
    )
    assert (gap >= 0).all() and (gap < 0.02).all()


def check_gap_is_of_the_mean(monkeypatch):
    """|.| stands outside the mean: the term sees one gap per model, that of its batch's mean."""
    gaps = []
    term = lambda gap, multiplier: gaps.append(gap) or (0 * gap, 0 * gap)
    history = train(monkeypatch, term, steps=5).history
    assert np.shape(gaps) == (5, 2)
    wanted = (history["target"] - history["infomax_bound"]).T
    assert_allclose(gaps, wanted, rtol=1e-5, atol=1e-6)  # the history is in single precision


def check_networks_are_three(monkeypatch):
    """Changing the weights of one leaves the other two as they were."""
    model = train(monkeypatch, mae.penalty)
    t = np.array([[0.3], [-1.0]])
    for changed, weights in enumerate(thirds(model)):
        before = thirds(model)
        before[changed] = before[changed] + 0.1
        other = replace(model, params=np.concatenate(before, -1))
        for index, name in enumerate(["decoder", "encoder", "auxiliary"]):
            same = getattr(other, name)(t).params == getattr(model, name)(t).params
            assert same.all() == (index != changed)


CHECKS = [check_terms_by_hand, check_slopes_by_finite_differences, check_signs]
CHECKS += [check_omega_follows_the_bound_only, check_auxiliary_climbs, check_gap_is_of_the_mean]
CHECKS += [check_networks_are_three]


@pytest.mark.parametrize("check", CHECKS)
def test(check, monkeypatch):
    check(*[monkeypatch][: len(inspect.signature(check).parameters)])
