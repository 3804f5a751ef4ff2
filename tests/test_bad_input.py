"""What is not legal is refused: one line that names the argument, what it is and what it may be."""

import math
import re

import numpy as np
import pytest
from numpy.testing import assert_allclose

import mae

nan, inf = math.nan, math.inf
G, C = mae.Gaussian, mae.Categorical
ROW, COLUMN, ONE_HOT = np.zeros(5), np.zeros((5, 1)), np.eye(3)[[0, 1, 2, 0, 1]]
gaussian, categorical = G(COLUMN, 0.0), C(np.zeros((5, 3)))


def normal(x):
    return G(0 * x[..., :1], 0.0)


def three(z):
    return C(z * np.array([1.0, 0.0, -1.0]))


def two_codes(x):
    return G(np.zeros((*x.shape[:-1], 2)), 0.0)


def fit(data=COLUMN, **settings):
    return mae.fit(data, **{"steps": 2, "batch": 8, "hidden": 3} | settings)


CASES = []  # (the name that the message must contain, what must fail, its label)


def case(name, call, *values):
    """One case for each value, or one without; values are given by their source."""
    for value in values or [""]:
        arguments = [eval(value)] if value else []
        label = f"{len(CASES)}-{name}-{value}"
        CASES.append(pytest.param(name, lambda arguments=arguments: call(*arguments), id=label))


NO_ARRAYS = ["None", "'text'", "['a', 'b']", "1j * COLUMN", "COLUMN.astype(object)"]
NO_ARRAYS += ["COLUMN.astype('float16')", "COLUMN.astype('datetime64[s]')"]
NO_ARRAYS += ["[[1], [2, 3]]", "{}", "ROW"]

# distributions
case("mean", lambda a: G(a, 0.0), *NO_ARRAYS, "0.5")
case("log_var", lambda a: G(COLUMN, a), *NO_ARRAYS, "1j", "np.zeros((4, 1))", "np.zeros((5, 2))")
case("log_var", lambda: G(np.zeros((5, 2)), COLUMN))
case("log_var", lambda: G(np.zeros((2, 5, 2)), np.zeros((3, 1, 1))))
case("params", G.unpack, *NO_ARRAYS, "np.zeros((5, 3))")
case("logits", C, *NO_ARRAYS, "COLUMN")
case("x", gaussian.log_prob, *NO_ARRAYS, "COLUMN[:4]", "np.zeros((5, 2))")
case("eps", gaussian.sample, *NO_ARRAYS, "COLUMN[:4]", "np.zeros((5, 2))")
NOT_ONE_HOT = ["COLUMN", "2 * ONE_HOT", "-ONE_HOT", "ONE_HOT / 3 + 2 / 9", "0 * ONE_HOT"]
NOT_ONE_HOT += ["np.arange(5)", "np.arange(5)[:, None]", "ONE_HOT[:, :2]", "ONE_HOT * 1e300"]
NOT_ONE_HOT += ["np.ones((5, 3))", "np.full((5, 3), nan)", "np.full((5, 3), inf)"]
case("x", categorical.log_prob, *NO_ARRAYS, *NOT_ONE_HOT, "ONE_HOT[:4]")
NO_VALUES = ["None", "3.0", "ROW[:2]", "ONE_HOT.T[:2]"]
case("f", lambda value: categorical.expect(lambda x: value), *NO_VALUES)
case("dim", mae.prior_entropy, "0", "-1", "1.5", "nan", "inf", "'1'", "None", "(1,)", "ROW")

# bounds
case("x", lambda a: mae.elbo(normal, normal, a, COLUMN), *NO_ARRAYS, "np.zeros((5, 2))")
case("x", lambda a: mae.elbo(lambda x: gaussian, three, a, COLUMN), *NOT_ONE_HOT)
case("eps", lambda a: mae.elbo(normal, normal, COLUMN, a), *NO_ARRAYS, "COLUMN[:4]")
case("z", lambda a: mae.infomax_bound(normal, normal, a, COLUMN), *NO_ARRAYS)
case("eps", lambda a: mae.infomax_bound(normal, normal, COLUMN, a), *NO_ARRAYS, "COLUMN[:4]")
case("z", lambda: mae.infomax_bound(three, two_codes, COLUMN))
case("z", lambda: mae.infomax_bound(three, lambda x: G(COLUMN[:4], 0.0), COLUMN))
case("Categorical", lambda: mae.infomax_bound(lambda z: C(np.zeros((7, 3))), normal, COLUMN))

