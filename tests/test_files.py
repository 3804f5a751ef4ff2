"""Files of trained models: what is saved is loaded; a ValueError names a file that is damaged."""

import os
import pickle
import re
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_equal

import mae
from models import ARRAYS, HISTORY, SETTINGS

DATA = np.linspace(-1, 1, 8)[:, None]


def fit(data=DATA, **settings):
    return mae.fit(data, **{"steps": 2, "batch": 8, "hidden": 3} | settings)


FIT, HALF = fit(information=(None, 0.5)), mae.fixed_variance(0.5)
SAMPLED = fit(r_samples=3, q_samples=2)
W = FIT.params


@pytest.fixture
def path(tmp_path):
    FIT.save(tmp_path / "models.npz")
    return tmp_path / "models.npz"


def refused(path, **how):
    """The message: one line with the path in it."""
    with pytest.raises(ValueError) as caught:
        mae.load(path, **how)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


def assert_same(one, other):
    assert_equal(one.history, other.history)
    for name in (*ARRAYS, *SETTINGS, "likelihood"):
        assert_equal(getattr(one, name), getattr(other, name))
    for name, inputs in (("decoder", one.latent), ("encoder", 1), ("auxiliary", 1)):
        x = np.ones((5, inputs))
        assert_equal(getattr(one, name)(x).params, getattr(other, name)(x).params)


def test_what_was_saved_is_loaded(path):
    diverged = fit(DATA * 1e30)
    assert diverged.diverged[0] == 0 and not np.isfinite(diverged.history["elbo"]).any()
    for models in (
        FIT,
        FIT[1],
        FIT[[1, 0]],
        fit(latent=2, seeds=2, method="vae"),
        SAMPLED,
        diverged,
    ):
        models.save(path)
        assert_same(mae.load(path), models)


def test_several_named_fits_share_a_file(path):
    fits = {"": FIT, "a": FIT[1], "a/b": fit(seed=3), "naïve": fit(likelihood=HALF)}
    mae.save(path, fits)
    for name, models in fits.items():
        assert_same(mae.load(path, HALF if name == "naïve" else None, name), models)
    for name in ("b", "a/", None):
        assert refused(path, name=name).startswith(f"name is {name!r}; it must be one of ")
    mae.save(path, {"a": FIT})
    assert "'a'" in refused(path)


def test_the_likelihood_is_checked_and_asked_for_when_it_is_ones_own(path):
    for other in ("gaussian", 3, HALF, mae.CATEGORICAL, mae.Gaussian):
        message = refused(path, likelihood=other)
        assert re.match("likelihood is .*; it must be the mae.Likelihood that .*gaussian", message)
    assert_same(mae.load(path, mae.GAUSSIAN), FIT)
    fit(likelihood=HALF).save(path)
    assert "gaussian of standard deviation 0.5" in refused(path)
    assert "gaussian of standard deviation 0.5" in refused(path, likelihood=mae.fixed_variance(0.6))


def test_a_part_of_a_file_is_refused_and_a_flipped_bit_is_found_or_harmless(path):
    whole, found = path.read_bytes(), 0
    for length in (*range(0, len(whole), 97), len(whole) - 1):
        path.write_bytes(whole[:length])
        refused(path)
    for place in np.random.default_rng(0).integers(8 * len(whole), size=100):
        changed = bytearray(whole)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        try:
            assert_same(mae.load(path), FIT)
        except ValueError:
            found += bool(refused(path))
    assert found > 50  # dates and the like may change


NONE = object()  # the array is missing
CHANGES = {
    "format": [NONE, "mae 2", "mae 1", "mae 30", "", 3, ["mae 3", "mae 3"], "mae\n3"],
    "likelihood": [NONE, "poisson", "categorical", 0],
    "features": [NONE, 0, -1, 2, 1.5, np.nan, [1, 1], "1", True, 10**18],
    "latent": [NONE, 0, 2, [1, 1]],
    "hidden": [NONE, 4, 3.5, "x"],
    "r_samples": [NONE, -1, 1.5, np.nan, [1, 1], "1", True],
    "q_samples": [NONE, 0, 1.5, [1, 1], "x", 1j],
    "params": [NONE, W * np.nan, W + np.inf, W[:, 1:], W[:1], W[0], W.astype(int), W + 1j, 0.0],
    "targets": [NONE, [0.5], 0.5, [[0.5, 0.5]], ["a", "b"], [1j, 0]],
    "seeds": [NONE, [0], [0.5, 1.5], ["a", "b"]],
    "methods": [NONE, ["vae"], [0, 1]],
    "diverged": [NONE, [-1], [np.nan, -1], ["a", "b"]],
    "history_elbo": [NONE, np.zeros((2, 3)), np.zeros(2), 0.0, [["a", "b"], ["c", "d"]]],
    "history_lower": [NONE, np.zeros((2, 1)), np.zeros((2, 2), int)],
    "history_upper": [NONE, np.zeros((3, 2)), np.zeros((2, 2), "U1")],
    "history_target": [NONE, np.zeros((2, 0)), np.zeros((1, 2, 2)), np.zeros((2, 2), complex)],
}


