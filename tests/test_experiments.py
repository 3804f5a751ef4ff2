"""The experiments, run as a user runs them, and the README: its numbers and commands must hold."""

import ast
import csv
import doctest
import math
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from autograd import grad
from truths import fine_grid, log_normal

import experiments
import figures
import mae
import nets
import problems

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = README + "".join(path.read_text() for path in sorted((ROOT / "docs").glob("*.md")))
COMMANDS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
MODULES = re.findall(r"(?m)^\| `(\w+)\.py` \|", README)  # "each imports only from those above it"
DRAWN = {"split-normal": "history.png", "categorical": "history.png", "sequences": "strings.png"}
PNG = b"\x89PNG"
SMALL = {"methods": 40, "sequences": 10, "faces": 30}  # steps


def python(*arguments):
    command = [sys.executable, "-W", "error", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


run = partial(python, "experiments.py")


def metrics(folder):
    """The rows of metrics.csv, as they were before they were written."""
    rows = list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))
    known = {"": math.nan, "true": True, "false": False}
    for row in rows:
        for key in row.keys() - {"group", "method", "grows"}:
            row[key] = known[row[key]] if row[key] in known else float(row[key])
    return rows


# ------------------------------------------------------------------------------------- runs


@pytest.mark.parametrize("name", experiments.EXPERIMENTS)
def test_a_run_prints_a_table_and_writes_its_files(name, tmp_path):
    small = ("--seeds", 1, "--steps", SMALL.get(name, 120), "--batch", 16, "--hidden", 8)
    done = run(name, "--information", "none", "0.5", *small, "--out", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    folder, groups = tmp_path / name, experiments.EXPERIMENTS[name].groups
    written = {"metrics.csv", "models.npz", "figure.png", DRAWN.get(name, "figure.png")}
    assert {path.name for path in folder.iterdir()} == written
    printed = done.stdout.splitlines()[-len(written) :]
    assert set(printed) == {str(folder / file) for file in written}
    assert all(path.read_bytes()[:4] == PNG for path in folder.glob("*.png"))

    rows = metrics(folder)
    assert list(rows[0])[: len(problems.COLUMNS)] == problems.COLUMNS
    assert len(rows) == done.stdout.count(" of 1\n")  # lines of the table: one seed each
    assert list(dict.fromkeys(row["group"] for row in rows)) == list(groups)
    for group_name, group in groups.items():
        own = [row for row in rows if row["group"] == group_name]
        key = group_name if len(groups) > 1 else ""
        fit = mae.load(folder / "models.npz", group.likelihood, key)
        assert len(fit) == len(own)
        for k, row in enumerate(own):
            assert math.isnan(row["target"]) or row["target"] == 0.5
            assert row["seed"] == 0 and type(row["reached"]) is bool
            if math.isfinite(group.problem.optimum):
                check_exact(row, fit[k], group.problem)


def check_exact(row, model, problem):
    information = mae.exact_mutual_information(model.decoder)
    assert row["information"] == pytest.approx(information, abs=1e-7)
    assert row["infomax_bound"] <= information + 1e-7
    assert row["elbo"] <= row["log_likelihood"] + 1e-7
    assert row["log_likelihood"] <= problem.optimum + 1e-7
    assert row["elbo"] == pytest.approx(-row["rate"] - row["distortion"])
    assert row["below_optimum"] == pytest.approx(problem.optimum - row["log_likelihood"])
    assert row["quadrature_error"] <= 1e-6


def test_a_target_above_the_ceiling_is_called_unreached_and_why(tmp_path):
    small = ("--seeds", 1, "--steps", 50, "--no-plot", "--out", tmp_path)
    done = run("categorical", "--information", 2.3, *small)
    assert done.returncode == 0
    assert "WARNING: target 2.3 was not reached" in done.stdout and "2.1040" in done.stdout
    assert [row["reached"] for row in metrics(tmp_path / "categorical")] == [False]


def test_models_that_diverge_are_reported_by_name(tmp_path, monkeypatch, capsys):
    wild = experiments.EXPERIMENTS["split-normal"]._replace(settings={"learning_rate": 1e30})
    monkeypatch.setitem(experiments.EXPERIMENTS, "split-normal", wild)
    small = "--information 0.5 50 --seeds 1 --seed 3 --steps 20 --batch 8 --no-plot --out"
    experiments.main(["split-normal", *small.split(), str(tmp_path)])
    printed = capsys.readouterr().out
    for target in ("0.5", "50"):
        assert f"target {target}, seed 3 diverged and was frozen at step 1." in printed
    assert [row["reached"] for row in metrics(tmp_path / "split-normal")] == [False] * 2
    assert np.isfinite(mae.load(tmp_path / "split-normal" / "models.npz").params).all()


def test_scaling_prints_three_curves(tmp_path, monkeypatch, capsys):
    curves = {"models": [4, 8], "steps": [2, 4], "batch": [4, 8]}
    monkeypatch.setattr(experiments, "CURVES", curves)
    experiments.main(["scaling", "--out", str(tmp_path)])
    lines = [line.split()[:2] for line in capsys.readouterr().out.splitlines()[1:-2]]
    assert lines == [[what, str(value)] for what, values in curves.items() for value in values]
    rows = metrics(tmp_path / "scaling")
    assert all(row["seconds"] > 0 for row in rows) and len(rows) == 6
    assert (tmp_path / "scaling" / "figure.png").read_bytes()[:4] == PNG


def test_one_definition_changes_the_data_of_split_normal(tmp_path, monkeypatch):
    """To a mixture of two normals: the optimum, the rows and the figure follow."""
    parts = {0.3: NormalDist(-1.5, 0.6), 0.7: NormalDist(1, 0.8)}
    grid = np.linspace(-7, 7, 14001)
    cdf = sum(w * np.array([*map(part.cdf, grid)]) for w, part in parts.items())
    quantile = lambda p: np.interp(p, cdf, grid)
    log_p = lambda x: np.logaddexp(
        *(math.log(w) + log_normal(x, n.mean, math.log(n.variance)) for w, n in parts.items())
    )
    mixture = problems.on_a_line(
        data=lambda rng, n: quantile(nets.evenly(rng, n))[:, None],
        log_density=log_p,
        quantile=quantile,
        ends=[-8, -3, -1, 1, 3, 9],
    )
    experiment, drawn = experiments.EXPERIMENTS["split-normal"], []
    group = experiment.groups["split-normal"]._replace(problem=mixture)
    experiment = experiment._replace(groups={"split-normal": group})
    monkeypatch.setitem(experiments.EXPERIMENTS, "split-normal", experiment)
    draw = lambda *run: drawn.append(figures.split_normal(*run)) or drawn[0]
    monkeypatch.setitem(figures.DRAWINGS, "split-normal", draw)
    small = "--information none 0.5 --seeds 1 --steps 200 --batch 32 --out"
    experiments.main(["split-normal", *small.split(), str(tmp_path)])

    x, log_dx = fine_grid(-9, 9, 100)
    mean = lambda values: np.exp(log_p(x) + log_dx) @ values
    assert mixture.optimum == pytest.approx(mean(log_p(x)), abs=1e-8)
    levels = sum(w * np.array([*map(part.cdf, mixture.rows[:, 0])]) for w, part in parts.items())
    np.testing.assert_allclose(levels, (np.arange(64) + 0.5) / 64, atol=1e-6)
    folder = tmp_path / "split-normal"
    rows, fit = metrics(folder), mae.load(folder / "models.npz")
    for k, row in enumerate(rows):
        check_exact(row, fit[k], mixture)
        log_likelihood = mae.exact_log_likelihood(fit[k].decoder, x[:, None])
        assert row["below_optimum"] == pytest.approx(mean(log_p(x) - log_likelihood), abs=1e-7)
        encoder_information = mae.exact_encoder_information(fit[k].encoder, mixture.rows)
        assert row["encoder_information"] == pytest.approx(encoder_information, abs=1e-7)
    assert len(rows) == 2 and (folder / "figure.png").read_bytes()[:4] == PNG
    for axis in drawn[0]["figure.png"].axes[:2]:
        _, truth = axis.lines
        np.testing.assert_allclose(truth.get_ydata(), np.exp(log_p(truth.get_xdata())))


# ------------------------------------------------------------------------------------- modules


def test_running_the_experiments_executes_each_source_once(tmp_path):
    small = ["split-normal", "--seeds", "1", "--steps", "2", "--out", str(tmp_path)]
    code = f"import runpy, sys; sys.argv[1:] = {small}; "
    code += "runpy.run_path('experiments.py', run_name='__main__'); "
    code += "sys.exit('experiments' in sys.modules or 'figures' not in sys.modules)"
    done = python("-c", code)
    assert (done.returncode, done.stderr) == (0, "")


def test_modules_import_only_those_above_them_and_functions_are_short():
    for i, name in enumerate(MODULES):
        imported = set()
        for node in ast.walk(ast.parse((ROOT / f"{name}.py").read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module)
            elif isinstance(node, ast.FunctionDef):
                documentation = (ast.get_docstring(node) or "").count("\n")
                lines = node.end_lineno - node.lineno + 1 - documentation
                assert lines <= 45, f"{name}.{node.name} has {lines} lines"
        assert not imported & {*MODULES[i:]}, name
    assert {path.stem for path in ROOT.glob("*.py")} == {*MODULES, "setup"}
    assert MODULES[0] == "nets" and MODULES[-3:] == ["problems", "figures", "experiments"]


def test_the_library_imports_neither_matplotlib_nor_the_experiments():
    unwanted = "{'matplotlib', 'problems', 'figures', 'experiments'}"
    done = python("-c", f"import sys, mae; sys.exit(not {unwanted}.isdisjoint(sys.modules))")
    assert done.returncode == 0


# ------------------------------------------------------------------------------------- README


def test_the_snippets_of_the_readme_print_what_they_say():
    failed, tried = doctest.testfile(str(ROOT / "README.md"), module_relative=False)
    assert tried > 3 and failed == 0


def test_the_commands_of_the_readme_exist():
    blocks = "\n".join(COMMANDS)
    assert "pip install -r requirements.txt && python experiments.py split-normal" in blocks
    assert "python -m pytest" in blocks
    names = re.findall(r"python experiments\.py ([\w-]+)", blocks)
    assert set(names) == {*experiments.EXPERIMENTS, "scaling", "all"}


def test_the_pytorch_example_of_the_readme_holds():
    torch = pytest.importorskip("torch", reason="the README's PyTorch example needs torch")
    torch.manual_seed(0)
    example = next(b for b in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "torch" in b)
    assert len(example.splitlines()) <= 25 and example.count("assert_allclose") == 3
    exec(example, {})


# Training amplifies the rounding of the processor: these, to less than 0.003 nats.
SURE = ("split-normal", "categorical")
REST = [pytest.param(n, marks=pytest.mark.slow) for n in experiments.EXPERIMENTS if n not in SURE]


@pytest.mark.parametrize("name", [*SURE, *REST])
def test_the_claims_hold_and_the_tables_reproduce(name, tmp_path):
    done = run(name, "--no-plot", "--out", tmp_path)
    table = re.search(rf"\$ python experiments\.py {name}\n(.*?)```", PAGES, re.DOTALL)[1]
    printed, quoted = (re.findall(".*±.*", text) for text in (done.stdout, table))
    assert len(printed) == len(quoted) > 2
    cell = re.compile(r"(-?\d+\.\d{4}) ± (\d+\.\d{4})")
    for lines in zip(printed, quoted):
        keys, theirs = (cell.split(line)[0].split() for line in lines)
        assert keys == theirs
        (a, spread), (b, their_spread) = (np.array(cell.findall(n), float).T for n in lines)
        if name in SURE:
            reached, theirs = (line.split()[-3:] for line in lines)
            assert reached == theirs
            np.testing.assert_allclose([a, spread], [b, their_spread], rtol=0, atol=0.003)
        else:
            assert (np.abs(a - b) <= 0.1 + 2 * their_spread).all(), lines

    claims = experiments.EXPERIMENTS[name].claims(metrics(tmp_path / name))
    found = verdicts(experiments.summary([(name, claim) for claim in claims]), name)
    assert set(found.values()) == {"holds"} and found == verdicts(README, name)


def verdicts(summary, name):
    """{claim and what is wanted: whether it holds} of an experiment; not the number found."""
    lines = re.findall(rf"(?m)^({name}  .*?) +\S+ +(holds|DOES NOT HOLD)$", summary)
    return {" ".join(claim.split()): holds for claim, holds in lines}


# ------------------------------------------------------------------- the summary of the claims


def test_a_claim_holds_or_does_not():
    assert experiments.at_most("a", 0.1, 0.2) == ("a", "<= 0.1", 0.2, False)
    assert experiments.at_least("a", 0.1, 0.2) == ("a", ">= 0.1", 0.2, True)
    text = experiments.summary([("x", experiments.at_most("a", 0.1, math.nan))])
    assert "DOES NOT HOLD" in text  # what is not known does not hold


def test_claims_are_made_of_the_worst_model():
    names = ("method", "target", "information", "infomax_bound", "below_optimum")
    vae = dict(zip(names, ("vae", math.nan, 0, 0, 0)))
    good = dict(zip(names, ("lagrangian", 1, 1, 1, 0)))
    holds = lambda *rows: [claim[-1] for claim in experiments.split_normal_claims(rows)]
    assert holds(vae, good) == [True, True, True, True]
    assert holds(vae, good | {"information": 2}, good) == [True, False, True, True]
    assert holds(vae | {"information": math.nan}, vae, good) == [False, True, True, True]


def test_all_runs_everything_and_ends_with_the_claims(tmp_path, monkeypatch, capsys):
    settings = {"seeds": 1, "steps": 10, "batch": 8, "hidden": 4}
    for name, experiment in experiments.EXPERIMENTS.items():
        short = experiment._replace(settings=experiment.settings | settings)
        monkeypatch.setitem(experiments.EXPERIMENTS, name, short)
    experiments.main(["all", "--no-plot", "--out", str(tmp_path)])
    assert {path.name for path in tmp_path.iterdir()} == set(experiments.EXPERIMENTS)
    head, *lines = capsys.readouterr().out.split("\n\n")[-1].splitlines()
    assert head.split() == ["experiment", "claim", "wanted", "found"]
    assert {line.split()[0] for line in lines} == set(experiments.EXPERIMENTS)
    assert all(line.endswith(("holds", "DOES NOT HOLD")) for line in lines)
    assert any(line.endswith("DOES NOT HOLD") for line in lines)  # after ten steps


# ----------------------------------------------------------------------------- the string problem

WEIGHTS = np.random.default_rng(1).standard_normal(nets.mlp_size((12, 5, 1)))
NETWORK = lambda inputs, weights=WEIGHTS: nets.mlp(weights, inputs, (12, 5, 1))


def test_the_strings_are_as_described():
    probs = problems.SEQUENCES.truth(np.eye(64))
    assert probs.sum() == pytest.approx(1, abs=1e-15)
    assert problems.SEQUENCES.optimum == pytest.approx(-3.1461, abs=5e-5)
    assert problems.I_PROTOTYPE == pytest.approx(1.1956, abs=5e-5)
    counts = problems.SEQUENCES.data(np.random.default_rng(0), 5000).sum(0)
    assert np.abs(counts - 5000 * probs).max() <= 1


@pytest.mark.parametrize("window", [0, 1, 6])
def test_the_autoregressive_decoder_is_its_product_of_bits(window):
    """log p(x|z) = sum_t log sigmoid(+-logit), the network asked once for each string and bit."""
    z = np.array([[-0.7], [0.0], [1.9]])
    found = problems.autoregressive("test", window).decode(NETWORK, z)
    assert found.shape == (3, 64)
    np.testing.assert_allclose(np.exp(found.logits).sum(-1), 1, atol=1e-13)
    for i, string in enumerate(problems.STRINGS):
        wanted = np.zeros(3)
        for t, bit in enumerate(string):
            before = [2 * b - 1 if t - j <= window else 0 for j, b in enumerate(string[:t])]
            place = [float(j == t) for j in range(6)]
            logit = NETWORK(np.array([[*code, *before, *[0] * (5 - t), *place] for code in z]))
            wanted -= np.log1p(np.exp(-logit if bit else logit))[:, 0]
        np.testing.assert_allclose(found.logits[:, i], wanted, atol=1e-13)


def test_bits_are_dropped_from_what_the_decoder_sees_and_only_in_training():
    z, decode = np.array([[0.3], [0.3]]), problems.autoregressive("test", 6, drop=0.5).decode
    seen = decode(NETWORK, z).logits[0]
    blind = problems.autoregressive("test", 0).decode(NETWORK, z).logits[0]
    found = decode(NETWORK, z, np.array([[0.9] * 5, [0.1] * 5])).logits
    np.testing.assert_allclose(found, [seen, blind], atol=1e-13)
    assert np.abs(seen - blind).max() > 0.1


def test_the_gradient_of_the_bound_through_strings_is_exact():
    """H(z) + sum_x p(x|z) log r(z|x) by a loop over all 64 strings, differentiated numerically."""
    decode = problems.autoregressive("test", 6).decode
    z = np.random.default_rng(2).standard_normal((4, 1))
    r = lambda x: mae.Gaussian(x @ np.linspace(-1, 1, 64)[:, None], -0.3)
    decoder = lambda w: lambda z: decode(lambda inputs: NETWORK(inputs, w), z)
    log_r = np.transpose([r(np.eye(64)[[i]]).log_prob(z) for i in range(64)])

    def by_hand(w):
        return (mae.prior_entropy() + np.sum(np.exp(decoder(w)(z).logits) * log_r, -1)).mean()

    bound = lambda w: mae.infomax_bound(decoder(w), r, z).mean()
    assert bound(WEIGHTS) == pytest.approx(by_hand(WEIGHTS), abs=1e-13)
    steps = 1e-5 * np.eye(len(WEIGHTS))
    wanted = [(by_hand(WEIGHTS + step) - by_hand(WEIGHTS - step)) / 2e-5 for step in steps]
    np.testing.assert_allclose(grad(bound)(WEIGHTS), wanted, rtol=1e-6, atol=1e-8)


# --------------------------------------------------------------------- closed forms and the faces


def test_the_ceiling_is_the_exact_bound_of_the_best_gaussian():
    # a decoder that tells the decile of z, r with the moments of z in the decile, from a fine sum
    z = np.linspace(-12, 12, 2_400_001)
    weights = np.exp(-0.5 * z**2)
    weights /= weights.sum()
    decile = np.minimum((np.cumsum(weights) * 10).astype(int), 9)
    mass, first, second = (np.bincount(decile, weights * z**k) for k in (0, 1, 2))
    ceiling = -0.5 * (mass * np.log(second / mass - (first / mass) ** 2)).sum()
    assert problems.UNIFORM.ceiling == problems.gaussian_ceiling(10)
    assert problems.gaussian_ceiling(10) == pytest.approx(ceiling, abs=1e-4)
    assert problems.gaussian_ceiling(10) == pytest.approx(2.1040224, abs=1e-7)


def test_the_restricted_curve_is_exact_for_a_linear_decoder_and_peaks_at_minus_log_s():
    for slope in (0.2, 0.9, 2.0):
        decoder = lambda z: mae.Gaussian(slope * z, 2 * math.log(problems.STD))
        given = lambda x: (mae.exact_log_likelihood(decoder, x),)
        ((log_p,), _) = problems.NORMAL.data_mean(given)
        curve = problems.restricted_curve(mae.exact_mutual_information(decoder))
        assert curve == pytest.approx(log_p, abs=1e-7)
    grid = np.linspace(0, 2, 20001)
    best = grid[np.argmax(problems.restricted_curve(grid))]
    assert best == pytest.approx(-math.log(problems.STD), abs=1e-4)


def test_faces_are_made_of_two_factors():
    neutral, left, right, sad, happy = problems.draw_faces(
        np.array([(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)], float)
    ).reshape(5, problems.SIDE, problems.SIDE)
    np.testing.assert_allclose(neutral, neutral[:, ::-1], atol=1e-12)
    np.testing.assert_allclose(left, right[:, ::-1], atol=1e-12)
    changed = np.abs(happy - sad).max(1) > 0.1
    assert not changed[: problems.SIDE // 4].any() and changed[problems.SIDE // 2 :].any()
    assert np.abs(neutral).max() <= 1


# ---------------------------------------------------------------- targets that nobody chose: slow


def trained(name, targets, **settings):
    """Rows of metrics for these targets, trained side by side with the usual settings."""
    (group,) = experiments.EXPERIMENTS[name].groups.values()
    settings |= {key: experiments.USUAL[key] for key in ("steps", "batch", "hidden")}
    data, likelihood = group.problem.data, group.likelihood
    fit = mae.fit(data, likelihood=likelihood, information=targets, **settings)
    return list(problems.rows_of(fit, name, group.problem))


@pytest.mark.slow
@pytest.mark.parametrize("name, highest", [("split-normal", 3), ("categorical", 2)])
def test_a_hundred_random_targets_are_reached(name, highest):
    targets = [None, *np.random.default_rng(6).uniform(0, highest, 100)]
    rows = trained(name, targets, method=[mae.VAE] + 100 * [mae.LAGRANGIAN], seed=77)
    assert len(rows) == 101 and all(row["reached"] for row in rows)
    assert all(claim[-1] for claim in experiments.EXPERIMENTS[name].claims(rows))


@pytest.mark.slow
def test_targets_that_are_too_high_are_reached_or_said_not_to_be():
    for row in trained("split-normal", [3.5, 4.0], seeds=10):
        near = abs(row["infomax_bound"] - row["target"]) <= 0.05
        assert near or not row["reached"]
        assert math.isfinite(row["information"]) and row["quadrature_error"] <= 1e-6
        assert row["infomax_bound"] <= row["information"] + 1e-8
