"""The reviewers' questions: what they are answered with, against independent truths."""

import csv
import math
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from autograd import elementwise_grad
from test_experiments import python

import experiments
import mae
import problems
import questions

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "questions.md").read_text()


@pytest.mark.parametrize("proposals", [0, 4])
@pytest.mark.parametrize("data, likelihood", [questions.GAUSS, questions.TENS])
def test_the_loop_in_the_open_is_that_of_fit(data, likelihood, proposals):
    settings = {"likelihood": likelihood, "information": (1.0, 0.3), "seeds": 2, "seed": 3}
    settings |= {"steps": 50, "batch": 16, "r_samples": proposals, "dtype": "float64"}
    with pytest.warns(mae.TrainingWarning):
        fit = mae.fit(data.data, **settings)
    own = questions.train(data.data, **settings)
    np.testing.assert_allclose(own.params, fit.params, rtol=0, atol=1e-9)
    assert np.abs(fit.params - mae.fit(data.data, **settings | {"steps": 1}).params).max() > 0.1
    history = fit.history["multiplier"][:, -1]
    np.testing.assert_allclose(own.history["multiplier"][:, -1], history, atol=1e-6)


@pytest.mark.parametrize("baseline", [True, False])
def test_the_mean_gradient_of_the_score_function_is_that_of_the_sum(baseline):
    rng = np.random.default_rng(0)
    fit = mae.fit(problems.UNIFORM.data, likelihood="categorical", method="vae", steps=40)[0]
    params, batches = fit.params.astype(float), 4000
    params = params + 0.3 * rng.standard_normal(params.shape)  # p(x|z) that varies
    z = np.tile(rng.standard_normal((16, 1)), (batches, 1, 1))
    many = np.tile(params, (batches, 1))
    r = fit.networks(many)[questions.R]

    def grads(estimate):
        bound = lambda own: estimate(fit.networks(own)[0], r, z, None, None)[0].mean(-1)
        return elementwise_grad(bound)(many)[:, fit.layout.part["decoder"]]

    score = partial(questions.score_function, rng, baseline)
    drawn, exact = grads(score), grads(questions.one_sided)
    assert np.ptp(exact, 0).max() < 1e-12  # the sum has no noise, given z
    error = drawn.std(0) / math.sqrt(batches)
    assert (np.abs(drawn.mean(0) - exact[0]) < 5 * error + 1e-12).all()
    assert np.abs(exact[0]).max() > 10 * error.max()


def test_r_that_ascends_the_constrained_objective_meets_the_bound_and_not_i():
    problem, likelihood = questions.FIXED
    for constrained, least, most in ((False, 0.2, 0.35), (True, 0.6, 0.8)):
        fit = questions.train(
            problem.data, likelihood=likelihood, information=[0.25], seeds=1, seed=9, steps=600,
            constrained=constrained,
        )  # fmt: skip
        information, bound = mae.exact_information_and_bound(fit[0].decoder, fit[0].auxiliary)
        assert abs(bound - 0.25) < 0.03 and least < information < most


def test_extra_steps_of_r_move_r_alone():
    problem, likelihood = questions.FIXED
    seen = []
    look = lambda step, models, middle, bound: seen.append(models.params.copy())
    settings = {"likelihood": likelihood, "information": [0.5], "seeds": 1, "seed": 0, "steps": 1}
    for r_steps in (1, 4):
        questions.train(problem.data, r_steps=r_steps, look=look, **settings)
    part = mae.fit(problem.data, likelihood=likelihood, method="vae", steps=1)[0].layout.part
    moved = {name: np.abs(seen[1] - seen[0])[:, own].max() for name, own in part.items()}
    assert moved["decoder"] == moved["encoder"] == 0 < moved["auxiliary"]


def weights(method, gap, total=0.0):
    return [float(np.squeeze(w)) for w in method.weights(0.5, np.array([gap]), np.array([total]))]


def test_methods_weigh_by_the_slopes_of_their_objectives():
    """Slopes in the KL, by differences of the published objectives; their gaps by hand."""
    slope = lambda f, kl: (f(kl + 1e-6) - f(kl - 1e-6)) / 2e-6
    for kl in (0.3, 0.9, 1.1, 4.0):
        free, held = lambda k: max(k, 1.0), lambda k: 10 * abs(k - 1)
        assert weights(problems.free_bits(1), 1 - kl) == [1, pytest.approx(slope(free, kl)), 0]
        assert weights(problems.capacity(1), 1 - kl) == [1, pytest.approx(slope(held, kl)), 0]
    for method, rises in ((problems.control_vae(1), -1), (problems.geco(1), 1)):
        betas = [weights(method, 0.0, total)[1] for total in (-2, 0, 2)]
        assert (np.sign(np.diff(betas)) == rises).all() and min(betas) > 0
    encoder = lambda x: mae.Gaussian(x, np.log(0.25))
    networks = (lambda z: mae.Gaussian(z, 0.0), encoder, None)
    x, eps = np.array([[[1.0], [-2.0]]]), np.array([[[0.5], [1.0]]])
    kl = [0.5 * (m * m + 0.25 - 1 - math.log(0.25)) for m in (1, -2)]
    for method in (problems.free_bits(3), problems.control_vae(3)):
        np.testing.assert_allclose(method.gap(0.9, networks, x, eps), [3 - np.mean(kl)])
    np.testing.assert_allclose(problems.capacity(3).gap(0.2, networks, x, eps), [1.5 - np.mean(kl)])
    off = 0.5 * eps  # x - z
    distortion = 0.5 * np.mean(off**2 + math.log(2 * math.pi))
    np.testing.assert_allclose(problems.geco(3).gap(0.9, networks, x, eps), [3 - distortion])


