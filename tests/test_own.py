"""Data of one's own: what is read of a file, the line that an error is, and the command."""

import json
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from test_experiments import FORMATS, RESULTS, WIDTH, metrics, run

import experiments
import mae
import own

ONE = "\n".join(f"{x * x:.6f}" for x in np.linspace(0.5, 3, 40))
TWO = "\n".join(f"{x},{5 - 2 * x + math.sin(9 * x)}" for x in np.linspace(-1, 4, 30))
THREE = "\n".join(["red"] * 6 + ["green"] * 3 + ["blue"] * 3)
SMALL = ("--steps", 20, "--batch", 8, "--hidden", 4, "--seeds", 2)


@pytest.fixture
def file(tmp_path):
    """Write a text or bytes to a file -> its path."""

    def write(content):
        content = content.encode() if isinstance(content, str) else content
        (tmp_path / "data.csv").write_bytes(content)
        return str(tmp_path / "data.csv")

    return write


# ------------------------------------------------------------------------------------- what is read


@pytest.mark.parametrize(
    "text, names, values",
    [
        ("1\n2\n4", ["column 1"], [[1], [2], [4]]),
        ("x\n1\n2\n4", ["x"], [[1], [2], [4]]),
        ("wide, high\n1, 2e1\n-2, .5\n0, 3\n", ["wide", "high"], [[1, 20], [-2, 0.5], [0, 3]]),
        ("1,2\n3,5\n4,4", ["column 1", "column 2"], [[1, 2], [3, 5], [4, 4]]),
        ("\ufeffx,y\r\n1,2\r\n\r\n3,4\r\n\r\n", ["x", "y"], [[1, 2], [3, 4]]),
        ('"a, b",3\n1,2\n3,4\n', ["a, b", "3"], [[1, 2], [3, 4]]),  # one name of two is a number
    ],
)
def test_numbers_are_read_standardised_and_given_as_rows(text, names, values, file):
    problem, likelihood, summary = own.read(file(text))
    values = np.array(values, float)
    assert likelihood is mae.GAUSSIAN and [*problem.names] == names
    assert summary == f"{len(values)} rows of {', '.join(names)}; standardised"
    codes = own.read(file("".join(f"{i % 3}\n" for i in range(60))))[2]
    assert codes.endswith("standardised; only 3 values: categories are words, not numbers")
    (mean, std), data = problem.units, problem.data(np.random.default_rng(0), 50 * len(values))
    assert_allclose([mean, std], [values.mean(0), np.sqrt(((values - mean) ** 2).mean(0))])
    found, counts = np.unique((data * std + mean).round(9), axis=0, return_counts=True)
    assert_allclose(found, np.unique(values, axis=0), atol=1e-9)
    assert (counts == 50).all()  # each as often
    assert_allclose(np.unique(problem.rows.round(9), axis=0), np.unique(data.round(9), axis=0))


def test_the_means_of_one_column_are_those_of_its_rows_and_its_histogram_has_mass_one(file):
    problem, _, _ = own.read(file(ONE))
    x = np.array([[float(line)] for line in ONE.split()])
    x = (x - x.mean()) / x.std()
    (square, cube), error = problem.data_mean(lambda x: (x[:, 0] ** 2, x[:, 0] ** 3))
    assert (square, error) == (pytest.approx(1, abs=1e-12), 0)
    assert cube == pytest.approx((x**3).mean(), abs=1e-12)
    grid = np.linspace(-5, 5, 100_001)
    assert problem.truth(grid[:, None]).mean() * 10 == pytest.approx(1, abs=1e-3)
    assert problem.truth(np.array([[x.min() - 0.01], [x.max() + 0.01]])).tolist() == [0, 0]


def test_a_thousand_rows_of_many_are_spread_over_the_file(file):
    problem, _, summary = own.read(file("\n".join(map(str, range(5000)))))
    seen = []
    problem.data_mean(lambda x: (seen.append(x) or x[:, 0],))
    rows = (seen[0] * problem.units[1] + problem.units[0])[:, 0]
    assert_allclose(rows, np.arange(0, 5000, 5), atol=1e-8)
    assert len(problem.rows) == 250 and summary.startswith("5000 rows")


@pytest.mark.parametrize("name", ["", "colour\n", "\ufeffcolour\r\n\r\n"])
def test_categories_are_counted_and_a_name_that_stands_out_is_left_out(name, file):
    problem, likelihood, summary = own.read(file(name + THREE))
    assert likelihood is mae.CATEGORICAL and problem.names == ("blue", "green", "red")
    assert summary == "12 rows of 3 categories: blue, green, red"
    assert_allclose(problem.truth(np.eye(3)), [0.25, 0.25, 0.5])
    entropy = 0.5 * math.log(4) + 0.5 * math.log(2)
    assert problem.optimum == pytest.approx(-entropy) and problem.most == pytest.approx(entropy)
    counts = problem.data(np.random.default_rng(0), 400).sum(0)
    assert_allclose(counts, [100, 100, 200], atol=1)


def test_a_category_that_comes_once_is_one_if_it_is_not_the_first(file):
    names = own.read(file("a\na\nb\nb\nc\n"))[0].names
    assert names == ("a", "b", "c")
    assert own.read(file("c\na\na\nd\n"))[0].names == ("a", "c", "d")  # nor the only one


# ------------------------------------------------------------------------------------------- errors

