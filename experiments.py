"""The poster's experiments: `python experiments.py NAME` trains, prints a table, draws figures."""

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback out of the imports

import argparse
import contextlib
import math
import os
import re
import runpy
import shutil
import sys
import textwrap
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Callable, NamedTuple

# The matrices are small: a second BLAS thread costs more than it brings. A user's own setting wins.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import claims
import mae
import models
import own
import problems
import processes
from problems import (
    DIGITS, FACES, NORMAL, SEQUENCES, STD, UNIFORM, Problem, autoregressive, holding, row_of,
)  # fmt: skip
from results import as_made, file_of, locked, progress_line, publish, say


class Group(NamedTuple):
    """Models that are trained together."""

    problem: Problem
    likelihood: mae.Likelihood
    models: dict  # Method -> targets
    expressive: bool = True  # whether the decoder can reach the optimum
    settings: dict = {}  # of mae.fit, where they are not those of the experiment


class Experiment(NamedTuple):
    summary: str
    groups: dict  # name -> Group
    claims: Callable  # rows -> (claim, what is wanted, what was found, whether it holds)
    keys: tuple = ("target",)  # columns that tell the lines of the table apart
    heads: tuple = ("information", "infomax_bound", "log_likelihood", "below_optimum", "elbo")
    settings: dict = {}  # of mae.fit, where they are not the usual ones


# --------------------------------------------------------------------------------- the experiments

USUAL = {"seeds": 4, "seed": 0, "steps": 4000, "batch": 128, "hidden": 16, "r_samples": 4}
QUICK = {"steps": 2000, "learning_rate": 0.03}
MAE, TENS = mae.LAGRANGIAN, (None, 0.5, 1.0, 1.5, 2.0, 2.2, math.log(10))
ANNEALING = [mae.annealed(end) for end in (0.25, 0.5, 1)]
VAE = {mae.VAE: (None,)}
SWEEP = VAE | {MAE: tuple(np.linspace(0, 2, 9).tolist())}
COMPARED = [mae.VAE, *ANNEALING[:2], *map(mae.beta_vae, (0.5, 2)), *map(mae.infomax, (0, 0.1))]
HELD = {mae.PENALTY: (1.0, 2.0), MAE: (1.0, 2.0)}
compared = lambda problem, m: dict.fromkeys([*COMPARED, *holding(problem, m)], (None,)) | HELD
CAUSAL = dict.fromkeys([mae.VAE, *ANNEALING], (None,)) | {MAE: (0.0, 0.35, 0.7, 1.0, 1.2)}
BY_METHOD = ("group", "method", "target")
INTERVAL = ("information_low", "information_high")

FACE = mae.fixed_variance(0.3)
ON_FACES = {"steps": 2000, "batch": 32, "hidden": 128, "latent": 2, "learning_rate": 3e-3}
ASKED = {  # name -> models, proposals
    name: (Group(problem, mae.GAUSSIAN, {MAE: (0.3, 0.7, 1.5)}, False), 4)
    for name, problem in problems.LINES.items()
} | {
    "fixed variance": (
        Group(NORMAL, mae.fixed_variance(STD), {MAE: (0.1, 0.25, 0.5, 1.0, 2.0)}, False), 4),
    "ten categories": (Group(UNIFORM, mae.CATEGORICAL, {MAE: TENS[2:6]}), 16),
    "faces": (Group(FACES, FACE, {MAE: (3.0, 5.0)}, settings=ON_FACES | {"seeds": 1}), 8),
}  # fmt: skip

