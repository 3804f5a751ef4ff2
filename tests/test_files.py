"""Files of trained models, damaged or malicious: a ValueError naming the file, or a whole Fit."""

import io
import os
import re
import warnings
import zipfile

import numpy as np
import pytest

import mae

FIT = mae.fit(np.linspace(-1, 1, 8)[:, None], information=(None, 0.5), steps=2, batch=8, hidden=3)


def members():
    """The arrays that `save` writes, by name."""
    file = io.BytesIO()
    names = ("features", "latent", "hidden", "params", "targets", "seeds", "methods", "diverged")
    arrays = {name: getattr(FIT, name) for name in names}
    arrays |= {f"history_{name}": values for name, values in FIT.history.items()}
    np.savez(file, format="mae 2", likelihood="gaussian", **arrays)
    with np.load(io.BytesIO(file.getvalue())) as loaded:
        return {name: loaded[name] for name in loaded.files}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "models.npz"


def refused(path):
    """True if loading is refused as it should be; False if it gives a Fit, which is whole."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            fit = mae.load(path)
        except ValueError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            return True
        finally:
            assert not caught, caught[0].message
    assert np.isfinite(fit.params).all() and len(fit) == len(fit.params) == 2
    assert fit.decoder(np.zeros((5, fit.latent))).mean.shape == (2, 5, fit.features)
    assert fit.encoder(np.zeros((5, fit.features))).mean.shape == (2, 5, fit.latent)
    assert fit.auxiliary(np.zeros((5, fit.features))).mean.shape == (2, 5, fit.latent)
    assert {values.shape for values in fit.history.values()} == {(2, 2)} and len(fit.history) == 4
    for name in ("targets", "seeds", "methods", "diverged"):
        assert getattr(fit, name).shape == (2,)
    return False


def test_the_file_itself_is_loaded(path):
    np.savez(path, **members())
    assert not refused(path)
    FIT.save(path)
    assert not refused(path)
    with np.load(path) as loaded:
        assert set(loaded.files) == set(members())


def test_a_part_of_a_file_is_refused(path):
    FIT.save(path)
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 23), *range(len(whole) - 40, len(whole))]:
        path.write_bytes(whole[:length])
        assert refused(path), length


def test_bytes_changed_are_noticed_or_harmless(path):
    FIT.save(path)
    whole, rng, count = path.read_bytes(), np.random.default_rng(0), 0
    with zipfile.ZipFile(path) as file:
        directory = file.start_dir  # here the flips are not found by a checksum
    places = [*rng.integers(len(whole), size=200), *rng.integers(directory, len(whole), size=150)]
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= 1 << rng.integers(8)
        path.write_bytes(changed)
        count += refused(path)
    assert 150 < count < len(places)  # dates and the like may change


def test_many_bytes_changed(path):
    FIT.save(path)
    whole, rng = path.read_bytes(), np.random.default_rng(1)
    for _ in range(50):
        changed = np.frombuffer(whole, np.uint8).copy()
        changed[rng.integers(len(whole), size=30)] = rng.integers(256, size=30)
        path.write_bytes(changed.tobytes())
        assert refused(path)


@pytest.mark.parametrize("name", members())
def test_every_array_is_needed(path, name):
    arrays = members()
    del arrays[name]
    np.savez(path, **arrays)
    assert refused(path)


def test_arrays_that_are_not_asked_for_do_no_harm(path):
    np.savez(path, **members(), history_more=np.zeros(3), more=np.zeros(2))
    assert not refused(path)


WEIGHTS = FIT.params.shape[-1]
CHANGES = {  # of one array
    "format": ["mae 1", "mae 20", "", 2, ["mae 2", "mae 2"]],
    "likelihood": ["poisson", "", "categorical", 0],
    "features": [0, -1, 2, 1.5, np.nan, np.inf, [1, 1], "1", True, 10**18],
    "latent": [0, -1, 2, 1.5, [1, 1], ""],
    "hidden": [0, -1, 4, 3.5, [3, 3], "x"],
    "params": [
        np.full((2, WEIGHTS), np.nan), np.full((2, WEIGHTS), np.inf), np.zeros((2, WEIGHTS + 1)),
        np.zeros((3, WEIGHTS)), np.zeros(WEIGHTS), np.zeros((2, 1, WEIGHTS)), 0.0, np.zeros((2, 0)),
        np.zeros((2, WEIGHTS), int), np.zeros((2, WEIGHTS), complex), np.full((2, WEIGHTS), "a"),
    ],
    "targets": [[0.5], 0.5, [0.5] * 3, [[0.5, 0.5]], ["a", "b"], [1j, 0]],
    "seeds": [[0], 0, [0.5, 1.5], ["a", "b"], [[0, 1]]],
    "methods": [["vae"], "vae", [0, 1], [["vae", "vae"]]],
    "diverged": [[-1], -1, [np.nan, -1], ["a", "b"]],
    "history_elbo": [np.zeros((2, 3)), np.zeros((3, 2)), np.zeros(2), 0.0, np.full((2, 2), "a")],
    "history_target": [np.zeros((1, 2, 2)), np.zeros((2, 0)), np.zeros((2, 2), complex)],
}  # fmt: skip


PAIRS = [(name, i) for name, values in CHANGES.items() for i in range(len(values))]


@pytest.mark.parametrize("name, i", PAIRS)
def test_an_array_that_does_not_fit_is_refused(path, name, i):
    np.savez(path, **members() | {name: CHANGES[name][i]})
    assert refused(path)


def test_histories_of_models_that_diverged_may_hold_nan(path):
    np.savez(path, **members() | {"history_elbo": np.full((2, 2), np.nan, "float32")})
    assert not refused(path)


def test_one_model_is_saved_and_loaded(path):
    FIT[1].save(path)
    fit = mae.load(path)
    assert fit.targets == 0.5 and fit.methods == "lagrangian"
    x = np.linspace(-1, 1, 5)[:, None]
    np.testing.assert_array_equal(fit.encoder(x).mean, FIT.encoder(x).mean[1])


class Marker:
    """Unpickling it creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["params", "format", "history_elbo", "more"])
def test_pickles_are_not_executed(path, tmp_path, name):
    marker, trap = tmp_path / "executed", np.empty(1, object)
    trap[0] = Marker(marker)
    np.savez(path, **members() | {name: trap})
    assert refused(path) and not marker.exists()
    np.save(path.with_suffix(".npy"), trap)
    assert refused(path.with_suffix(".npy")) and not marker.exists()
    path.write_bytes(trap.dumps())
    assert refused(path) and not marker.exists()
    np.load(path, allow_pickle=True)  # the trap is a good one
    assert marker.exists()


def zipped(**texts):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in texts.items():
            archive.writestr(name, text)
    return file.getvalue()


def saved(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


OTHERS = {
    "empty": b"",
    "text": b"no models\n",
    "zeros": bytes(1000),
    "a NumPy array": saved(np.zeros(3)),
    "an empty archive": zipped(),
    "an archive of texts": zipped(format="mae 2", likelihood="gaussian"),
    "an array's beginning in an archive": zipped(**{"format.npy": b"\x93NUMPY"}),
    "an array of terabytes in an archive": zipped(
        **{"format.npy": saved(np.zeros(3)).replace(b"(3,), ", b"(9" + b"9" * 12 + b",), ")[:128]}
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_files_are_refused(path, name):
    path.write_bytes(OTHERS[name])
    assert refused(path)


def test_what_is_no_file_is_an_os_error(path, tmp_path):
    for place in (path, tmp_path):
        with pytest.raises(OSError, match=re.escape(str(place))):
            mae.load(place)
