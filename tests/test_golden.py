"""Every number in golden.json, computed by the project.

Tolerances: values and exact values 1e-12 (1 + |expected|), gradients 1e-10 (1 + |expected|), Adam
1e-12 |expected| (its second moments are tiny).
"""

import importlib.util
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from autograd import grad

import mae
import nets

HERE = Path(__file__).parent
GOLDEN = json.loads((HERE / "golden.json").read_text())
DISTRIBUTIONS = {"gaussian": mae.Gaussian.unpack, "categorical": mae.Categorical}


def given(problem):
    """The problem's arrays by name, and decoder, encoder, auxiliary as functions of all weights."""
    inputs = GOLDEN["problems"][problem]["given"]
    arrays = {name: np.array(v) for name, v in inputs.items() if isinstance(v, list)}
    kinds = {"decoder": DISTRIBUTIONS[inputs["likelihood"]]}

    def network(weights, name):
        kind = kinds.get(name, mae.Gaussian.unpack)
        return lambda t: kind(nets.mlp(weights[name], t, inputs["sizes"][name]))

    def networks(weights):
        return [network(weights, name) for name in ("decoder", "encoder", "auxiliary")]

    return arrays, networks


def bounds(problem):
    """Every bound, of all examples, as a function of a dictionary of all weights."""
    a, networks = given(problem)
    generated = a["z"], a.get("eps_x")
    both = lambda p, r: mae.information_bounds(p, r, *generated, a["eps_r"])
    functions = {
        "elbo": lambda p, q, r: mae.elbo(q, p, a["x"], a["eps_z"]),
        "infomax_bound": lambda p, q, r: mae.infomax_bound(p, r, *generated),
        "information_lower": lambda p, q, r: both(p, r)[0],
        "information_upper": lambda p, q, r: both(p, r)[1],
        "iwae": lambda p, q, r: mae.iwae(q, p, a["x"], a["eps_q"]),
    }
    return {name: lambda weights, f=f: f(*networks(weights)) for name, f in functions.items()}


def values(problem):
    a, networks = given(problem)
    decoder, encoder, auxiliary = networks(a)
    p, q, r = decoder(a["z"]), encoder(a["x"]), auxiliary(a["x"])
    found = {
        "decoder_output": p.params,
        "encoder_output": q.params,
        "auxiliary_output": r.params,
        "encoder_sample": q.sample(a["eps_z"]),
        "decoder_log_prob": p.log_prob(a["x"]),
        "auxiliary_log_prob": r.log_prob(a["z"]),
        "encoder_kl": q.kl(),
    }
    if isinstance(p, mae.Gaussian):
        found["decoder_sample"] = p.sample(a["eps_x"])
    else:
        found["decoder_probs"] = p.probs
    for name, bound in bounds(problem).items():
        found[name] = bound(a)
        found[f"mean_{name}"] = found[name].mean()
    return found


def objectives(problem):
    inputs = GOLDEN["problems"][problem]["given"]
    mean_elbo, mean_bound = (values(problem)[f"mean_{name}"] for name in ("elbo", "infomax_bound"))

    def parts(constraint, side):
        gap = inputs["target"][side] - mean_bound
        term, slope = constraint(gap, inputs["multiplier"][side])
        return {"term": term, "slope": slope, "objective": mean_elbo + term}

    constraints = {"penalty": mae.penalty, "lagrangian": mae.lagrangian}
    sides = inputs["target"]
    return {name: {side: parts(f, side) for side in sides} for name, f in constraints.items()}


def gradients(problem):
    weights = given(problem)[0]
    found = {
        name: grad(lambda weights, f=f: f(weights).mean())(weights)
        for name, f in bounds(problem).items()
    }
    elbo, bound = found["elbo"]["decoder"], found["infomax_bound"]["decoder"]
    for name, sides in objectives(problem).items():
        found[name] = {side: elbo + parts["slope"] * bound for side, parts in sides.items()}
    return found


@cache
def exact(problem):
    a, networks = given(problem)
    decoder, encoder, auxiliary = networks(a)
    return {
        "log_likelihood": mae.exact_log_likelihood(decoder, a["x"]),
        "elbo": mae.exact_elbo(encoder, decoder, a["x"]),
        "mutual_information": mae.exact_mutual_information(decoder),
        "infomax_bound": mae.exact_infomax_bound(decoder, auxiliary),
        "encoder_information": mae.exact_encoder_information(encoder, a["x"]),
    }


def leaves(tree, path=()):
    """The paths to everything in nested dictionaries that is not itself a dictionary."""
    if not isinstance(tree, dict):
        return [path]
    return [leaf for key, value in tree.items() for leaf in leaves(value, (*path, key))]


def at(tree, path):
    for key in path:
        tree = tree[key]
    return tree


def check(found, expected, rtol, atol):
    expected = np.array(expected)
    assert np.shape(found) == expected.shape
    assert np.asarray(found).dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)


GROUPS = {
    "values": (values, 1e-12),
    "objectives": (objectives, 1e-12),
    "gradients": (gradients, 1e-10),
    "exact": (exact, 1e-12),
}
CASES = [
    pytest.param(problem, group, path, id="-".join((problem, group, *path)))
    for problem, groups in GOLDEN["problems"].items()
    for group, tree in groups.items()
    if group != "given"
    for path in leaves(tree)
]


@pytest.mark.parametrize("problem, group, path", CASES)
def test_the_project_computes_the_golden_numbers(problem, group, path):
    compute, tol = GROUPS[group]
    expected = at(GOLDEN["problems"][problem][group], path)
    check(at(compute(problem), path), expected, rtol=tol, atol=tol)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_the_entropy_of_the_prior_is_golden(dim):
    check(mae.prior_entropy(dim), GOLDEN["prior_entropy"][dim - 1], rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["step", "m", "v", "weights"])
def test_adam_takes_the_golden_steps(name):
    golden = GOLDEN["adam"]
    state = {"weights": np.array(golden["start"]), "m": 0.0, "v": 0.0}
    for t, gradient in enumerate(np.array(golden["gradients"]), 1):
        step, m, v = nets.adam(gradient, state["m"], state["v"], t, golden["learning_rate"])
        state = {"step": step, "m": m, "v": v, "weights": state["weights"] + step}
        check(state[name], golden[name][t - 1], rtol=1e-12, atol=0)


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("make_golden", HERE / "make_golden.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_file_begins_as_its_script_writes_it(script):
    stored = {key: value for key, value in GOLDEN.items() if key != "problems"}
    assert script.head() == stored
    assert script.PROBLEMS.keys() == GOLDEN["problems"].keys()


@pytest.mark.parametrize("problem", GOLDEN["problems"])
def test_the_file_is_what_its_script_computes(script, problem):
    stored = {key: v for key, v in GOLDEN["problems"][problem].items() if key != "exact"}
    assert script.problem(script.PROBLEMS[problem], integrals=False) == stored


def test_every_field_is_described():
    described = {group: set() for group in GROUPS} | {"given": set()}
    for group in described:
        for names in GOLDEN["fields"][group]:
            described[group] |= set(names.split(", "))
    for groups in GOLDEN["problems"].values():
        for group, fields in groups.items():
            assert fields.keys() <= described[group]