EXPERIMENTS = {
    "split-normal": Experiment(
        "x ~ N(0, 1): a normal learnt as an infinite mixture of normals (Figure 6)",
        {"split-normal": Group(
            NORMAL, mae.GAUSSIAN, {MAE: (None, 0.4, 0.8, 1.2, 1.6, 2.0, 2.5, 3.0)})},
        claims.split_normal,
        settings={"r_samples": 0},  # the posteriors are Gaussian: the bound is I
    ),
    "categorical": Experiment(
        "x uniform on ten values, softmax decoder (Figure 5)",
        {"categorical": Group(UNIFORM, mae.CATEGORICAL, {MAE: TENS})},
        claims.categorical,
        settings={"r_samples": 16},
    ),
    "likelihood": Experiment(
        "log-likelihood against information, by what the decoder can do (Figure 4)",
        {
            "expressive": Group(NORMAL, mae.GAUSSIAN, SWEEP, settings=QUICK | {"r_samples": 0}),
            "restricted": Group(NORMAL, mae.fixed_variance(STD), SWEEP, False, {"batch": 256}),
        },
        claims.likelihood,
        keys=("group", "target"),
        heads=("information", "log_likelihood", "below_optimum"),
    ),
    "sequences": Experiment(
        "strings of bits: decoders that need no code, and some that do (related work)",
        {
            "causal": Group(SEQUENCES, autoregressive("causal", 6), CAUSAL, settings={
                "seeds": 2, "steps": 700, "learning_rate": 0.03}),
            "bits dropped": Group(SEQUENCES, autoregressive("dropped", 6, 0.5), VAE, False),
            "one bit back": Group(SEQUENCES, autoregressive("one bit back", 1), VAE, False),
            "factorised": Group(SEQUENCES, autoregressive("factorised", 0), VAE, False),
        },
        claims.sequences,
        keys=BY_METHOD,
        heads=("information", "infomax_bound", "below_optimum", "elbo"),
        settings={"seeds": 3, "steps": 1000, "batch": 64, "r_samples": 1},
    ),
    "methods": Experiment(
        "VAE, annealing, beta-VAE, IM, holding rate or distortion, both forms of the MAE",
        {
            "split-normal": Group(
                NORMAL, mae.GAUSSIAN, compared(NORMAL, 1), settings={"r_samples": 0}),
            "categorical": Group(
                UNIFORM, mae.CATEGORICAL, compared(UNIFORM, 2), settings={"r_samples": 16}),
            "restricted": Group(
                NORMAL, mae.fixed_variance(STD), dict.fromkeys(holding(NORMAL, 1), (None,))
                | VAE | {MAE: (1.0,)}, False),
        },
        claims.methods,
        keys=BY_METHOD,
        heads=("information", "encoder_information", "rate", "marginal_kl", "distortion",
               "below_optimum"),
        settings={"seeds": 2, "steps": 3500, "batch": 64, "learning_rate": 0.025},
    ),
    "faces": Experiment(
        "faces with two hidden factors, laid out by a two-dimensional code (Figure 3)",
        {"faces": Group(FACES, FACE, VAE | {MAE: (2.0, 3.0, 4.0, 5.0)})},
        claims.faces,
        keys=("method", "target"),
        heads=(*INTERVAL, "elbo", "rate", "r2_angle", "r2_emotion"),
        settings={"seeds": 1, "r_samples": 8, **ON_FACES},
    ),
    "digits": Experiment(
        "digits of 64 pixels: I itself with codes of two, four and eight dimensions",
        {f"{n} codes": Group(DIGITS, FACE, {MAE: (3.0, 6.0)},
                             settings={"latent": n}) for n in (2, 4, 8)},
        claims.digits,
        keys=("group", "target"),
        heads=(*INTERVAL, "infomax_bound", "elbo", "rate"),
        settings={"seeds": 1, "steps": 4000, "batch": 64, "hidden": 64, "learning_rate": 5e-3,
                  "r_samples": 16},
    ),
    "information": Experiment(
        "I asked for and I had: by the bound alone, and by estimates from both sides",
        {
            f"{name}, {way}": group._replace(settings=group.settings | {"r_samples": n})
            for name, (group, proposals) in ASKED.items()
            for way, n in (("bound alone", 0), ("both sides", proposals))
        },
        claims.information,
        keys=("group", "target"),
        heads=(*INTERVAL, "infomax_bound"),
        settings=QUICK | {"seeds": 1},
    ),
}  # fmt: skip


def experiment_of(path):
    """`own`: the data of a file, a VAE and three targets."""
    problem, likelihood, read = own.read(path)
    targets = tuple(m for m in (None, 0.5, 1.0, 1.5) if m is None or m < problem.most)
    heads = ("information", *INTERVAL, "infomax_bound", "log_likelihood", "elbo")
    group = Group(problem, likelihood, {MAE: targets}, expressive=False)
    settings = {"seeds": 2, "r_samples": 16 if likelihood.discrete else 4}
    return Experiment(read, {"own": group}, lambda rows: (), heads=heads, settings=settings)


# ----------------------------------------------------------------------------------------- running


