"""The command line in trouble: bad input, kills at any moment, full disks; and equal bytes."""

import contextlib
import os
import random
import select
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_experiments import COMMANDS, RESULTS, ROOT

import experiments
import models

fcntl, pty, resource, termios = (
    pytest.importorskip(name, reason="not on Windows")
    for name in ("fcntl", "pty", "resource", "termios")
)

SMALL = ("split-normal", "--information", "0.5", "--seeds", "1", "--batch", "16", "--hidden", "8")


def start(*arguments, **settings):
    # A signal may come between open and with: such a file is unclosed, which Python does not tell.
    strict = ("-W", "error", "-W", "ignore::ResourceWarning")
    command = [sys.executable, *strict, "experiments.py", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, **pipes | settings)


def run(*arguments, **settings):
    """Exit status, stdout, stderr."""
    process = start(*arguments, **settings)
    output = process.communicate()
    return process.returncode, *output


def contents(folder):
    """{name: bytes} of the files in a folder, hidden ones too."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ---------------------------------------------------------------------------------------- bad input

OPTIONS = ("seeds", "steps", "batch", "hidden")
FEW, FEWS = "integer from 0 to 10000", "-1 10001 0.5 1e3 many  nan"
INTEGER, INTEGERS = "integer from 1 to 1000000", f"0 -1 1.5 1e3 many  nan inf {10**12} {10**30}"
TARGET, TARGETS = "target (none, or nats) from 0 to 1000000", "-1 -.01 nan inf 1e999 many  0,5"
SEED, SEEDS = "integer from 0 to 1000000000", f"-1 0.5 {10**30}"
VALUES = {"information": (TARGET, TARGETS), "seed": (SEED, SEEDS), "r-samples": (FEW, FEWS)}
VALUES |= dict.fromkeys(OPTIONS, (INTEGER, INTEGERS))
FREE = {*experiments.EXPERIMENTS, "questions", "scaling", "all", "docs"}  # of a method
FREE -= {"split-normal", "categorical"}
WRONG = [  # arguments, words of the message
    ("", "NAME"),
    ("nowhere", "'nowhere'"),
    ("split-normal categorical", "categorical"),
    ("split-normal --method vae", "'vae'"),
    ("split-normal --method", "--method: expected one argument"),
    ("split-normal --out", "--out: expected one argument"),
    ("split-normal --information", "--information: expected at least one argument"),
    ("split-normal --information -inf", "--information"),
    ("split-normal --information 0.5 -1", "'-1'"),
    ("split-normal --stepz 10", "--stepz"),
    ("split-normal --no-plot=1", "--no-plot"),
    ("categorical --information 2.31", "2.31 is more than x can hold, 2.302585"),
    ("methods --information none 1 2.31", "2.31 is more than x can hold, 2.302585"),
    ("sequences --information 3.15", "3.15 is more than x can hold, 3.146"),
    ("information --information 2.31", "2.31 is more than x can hold, 2.302585"),
    ("split-normal --r_samples 4", "--r_samples"),
    ("--information 0.5 split-normal", "NAME comes first: split-normal --information"),
    ("split-normal --jobs 0", "--jobs"),
    ("own", "own takes one FILE"),
    ("split-normal data.csv", "FILE: data.csv does not apply to split-normal"),
    ("all data.csv", "FILE: data.csv does not apply to all"),
    ("questions --information 1", "--information: does not apply to questions"),
    ("questions --batch 1", "--batch: does not apply to questions"),
    *((f"{name} --method penalty", f"--method: does not apply to {name}") for name in sorted(FREE)),
]
for option, (kind, texts) in VALUES.items():
    for text in texts.split(" "):  # one of them is empty
        WRONG.append((f"split-normal --{option} {text}", f"--{option}: invalid {kind} value"))
    for name in ("scaling", "all", "docs"):
        WRONG.append((f"{name} --{option} 1", f"--{option}: does not apply to {name}"))


@pytest.mark.parametrize("line, words", WRONG)
def test_bad_input_is_named_in_one_line_and_nothing_is_written(
    line, words, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        experiments.main(line.split(" ") if line else [])
    out, err = capsys.readouterr()
    usage, last = err.splitlines()
    assert stopped.value.code == 2 and out == "" and words in last
    assert last.startswith("python experiments.py NAME") or ": error: " in last
    assert usage.startswith("usage: ") and not list(tmp_path.iterdir())


def test_the_largest_legal_values_are_legal():
    integers = {"seed": 10**9, "r_samples": 10**4} | dict.fromkeys(OPTIONS, 10**6)
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in integers.items()]
    arguments += ["--information", "0", "1e6", "none"]
    options, experiment = experiments.parse(["split-normal", *arguments])
    assert experiment is experiments.EXPERIMENTS["split-normal"]
    assert {name: getattr(options, name) for name in integers} == integers
    assert options.information == [0, 1e6, None]
    assert experiments.parse(["faces", "--r-samples", "0"])[0].r_samples == 0
    assert experiments.parse(["categorical", "--information", "2.302585"])[0].information


def refused(words, *arguments, **settings):
    """One line that has these words, status 2 -> what was printed before."""
    status, out, err = run(*SMALL, "--steps", 5, "--no-plot", *arguments, **settings)
    assert (status, out.count("metrics.csv"), len(err.splitlines())) == (2, 0, 1), err
    assert err.startswith("experiments.py: error: ") and words in err
    return out


def test_folders_that_cannot_be_are_refused_before_training(tmp_path):
    (tmp_path / "file").write_text("kept")
    places = {tmp_path / "file": "file", tmp_path / "file" / "below": "file", "/proc/no": "proc"}
    assert [refused(words, "--out", path) for path, words in places.items()] == [""] * 3
    assert contents(tmp_path) == {"file": b"kept"}
    status, out, err = run("split-normal", "--steps", 0, "--out", tmp_path / "new")
    assert (status, out, len(err.splitlines())) == (2, "", 2) and not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", RESULTS)
def test_a_folder_in_place_of_a_result_is_refused(name, tmp_path):
    (tmp_path / "split-normal" / name).mkdir(parents=True)
    refused(name, "--out", tmp_path)
    assert [path.name for path in (tmp_path / "split-normal").iterdir()] == [name]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_write_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    refused("Permission denied", "--out", tmp_path)


def test_models_too_large_for_the_memory_are_refused(tmp_path):
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    huge = ("--hidden", 10**6, "--batch", 10**6)
    refused("Unable to allocate", *huge, "--out", tmp_path, preexec_fn=limit)
    assert not contents(tmp_path / "split-normal")


# --------------------------------------------------------------------------- kills and full disks


class Rerun:
    """Results of seed 0 in a folder, which a run of seed 1 is to replace."""

    def __init__(self, path, options):
        self.path, self.command = path, (*SMALL, "--steps", 300, *options)
        self.runs, self.length = [], 60  # undisturbed: their files; the shorter one's seconds
        for seed in (0, 1):
            began = time.perf_counter()
            status, _, err = run(*self.command, "--seed", seed, "--out", path / str(seed))
            assert (status, err) == (0, "")
            self.length = min(self.length, time.perf_counter() - began)
            self.runs.append(contents(path / str(seed) / "split-normal"))
        assert all(self.runs[0][name] != self.runs[1][name] for name in self.runs[0])
        self.sizes = {name: len(data) for name, data in self.runs[1].items()}

    def start(self, **settings):
        """The run of seed 1 in a folder that has the results of seed 0 and nothing else."""
        shutil.rmtree(self.path / "now", ignore_errors=True)
        shutil.copytree(self.path / "0", self.path / "now")
        return start(*self.command, "--seed", 1, "--out", self.path / "now", **settings)

    def which(self, but=" "):
        """0 if the old results are there, 1 if the new ones; fails on anything else.

        New numbers may stand without figures, which are drawn after they are written.
        """
        found = contents(self.path / "now" / "split-normal")
        found = {name: found[name] for name in found if not name.startswith(but)}
        if found == {name: self.runs[1][name] for name in RESULTS}:
            return 1
        return self.runs.index(found)


@pytest.fixture(scope="module")
def rerun(request, tmp_path_factory):
    return Rerun(tmp_path_factory.mktemp("rerun"), request.param)


PLAIN, DRAWN = ("--no-plot",), ()
ONLY_PLAIN = pytest.mark.parametrize("rerun", [PLAIN], indirect=True)


def at_moments(few, many):
    """The default run's number of moments, and the slow one's, which is with figures, too."""
    slow = [pytest.param(options, many, marks=pytest.mark.slow) for options in (PLAIN, DRAWN)]
    return pytest.mark.parametrize("rerun, n", [(PLAIN, few), *slow], indirect=["rerun"])


@at_moments(6, 50)
def test_a_killed_run_leaves_one_set_of_results(rerun, n):
    """Half of the moments are near the end, where the files are written."""
    rng, ends = random.Random(0), []
    for i in range(n):
        process = rerun.start()
        time.sleep(rng.uniform(0.85 * (i % 2), 1.1) * rerun.length)
        process.kill()
        process.communicate()
        ends.append((process.returncode, rerun.which(but=".")))  # it may leave hidden files
    assert (-signal.SIGKILL, 0) in ends and {status for status, _ in ends} <= {0, -signal.SIGKILL}
    assert all(which == 1 for status, which in ends if status == 0)


@contextlib.contextmanager
def terminal(columns=80):
    """A pseudo-terminal: the end to read from and the end to write to."""
    ends = pty.openpty()
    fcntl.ioctl(ends[1], termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
    yield ends
    for end in ends:
        os.close(end)


@pytest.mark.parametrize("number, stopped", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@at_moments(3, 25)
def test_a_run_that_is_told_to_stop_leaves_no_temporary_file(rerun, n, number, stopped):
    """The signal comes at random moments of training, evaluation and writing."""
    rng, ends = random.Random(number), []
    for moment in [0, *(rng.uniform(0, 0.7) for _ in range(n - 1))]:
        with terminal() as (screen, stderr):
            process = rerun.start(stderr=stderr)
            assert select.select([screen], [], [], 60)[0]  # the progress: training has begun
            shown = os.read(screen, 4096)
            time.sleep(moment * rerun.length)
            process.send_signal(number)
            process.communicate()
            os.write(stderr, b"the end")
            while b"the end" not in shown:
                shown += os.read(screen, 4096)
        if b"Exception ignored" in shown:  # came in a finaliser, where Python drops it: ran on
            assert (process.returncode, rerun.which()) == (0, 1), shown
            continue
        assert b"Traceback" not in shown, shown
        *_, last, _ = shown.decode().splitlines()
        assert (last == "experiments.py: interrupted") == (process.returncode == 130)
        ends.append((process.returncode, rerun.which()))
    # Python gives the signal its plain meaning back when all is done
    assert (stopped, 0) in ends and {status for status, _ in ends} <= {0, stopped, -number}
    assert all(which == 1 for status, which in ends if status != stopped)


def test_an_interrupt_of_the_imports_ends_them_without_a_traceback(tmp_path):
    stub = "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(60)"
    (tmp_path / "numpy.py").write_text(stub)
    status, *printed = run(env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert (status, printed) == (-signal.SIGINT, ["", ""])


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # between open and with
@pytest.mark.parametrize("n", [200, pytest.param(2000, marks=pytest.mark.slow)])
def test_an_interrupt_at_any_moment_of_writing_leaves_one_set(n, tmp_path):
    """The timer's signal goes off in `write`, n times, evenly spread over its duration."""
    names = (*RESULTS, "figure.png")
    save = lambda path: Path(path).write_text("new")

    def seconds(delay=60.0):
        for name in names:
            (tmp_path / name).write_text("old")
        began = time.perf_counter()
        with contextlib.suppress(KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, delay)
            models.write(tmp_path, dict.fromkeys(names, save))
            time.sleep(delay < 60)  # until it goes off
        return time.perf_counter() - began

    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        length, found = sorted(seconds() for _ in range(20))[10], []
        for i in range(n):
            seconds((i + 1) / (0.6 * n) * length)
            found.append({name: data.decode() for name, data in contents(tmp_path).items()})
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    old, new = (dict.fromkeys(names, text) for text in ("old", "new"))
    assert all(files in (old, new) for files in found)
    assert min(found.count(old), found.count(new)) > 0.05 * n


