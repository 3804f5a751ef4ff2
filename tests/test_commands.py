"""The command line in trouble: bad input, kills at any moment, full disks; and equal bytes."""

import contextlib
import itertools
import os
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import experiments

pty, resource = (pytest.importorskip(name, reason="not on Windows") for name in ("pty", "resource"))

ROOT = Path(__file__).parent.parent
SMALL = ("split-normal", "--information", "0.5", "--seeds", "1", "--batch", "16", "--hidden", "8")
RESULTS = ("metrics.csv", "models.npz")


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

BAD_INTEGERS = ("0", "-1", "1.5", "1e3", "many", "", "nan", "inf", str(10**12), str(10**30))
WRONG = [
    ([], "NAME"),
    (["nowhere"], "'nowhere'"),
    (["split-normal", "categorical"], "categorical"),
    (["split-normal", "--method", "magic"], "'magic'"),
    (["split-normal", "--method", "vae"], "'vae'"),
    (["split-normal", "--method"], "--method: expected one argument"),
    (["split-normal", "--information"], "--information: expected at least one argument"),
    (["split-normal", "--information", "0.5", "-1"], "'-1'"),
    (["split-normal", "--stepz", "10"], "--stepz"),
    (["split-normal", "--out"], "--out: expected one argument"),
    (["split-normal", "--no-plot=1"], "--no-plot"),
    (["split-normal", "--seed", "-1"], "--seed: invalid integer from 0 to"),
    (["split-normal", "--seed", "0.5"], "'0.5'"),
    (["split-normal", "--seed", str(10**30)], "--seed: invalid"),
    (["categorical", "--information", "2.31"], "2.31 is more than x can hold, 2.302585"),
    (["methods", "--information", "none", "1", "2.31"], "2.31 is more than x can hold, 2.302585"),
    (["sequences", "--information", "4.16"], "4.16 is more than x can hold, 4.158883"),
]
WRONG += [
    (["split-normal", "--information", value], "invalid target (from 0 to 1e6 nats, or none) value")
    for value in ("-1", "-0.001", "nan", "inf", "1e300", "1e999", "many", "", "0,5")
]
WRONG += [(["split-normal", "--information", "-inf"], "--information")]
WRONG += [
    (["split-normal", f"--{name}", value], f"--{name}: invalid integer from 1 to 1000000 value")
    for name in ("seeds", "steps", "batch", "hidden")
    for value in BAD_INTEGERS
]
WRONG += [
    ([name, "--method", "penalty"], f"--method: does not apply to {name}")
    for name in ("likelihood", "sequences", "methods", "faces", "scaling", "all")
]
WRONG += [
    ([name, f"--{option}", "1"], f"--{option}: does not apply to {name}")
    for name in ("scaling", "all")
    for option in ("information", "seeds", "seed", "steps", "batch", "hidden")
]