def run(name, experiment, options):
    """Train, evaluate, write, draw, print one experiment -> its rows; whether all was written."""
    known = {key: group.problem for key, group in experiment.groups.items()}
    all_of = lambda group: USUAL | experiment.settings | group.settings | options.chosen
    settings = {key: all_of(group) for key, group in experiment.groups.items()}
    made = as_made(name, settings)
    with locked(options.out / name) as folder:
        fits = train(experiment.groups, settings, options.jobs, progress_line(f"{name}: trained"))
        every = ((key, fit[k]) for key, fit in fits.items() for k in range(len(fit)))
        tasks = [partial(row_of, model, key, known[key]) for key, model in every]
        rows = processes.parallel(tasks, options.jobs, progress_line(f"{name}: evaluated"))
        lines = [claims.table(rows, experiment.keys, experiment.heads)]
        wrap = partial(textwrap.fill, width=90, subsequent_indent="    ")
        lines += map(wrap, claims.complaints(rows, experiment))
        lines += [line for fit in fits.values() for line in claims.divergences(fit)]
        named = fits if len(fits) > 1 else dict(zip([""], fits.values()))
        files = {"models.npz": lambda path: models.save(path, named, made)}
        return rows, publish(folder, rows, lines, made, (fits, rows, known), options, files)


def train(groups, settings, jobs, progress):
    """{group: Fit}: many groups are spread over the processes; few are trained in turn, by all."""
    outer, inner = (jobs, 1) if len(groups) > 2 * jobs else (1, jobs)
    tasks = [partial(train_group, groups[key], settings[key], inner) for key in groups]
    return dict(zip(groups, processes.parallel(tasks, outer, progress)))


def train_group(group, settings, jobs, report):
    """One Fit of all models of the group, each pair of method and target once."""
    pairs = []
    for method, targets in group.models.items():
        if method in (mae.LAGRANGIAN, mae.PENALTY):
            method = mae.METHODS[settings.get("method", method.name)]
            targets = settings.get("information", targets)
        for target in targets:
            free = target is None and method in (mae.LAGRANGIAN, mae.PENALTY)
            pairs.append((mae.VAE if free else method, target))
    methods, targets = zip(*dict.fromkeys(pairs))
    settings = settings | {"information": targets, "method": methods, "jobs": jobs}
    progress = lambda step, gap: report(step / settings["steps"], gap)
    return mae.fit(group.problem.data, likelihood=group.likelihood, progress=progress, **settings)


COMMANDS = {
    "questions": "the reviewers' questions, in numbers (docs/questions.md)",
    "own": "data of your own: own FILE.csv, columns of numbers or one of categories",
    "scaling": "seconds of training against models, steps, batch and proposals, to plan a sweep",
    "all": "every experiment above but own, the questions, and a summary of the claims",
    "docs": "all of it, and what it prints and draws into README and docs",
}
COMMON = {"steps": 400, "batch": 64, "r_samples": 0}
CURVES = {  # what grows, from the common point of 24 models, 400 steps, batches of 64
    "models": [6, 24, 96, 384],
    "steps": [100, 200, 400, 800],
    "batch": [16, 64, 256, 1024],
    "r_samples": [0, 1, 4, 16],
}


