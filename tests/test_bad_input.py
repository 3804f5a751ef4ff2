"""What would give a wrong number is refused in a line that names it; all else is any exception."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

import mae

nan, inf = math.nan, math.inf
G, C = mae.Gaussian, mae.Categorical
ROW, COLUMN, PAIRS, ONE_HOT = np.zeros((1, 5)), np.zeros((5, 1)), np.zeros((5, 2)), np.eye(3)
FOUR, EMPTY = COLUMN[:4], [np.zeros((0, 1)), np.zeros((3, 0)), [[nan]], [[0], [inf]]]
gaussian, categorical, normal = G(COLUMN, 0.0), C(ONE_HOT), lambda x: G(0 * x[..., :1], 0.0)
three, pair = lambda z: C(z * [1.0, 0, -1]), lambda x: G(np.zeros((*x.shape[:-1], 2)), 0.0)


def fit(data=COLUMN, **settings):
    return mae.fit(data, **{"steps": 2, "batch": 8, "hidden": 3} | settings)


def fit_one_hot(data=ONE_HOT, **settings):
    return fit(data, likelihood="categorical", **settings)


def given(name, maker=fit, **others):
    return lambda value: maker(**{name: value}, **others)


MODELS = fit(information=(None, 0.5))
NO_BATCHES = [np.ma.array(COLUMN, mask=COLUMN == 0), COLUMN[:, 0]]  # refused everywhere
NO_FLOATS = [None, 0.5, COLUMN + 1j, [["a"], ["b"]], [[1], [2, 3]]]
NO_FLOATS += map(COLUMN.astype, ("float16", "longdouble", "object", "M8[s]"))
NOT_ONE_HOT = [2 * ONE_HOT, 0 * ONE_HOT, nan * ONE_HOT, np.ones((3, 3)), ONE_HOT / 2 + 1 / 6]
NOT_ONE_HOT += [np.array([[1, 1, -1]] * 3), np.arange(3)[:, None]]
ARRAYS = [  # the name of an array, what takes it, and what it may not be there
    ("mean", lambda a: G(a, 0.0), NO_FLOATS),
    ("log_var", lambda a: G(PAIRS, a), [COLUMN, 1j]),
    ("params", G.unpack, [np.zeros((5, 3))]),
    ("logits", C, [COLUMN]),
    ("x", gaussian.log_prob, [ROW, PAIRS]),
    ("eps", gaussian.sample, [ROW, PAIRS]),
    ("x", categorical.log_prob, NOT_ONE_HOT),
    ("x", lambda a: mae.elbo(MODELS.encoder, MODELS.decoder, a, COLUMN), []),
    ("x", lambda a: mae.elbo(lambda x: G(COLUMN[:3], 0.0), three, a, COLUMN[:3]), NOT_ONE_HOT[:2]),
    ("eps", lambda a: mae.elbo(pair, normal, COLUMN, a), [COLUMN, 1.0]),
    ("z", lambda a: mae.infomax_bound(MODELS.decoder, MODELS.auxiliary, a, COLUMN), []),
    ("eps", lambda a: mae.infomax_bound(normal, normal, COLUMN, a), [None]),
    ("x", lambda a: mae.exact_log_likelihood(normal, a), [*EMPTY, ROW, PAIRS]),
    ("x", lambda a: mae.exact_log_likelihood(three, a), NOT_ONE_HOT[:2]),
    ("x", lambda a: mae.exact_elbo(normal, normal, a), [*EMPTY, ROW]),
    ("x", lambda a: mae.exact_encoder_information(normal, a), EMPTY),
    ("data", fit, [*EMPTY[1:3], None, [[1], [2, 3]], np.zeros((2, 3, 1))]),
    ("data", lambda a: fit(lambda rng, n: a), [COLUMN, COLUMN[:1], [[inf]]]),
    ("data", fit_one_hot, NOT_ONE_HOT),
    ("z", MODELS.decoder, [0.5]),
    ("x", MODELS.encoder, []),
    ("x", MODELS[0].auxiliary, []),
]
CALLABLES = [  # what a message starts with, what takes a function, functions
    ("f", categorical.expect, [lambda x: COLUMN[:3, 0], lambda x: PAIRS, lambda x: 1.0]),
    ("x", lambda f: mae.infomax_bound(normal, f, COLUMN, COLUMN), [pair]),
    ("x", lambda f: mae.elbo(normal, f, COLUMN, COLUMN), [pair]),
    ("data", fit, [lambda rng, n: np.zeros((n + 1, 1)), lambda rng, n: np.zeros(n)]),
    ("data", fit, [lambda rng, n: np.full((n, 1), nan if n > 1 else 0)]),
    ("a network", fit, [lambda rng, n: np.zeros((n, 1 + (n > 1))), lambda rng, n: np.eye(n)]),
    ("the decoder's x", mae.exact_mutual_information, [pair]),
    ("the auxiliary's dimension", lambda f: mae.exact_infomax_bound(normal, f), [pair]),
    ("latent", lambda f: mae.exact_encoder_information(f, COLUMN), [lambda x: G(x + [0, 0, 0], 0)]),
    ("latent", lambda f: mae.exact_elbo(f, normal, COLUMN), [lambda x: G(x + [0, 0, 0], 0)]),
]
EXACT = [  # whose values must be finite, one for each point, in double precision
    ("decoder", lambda f: mae.exact_log_likelihood(f, COLUMN)),
    ("decoder", mae.exact_mutual_information),
    ("encoder", lambda f: mae.exact_encoder_information(f, COLUMN)),
    ("encoder", lambda f: mae.exact_elbo(f, normal, COLUMN)),
    ("auxiliary", lambda f: mae.exact_infomax_bound(normal, f)),
]
USELESS = [lambda a: G(nan * a, 0), lambda a: G(np.zeros((7, 1)), 0), lambda a: G(a.astype("f"), 0)]
LOGITS = [lambda z, logit=logit: C(np.full((len(z), 3), logit)) for logit in (nan, inf, -inf)]
TAKEN = mae.GAUSSIAN._replace(outputs=len)  # the name of another
WEIGH_THE_KL = [mae.beta_vae(2), mae.beta_vae(0), mae.annealed(0.5), mae.annealed(1)]
WEIGH_THE_KL += [mae.Method("midway", lambda t, *_: (1, 2 if t == 0.5 else 1, 0))]
WEIGH_THE_KL += [mae.Method("by the gap", lambda t, gap, multiplier: (1, 1 + gap, 0))]
UNEQUAL = ONE_HOT[[0, 0, 0, 2]]  # a fourth and three: H(x) = 0.5623351
TOL = [
    lambda tol: mae.exact_log_likelihood(normal, COLUMN, tol),
    lambda tol: mae.exact_mutual_information(three, tol),
    lambda tol: mae.exact_infomax_bound(normal, normal, tol),
    lambda tol: mae.exact_information_and_bound(normal, normal, tol),
    lambda tol: mae.exact_elbo(normal, normal, COLUMN, tol),
    lambda tol: mae.exact_encoder_information(normal, COLUMN, tol),
]
SETTINGS = [
    *((name, given(name), [0, 1.0, True]) for name in ("seeds", "batch", "hidden", "latent")),
    ("steps", given("steps"), [-1, "3", None, nan, np.array(1), 10**40]),
    ("seed", given("seed"), [-1, 2**63, 1.0, True]),
    ("seed", given("seed", seeds=2), [2**63 - 1]),
    ("r_samples", given("r_samples"), [-1, 1.0, True, None, "4", nan, np.array(1)]),
    ("q_samples", given("q_samples"), [0, -1, 1.0, True, None, "1", nan]),
    *(("q_samples", given("q_samples", information=(1,), method=m), [2]) for m in WEIGH_THE_KL),
    ("q_samples", given("q_samples", information=(1, 1), method=("vae", WEIGH_THE_KL[0])), [3]),
    ("dtype", given("dtype"), ["float16", "int8", None, complex]),
    ("learning_rate", given("learning_rate"), [-0.1, nan, inf, "0.1", None, True]),
    ("likelihood", given("likelihood"), ["poisson", None, G, ["gaussian"]]),
    ("likelihood", lambda name: fit(likelihood=TAKEN._replace(name=name)), ["gaussian"]),
    ("method", given("method"), ["magic", "beta:2", (), ("vae", "vae")]),
    ("method", given("method", information=(0.1, 0.2)), [("vae",), ["vae"] * 3]),
    ("information", given("information"), [0.5, None, "1", (), np.array(1.0), [[1.0]]]),
    ("information", given("information"), [{0.5}, {0.5: 1}, iter([0.5]), np.ones((1, 1))]),
    ("information", given("information"), [(t,) for t in (-1, nan, inf, "1", True, 1j)]),
    ("information", given("information", fit_one_hot), [(1.0987,), (None, 1.1)]),  # log 3
    ("information", given("information", fit_one_hot, data=UNEQUAL), [(0.5624,), (0.2, 1)]),
    ("std", mae.fixed_variance, [0, nan, inf, True, "1"]),
    ("beta", mae.beta_vae, [-1, nan, "1"]),
    ("end", mae.annealed, [0, -1, 2, nan]),
    ("start", mae.infomax, [-1, 2, nan]),
    ("dim", mae.prior_entropy, [0, 1.5, None]),
    ("tol", TOL[0], [-1, nan, inf, "a", True, 1j, (1e-8,)]),
    ("latent", lambda n: mae.exact_mutual_information(three, latent=n), [0, 3, 1.0, True, None]),
    *(("tol", call, [0]) for call in TOL),
]
CASES = [(name, call, a) for name, call, more in ARRAYS for a in (*NO_BATCHES, *more)]
CASES += [(name, call, f) for name, call, functions in CALLABLES for f in functions]
CASES += [(f"the {name}", call, f) for name, call in EXACT for f in USELESS]
CASES += [("the decoder", mae.exact_mutual_information, f) for f in LOGITS]
CASES += [(f"{name} is", call, value) for name, call, values in SETTINGS for value in values]


def label(case):
    name, _, value = case
    kind = f"{value.dtype}{value.shape}" if isinstance(value, np.ndarray) else f"{value!r:.20}"
    return f"{name}-{'function' if callable(value) else kind}"


@pytest.mark.parametrize("name, call, value", CASES, ids=map(label, CASES))
def test_what_would_give_a_wrong_number_is_refused_in_a_line_that_names_it(name, call, value):
    rule = "must|one-hot|not finite|needs|need one|inputs|one-dimensional| not [0-9]+ or 1"
    with pytest.raises(ValueError, match=rf"^{name}\b.*({rule})") as caught:
        call(value)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 300
    if name.endswith(" is"):
        assert message.startswith(f"{name} {value!r}; it must be ")


CALLS = [call for _, call, _ in CALLABLES[:4]] + [call for _, call in EXACT]
CALLS += [lambda f: mae.elbo(f, normal, COLUMN, COLUMN), given("method")]
CALLS += [lambda f: mae.infomax_bound(three, f, COLUMN), lambda f: fit(method=mae.Method("m", f))]
CALLS += [lambda f: fit(likelihood=mae.Likelihood("own", lambda n: n, f))]
NO_NUMBER = [(call, f) for call in CALLS for f in (None, lambda *a: (a[0], a[0]))]
NO_NUMBER += [  # what is given something, and that
    (MODELS.decoder, PAIRS),
    (MODELS.encoder, np.zeros((3, 5, 1))),  # of as many models
    *((call, FOUR) for call in (gaussian.log_prob, gaussian.sample)),
    *((call, lambda x: G(FOUR, 0)) for call in CALLS[1:3]),
    (lambda a: G(PAIRS, a), PAIRS[:4]),
    (lambda a: G(np.zeros((2, 5, 2)), a), np.zeros((3, 1, 1))),
    (lambda z: mae.infomax_bound(lambda z: C(PAIRS), normal, z), FOUR),
    (lambda x: mae.exact_log_likelihood(three, x), np.eye(4)),
    (lambda weights: fit(method=mae.Method("own", lambda *state: weights)), (1, 1)),
    (fit_one_hot, np.eye(1)),
    (mae.penalty, None),
    (mae.exact_mutual_information, lambda z: G(z[..., [1]], 0)),  # of a code of two dimensions
    (given("progress"), 3),
]


@pytest.mark.parametrize("call, value", NO_NUMBER)
def test_from_what_else_is_wrong_no_number_comes(call, value):
    with pytest.raises((TypeError, ValueError, AttributeError, IndexError)):
        call(value)


@pytest.mark.parametrize("k", [2, -3, "a", 1.5, (0, 1)])
def test_models_are_indexed_like_a_sequence(k):
    """IndexError: by it a loop over the models knows where to end."""
    with pytest.raises(IndexError, match="out of bounds|valid indices|too many indices"):
        MODELS[k]
    assert [float(model.targets) for model in MODELS][1:] == [0.5] and len(MODELS) == 2


@pytest.mark.parametrize("one, other", [("float32", "float64"), ("float64", "float32")])
def test_precisions_may_be_mixed(one, other):
    a, x = np.linspace(-1, 1, 5, dtype=one)[:, None], np.linspace(0, 2, 5, dtype=other)[:, None]
    wide, x_wide, one_hot = a.astype(float), x.astype(float), ONE_HOT[[0, 1, 2, 0, 1]]
    encoder = lambda x: G(x, a)
    for mixed, double in [
        (G(a, a.astype(other)).log_prob(x), G(wide, wide).log_prob(x_wide)),
        (G(a, 0.0).sample(x), G(wide, 0.0).sample(x_wide)),
        (mae.elbo(encoder, normal, a, x), mae.elbo(encoder, normal, wide, x_wide)),
        (three(a).log_prob(one_hot.astype(other)), three(wide).log_prob(one_hot)),
    ]:
        assert_allclose(mixed, double, rtol=1e-6)


def test_numbers_may_be_those_of_numpy():
    counts = {name: np.int64(2) for name in ("steps", "batch", "seeds")}
    models = fit(information=np.array([0.5]), learning_rate=np.float64(0.01), **counts)
    same = fit(information=[0.5], learning_rate=0.01, steps=2, batch=2, seeds=2, dtype="float32")
    assert models.params.tobytes() == same.params.tobytes()
    some = fit(r_samples=np.int64(3), q_samples=np.uint8(2))
    assert (type(some.r_samples), type(some.q_samples)) == (int, int)
    assert (some.r_samples, some.q_samples) == (3, 2)
    assert fit(method=np.array(["vae"]), learning_rate=np.float32(0.01)).methods == ["vae"]


@pytest.mark.parametrize("targets", [[1, 0], (1, 0), range(1, -1, -1), np.array([1, 0])])
def test_targets_come_in_anything_that_has_an_order(targets):
    assert list(fit(information=targets).targets) == [1, 0]


def test_the_most_that_rows_can_hold_is_their_entropy():
    """H(x), not the logarithm of how many values there are; a callable's x could be any of them."""
    with pytest.raises(ValueError, match="at most 0.5623351, which is all that x can hold"):
        fit_one_hot(UNEQUAL, information=(0.57,))
    assert fit_one_hot(UNEQUAL, information=(0.5623,)).targets == [0.5623]
    assert fit_one_hot(lambda rng, n: np.eye(3)[[0] * n], information=(1.0986,)).targets == [1.0986]


