"""What may go wrong around a run: what is on disk afterwards, the exit status, one line."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from test_commands import contents, start
from test_experiments import FORMATS, RESULTS, ROOT

import experiments
import figures
import mae
import models
import processes

if sys.platform != "linux":
    pytest.skip("processes and signals are those of Linux", allow_module_level=True)

QUICK = ("split-normal", "--information", "0.5", "--seeds", "2", "--steps", "20", "--batch", "8")
LONG = (*QUICK[:-4], "--steps", "100000", "--batch", "8", "--jobs", "2", "--no-plot")
FIGURES = tuple(f"{name}.{kind}" for name in ("figure", "history") for kind in FORMATS)


def run(folder, *options, shell="", **environment):
    """By a shell, with redirections -> status, stdout, stderr, the files and what is in them."""
    command = [sys.executable, "-W", "error", "experiments.py", *QUICK, *options, "--out", folder]
    command = ["sh", "-c", f'"$@" {shell}', "sh", *map(str, command)]
    environment = os.environ | environment
    done = subprocess.run(command, cwd=ROOT, capture_output=True, env=environment, timeout=120)
    assert b"Traceback" not in done.stderr and b"Exception" not in done.stderr, done.stderr
    files = contents(folder / "split-normal")
    return done.returncode, done.stdout, done.stderr.decode(), files


NO_MATPLOTLIB = "raise ImportError('No module named matplotlib')"
LATEX = "text.usetex: True\n"
FAULTS = {  # what is done to a run: (redirections, environment, exit status)
    **{f"stdout in {code}": ("", {"PYTHONIOENCODING": code}, 0)
       for code in ("ascii", "cp866", "cp874", "koi8-r")},
    "stdout closed": (">&-", {}, 0),
    "stderr closed": ("2>&-", {}, 0),
    "all closed": ("<&- >&- 2>&-", {}, 0),
    "stdout full": (">/dev/full", {}, 2),
    "stdout full and unbuffered": (">/dev/full", {"PYTHONUNBUFFERED": "1"}, 2),
    "nobody reads": ("| true", {}, 0),
    "a backend that is not there": ("", {"MPLBACKEND": "nowhere"}, 0),
    "LaTeX that is not there": ("", {"MATPLOTLIBRC": "rc", "PATH": "/bin"}, 0),
    "no matplotlib": ("", {"PYTHONPATH": "without"}, 1),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_numbers_and_models_survive(fault, tmp_path):
    shell, environment, expected = FAULTS[fault]
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "matplotlib.py").write_text(NO_MATPLOTLIB)
    (tmp_path / "rc").write_text(LATEX)
    paths = {"MATPLOTLIBRC", "PYTHONPATH"}
    environment = {k: str(tmp_path / v) if k in paths else v for k, v in environment.items()}
    plain = ["--no-plot"] * fault.startswith("std")  # figures take their time
    status, out, err, files = run(tmp_path / "out", *plain, shell=shell, **environment)
    assert status == expected
    drawn = {*FIGURES} if not plain and fault != "no matplotlib" else set()
    assert {*files} == {*RESULTS} | drawn
    assert len(err.splitlines()) == (status == 2 or fault == "nobody reads"), err
    if ">" not in shell and "|" not in shell:
        assert (b"WARNING: no figures: ImportError" in out) == (fault == "no matplotlib")
        assert b"infomax bound" in out and b"metrics.csv" in out


@pytest.mark.parametrize("name", RESULTS[:2])
def test_a_file_that_cannot_be_replaced_leaves_all_the_old_ones(name, tmp_path, monkeypatch):
    """As where that one file belongs to somebody else, in a folder like /tmp."""
    names = (*RESULTS, *FIGURES)
    for each in names:
        (tmp_path / each).write_text("old")
    replace = os.replace

    def refuse(source, target):
        if Path(source).name == name:
            raise PermissionError(errno.EPERM, "Operation not permitted", source)
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    save = lambda path: Path(path).write_text("new")
    with pytest.raises(PermissionError):
        models.write(tmp_path, dict.fromkeys(RESULTS, save), stale=FIGURES)
    assert contents(tmp_path) == dict.fromkeys(names, b"old")
    monkeypatch.undo()
    models.write(tmp_path, dict.fromkeys(RESULTS, save), stale=FIGURES)
    assert contents(tmp_path) == dict.fromkeys(RESULTS, b"new")


def test_no_older_figure_stays_beside_newer_numbers_and_a_users_own_file_does(tmp_path):
    old = run(tmp_path)[-1]
    (tmp_path / "split-normal" / "notes.png").write_text("mine")
    new = run(tmp_path, "--no-plot", "--seed", 1)[-1]
    assert {*old} == {*RESULTS, *FIGURES} and {*new} == {*RESULTS, "notes.png"}
    assert all(old[name] != new[name] for name in RESULTS)


def test_what_is_written_says_how_and_does_not_depend_on_the_processes(tmp_path):
    found = [run(tmp_path / n, "--jobs", n, "--no-plot")[-1] for n in "123"]
    assert found[0] == found[1] == found[2]
    made = json.loads(found[0]["made.json"])
    assert (
        made["settings"]["split-normal"]["information"] == [0.5] and made["mae"] == mae.__version__
    )
    assert made["settings"]["split-normal"]["steps"] == 20 and made["numpy"] == np.__version__
    with np.load(tmp_path / "1" / "split-normal" / "models.npz") as members:
        assert json.loads(str(members["made"])) == made


@pytest.mark.parametrize("jobs", "12")
def test_numbers_and_models_survive_a_figure_that_cannot_be_drawn(
    jobs, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(figures.DRAWINGS["split-normal"], "history", lambda *found: 1 / 0)
    assert experiments.main([*QUICK, "--jobs", jobs, "--out", str(tmp_path)]) == 1
    assert {*contents(tmp_path / "split-normal")} == {*RESULTS}
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "WARNING: no figures: ZeroDivisionError: division by zero"


def workers(pid):
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def under_way(folder):
    """A run of two workers that would take minutes, and these workers."""
    process, until = start(*LONG, "--out", folder), time.monotonic() + 60
    while len(found := workers(process.pid)) < 2 and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(0.3)
    return process, found


ENDS = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "ended")}
ENDS |= {signal.SIGHUP: (129, "hung up"), signal.SIGKILL: (-9, "")}


@pytest.mark.parametrize("number", ENDS)
def test_a_run_that_is_ended_leaves_no_orphan(number, tmp_path):
    status, word = ENDS[number]
    process, found = under_way(tmp_path)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (status, word and f"experiments.py: {word}\n")
    until = time.monotonic() + 20
    while alive := [pid for pid in found if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < until, alive
        time.sleep(0.02)
    assert not contents(tmp_path / "split-normal")


@pytest.mark.parametrize("number, words", [(signal.SIGKILL, "Killed; out of memory?"),
                                           (signal.SIGTERM, "Terminated")])  # fmt: skip
def test_a_worker_that_is_killed_ends_the_run_and_is_named(number, words, tmp_path):
    process, found = under_way(tmp_path)
    os.kill(found[0], number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2 and len(err.splitlines()) == 1
    assert err.startswith(f"experiments.py: error: worker {found[0]} ended: {words}")
    assert not contents(tmp_path / "split-normal")


def test_a_second_run_into_the_same_folder_is_refused(tmp_path):
    process, _ = under_way(tmp_path)
    status, _, err, files = run(tmp_path)
    process.kill()
    process.communicate()
    assert (status, files) == (2, {})
    assert err == f"experiments.py: error: another run is writing to {tmp_path / 'split-normal'}\n"
    assert run(tmp_path, "--no-plot")[0] == 0  # the lock ends with its run


def test_a_worker_that_is_killed_while_it_sends_its_result_is_named():
    def kill(share, pid):
        if pid:
            time.sleep(0.2)  # by now it waits for us to read
            os.kill(int(pid), signal.SIGKILL)

    tasks = [lambda report: report(0.5, os.getpid()) or bytes(2**24), lambda report: None]
    with pytest.raises(ChildProcessError, match="ended: Killed"):
        processes.parallel(tasks, 2, kill)


def test_errors_of_workers_are_raised_here_and_results_come_in_order():
    tasks = [lambda report, n=n: report(0.5, n) or n for n in range(5)]
    calls = []
    assert processes.parallel(tasks, 3, lambda *call: calls.append(call)) == [*range(5)]
    assert calls[-1][0] == 1 and max(gap for _, gap in calls) > 0

    def data(rng, n):
        if n > 1:
            raise ZeroDivisionError("of the data")
        return np.zeros((n, 1))

    for jobs in (1, 2):
        with pytest.raises(ZeroDivisionError, match="of the data"):
            mae.fit(data, seeds=2, steps=2, jobs=jobs)


def test_a_worker_that_leaves_without_a_result_is_named():
    leaves = lambda report: os._exit(0)
    with pytest.raises(ChildProcessError, match=r"worker \d+ ended: no result"):
        processes.parallel([leaves, lambda report: 1], jobs=2)