# callables
FUNCTIONS = {
    "encoder": [
        lambda f: mae.elbo(f, normal, COLUMN, COLUMN),
        lambda f: mae.exact_elbo(f, normal, COLUMN),
        lambda f: mae.exact_encoder_information(f, COLUMN),
    ],
    "decoder": [
        lambda f: mae.elbo(normal, f, COLUMN, COLUMN),
        lambda f: mae.infomax_bound(f, normal, COLUMN, COLUMN),
        lambda f: mae.exact_elbo(normal, f, COLUMN),
        lambda f: mae.exact_log_likelihood(f, COLUMN),
        mae.exact_mutual_information,
    ],
    "auxiliary": [
        lambda f: mae.infomax_bound(normal, f, COLUMN, COLUMN),
        lambda f: mae.infomax_bound(three, f, COLUMN),
        lambda f: mae.exact_infomax_bound(normal, f),
        lambda f: mae.exact_information_and_bound(three, f),
    ],
}
WRONG = ["None", "3", "'f'", "COLUMN", "gaussian", "lambda x: None", "lambda x: x"]
WRONG += ["lambda x: (x, x)", "lambda x: G", "lambda x: gaussian.log_prob", "lambda x: {'mean': x}"]
for function_name, calls in FUNCTIONS.items():
    only_gaussian = [] if function_name == "decoder" else ["lambda x: categorical"]
    for a_call in calls:
        case(function_name, a_call, *WRONG, *only_gaussian)
    for a_call in calls[-1:]:
        case(function_name, a_call, "lambda x: G(np.zeros((7, 1)), 0.0)", "two_codes")
BROKEN = ["lambda x: G(nan * x, 0.0)", "lambda x: G(x, nan)", "lambda x: G(x, inf)"]
BROKEN += ["lambda x: G(x, -inf)", "lambda x: G(np.full(x.shape, inf), 0.0)"]
for a_call in (*FUNCTIONS["encoder"][1:], *FUNCTIONS["auxiliary"][2:]):
    case("encoder|auxiliary", a_call, *BROKEN)
BROKEN += [f"lambda z: C(np.full((len(z), 3), {a}))" for a in ("nan", "inf", "-inf")]
case("decoder", mae.exact_mutual_information, *BROKEN, "lambda z: G(z @ np.ones((2, 1)), 0.0)")
case("decoder", lambda f: mae.exact_infomax_bound(f, normal), *BROKEN)
case("decoder", lambda f: mae.exact_log_likelihood(f, COLUMN), "lambda z: G(z[:, [1]], 0.0)")

# exact values
NO_DATA = [*NO_ARRAYS, "np.zeros((0, 1))", "np.zeros((3, 0))", "np.array([[0, nan]])"]
NO_DATA += ["np.array([[inf]])"]
case("x", lambda a: mae.exact_log_likelihood(normal, a), *NO_DATA, "np.zeros((5, 2))")
case("x", lambda a: mae.exact_log_likelihood(three, a), *NO_DATA, *NOT_ONE_HOT)
case("x", lambda a: mae.exact_elbo(normal, three, a), *NO_DATA, *NOT_ONE_HOT)
case("x", lambda a: mae.exact_encoder_information(normal, a), *NO_DATA)
NO_TOL = ["0", "0.0", "-1", "nan", "inf", "'a'", "None", "1j", "True", "(1e-8,)"]
NO_TOL += ["np.full(2, 1e-8)"]
case("tol", lambda tol: mae.exact_log_likelihood(normal, COLUMN, tol), *NO_TOL)
case("tol", lambda tol: mae.exact_mutual_information(three, tol), *NO_TOL)
case("tol", lambda tol: mae.exact_infomax_bound(normal, normal, tol), *NO_TOL)
case("tol", lambda tol: mae.exact_information_and_bound(normal, normal, tol), *NO_TOL)
case("tol", lambda tol: mae.exact_elbo(normal, normal, COLUMN, tol), *NO_TOL)
case("tol", lambda tol: mae.exact_encoder_information(normal, COLUMN, tol), *NO_TOL)

