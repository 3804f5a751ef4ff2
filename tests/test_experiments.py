"""The command line, run as a user runs it, and the README, whose numbers and commands must hold."""

import csv
import doctest
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from autograd import grad

import experiments
import mae
import nets

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = README + "".join(path.read_text() for path in sorted((ROOT / "docs").glob("*.md")))
DRAWN = {
    "split-normal": ["history.png"],
    "categorical": ["history.png"],
    "sequences": ["strings.png"],
}
SMALL = {"methods": 40, "sequences": 10, "faces": 30}  # steps


def run(*arguments):
    command = [sys.executable, "-W", "error", "experiments.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def metrics(folder):
    return list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))


def group_of(name):
    return next(iter(experiments.EXPERIMENTS[name].groups.values()))


def number(text):
    return float(text or "nan")


@pytest.mark.parametrize("name", experiments.EXPERIMENTS)
def test_a_run_prints_a_table_and_writes_its_files(name, tmp_path):
    small = ("--seeds", 1, "--steps", SMALL.get(name, 120), "--batch", 16, "--hidden", 8)
    done = run(name, "--information", "none", "0.5", *small, "--out", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    folder = tmp_path / name
    written = ["metrics.csv", "models.npz", "figure.png", *DRAWN.get(name, [])]
    assert sorted(path.name for path in folder.iterdir()) == sorted(written)
    printed = done.stdout.splitlines()[-len(written) :]
    assert sorted(printed) == sorted(str(folder / file) for file in written)
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in folder.glob("*.png"))

    experiment, rows = experiments.EXPERIMENTS[name], metrics(folder)
    assert list(rows[0])[: len(experiments.COLUMNS)] == experiments.COLUMNS
    lines = [line for line in done.stdout.splitlines() if "±" in line]
    assert len(rows) == len(lines)  # of one seed each
    groups = list(dict.fromkeys(row["group"] for row in rows))
    assert groups == list(experiment.groups)
    for group in groups:
        own = [row for row in rows if row["group"] == group]
        likelihood = experiment.groups[group].likelihood
        likelihood = None if isinstance(likelihood, str) else likelihood
        fit = mae.load(folder / "models.npz", likelihood, group if len(groups) > 1 else "")
        assert len(fit) == len(own)
        for k, row in enumerate(own):
            assert row["target"] in ("", "0.5") and row["seed"] == "0"
            assert row["reached"] in ("true", "false")
            if experiment.evaluate is None:
                check_exact(row, fit[k], experiment.groups[group].problem)


def check_exact(row, model, problem):
    information = mae.exact_mutual_information(model.decoder)
    assert number(row["information"]) == pytest.approx(information, abs=1e-7)
    assert number(row["infomax_bound"]) <= information + 1e-7
    assert number(row["elbo"]) <= number(row["log_likelihood"]) + 1e-7
    assert number(row["log_likelihood"]) <= problem.optimum + 1e-7
    assert number(row["elbo"]) == pytest.approx(-number(row["rate"]) - number(row["distortion"]))
    shortfall = problem.optimum - number(row["log_likelihood"])
    assert number(row["below_optimum"]) == pytest.approx(shortfall)
    assert number(row["quadrature_error"]) <= 1e-6


def test_the_same_command_writes_the_same_bytes(tmp_path):
    for folder in ("a", "b"):
        run("categorical", "--seeds", 1, "--steps", 20, "--no-plot", "--out", tmp_path / folder)
    for file in ("metrics.csv", "models.npz"):
        a, b = ((tmp_path / folder / "categorical" / file).read_bytes() for folder in "ab")
        assert a == b and a


def test_a_target_above_the_ceiling_is_called_unreached_and_why(tmp_path):
    small = ("--seeds", 1, "--steps", 50, "--no-plot", "--out", tmp_path)
    done = run("categorical", "--information", 2.3, *small)
    assert done.returncode == 0
    assert "WARNING: target 2.3 was not reached" in done.stdout and "2.1040" in done.stdout
    assert metrics(tmp_path / "categorical")[0]["reached"] == "false"


def test_the_ceiling_is_the_exact_bound_of_the_best_gaussian():
    # a decoder that tells the decile of z, r with the moments of z in the decile, from a fine sum
    z = np.linspace(-12, 12, 2_400_001)
    weights = np.exp(-0.5 * z**2) / weights_sum(z)
    decile = np.minimum((np.cumsum(weights) * 10).astype(int), 9)
    mass, first, second = (np.bincount(decile, weights * z**k) for k in (0, 1, 2))
    variance = second / mass - (first / mass) ** 2
    ceiling = -0.5 * (mass * np.log(variance)).sum()
    assert experiments.categorical_ceiling(10) == pytest.approx(ceiling, abs=1e-4)
    assert experiments.categorical_ceiling(10) == pytest.approx(2.1040224, abs=1e-7)