def seconds(models=24, **settings):
    """The shortest time of three split-normal fits; a quarter of the models share each target."""
    information, taken = np.linspace(0, 2, max(models // 4, 1)), []
    for _ in range(3):
        start = time.perf_counter()
        mae.fit(NORMAL.data, information=information, seeds=4, **COMMON | settings)
        taken.append(time.perf_counter() - start)
    return min(taken)


def scaling(options):
    """Measure and print the four curves -> whether all was written."""
    seconds(steps=50)  # warm up
    rows, common = [], seconds() / 400
    for what, size in ((what, size) for what, sizes in CURVES.items() for size in sizes):
        taken = seconds(**{what: size})
        per_step = taken / (size if what == "steps" else 400)
        row = {"grows": what, "value": size, "seconds": taken, "ms_per_step": 1e3 * per_step}
        rows.append(row | {"relative_step": per_step / common})
    lines = ["    grows  value  seconds  ms/step  of one step of 24 models and 64 examples"]
    lines += ["{:>9}{:>7}{:>9.3f}{:>9.3f}{:>8.2f}".format(*row.values()) for row in rows]
    with locked(options.out / "scaling") as folder:
        return publish(folder, rows, lines, as_made("scaling", COMMON), (rows,), options)


def ask(options):
    """Answer the reviewers' questions -> their claims, and whether all was written."""
    import questions

    with locked(options.out / "questions") as folder:
        show = progress_line("questions: answered")
        rows, fits = questions.run(options.chosen, options.jobs, show)
        claimed = [("questions", claim) for claim in claims.questions(rows)]
        tables = {0: claims.summary(claimed)} | questions.tables(rows)
        lines = [f"{name or 'claims'}\n{text}\n" for name, text in tables.items()]
        text = (Path(__file__).parent / "docs" / "questions.md").read_text("utf-8")
        files = {"questions.md": file_of(questions.page(text, tables))}
        made = as_made("questions", options.chosen)
        return claimed, publish(folder, rows, lines, made, (fits, rows), options, files)


def run_all(options):
    """Every experiment, the questions, and all claims -> whether all is written and holds."""
    claimed, every, complete = [], [], True
    for name, experiment in EXPERIMENTS.items():
        say(f"\n{name}: {experiment.summary}")
        rows, written = run(name, experiment, options)
        every, complete = every + rows, complete and written
        claimed += [(name, claim) for claim in experiment.claims(rows)]
    answers, written = ask(options)
    claimed, complete = claimed + answers, complete and written
    held = sum(bool(claim[-1]) for _, claim in claimed)
    lines = [claims.summary(claimed), "", f"{held} of {len(claimed)} claims hold."]
    with locked(options.out / "all") as folder:
        complete &= publish(folder, every, lines, as_made("all", {}), (every,), options)
    return complete and held == len(claimed)


PICTURES = {  # of docs: where a run writes them
    "history": "categorical/history", "strings": "sequences/strings",
    "posteriors": "information/posteriors", "split-normal": "rows/split-normal/figure",
}  # fmt: skip


def document(options):
    """Run everything, and put what it printed and drew into README and docs -> as `run_all`."""
    root, held = Path(__file__).parent, run_all(options)
    rows = "split-normal --seeds 1 --information none 0.8 1.6 2.4 3".split()
    main([*rows, "--jobs", str(options.jobs), "--out", str(options.out / "rows")])

    def printed(found):
        """A command line, and what it printed, of which `grep` leaves the lines with its text."""
        lines = (options.out / found[2] / "table.txt").read_text("utf-8").splitlines(True)
        return found[1] + "".join(line for line in lines if (found[3] or "") in line)

    for page in [root / "README.md", *(root / "docs").glob("*.md")]:
        answered = options.out / "questions" / page.name
        text = (answered if answered.exists() else page).read_text("utf-8")
        block = r'(?ms)^(\$ python experiments\.py (\S+)(?: \| grep "(.*?)")?\n).*?(?=^```)'
        text = re.sub(block, printed, text)
        models.write(page.parent, {page.name: file_of(text)})
    for picture in (root / "docs").glob("*.png"):
        places = PICTURES.get(picture.stem, picture.stem + "/figure"), "questions/" + picture.stem
        for drawn in (options.out / f"{place}.png" for place in places):
            if drawn.exists():
                shutil.copyfile(drawn, picture)
    for script in ("drawing.py", "animation.py"):
        runpy.run_path(str(root / "docs" / script), run_name="__main__")
    return held


# ------------------------------------------------------------------------------------ command line


def number(kind, low, high, name):
    """A type for argparse, which names it in its errors."""

    def read(text):
        if text == "none" and kind is float:
            return None
        if text in EXPERIMENTS:
            raise argparse.ArgumentTypeError(f"NAME comes first: {text} --information ...")
        value = kind(text)
        if not low <= value <= high:
            raise ValueError
        return value

    read.__name__ = f"{name} from {low} to {high}"
    return read


target = number(float, 0, 10**6, "target (none, or nats)")
count, seed = number(int, 1, 10**6, "integer"), number(int, 0, 10**9, "integer")
proposals = number(int, 0, 10**4, "integer")


def parser():
    summaries = {name: own.summary for name, own in EXPERIMENTS.items()} | COMMANDS
    listed = "\n".join(["experiments:", *(f"  {n:14}{text}" for n, text in summaries.items())])
    parser = argparse.ArgumentParser(
        usage="python experiments.py NAME [options]", description=__doc__, epilog=listed,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = lambda name, kind, unit, text, **more: parser.add_argument(
        name, type=kind, metavar=unit, help=text, **more
    )
    text = "the experiment, see below; comes first"
    add("name", None, "NAME", text, choices=summaries, nargs="?")
    add("file", None, "FILE", "of `own`: comma-separated values, names in line 1 or not", nargs="?")
    text = "targets for I(z, x) in nats; none: no constraint, a VAE (default: the README's rows)"
    add("--information", target, "M", text, nargs="+")
    add("--seeds", count, "N", "models per target (default: 4, or its own)")
    add("--seed", seed, "S", "the first one's seed (default: 0)")
    add("--steps", count, "T", "training steps (default: 4000, or its own)")
    add("--batch", count, "B", "examples per step (default: 128, or its own)")
    add("--hidden", count, "H", "hidden units (default: 16, or its own)")
    text = "proposals in the estimate of I; 0: the infomax bound alone (default: 4, or its own)"
    add("--r-samples", proposals, "n", text)
    text = "how split-normal and categorical enforce the constraint (default: lagrangian)"
    add("--method", None, None, text, choices=["lagrangian", "penalty"])
    text = "processes; they do not change the results (default: as many as there are cores)"
    add("--jobs", count, "N", text, default=processes.cores())
    text = "write to DIR/NAME/"
    add("--out", lambda path: Path(path).expanduser(), "DIR", text, default=Path("out"))
    parser.add_argument("--no-plot", action="store_true", help="no figures")
    return parser


def parse(arguments):
    """The options, each legal and such as applies; the experiment, or None."""
    options, fail = parser().parse_args(arguments), parser().error
    if not options.name:
        fail(f"NAME is one of {', '.join((*EXPERIMENTS, *COMMANDS))}")
    if (options.name == "own") != (options.file is not None):
        fail("own takes one FILE, of comma-separated values" if options.name == "own" else
             f"argument FILE: {options.file} does not apply to {options.name}")  # fmt: skip
    try:
        experiment = experiment_of(options.file) if options.file else EXPERIMENTS.get(options.name)
    except ValueError as error:
        fail(str(error))
    given = {name: getattr(options, name) for name in ("information", "method", *USUAL)}
    options.chosen = {name: value for name, value in given.items() if value is not None}
    for name in options.chosen:
        applies = experiment and (name != "method" or experiment.keys == ("target",))
        if not (applies or options.name == "questions" and name in ("seeds", "seed", "steps")):
            fail(f"argument --{name.replace('_', '-')}: does not apply to {options.name}")
    for group in experiment.groups.values() if experiment else ():
        for value in options.information or ():
            if value is not None and value > group.problem.most + 1e-9:
                most = f"{group.problem.most:.7g}"
                fail(f"argument --information: {value} is more than x can hold, {most}")
    return options, experiment


def main(arguments=None):
    """The exit status: 0 if all is written, and of `all` every claim holds."""
    options, experiment = parse(arguments)
    if options.file:
        say(experiment.summary)
    commands = {"scaling": scaling, "all": run_all, "docs": document}
    commands |= {"questions": lambda options: ask(options)[1]}
    command = commands.get(options.name, lambda options: run(options.name, experiment, options)[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mae.TrainingWarning)  # tables say what came out, exactly
        return int(not command(options))


def stop(status, message):
    """End at once, wherever the run is, with one line on stderr and no temporary file."""
    with contextlib.suppress(OSError, RuntimeError, AttributeError):  # stderr may be gone
        line = "\n" * sys.stderr.isatty() + f"experiments.py: {message}\n"
        os.write(sys.stderr.fileno(), line.encode())
    for path in models.UNFINISHED:
        with contextlib.suppress(OSError):
            os.unlink(path)
    os._exit(status)  # an exception would be lost, or made another, inside other people's imports


if __name__ == "__main__":
    ends = {"SIGINT": "interrupted", "SIGTERM": "ended", "SIGHUP": "hung up"}
    for number, end in ((getattr(signal, name, None), end) for name, end in ends.items()):
        if number and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _, end=end: stop(128 + number, end))
    if sys.stdout:
        sys.stdout.reconfigure(errors="replace")  # ± is not in every code page
    try:
        try:
            status = main()
        except SystemExit as end:  # help was printed, or an error
            status = end.code
        if sys.stdout:
            sys.stdout.flush()
    except BrokenPipeError:
        stop(128 + 13, "nobody reads what is printed")
    except (OSError, MemoryError) as error:
        stop(2, f"error: {str(error) or 'out of memory'}")
    sys.exit(status)