# training
case("data", lambda a: fit(a), *NO_DATA, "np.zeros((2, 3, 1))", "''", "0.5")
case("data", lambda a: fit(lambda rng, n: a), *NO_DATA, "COLUMN", "np.zeros((200, 1, 1))", "0.5")
case("data", lambda: fit(lambda rng, n: np.zeros(n)))
case("data", lambda: fit(lambda rng, n: np.zeros((n + 1, 1))))
case("data", lambda: fit(lambda rng, n: np.zeros((n, n))))
case("data", lambda: fit(lambda rng, n: np.full((n, 1), nan if n > 1 else 0)))
case("data", lambda: fit(lambda rng, n: gaussian))
case("data", lambda a: fit(a, likelihood="categorical"), *NOT_ONE_HOT, "np.eye(1)")
case("data", lambda: fit(lambda rng, n: np.ones((n, 3)), likelihood="categorical"))
NO_TARGETS = ["1.0", "None", "'1'", "()", "[]", "{}", "(-1,)", "(nan,)", "(inf,)", "('1',)"]
NO_TARGETS += ["((1,),)", "[[1.0]]", "np.ones((1, 1))", "np.array(1.0)", "(True,)"]
NO_TARGETS += ["(1j,)", "(10**400,)", "(object(),)", "(None, -1)"]
case("information", lambda a: fit(information=a), *NO_TARGETS)
above = lambda *targets: fit(ONE_HOT, likelihood="categorical", information=targets)
case("information", lambda: above(1.1))  # log 3 = 1.0986
case("information", lambda: above(None, 1.1))
NO_METHODS = ["'magic'", "'VAE'", "''", "'beta'", "'beta:'", "'beta:x'", "'beta:-1'", "'beta:nan'"]
NO_METHODS += ["'beta:inf'", "'beta:1:2'", "'anneal'", "'anneal:0'", "'anneal:2'", "'anneal:nan'"]
NO_METHODS += ["'im:'", "'im:3'", "'vae:1'", "'lagrangian:1'", "('vae', 'vae')", "()", "None", "3"]
NO_METHODS += ["(None,)", "(3,)", "b'vae'", "np.array('vae')", "len"]
case("method", lambda method: fit(method=method), *NO_METHODS)
for a_method in ("vae", "beta:1", "anneal:1", "im"):
    case("method", lambda a_method=a_method: fit(information=(0.5,), method=a_method))
case("method", lambda: fit(information=(None, 0.5), method=("vae", "vae")))
NO_COUNTS = ["0", "-1", "1.5", "1.0", "True", "'3'", "None", "nan", "(1,)", "np.array([1])", "2j"]
for count in ("seeds", "steps", "batch", "hidden", "latent"):
    case(count, lambda n, count=count: fit(**{count: n}), *NO_COUNTS)
case("seed", lambda seed: fit(seed=seed), *NO_COUNTS[1:])
case("dtype", lambda dtype: fit(dtype=dtype), "'int8'", "'float16'", "None", "3", "np.int8", "ROW")
NO_RATES = ["-0.1", "nan", "inf", "'0.1'", "None", "True", "1j", "(0.1,)", "10**400"]
case("learning_rate", lambda rate: fit(learning_rate=rate), *NO_RATES)
NO_LIKELIHOODS = ["'poisson'", "'Gaussian'", "None", "3", "G", "['gaussian']", "{}", "ROW"]
case("likelihood", lambda likelihood: fit(likelihood=likelihood), *NO_LIKELIHOODS)
case("progress", lambda progress: fit(progress=progress), "3", "'bar'", "True")
NO_WIDTHS = ["0", "-1", "nan", "inf", "'1'", "None", "1j", "(1.0,)"]
case("std", mae.fixed_variance, *NO_WIDTHS)