@pytest.mark.parametrize("arguments, words", WRONG, ids=lambda value: " ".join(value)[:60])
def test_bad_input_is_named_in_one_line_and_nothing_is_written(
    arguments, words, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        experiments.main(arguments)
    out, err = capsys.readouterr()
    *usage, last = err.splitlines()
    assert stopped.value.code == 2 and out == "" and words in last
    assert last.startswith("python experiments.py NAME") or ": error: " in last
    assert len(usage) == 1 and usage[0].startswith("usage: ")
    assert not list(tmp_path.iterdir())


def test_the_largest_legal_values_are_legal():
    integers = {"seeds": 10**6, "seed": 10**9, "steps": 10**6, "batch": 10**6, "hidden": 10**6}
    arguments = itertools.chain(*((f"--{name}", str(n)) for name, n in integers.items()))
    options = experiments.parse(["split-normal", *arguments, "--information", "0", "1e6", "none"])
    assert {name: getattr(options, name) for name in integers} == integers
    assert options.information == [0, 1e6, None]
    assert experiments.parse(["categorical", "--information", "2.302585"]).information


def refused(words, *arguments, **settings):
    """One line that has these words, status 2."""
    status, out, err = run(*SMALL, "--steps", 5, "--no-plot", *arguments, **settings)
    assert (status, out.count("metrics.csv"), len(err.splitlines())) == (2, 0, 1), err
    assert err.startswith("experiments.py: error: ") and words in err


def test_outputs_that_cannot_be_are_refused(tmp_path):
    (tmp_path / "file").write_text("kept")
    refused("file", "--out", tmp_path / "file")
    refused("file", "--out", tmp_path / "file" / "below")
    refused("proc", "--out", "/proc/nowhere")
    assert contents(tmp_path) == {"file": b"kept"}


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
    """Results of seed 0 in a folder, which a run of seed 1 is to replace; and those of seed 1."""

    def __init__(self, path, *options):
        self.path, self.folder = path, path / "now" / "split-normal"
        self.command = (*SMALL, "--steps", 300, *options)
        self.runs = [self.reference(seed) for seed in (0, 1)]
        assert all(self.runs[0][name] != self.runs[1][name] for name in self.runs[0])
        self.restore()

    def reference(self, seed):
        """The files of an undisturbed run; how long it takes is kept too, the shorter of two."""
        began = time.perf_counter()
        status, _, err = run(*self.command, "--seed", seed, "--out", self.path / str(seed))
        assert (status, err) == (0, "")
        self.length = min(getattr(self, "length", 60), time.perf_counter() - began)
        return contents(self.path / str(seed) / "split-normal")

    def restore(self):
        """The old results, and nothing else."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.iterdir():
            path.unlink()
        for name, data in self.runs[0].items():
            (self.folder / name).write_bytes(data)

    def start(self, **settings):
        return start(*self.command, "--seed", 1, "--out", self.path / "now", **settings)

    def which(self, hidden=False):
        """0 if the old results are there, 1 if the new ones; fails on anything else."""
        found = contents(self.folder)
        if hidden:  # a killed run may leave some
            found = {name: data for name, data in found.items() if not name.startswith(".")}
        return self.runs.index(found)

    def moments(self, n):
        """Random moments of the run, half of them near its end, where the files are written."""
        rng = random.Random(0)
        return [rng.uniform(*((0, 1.1), (0.85, 1.1))[i % 2]) * self.length for i in range(n)]


@pytest.fixture(scope="module")
def rerun(tmp_path_factory):
    return Rerun(tmp_path_factory.mktemp("rerun"), "--no-plot")


def check_kills(rerun, n):
    ends = []
    for moment in rerun.moments(n):
        rerun.restore()
        process = rerun.start()
        time.sleep(moment)
        process.kill()
        process.communicate()
        ends.append((process.returncode, rerun.which(hidden=True)))
    assert (-signal.SIGKILL, 0) in ends and {status for status, _ in ends} <= {0, -signal.SIGKILL}
    assert all(which == 1 for status, which in ends if status == 0)


def test_a_killed_run_leaves_one_set_of_results(rerun):
    check_kills(rerun, 6)


@pytest.mark.slow
@pytest.mark.parametrize("options", [["--no-plot"], []])
def test_a_run_killed_at_fifty_moments_leaves_one_set_of_results(options, tmp_path):
    check_kills(Rerun(tmp_path, *options), 50)


@contextlib.contextmanager
def terminal():
    """A pseudo-terminal: the end to read from and the end to write to."""
    ends = pty.openpty()
    yield ends
    for end in ends:
        os.close(end)


def check_signals(rerun, number, n):
    """The signal at random moments of training, evaluation and writing."""
    rng, ends = random.Random(number), []
    for moment in [0, *(rng.uniform(0, 0.7) for _ in range(n - 1))]:
        rerun.restore()
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
    stopped = {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    # Python gives the signal its plain meaning back when all is done
    assert (stopped, 0) in ends and {status for status, _ in ends} <= {0, stopped, -number}
    assert all(which == 1 for status, which in ends if status != stopped)


SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_run_that_is_told_to_stop_leaves_no_temporary_file(number, rerun):
    check_signals(rerun, number, 3)


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("options", [["--no-plot"], []])
def test_a_run_that_is_told_to_stop_at_25_moments(options, number, tmp_path):
    check_signals(Rerun(tmp_path, *options), number, 25)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # between open and with
def test_an_interrupt_at_any_moment_of_writing_leaves_one_set(tmp_path):
    """The timer's signal goes off in `write`, 1,000 times, evenly spread over its duration."""
    names = (*RESULTS, "figure.png")
    save = lambda path: Path(path).write_text("new")

    def seconds(delay=60.0):
        for name in names:
            (tmp_path / name).write_text("old")
        began = time.perf_counter()
        with contextlib.suppress(KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, delay)
            experiments.write(tmp_path, dict.fromkeys(names, save))
            time.sleep(delay < 60)  # until it goes off
        return time.perf_counter() - began

    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        length, found = min(seconds() for _ in range(20)), []
        for i in range(1000):
            seconds((i + 1) / 800 * length)
            found.append({name: data.decode() for name, data in contents(tmp_path).items()})
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    old, new = (dict.fromkeys(names, text) for text in ("old", "new"))
    assert all(files in (old, new) for files in found)
    assert min(found.count(old), found.count(new)) > 50


def check_full_disk(rerun, limits):
    """No file may grow beyond the limit, in bytes: each has room, or none is replaced."""
    room = max(map(len, rerun.runs[1].values()))
    for limit in limits:
        rerun.restore()
        full = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        process = rerun.start(preexec_fn=full)
        _, err = process.communicate()
        assert (process.returncode, rerun.which()) == ((2, 0) if limit < room else (0, 1)), limit
        if limit < room:
            assert len(err.splitlines()) == 1 and err.startswith("experiments.py: error: "), err
            assert "File too large" in err


def test_a_full_disk_leaves_the_old_results(rerun):
    sizes = [len(data) for data in rerun.runs[1].values()]
    check_full_disk(rerun, [0, min(sizes) - 1, min(sizes), max(sizes) // 2, max(sizes) - 1])
    check_full_disk(rerun, [max(sizes)])


@pytest.mark.slow
def test_a_full_disk_leaves_the_old_results_and_figures(tmp_path):
    rerun = Rerun(tmp_path)
    sizes = [len(data) for data in rerun.runs[1].values()]
    ends = [size + more for size in sizes for more in (-1, 0)]
    check_full_disk(rerun, [0, *range(1, max(sizes), max(sizes) // 20), *ends])


# -------------------------------------------------------------------------------------- equal bytes


def test_figures_and_progress_do_not_change_the_results(rerun, tmp_path):
    with terminal() as (screen, stderr):
        process = rerun.start(stderr=stderr)
        process.communicate()
        assert b"step" in os.read(screen, 4096) and process.returncode == 0
    assert rerun.which() == 1
    command = [argument for argument in rerun.command if argument != "--no-plot"]
    assert run(*command, "--seed", 1, "--out", tmp_path)[0] == 0
    drawn = contents(tmp_path / "split-normal")
    assert len(drawn) > 2 and {name: drawn[name] for name in RESULTS} == rerun.runs[1]


SHARDS = """
for s in 0 1 2; do python experiments.py split-normal --seeds 1 --seed $s --out out/$s; done
head -n 1 out/0/split-normal/metrics.csv > all.csv
tail -qn +2 out/[0-9]*/split-normal/metrics.csv | sort >> all.csv
"""


def test_tables_of_shards_join_to_that_of_the_whole(tmp_path):
    small = ("--steps", 30, "--batch", 16, "--no-plot")

    def rows(*arguments):
        run("split-normal", *small, *arguments, "--out", tmp_path)
        return (tmp_path / "split-normal" / "metrics.csv").read_text().splitlines()

    head, *whole = rows("--seeds", 3)
    program = [sys.executable, ROOT / "experiments.py", "split-normal", *small]
    shell = SHARDS.replace("python experiments.py split-normal", " ".join(map(str, program)))
    subprocess.run(["sh", "-ec", shell], check=True, capture_output=True, cwd=tmp_path)
    assert (tmp_path / "all.csv").read_text().splitlines() == [head, *sorted(whole)]
    assert len(set(whole)) == 3 * 8

    targets = ("3", "none", "0.4")  # in another order, and one alone
    some = rows("--seeds", 3, "--information", *targets)[1:]
    alone = rows("--seed", 2, "--seeds", 1, "--information", 3)[1:]
    assert set(alone) < set(some) < set(whole) and (len(alone), len(some)) == (1, 9)