def weights_sum(z):
    return np.exp(-0.5 * z**2).sum()


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["nowhere"], "nowhere"),
        (["split-normal", "--information", "-1"], "-1"),
        (["split-normal", "--information", "nan"], "nan"),
        (["split-normal", "--information", "many"], "many"),
        (["split-normal", "--steps", "0"], "0"),
        (["split-normal", "--seeds", "1.5"], "1.5"),
        (["split-normal", "--method", "magic"], "magic"),
        (["split-normal", "--information"], "--information"),
    ],
)
def test_bad_arguments_are_named_and_nothing_is_written(arguments, words, tmp_path):
    done = run(*arguments, "--out", tmp_path / "new")
    assert done.returncode == 2 and words in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr and not (tmp_path / "new").exists()


def test_importing_the_library_does_not_import_matplotlib():
    command = "import sys, mae; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], cwd=ROOT).returncode == 0


# ------------------------------------------------------------------------------------- README


def test_the_snippet_of_the_readme_prints_what_it_says():
    failed, tried = doctest.testfile(str(ROOT / "README.md"), module_relative=False)
    assert tried > 3 and failed == 0


def test_the_commands_of_the_readme_exist():
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", README, re.DOTALL))
    assert "pip install -r requirements.txt && python experiments.py split-normal" in blocks
    assert "python -m pytest" in blocks
    names = re.findall(r"python experiments\.py ([\w-]+)", blocks)
    assert set(names) == {*experiments.EXPERIMENTS, "scaling", "all"}


@pytest.mark.parametrize("name", ["split-normal", "categorical"])
def test_the_tables_of_the_readme_reproduce(name, tmp_path):
    check_table(name, tmp_path)
    bars(name, metrics(tmp_path / name))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["likelihood", "sequences", "methods", "faces"])
def test_the_other_tables_reproduce(name, tmp_path):
    check_table(name, tmp_path)


def check_table(name, tmp_path):
    """To 0.003 nats: rounding differs between processors, and training amplifies it."""
    done = run(name, "--no-plot", "--out", tmp_path)
    decimals = re.compile(r"-?\d+\.\d{4}")
    table = re.search(rf"\$ python experiments\.py {name}\n(.*?)```", PAGES, re.DOTALL)[1]
    printed = [line for line in done.stdout.splitlines() if "±" in line]
    quoted = [line for line in table.splitlines() if "±" in line]
    assert len(printed) == len(quoted) > 2
    for ours, theirs in zip(printed, quoted):
        assert ours.split()[-3:] == theirs.split()[-3:]  # reached
        a, b = ([float(n) for n in decimals.findall(line)] for line in (ours, theirs))
        np.testing.assert_allclose(a, b, atol=0.003)


def bars(name, rows):
    """What the defaults promise of every single model."""
    optimum, ceiling = group_of(name).problem[1:3]
    shortfall, slack = {"split-normal": (0.002, 0.02), "categorical": (0.001, 0.06)}[name]
    for row in rows:
        information, bound = float(row["information"]), float(row["infomax_bound"])
        if row["target"] == "":
            assert information <= 0.01
        elif float(row["target"]) < ceiling:
            assert abs(bound - float(row["target"])) <= 0.01
            assert abs(information - float(row["target"])) <= slack
            assert float(row["log_likelihood"]) >= optimum - shortfall
        assert (row["reached"] == "true") == (row["target"] != str(math.log(10)))
        if name == "split-normal":
            assert float(row["elbo"]) >= optimum - 0.015


def test_the_pytorch_example_of_the_readme_holds():
    torch = pytest.importorskip("torch", reason="the README's PyTorch example needs torch")
    torch.manual_seed(0)
    example = next(b for b in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "torch" in b)
    assert len(example.splitlines()) <= 25 and example.count("assert_allclose") == 3
    exec(example, {})


def test_an_output_folder_that_cannot_be_is_refused_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    done = run("split-normal", "--out", tmp_path / "file")
    assert done.returncode == 2 and "file" in done.stderr and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1