# trained models
MODELS = fit(information=(None, 0.5))
NO_INPUTS = [*NO_ARRAYS, "0.5", "np.zeros((5, 2))", "np.zeros((3, 5, 1))"]
case("z", MODELS.decoder, *NO_INPUTS)
case("x", MODELS.encoder, *NO_INPUTS)
case("x", MODELS.auxiliary, *NO_INPUTS)
case("z", MODELS[0].decoder, *NO_ARRAYS, "np.zeros((5, 2))")
case("x", lambda: mae.elbo(MODELS.encoder, MODELS.decoder, np.zeros((3, 5, 1)), COLUMN))


@pytest.mark.parametrize("name, call", CASES)
def test_it_is_named(name, call):
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    message = str(caught.value)
    assert re.search(rf"\b({name})\b", message), message
    legal = "must|[Ee]xact values are for one-dim|needs|are not finite|is not one-hot|does not suit"
    assert re.search(legal, message), message
    assert "\n" not in message and len(message) < 500


def test_there_are_many():
    assert len(CASES) > 500


@pytest.mark.parametrize("likelihood", ["gaussian", 3, G, mae.LIKELIHOODS["categorical"]])
def test_the_likelihood_of_a_file_is_checked(likelihood, tmp_path):
    MODELS.save(tmp_path / "models.npz")
    with pytest.raises(ValueError, match="^likelihood is .*; it must be .*models.npz names"):
        mae.load(tmp_path / "models.npz", likelihood)


def test_a_file_with_a_likelihood_of_its_own_asks_for_it(tmp_path):
    half = mae.fixed_variance(0.5)
    fit(likelihood=half).save(tmp_path / "models.npz")
    with pytest.raises(ValueError, match="^likelihood is None; .* 'gaussian of standard deviation"):
        mae.load(tmp_path / "models.npz")
    assert mae.load(tmp_path / "models.npz", half).likelihood is half


@pytest.mark.parametrize("k", [2, -3, "a", 1.5, (0, 1)])
def test_models_are_indexed_like_a_sequence(k):
    """IndexError: by it a loop over the models knows where to end."""
    with pytest.raises(IndexError, match="out of bounds|valid indices|too many indices"):
        MODELS[k]
    assert [float(model.targets) for model in MODELS][1:] == [0.5] and len(MODELS) == 2


@pytest.mark.parametrize("one, other", [("float32", "float64"), ("float64", "float32")])
def test_precisions_may_be_mixed(one, other):
    a, x = np.linspace(-1, 1, 5, dtype=one)[:, None], np.linspace(0, 2, 5, dtype=other)[:, None]
    p, same = G(a, a.astype(other)), G(a.astype(float), a.astype(float))
    x_double = x.astype(float)
    assert_allclose(p.log_prob(x), same.log_prob(x_double), rtol=1e-6)
    assert_allclose(p.sample(x), same.sample(x_double), rtol=1e-6)
    assert_allclose(G(a, 0.0).sample(x), G(a.astype(float), 0.0).sample(x_double), rtol=1e-6)
    assert_allclose(
        mae.elbo(lambda x: G(x, a), normal, a, x), mae.elbo(lambda x: G(x, a), normal, a, x_double),
        rtol=1e-6,
    )  # fmt: skip
    one_hot = ONE_HOT.astype(other)
    assert_allclose(three(a).log_prob(one_hot), three(a.astype(float)).log_prob(ONE_HOT), rtol=1e-6)


def test_numbers_may_be_those_of_numpy():
    rate, counts = np.float64(0.01), dict.fromkeys(("steps", "batch", "seeds"), np.int64(2))
    trained = fit(information=np.array([0.5]), learning_rate=rate, **counts)
    assert trained.params.dtype == "float32"
    again = fit(information=[0.5], learning_rate=0.01, steps=2, batch=2, seeds=2, dtype="float32")
    assert trained.params.tobytes() == again.params.tobytes()
    assert fit(method=np.array(["beta:2"]), learning_rate=np.float32(0.01)).methods == ["beta:2"]


def test_whole_numbers_are_numbers():
    assert_allclose(G([[0]], 0).log_prob([[1]]), -0.5 * math.log(2 * math.pi) - 0.5, rtol=1e-15)
    assert_allclose(C([[0, 0]]).log_prob([[True, False]]), -math.log(2), rtol=1e-15)
