"""Other people's models, wrapped in ten lines or fewer: what they hold is taken or named.

Runs with the packages that are importable; what needs another is skipped by its name.
"""

import contextlib
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

import mae

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "oracle.md").read_text()
EXAMPLES = {package: code for package, code in zip(("torch", "jax"), PAGE.split("```python\n")[1:])}
COLUMN, PAIRS = np.linspace(-1, 1, 5)[:, None], np.linspace(-2, 2, 10).reshape(5, 2)
gaussian = mae.Gaussian(COLUMN, 0.0)


def imported(package):
    return pytest.importorskip(package, reason=f"{package} is not installed")


def normals(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


# --------------------------------------------------------------------------- the page


@pytest.mark.parametrize("package", EXAMPLES)
def test_the_examples_of_the_page_hold_from_any_folder(package, tmp_path):
    imported(package)
    code = EXAMPLES[package].split("```")[0]
    assert len(code.splitlines()) <= 35 and code.count("assert_allclose") == 3
    command = [sys.executable, "-W", "error", "-c", code]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_call_of_the_page_exists_and_its_links_lead_somewhere():
    table = PAGE[PAGE.index("## What is exact") : PAGE.index("## Where it does not agree")]
    names = re.findall(r"\bmae\.(\w+)\(", PAGE) + re.findall(r"`(\w+)`", table)
    assert len(names) > 20 and all(callable(getattr(mae, name)) for name in names)
    for link in re.findall(r"\]\(([^)#:]+)\)", PAGE):
        assert (ROOT / "docs" / link).exists(), link
    assert "(docs/oracle.md)" in (ROOT / "README.md").read_text()


# ------------------------------------------------------------------ models of other packages


def layers(seed, *sizes):
    """Weights (outputs, inputs) and biases of a network."""
    shapes = [shape for n, m in zip(sizes, sizes[1:]) for shape in ((m, n), (m,))]
    return normals(seed, *shapes)


def in_numpy(weights):
    w, b, v, c = weights
    return lambda a: mae.Gaussian.unpack(np.tanh(a @ w.T + b) @ v.T + c)


def torch_module(torch, weights, dtype):
    (hidden, inputs), outputs = weights[0].shape, len(weights[-1])
    first, last = torch.nn.Linear(inputs, hidden), torch.nn.Linear(hidden, outputs)
    module = torch.nn.Sequential(first, torch.nn.Tanh(), torch.nn.Dropout(0.5), last).double()
    with torch.no_grad():
        for own, value in zip(module.parameters(), weights):
            own.copy_(torch.as_tensor(value))
    return module.to(dtype)


def values(encoder, decoder, tol):
    """What the oracle says of a model: from given noise, and exactly."""
    x, z, eps = normals(3, (5, 1), (5, 1), (5, 1))
    exact = (mae.exact_log_likelihood(decoder, x, tol), mae.exact_elbo(encoder, decoder, x, tol))
    information = mae.exact_mutual_information(decoder, tol)
    return *exact, information, mae.elbo(encoder, decoder, x, eps), decoder(z).log_prob(x)


@pytest.mark.parametrize("dtype, tol", [("float64", 1e-8), ("float32", 1e-3)])
def test_torch_modules_in_either_precision(dtype, tol):
    torch = imported("torch")
    weights = layers(1, 1, 8, 2), layers(2, 1, 8, 2)
    precision = getattr(torch, dtype)

    def wrap(module):
        module.eval()
        return lambda a: mae.Gaussian.unpack(module(torch.as_tensor(a, dtype=precision)).detach())

    own = [wrap(torch_module(torch, each, precision)) for each in weights]
    wanted = values(*map(in_numpy, weights), 1e-8)
    for found, value in zip(values(*own, tol), wanted):
        assert_allclose(found, value, rtol=10 * tol, atol=2 * tol)


def test_drop_out_that_was_left_on_is_found_and_its_owner_named():
    torch = imported("torch")
    module = torch_module(torch, layers(1, 1, 8, 2), torch.float64).train()
    random = lambda a: mae.Gaussian.unpack(module(torch.as_tensor(a)).detach())
    steady = in_numpy(layers(2, 1, 8, 2))
    for name, call in {
        "decoder": lambda: mae.exact_log_likelihood(random, COLUMN),
        "encoder": lambda: mae.exact_elbo(random, steady, COLUMN),
        "auxiliary": lambda: mae.exact_infomax_bound(steady, random),
    }.items():
        with pytest.raises(ValueError, match=name):
            call()


def test_jax_functions():
    jax = imported("jax")
    weights = layers(1, 1, 8, 2), layers(2, 1, 8, 2)

    def wrap(weights):
        w, b, v, c = map(jax.numpy.asarray, weights)
        network = jax.jit(lambda a: jax.numpy.tanh(a @ w.T + b) @ v.T + c)
        return lambda a: mae.Gaussian.unpack(network(a))

    with jax.enable_x64(True):
        found = values(*map(wrap, weights), 1e-8)
    for own, wanted in zip(found, values(*map(in_numpy, weights), 1e-8)):
        assert_allclose(own, wanted, rtol=1e-7, atol=1e-8)


def test_the_elbo_of_a_numpyro_model():
    """log p(x, z) - log q(z) of its traces, for one draw of z: `iwae` with one sample."""
    numpyro, jax = imported("numpyro"), imported("jax")
    from numpyro.infer.util import log_density

    encoder, decoder = map(in_numpy, (layers(1, 1, 8, 2), layers(2, 1, 8, 2)))
    x, (eps,) = COLUMN, normals(4, (1, 5, 1))
    normal = lambda p: numpyro.distributions.Normal(p.mean, p.std).to_event(1)
    z = encoder(x).sample(eps[0])

    def model():
        numpyro.sample("z", numpyro.distributions.Normal(np.zeros((5, 1)), 1).to_event(2))
        numpyro.sample("x", normal(decoder(z)).to_event(1), obs=x)

    with jax.enable_x64(True):
        guide = lambda: numpyro.sample("z", normal(encoder(x)).to_event(1))
        joint, log_q = (log_density(f, (), {}, {"z": z})[0] for f in (model, guide))
    assert_allclose(joint - log_q, mae.iwae(encoder, decoder, x, eps).sum(), rtol=1e-12)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_elbo_of_a_pyro_model():
    """`Trace_ELBO` of many particles is `exact_elbo`, to four standard errors."""
    pyro, torch = imported("pyro"), imported("torch")
    from pyro.distributions import Normal

    encoder, decoder = map(in_numpy, (layers(1, 1, 8, 2), layers(2, 1, 8, 2)))
    x, tensor = COLUMN[:1], torch.as_tensor

    def model():
        z = pyro.sample("z", Normal(torch.zeros(1, 1).double(), 1).to_event(2))
        p = decoder(z)
        pyro.sample("x", Normal(tensor(p.mean), tensor(p.std)).to_event(2), obs=tensor(x))

    def guide():
        q = encoder(x)
        pyro.sample("z", Normal(tensor(q.mean), tensor(q.std)).to_event(2))

    pyro.set_rng_seed(0)
    losses = np.array([pyro.infer.Trace_ELBO().loss(model, guide) for _ in range(2000)])
    error = 4 * losses.std() / math.sqrt(len(losses))
    assert abs(-losses.mean() - mae.exact_elbo(encoder, decoder, x)[0]) < error


def test_the_bound_of_barber_and_agakov_as_tensorflow_probability_has_it():
    """vi.mutual_information.lower_bound_barber_agakov(logu, entropy) = mean(logu) + entropy."""
    decoder, auxiliary = map(in_numpy, (layers(1, 1, 8, 2), layers(2, 1, 8, 2)))
    z, eps = normals(5, (50, 1), (50, 1))
    logu = auxiliary(decoder(z).sample(eps)).log_prob(z)
    entropy = 0.5 * math.log(2 * math.pi * math.e)
    bound = logu.mean() + entropy
    assert_allclose(mae.infomax_bound(decoder, auxiliary, z, eps).mean(), bound, rtol=1e-14)
    try:
        from tensorflow_probability import vi
    except ImportError:
        return
    theirs = vi.mutual_information.lower_bound_barber_agakov(logu, entropy)
    assert_allclose(theirs, bound, rtol=1e-6)


# ------------------------------------------------------------- what callers hold, and is taken


class Holder:
    """An array of some package, as NumPy sees it."""

    def __init__(self, array, error=None):
        self.array, self.error, self.shape = array, error, array.shape

    def __array__(self, dtype=None, copy=None):
        if self.error:
            raise self.error
        return self.array

    def reshape(self, *shape):
        return Holder(self.array.reshape(shape))


def memory_map(a, folder):
    path = folder / f"{len(list(folder.iterdir()))}.npy"
    np.save(path, a)
    return np.load(path, mmap_mode="r")


def read_only(a, folder):
    a = a.copy()
    a.flags.writeable = False
    return a


def by(package, make):
    return lambda a, folder: make(imported(package), a)


def tensor(torch, a):
    return torch.as_tensor(a)


TAKEN = {
    "a list": lambda a, folder: a.tolist(),
    "anything with __array__": lambda a, folder: Holder(a),
    "Fortran order": lambda a, folder: np.asfortranarray(a),
    "strides": lambda a, folder: np.repeat(a, 2, 0)[::2],
    "read-only": read_only,
    "a memory map": memory_map,
    "big-endian": lambda a, folder: a.astype(">f8"),
    "np.matrix": lambda a, folder: np.asmatrix(a),
    "torch": by("torch", tensor),
    "a parameter, detached": by(
        "torch", lambda torch, a: torch.nn.Parameter(tensor(torch, a)).detach()
    ),
    "jax": by("jax", lambda jax, a: jax.numpy.asarray(a)),
    "pandas": by("pandas", lambda pandas, a: pandas.DataFrame(a)),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("holder", TAKEN)
def test_what_callers_hold_is_taken(holder, tmp_path):
    """As argument, as noise, and as what a callable returns."""
    rows_only = holder in ("pandas", "np.matrix")  # two axes, no more
    held = lambda a: a if rows_only and a.ndim > 2 else TAKEN[holder](a, tmp_path)
    context = imported("jax").enable_x64(True) if holder == "jax" else contextlib.nullcontext()
    x, z, eps, eps_r = normals(6, (60, 2), (60, 1), (60, 2), (3, 60, 1))
    w = np.array([[0.5, -1.0]])

    def networks(held):
        decoder = lambda z: mae.Gaussian(held(z @ w), held(np.tanh(z @ w)))
        return decoder, lambda x: mae.Gaussian(held(0.2 * x @ w.T), 0.0)

    def everything(held):
        decoder, code = networks(held)
        noise = held(z), held(eps), held(eps_r)
        yield mae.elbo(code, decoder, held(x), held(z))
        yield mae.infomax_bound(decoder, code, *noise[:2])
        yield from mae.information_bounds(decoder, code, *noise)
        yield from mae.information_interval(decoder, code, *noise)
        yield mae.iwae(code, decoder, held(x), noise[2])
        yield mae.exact_log_likelihood(decoder, held(x[:3]))
        yield mae.Gaussian(held(x), held(eps)).std
        yield mae.Categorical(held(x)).log_prob(held(np.eye(2)[[0, 1] * 30]))
        yield mae.Bernoulli(held(x)).log_prob(held(np.eye(2)[[0, 1] * 30]))

    with context:
        found = list(everything(held))
    assert {type(value) for value in found} <= {np.ndarray, np.float64}
    for value, wanted in zip(found, everything(np.asarray), strict=True):
        assert_allclose(value, wanted, rtol=1e-12, atol=1e-12)


def test_one_log_variance_may_be_an_array_of_no_axes():
    for one in (np.array(0.5), np.float64(0.5), Holder(np.array(0.5))):
        assert_allclose(mae.Gaussian(PAIRS, one).params, mae.Gaussian(PAIRS, 0.5).params)


def test_one_log_variance_may_be_a_tensor_of_no_axes():
    assert mae.Gaussian(PAIRS, imported("torch").tensor(0.5)).log_var[0, 0] == 0.5


REFUSED = {  # what callers hold, and what the message says
    "None": (lambda: None, "NoneType"),
    "a gradient": (lambda: Holder(COLUMN, RuntimeError("requires grad. Use\ndetach")), "detach"),
    "on a GPU": (lambda: Holder(COLUMN, TypeError("can't convert cuda:0 to numpy")), "cuda"),
    "masked": (lambda: np.ma.array(COLUMN), "MaskedArray"),
    "half": (lambda: COLUMN.astype("float16"), "float16"),
    "ragged": (lambda: [[1.0], [1.0, 2.0]], "list"),
    "words": (lambda: [["a"], ["b"]], "list of <U1"),
    "a torch parameter": (
        lambda: imported("torch").nn.Parameter(tensor(imported("torch"), COLUMN)), "grad",
    ),
    "torch bfloat16": (
        lambda: tensor(imported("torch"), COLUMN).to(imported("torch").bfloat16), "BFloat16",
    ),
    "jax bfloat16": (
        lambda: imported("jax").numpy.asarray(COLUMN, imported("jax").numpy.bfloat16), "bfloat16",
    ),
    "a frame of objects": (
        lambda: imported("pandas").DataFrame(COLUMN.astype(object)), "DataFrame of object",
    ),
}  # fmt: skip
DOORS = {
    "x": gaussian.log_prob,
    "eps": gaussian.sample,
    "mean": lambda a: mae.Gaussian(a, 0.0),
    "log_var": lambda a: mae.Gaussian(COLUMN, a),
    "logits": mae.Bernoulli,
    "params": mae.Gaussian.unpack,
    "z": lambda a: mae.infomax_bound(lambda z: gaussian, lambda x: gaussian, a, COLUMN),
    "eps_r": lambda a: mae.information_bounds(
        lambda z: gaussian, lambda x: gaussian, COLUMN, COLUMN, a
    ),
}  # fmt: skip


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("held", REFUSED)
def test_what_would_be_guessed_at_is_refused_by_name(held, door):
    make, said = REFUSED[held]
    with pytest.raises(ValueError, match=f"^{door}.*{said}") as caught:
        DOORS[door](make())
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_labels_are_refused_with_what_makes_them_one_hot():
    logits = mae.Categorical(np.zeros((5, 3)))
    for labels in ([0, 1, 2, 0, 1], [[0], [1], [2], [0], [1]]):
        for call in (logits.log_prob, lambda a: mae.fit(a, likelihood="categorical", steps=1)):
            with pytest.raises(ValueError, match=r"np\.eye\(categories\)\[labels\]"):
                call(labels)


def test_a_method_of_two_weights_is_refused_by_name():
    for weights in ((1, 1), 1, (1, 1, 0, 0), None):
        method = mae.Method("own", lambda *state: weights)
        with pytest.raises(ValueError, match="^own.weights is .*; it must be three"):
            mae.fit(COLUMN, method=method, steps=1)