def test_scaling_prints_three_curves(tmp_path, monkeypatch, capsys):
    curves = {"models": [4, 8], "steps": [2, 4], "batch": [4, 8]}
    monkeypatch.setattr(experiments, "CURVES", curves)
    experiments.main(["scaling", "--out", str(tmp_path)])
    lines = [line.split()[:2] for line in capsys.readouterr().out.splitlines()[1:-2]]
    assert lines == [[what, str(value)] for what, values in curves.items() for value in values]
    rows = metrics(tmp_path / "scaling")
    assert all(float(row["seconds"]) > 0 for row in rows) and len(rows) == 6
    assert (tmp_path / "scaling" / "figure.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    "name, option, value",
    [
        ("scaling", "--steps", "10"),
        ("all", "--information", "1"),
        ("sequences", "--method", "penalty"),
        ("faces", "--method", "lagrangian"),
    ],
)
def test_options_that_do_not_apply_are_refused(name, option, value, tmp_path):
    done = run(name, option, value, "--out", tmp_path / "new")
    assert done.returncode == 2 and f"{option}: does not apply to {name}" in done.stderr
    assert not (tmp_path / "new").exists()


def test_models_that_diverge_are_reported_by_name(tmp_path, monkeypatch, capsys):
    wild = experiments.EXPERIMENTS["split-normal"]._replace(settings={"learning_rate": 1e30})
    monkeypatch.setitem(experiments.EXPERIMENTS, "split-normal", wild)
    small = "--information 0.5 50 --seeds 1 --seed 3 --steps 20 --batch 8 --no-plot --out"
    experiments.main(["split-normal", *small.split(), str(tmp_path)])
    printed = capsys.readouterr().out
    for target in ("0.5", "50"):
        assert f"target {target}, seed 3 diverged and was frozen at step 1." in printed
    assert [row["reached"] for row in metrics(tmp_path / "split-normal")] == ["false"] * 2
    assert np.isfinite(mae.load(tmp_path / "split-normal" / "models.npz").params).all()


# ------------------------------------------------------------------- the summary of the claims


def test_a_claim_holds_or_does_not():
    assert experiments.at_most("a", 0.1, 0.2) == ("a", "<= 0.1", 0.2, False)
    assert experiments.at_least("a", 0.1, 0.2) == ("a", ">= 0.1", 0.2, True)
    text = experiments.summary([("x", experiments.at_most("a", 0.1, math.nan))])
    assert "DOES NOT HOLD" in text  # what is not known does not hold


def test_claims_are_made_of_the_worst_model():
    row = dict(
        zip(("method", "target", "information", "infomax_bound"), ("vae", math.nan, 0.001, 0))
    )
    good = row | {"method": "lagrangian", "target": 1.0, "information": 1.01, "infomax_bound": 1.0}
    rows = [r | {"below_optimum": 0.001} for r in (row, good, good | {"information": 1.5})]
    holds = [claim[3] for claim in experiments.split_normal_claims(rows)]
    assert holds == [True, False, True, True]
    assert all(claim[3] for claim in experiments.split_normal_claims(rows[:2]))


def test_all_runs_everything_and_ends_with_the_claims(tmp_path, monkeypatch, capsys):
    settings = {"seeds": 1, "steps": 10, "batch": 8, "hidden": 4}
    for name, experiment in experiments.EXPERIMENTS.items():
        short = experiment._replace(settings=experiment.settings | settings)
        monkeypatch.setitem(experiments.EXPERIMENTS, name, short)
    experiments.main(["all", "--no-plot", "--out", str(tmp_path)])
    assert {path.name for path in tmp_path.iterdir()} == set(experiments.EXPERIMENTS)
    *_, claims = capsys.readouterr().out.split("\n\n")
    lines = claims.splitlines()
    assert lines[0].split() == ["experiment", "claim", "wanted", "found"]
    assert {line.split()[0] for line in lines[1:]} == set(experiments.EXPERIMENTS)
    assert all(line.endswith(("holds", "DOES NOT HOLD")) for line in lines[1:])
    assert any(line.endswith("DOES NOT HOLD") for line in lines)  # after ten steps


# ----------------------------------------------------------------------------- the string problem


def test_the_strings_are_as_described():
    assert experiments.P_STRINGS.sum() == pytest.approx(1, abs=1e-15)
    assert experiments.H_STRINGS == pytest.approx(3.1461, abs=5e-5)
    assert experiments.I_PROTOTYPE == pytest.approx(1.1956, abs=5e-5)
    counts = experiments.strings(np.random.default_rng(0), 5000).sum(0)
    assert np.abs(counts - 5000 * experiments.P_STRINGS).max() <= 1