ERRORS = {  # what is in the file: words of the line that tells
    "1\n2\nx\n3": "line 3: column 1 is 'x', not a finite number",
    "size\n1\n2\nlarge": "line 4: size is 'large', not a finite number",
    "a,b\n1,2\n3,many\n": "line 3: b is 'many', not a finite number",
    "a,b\n1,2\n\n3,nan\n": "line 4: b is 'nan', not a finite number",
    "1\n2\n1e999\n": "line 3: column 1 is '1e999', not a finite number",
    "a,b\nx,y\nz,w\n": "line 2: a is 'x', not a finite number",
    "1,2\n3\n4,5": "line 2: 1 columns, 0 of them blank; legal are 2, none blank",
    "1,2\n3,4,5\n4,5": "line 2: 3 columns, 0 of them blank; legal are 2, none blank",
    "a,b\n1,2\n3,\n": "line 3: 2 columns, 1 of them blank; legal are 2, none blank",
    "red\n \nred\nblue": "line 2: 1 columns, 1 of them blank; legal are 1, none blank",
    "1;2\n3;4\n5;6": "3 different values in 3 rows; legal are numbers, or categories",
    "a,b\n1,7\n2,7\n4,7\n": "b is 7 in every row; leave it out",
    "a,b\n1e200,7\n-1e200,8\n": "a has standard deviation inf",
    "a,b\n1e-200,7\n2e-200,8\n": "a has standard deviation 0",
    "": "has 0 lines that are not empty; at least 3 are needed",
    "x\n1": "has 2 lines that are not empty; at least 3 are needed",
    "1,2\n\n\n": "has 1 lines that are not empty; at least 3 are needed",
    "one\ntwo\nthree\nfour": "4 different values in 4 rows; legal are numbers, or categories",
    "red\nred\nred\n": "1 different values in 3 rows",
    b"x\n1\n2\n\xff\n": "legal is text in UTF-8",
    "x\n1\n2\n3".encode("utf-16"): "legal is text in UTF-8",
    '"' + "1\n" * 100_000: "legal is text in UTF-8",  # a quote that does not end
}


@pytest.mark.parametrize("content, words", ERRORS.items(), ids=ERRORS.values())
def test_an_error_is_one_line_that_names_the_file_and_the_place(
    content, words, file, monkeypatch, tmp_path, capsys
):
    path = file(content)
    with pytest.raises(ValueError) as caught:
        own.read(path)
    message = str(caught.value)
    assert message.startswith(path) and words in message and "\n" not in message
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        experiments.main(["own", path])
    out, err = capsys.readouterr()
    assert (stopped.value.code, out, len(err.splitlines())) == (2, "", 2)
    assert err.endswith(f": error: {message}\n")
    assert [each.name for each in tmp_path.iterdir()] == ["data.csv"]


def test_a_file_that_is_not_there_is_named(tmp_path):
    for path in (tmp_path / "nothing.csv", tmp_path):
        done = run("own", path, *SMALL, "--out", tmp_path / "out")
        assert (done.returncode, done.stdout) == (2, "") and not (tmp_path / "out").exists()
        assert done.stderr.startswith("experiments.py: error: ") and str(path) in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_more_than_the_categories_can_hold_is_refused(file, capsys):
    with pytest.raises(SystemExit) as stopped:
        experiments.main(["own", file(THREE), "--information", "1.2"])
    assert stopped.value.code == 2
    assert "1.2 is more than x can hold, 1.039721" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------ command


@pytest.mark.parametrize("text", [ONE, f"long name,b\n{TWO}", THREE], ids=["one", "two", "words"])
def test_the_command_trains_prints_and_writes(text, file, tmp_path):
    path = file(text)
    done = run("own", path, *SMALL, "--out", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    problem, likelihood, summary = own.read(path)
    drawn = {f"{name}.{kind}" for name in ("figure", "history") for kind in FORMATS}
    folder = tmp_path / "out" / "own"
    assert {each.name for each in folder.iterdir()} == {*RESULTS} | drawn
    assert all((folder / name).read_bytes()[:4] == FORMATS[name[-3:]] for name in drawn)
    printed = (folder / "table.txt").read_text()
    assert done.stdout.startswith(printed) and printed.startswith(f"data.csv: {summary}\n")
    assert max(map(len, printed.splitlines())) <= WIDTH
    rows = metrics(folder)
    wanted = [math.nan, 0.5, 1.0, 1.5][: 3 if likelihood.discrete else 4]  # H(x) = 1.0397
    assert_allclose([row["target"] for row in rows], np.repeat(wanted, 2))
    assert json.loads((folder / "made.json").read_text())["experiment"] == "own"
    assert printed.count(" of 2\n") == len(wanted)

    fit = mae.load(folder / "models.npz", likelihood)
    data = np.unique(problem.data(np.random.default_rng(0), 1000), axis=0)
    weights = problem.truth(data) if likelihood.discrete else np.full(len(data), 1 / len(data))
    for k, row in enumerate(rows):
        z = np.linspace(-8, 8, 4001)[:, None]
        p = fit[k].decoder(z).log_prob(data[:, None]) - 0.5 * z[:, 0] ** 2
        log_px = np.log(np.exp(p).sum(-1) * 0.004 / math.sqrt(2 * math.pi))
        assert row["log_likelihood"] == pytest.approx(weights @ log_px, abs=1e-6)
        assert row["information_low"] <= row["information_high"]