def test_a_gap_of_its_own_holds_the_rate_beside_other_methods():
    methods = [*problems.holding(problems.UNIFORM, 1)[:2], mae.VAE]
    fit = mae.fit(problems.UNIFORM.data, likelihood="categorical", method=methods, seed=5,
                  information=[None] * 3, steps=1000, batch=64)  # fmt: skip
    row = [problems.evaluate(fit[k], problems.UNIFORM) for k in range(3)]
    assert abs(row[0]["rate"] - 1) < 0.05 and abs(row[1]["rate"] - 1) < 0.05 > row[2]["rate"]
    alone = mae.fit(problems.UNIFORM.data, likelihood="categorical", method=methods[1], seed=5,
                    steps=1000, batch=64)  # fmt: skip
    assert (alone.params == fit.params[1:2]).all()
    for k, each in enumerate(row):  # KL[q(z) || p(z)] anew, on a grid of z
        z = np.linspace(-20, 20, 20001)[:, None]
        q = fit[k].encoder(np.eye(10))
        density = np.exp(mae.Gaussian(q.mean[:, None], q.log_var[:, None]).log_prob(z)).mean(0)
        log_p = -0.5 * (z[:, 0] ** 2 + math.log(2 * math.pi))
        kl = np.sum(density * (np.log(density + 1e-300) - log_p)) * (z[1, 0] - z[0, 0])
        assert abs(each["marginal_kl"] - kl) < 1e-6 and each["marginal_kl"] > -1e-9


def test_reading_back_is_of_the_most_probable_string():
    class Model:
        encoder = lambda self, x: mae.Gaussian(x @ np.arange(64.0)[:, None], 0.0)
        decoder = lambda self, z: mae.Categorical(-(np.abs(z // 2 * 2 - np.arange(64))))

    found = questions.read_back(Model())  # the last bit is always read as 0
    even = problems.SEQUENCES.truth(np.eye(64)[::2]).sum()
    assert found["strings"] == pytest.approx(even) and found["bits"] == pytest.approx(
        (5 + even) / 6
    )


def test_the_command_answers_and_writes_every_question(tmp_path):
    done = python("experiments.py", "questions", "--steps", 10, "--seeds", 2, "--out", tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    folder = tmp_path / "questions"
    drawn = {f"questions-{name}.{kind}" for name in ("trace", "posteriors", "targets")
             for kind in ("png", "pdf")}  # fmt: skip
    results = {"metrics.csv", "made.json", "table.txt", "questions.md"}
    assert {path.name for path in folder.iterdir()} == results | drawn
    rows = list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))
    assert {row["question"] for row in rows} == {*map(str, range(1, 12)), "8 sweep"}
    text = (folder / "questions.md").read_text()
    assert re.sub(r"(?s)```.*?```", "", text) == re.sub(r"(?s)```.*?```", "", PAGE)
    for block in re.findall(r"(?s)```\n(.*?)\n```", text):
        assert block in done.stdout or "in those of a VAE" in block  # seconds do not last


def test_the_tables_of_the_page_are_of_these_questions_and_narrow():
    blocks = dict(re.findall(r"(?s)<!-- (\d+) -->\n```\n(.*?)\n```", PAGE))
    assert [*blocks] == [*map(str, range(12))]
    assert max(map(len, "\n".join(blocks.values()).splitlines())) <= 90
    assert len(re.sub(r"(?s)```.*?```", "", PAGE).split()) <= 1200
    for question, columns in questions.COLUMNS.items():
        head = blocks[str(question)].splitlines()[0]
        assert re.split(r"  +", head.strip())[1:] == [*columns.values()]
    verdicts = blocks["0"].splitlines()[1:]
    assert len(verdicts) > 10 and all(line.endswith("  holds") for line in verdicts)
    for name in re.findall(r"!\[.*?\]\((.*?)\)", PAGE):
        assert (ROOT / "docs" / name).exists()
    assert experiments.parse(["questions", "--seeds", "3", "--steps", "9"])[0].steps == 9
