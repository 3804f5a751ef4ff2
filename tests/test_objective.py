"""The constraint's terms, and what training makes of a method: who ascends what."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

import mae

DATA = np.linspace(-2, 2, 64)[:, None]


def train(weights, **settings):
    settings = {"steps": 1, "batch": 16, "hidden": 4, "dtype": "float64", **settings}
    return mae.fit(DATA, method=mae.Method("own", weights), **{"information": (0.5, 1)} | settings)


def test_the_terms_are_right_by_hand():
    gap, multiplier = np.array([0.5, -2.0, 0.0]), np.array([0.0, 1.0, -1.0])
    value, slope = mae.lagrangian(gap, multiplier)
    # multiplier (bound - M) - 5/2 (bound - M)^2
    assert_allclose(value, [-0.625, 2.0 - 10.0, 0.0], rtol=1e-14)
    assert_allclose(slope, [2.5, -9.0, -1.0], rtol=1e-14)
    value, slope = mae.penalty(gap, multiplier)
    assert_allclose(value, [-5.0, -20.0, 0.0], rtol=1e-14)
    assert_allclose(slope, [10.0, -10.0, 0.0], rtol=1e-14)


@pytest.mark.parametrize("term", ["lagrangian", "penalty"])
def test_a_slope_is_the_derivative_of_its_term_in_the_bound(term):
    """That is, minus the one in the gap, on both sides of the kink."""
    gaps, h, term = np.array([-1.3, -0.02, 0.02, 0.9]), 1e-6, getattr(mae, term)
    for multiplier in (-0.8, 0.0, 0.8):
        higher, lower = term(gaps - h, multiplier)[0], term(gaps + h, multiplier)[0]
        assert_allclose(term(gaps, multiplier)[1], (higher - lower) / (2 * h), rtol=1e-7)


@pytest.mark.parametrize(
    "one, other, moved",
    [
        ((1, 1, 3), (1, 1, -1), "decoder"),
        ((1, 1, 1), (0, 1, 1), "decoder"),
        ((1, 1, 1), (1, 2, 1), "encoder"),
    ],
)
def test_a_weight_moves_the_network_that_it_is_for_and_no_other(one, other, moved):
    """Of reconstruction and bound the decoder, of the KL the encoder; the auxiliary none at all."""
    one, other = train(lambda *now: one), train(lambda *now: other)
    for name, part in one.layout.part.items():
        assert (one.params[:, part] == other.params[:, part]).all() == (name != moved), name


def test_training_climbs_and_the_auxiliary_finds_the_posterior():
    """Of what the decoder makes."""
    model = train(lambda *now: (1, 1, 0), steps=300, learning_rate=1e-2)
    elbo = model.history["elbo"]
    assert (elbo[:, -50:].mean(-1) > elbo[:, :50].mean(-1)).all()
    both = mae.exact_information_and_bound(model.decoder, model.auxiliary)
    gap = both[0] - both[1]
    assert (gap >= 0).all() and (gap < 0.02).all()


@pytest.mark.parametrize("r_samples", [0, 1, 64])
def test_a_method_is_given_the_gap_of_the_mean_bound(r_samples):
    """|.| stands outside of the mean: the truth is exact, of weights that rest.

    Without proposals that is the bound; with them the middle of two estimates, and I between.
    """
    gaps, steps = [], 5
    weights = lambda progress, gap, multiplier: gaps.append(gap) or (1, 1, 0)
    settings = {"steps": steps, "batch": 1024, "learning_rate": 0, "r_samples": r_samples}
    model = train(weights, information=(0, 0.5), **settings)
    gaps = np.transpose(gaps[-steps:])
    target, lower, upper, multiplier = (
        model.history[name] for name in ("target", "lower", "upper", "multiplier")
    )
    information, bound = mae.exact_information_and_bound(model.decoder, model.auxiliary)
    exact = (information if r_samples else bound)[:, None]
    assert_allclose(target[1], [0, 0.25, 0.5, 0.5, 0.5], rtol=1e-6)  # after 0.4 of the steps
    assert_allclose(gaps, target - exact, atol=0.005 if r_samples == 64 else 0.01)
    assert_allclose(gaps, target - (lower + upper) / 2, rtol=1e-5, atol=1e-6)
    assert (lower == upper).all() if r_samples == 0 else (lower < upper).all()
    assert r_samples != 64 or (upper - lower < 0.01).all()
    late = np.arange(steps) >= 0.4 * steps  # then the multiplier rises with the gap
    assert_allclose(multiplier, np.cumsum(0.1 * gaps * late, 1), rtol=1e-5)


@pytest.mark.parametrize("r_samples, most", [(0, 5), (3, 50)])
def test_the_multiplier_moves_with_the_gap_to_its_limits(r_samples, most):
    """With proposals wider ones, and the way down gets steeper: I = 0 takes minus infinity."""
    wide = mae.Likelihood("wide", lambda n: n, lambda net, z: mae.Gaussian(net(z) + z, -2.0))
    settings = {"steps": 100, "learning_rate": 0, "r_samples": r_samples, "likelihood": wide}
    history = train(mae.VAE.weights, information=(30, 0), **settings).history
    gap, wanted = history["target"] - (history["lower"] + history["upper"]) / 2, np.zeros((2, 100))
    for step in range(40, 100):
        faster = np.maximum(1, -wanted[:, step - 1]) if r_samples else 1
        wanted[:, step] = np.clip(wanted[:, step - 1] + 0.1 * gap[:, step] * faster, -most, most)
    assert_allclose(history["multiplier"], wanted, rtol=1e-4, atol=1e-4)
    assert wanted[0, -1] == most and (r_samples == 0 or wanted[1, -1] == -most)


def test_the_networks_are_three():
    """Changing the weights of one leaves the other two as they were."""
    model = train(mae.PENALTY.weights)
    t = np.array([[0.3], [-1.0]])
    for changed, part in model.layout.part.items():
        params = model.params.copy()
        params[:, part] += 0.1
        other = replace(model, params=params)
        for name in model.layout.part:
            same = getattr(other, name)(t).params == getattr(model, name)(t).params
            assert same.all() == (name != changed)