@pytest.mark.parametrize("window", [0, 1, 6])
def test_the_autoregressive_decoder_against_its_product_of_bits(window):
    """log p(x|z) = sum_t log sigmoid(+-logit), the network asked once for each string and bit."""
    weights = np.random.default_rng(window).standard_normal(nets.mlp_size((12, 5, 1)))
    network = lambda inputs: nets.mlp(weights, inputs, (12, 5, 1))
    z = np.array([[-0.7], [0.0], [1.9]])
    found = experiments.autoregressive("test", window).decode(network, z)
    assert found.shape == (3, 64)
    np.testing.assert_allclose(np.exp(found.logits).sum(-1), 1, atol=1e-13)
    for i, string in enumerate(experiments.STRINGS):
        wanted = np.zeros(3)
        for t, bit in enumerate(string):
            before = [2 * b - 1 if t - j <= window else 0 for j, b in enumerate(string[:t])]
            place = [float(j == t) for j in range(6)]
            row = [*before, *[0] * (5 - t), *place]
            logit = network(np.array([[*code, *row] for code in z]))[:, 0]
            wanted -= np.log1p(np.exp(-logit if bit else logit))
        np.testing.assert_allclose(found.logits[:, i], wanted, atol=1e-13)


def test_bits_are_dropped_from_what_the_decoder_sees_and_only_in_training():
    decode = experiments.autoregressive("test", 6, drop=0.5).decode
    weights = np.random.default_rng(0).standard_normal(nets.mlp_size((12, 5, 1)))
    network = lambda inputs: nets.mlp(weights, inputs, (12, 5, 1))
    z = np.array([[0.3], [0.3]])
    all_seen, none_seen = (decode(network, z, np.full((2, 5), u)).logits for u in (0.9, 0.1))
    np.testing.assert_allclose(all_seen, decode(network, z).logits, atol=1e-13)
    blind = experiments.autoregressive("test", 0).decode(network, z).logits
    np.testing.assert_allclose(none_seen, blind, atol=1e-13)
    mixed = decode(network, z, np.array([[0.9] * 5, [0.1] * 5])).logits
    np.testing.assert_allclose(mixed, [all_seen[0], none_seen[1]], atol=1e-13)


def test_the_gradient_of_the_bound_through_strings_is_exact():
    """H(z) + sum_x p(x|z) log r(z|x) by a loop over all 64 strings, differentiated numerically."""
    decode = experiments.autoregressive("test", 6).decode
    sizes, rng = (12, 3, 1), np.random.default_rng(1)
    weights, z = rng.standard_normal(nets.mlp_size(sizes)), rng.standard_normal((4, 1))
    r = lambda x: mae.Gaussian(x @ np.linspace(-1, 1, 64)[:, None], -0.3)
    decoder = lambda w: lambda z: decode(lambda inputs: nets.mlp(w, inputs, sizes), z)

    def by_hand(w):
        p = np.exp(decoder(w)(z).logits)
        log_r = [r(np.eye(64)[[i]]).log_prob(z) for i in range(64)]
        return (mae.prior_entropy() + np.sum(p * np.transpose(log_r), -1)).mean()

    bound = lambda w: mae.infomax_bound(decoder(w), r, z).mean()
    assert bound(weights) == pytest.approx(by_hand(weights), abs=1e-13)
    gradient, h = grad(bound)(weights), 1e-5
    for i, direction in enumerate(np.eye(len(weights))):
        wanted = (by_hand(weights + h * direction) - by_hand(weights - h * direction)) / (2 * h)
        assert gradient[i] == pytest.approx(wanted, abs=1e-8)


# --------------------------------------------------------------------- closed forms and the faces


def test_the_restricted_curve_is_exact_for_a_linear_decoder_and_peaks_at_minus_log_s():
    for slope in (0.2, 0.9, 2.0):
        decoder = lambda z: mae.Gaussian(slope * z, 2 * math.log(experiments.STD))
        values = lambda x: (mae.exact_log_likelihood(decoder, x),)
        log_p = experiments.standard_normal_mean(values)[0][0]
        information = mae.exact_mutual_information(decoder)
        assert experiments.restricted_curve(information) == pytest.approx(log_p, abs=1e-7)
    grid = np.linspace(0, 2, 20001)
    best = grid[np.argmax(experiments.restricted_curve(grid))]
    assert best == pytest.approx(-math.log(experiments.STD), abs=1e-4)


def test_faces_are_made_of_two_factors():
    neutral, left, right, sad, happy = experiments.draw_faces(
        np.array([(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)], float)
    ).reshape(5, experiments.SIDE, experiments.SIDE)
    np.testing.assert_allclose(neutral, neutral[:, ::-1], atol=1e-12)
    np.testing.assert_allclose(left, right[:, ::-1], atol=1e-12)
    changed = np.abs(happy - sad).max(1) > 0.1
    assert not changed[: experiments.SIDE // 4].any() and changed[experiments.SIDE // 2 :].any()
    assert np.abs(neutral).max() <= 1