@at_moments(2, 20)
def test_a_full_disk_leaves_the_old_results(rerun, n):
    """No file may grow beyond the limit, in bytes: each has room, or none is replaced."""
    room, most = max(map(rerun.sizes.get, RESULTS)), max(rerun.sizes.values())
    ends = {size - less for size in rerun.sizes.values() for less in (0, 1)}
    for limit in {0, *range(most // n, most, most // n), *ends}:
        full = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        process = rerun.start(preexec_fn=full)
        _, err = process.communicate()
        wanted = (2, 0) if limit < room else (int(limit < most), 1)  # figures come last
        assert (process.returncode, rerun.which()) == wanted, limit
        if limit < room:
            assert len(err.splitlines()) == 1 and err.startswith("experiments.py: error: "), err
            assert "File too large" in err


# -------------------------------------------------------------------------------------- equal bytes


@ONLY_PLAIN
@pytest.mark.parametrize("columns", [80, 40])
def test_progress_is_one_line_and_does_not_change_the_results(rerun, columns):
    with terminal(columns) as (screen, stderr):
        process = rerun.start(stderr=stderr)
        process.communicate()
        shown = os.read(screen, 4096)
        assert b"split-normal: trained 0%" in shown and process.returncode == 0
        assert max(map(len, shown.split(b"\r"))) < columns and b"\n" not in shown
    assert rerun.which() == 1


@ONLY_PLAIN
def test_figures_do_not_change_the_results(rerun, tmp_path):
    command = [argument for argument in rerun.command if argument != "--no-plot"]
    assert run(*command, "--seed", 1, "--out", tmp_path)[0] == 0
    drawn = contents(tmp_path / "split-normal")
    assert len(drawn) > 2 and {name: drawn[name] for name in RESULTS} == rerun.runs[1]


def test_a_tilde_is_the_home_folder_wherever_the_shell_leaves_it(tmp_path):
    few = (*SMALL, "--steps", 5, "--no-plot", "--out=~/x")
    assert run(*few, env=os.environ | {"HOME": str(tmp_path)})[::2] == (0, "")
    assert {*contents(tmp_path / "x" / "split-normal")} == {*RESULTS}


def test_tables_of_shards_join_to_that_of_the_whole(tmp_path):
    """By the commands of the pages, and one target alone."""
    small = ("--steps", 30, "--batch", 16, "--no-plot")

    def rows(*arguments):
        run("split-normal", *small, *arguments, "--out", tmp_path)
        return (tmp_path / "split-normal" / "metrics.csv").read_text().splitlines()

    head, *whole = rows("--seeds", 4)
    shell = next(block for block in COMMANDS if "shard" in block)
    program = (sys.executable, ROOT / "experiments.py", "split-normal", *small)
    program = shlex.join(map(str, program))
    shell = shell.replace("python experiments.py split-normal", program)
    subprocess.run(["sh", "-ec", shell], check=True, capture_output=True, cwd=tmp_path)
    first, *joined = (tmp_path / "metrics.csv").read_text().splitlines()
    assert first == head and sorted(joined) == sorted(whole) and len(set(whole)) == 4 * 8

    targets = ("3", "none", "0.4")  # in another order, and one alone
    some = rows("--seeds", 4, "--information", *targets)[1:]
    alone = rows("--seed", 2, "--seeds", 1, "--information", 3)[1:]
    assert set(alone) < set(some) < set(whole) and (len(alone), len(some)) == (1, 12)