@pytest.mark.parametrize("name", CHANGES)
def test_an_array_that_is_missing_or_of_the_wrong_shape_or_kind_is_refused(path, name):
    with np.load(path) as found:
        members = dict(found)
    assert len(members) == 3 + len(SETTINGS) + len(ARRAYS) + len(HISTORY)
    for value in CHANGES[name]:
        changed = members | {name: value}
        np.savez(path, **{key: a for key, a in changed.items() if a is not NONE})
        refused(path)
    np.savez(path, **members, history_more=np.zeros(3), more=np.zeros(2))  # as later versions may
    assert_same(mae.load(path), FIT)


def test_files_of_other_versions_are_called_so(path):
    with np.load(path) as found:
        members = dict(found)
    for version, words in (
        ("mae 2", "an earlier version, format 2"),
        ("mae 30", "a later version"),
    ):
        np.savez(path, **members | {"format": version})
        assert f"was written by {words}" in refused(path)
    np.savez(path, settings='{"format": "mae 1"}', params=W)  # as the first version did
    assert "was written by an earlier version, format 1; this one reads 3" in refused(path)


def test_a_file_that_cannot_be_written_leaves_the_old_one(path, monkeypatch):
    before = path.read_bytes()

    def full(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space"):
        FIT[1].save(path)
    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]


def test_a_file_says_how_its_models_were_made(path):
    mae.save(path, {"": FIT, "b": FIT}, "by hand")
    with np.load(path) as found:
        assert found["made"] == "by hand"
    assert_same(mae.load(path), FIT)


@pytest.mark.parametrize("likelihood", [mae.GAUSSIAN, HALF])
def test_a_fit_can_be_pickled(likelihood):
    one = fit(information=(None, 0.5), likelihood=likelihood)
    other = pickle.loads(pickle.dumps(one))
    assert_same(replace(other[0], likelihood=likelihood), one[0])
    assert_equal(other.decoder(DATA).params, one.decoder(DATA).params)
    again = fit(likelihood=other.likelihood)
    assert_equal(again.params, fit(likelihood=likelihood).params)


def test_one_model_is_selected_by_what_it_is():
    several = fit(information=(None, 0.5), method=("vae", "lagrangian"), seeds=2, seed=7)
    for wanted, k in (({"target": 0.5, "seed": 8}, 3), ({"target": None, "seed": 7}, 0)):
        assert_equal(several.select(**wanted).params, several.params[k])
    assert_equal(several.select(method="vae", seed=8).params, several.params[1])
    for wanted, n in (({"target": 0.5}, 2), ({"target": 3}, 0), ({}, 4)):
        with pytest.raises(ValueError, match=f"^{n} models, not one, have .*; there are targets "):
            several.select(**wanted)
    for wanted in ({"information": 0.5}, {"method": None}):
        with pytest.raises(ValueError):
            several.select(**wanted)


class Trap:
    def __reduce__(self):  # unpickling makes a folder
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("name", ["params", "format", "more"])
def test_pickles_are_not_executed(path, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    trap = np.array([Trap()], object)
    with np.load(path) as found:
        np.savez("trap.npz", **dict(found) | {name: trap})
    np.save("trap.npy", trap)
    trap.dump("trap")
    for file in ("trap.npz", "trap.npy", "trap"):
        refused(tmp_path / file)
    assert not os.path.exists("executed")
    np.load("trap", allow_pickle=True)  # the trap is a good one
    assert os.path.exists("executed")


def test_other_files_are_refused_and_no_file_is_an_os_error(path, tmp_path):
    np.savez(tmp_path / "empty.npz")
    np.save(tmp_path / "array.npy", np.zeros(3))
    huge = path.read_bytes().replace(b"(2, 42), }       ", b"(9999999, 99999)}")  # terabytes
    contents = [(tmp_path / name).read_bytes() for name in ("empty.npz", "array.npy")]
    for content in (b"", b"no models\n", bytes(1000), huge, *contents):
        path.write_bytes(content)
        assert "is not a file of trained models" in refused(path)
    for place in (tmp_path / "none", tmp_path):
        with pytest.raises(OSError, match=re.escape(str(place))):
            mae.load(place)