def test_weights_may_be_one_per_model():
    """As `gap` and `multiplier` are."""
    each = mae.Method("each", lambda t, gap, multiplier: (1 + 0 * gap, 1 + 0 * gap, 0 * gap))
    assert fit(method=each).params.tobytes() == fit(method="vae").params.tobytes()
    assert fit(method=each, q_samples=2).methods == ["each"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("shift, scale", [(4, 1), (-4, 1), (0, 20), (0, 0.02), (50, 50)])
def test_data_that_are_not_standardised_are_trained_on_with_a_warning(shift, scale):
    data = np.linspace(-1.7, 1.7, 64)[:, None]
    with pytest.warns(mae.TrainingWarning, match="^data have mean .*standardise them") as caught:
        fit(data * scale + shift)
    with pytest.warns(mae.TrainingWarning, match="standardise"):
        fit(lambda rng, n: np.resize(data, (n, 1)) * scale + shift)
    assert len(caught) == 1 and caught[0].filename == __file__
    assert fit(2 * data + 1) and fit_one_hot(np.eye(200))  # no warning


def test_whole_numbers_are_numbers():
    assert_allclose(G([[0]], 0).log_prob([[1]]), -0.5 * math.log(2 * math.pi) - 0.5, rtol=1e-15)
    assert_allclose(C([[0, 0]]).log_prob([[True, False]]), -math.log(2), rtol=1e-15)
