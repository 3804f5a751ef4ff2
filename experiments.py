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
import timeit
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
import processes
from problems import (
    DIGITS, FACES, FIXED, GAUSS, LINES, NORMAL, SEQUENCES, TENS, UNIFORM, Problem, autoregressive,
    holding, row_of,
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

SETTINGS = {  # of mae.fit: the usual one, the least and the most, unit, what it is
    "seeds": (4, 1, 10**6, "N", "models per target"),
    "seed": (0, 0, 10**9, "S", "the first one's seed"),
    "steps": (4000, 1, 10**6, "T", "training steps"),
    "batch": (128, 1, 10**6, "B", "examples per step"),
    "hidden": (16, 1, 10**6, "H", "hidden units"),
    "r_samples": (4, 0, 10**4, "n", "proposals in the estimate of I; 0: the infomax bound alone"),
}
USUAL = {name: usual for name, (usual, *_) in SETTINGS.items()}
QUICK = {"steps": 2000, "learning_rate": 0.03}
FACE = FACES, mae.fixed_variance(0.3)
ON_FACES = {"steps": 2000, "batch": 32, "hidden": 128, "latent": 2, "learning_rate": 3e-3}
BY_METHOD, INTERVAL = ("group", "method", "target"), ("information_low", "information_high")

free = lambda *methods: dict.fromkeys(methods, (None,))  # methods without a target
MAE, VAE, ANNEALED = mae.LAGRANGIAN, free(mae.VAE), [*map(mae.annealed, (0.25, 0.5, 1))]
SWEEP = VAE | {MAE: tuple(np.linspace(0, 2, 9).tolist())}
OTHERS = [mae.VAE, *ANNEALED[:2], *map(mae.beta_vae, (0.5, 2)), *map(mae.infomax, (0, 0.1))]
HELD = {mae.PENALTY: (1.0, 2.0), MAE: (1.0, 2.0)}
ASKED = {  # name -> models, proposals
    name: (Group(problem, mae.GAUSSIAN, {MAE: (0.3, 0.7, 1.5)}, False), 4)
    for name, problem in LINES.items()
} | {
    "fixed variance": (Group(*FIXED, {MAE: (0.1, 0.25, 0.5, 1.0, 2.0)}, False), 4),
    "ten categories": (Group(*TENS, {MAE: (1.0, 1.5, 2.0, 2.2)}), 16),
    "faces": (Group(*FACE, {MAE: (3.0, 5.0)}, settings=ON_FACES | {"seeds": 1}), 8),
}

EXPERIMENTS = {
    "split-normal": Experiment(
        "x ~ N(0, 1): a normal learnt as an infinite mixture of normals (Figure 6)",
        {"split-normal": Group(*GAUSS, {MAE: (None, 0.4, 0.8, 1.2, 1.6, 2.0, 2.5, 3.0)})},
        claims.split_normal,
        settings={"r_samples": 0},  # the posteriors are Gaussian: the bound is I
    ),
    "categorical": Experiment(
        "x uniform on ten values, softmax decoder (Figure 5)",
        {"categorical": Group(*TENS, {MAE: (None, 0.5, 1.0, 1.5, 2.0, 2.2, math.log(10))})},
        claims.categorical,
        settings={"r_samples": 16},
    ),
    "likelihood": Experiment(
        "log-likelihood against information, by what the decoder can do (Figure 4)",
        {
            "expressive": Group(*GAUSS, SWEEP, settings=QUICK | {"r_samples": 0}),
            "restricted": Group(*FIXED, SWEEP, False, {"batch": 256}),
        },
        claims.likelihood,
        keys=("group", "target"),
        heads=("information", "log_likelihood", "below_optimum"),
    ),
    "sequences": Experiment(
        "strings of bits: decoders that need no code, and some that do (related work)",
        {
            "causal": Group(
                SEQUENCES, autoregressive("causal", 6),
                VAE | free(*ANNEALED) | {MAE: (0.0, 0.35, 0.7, 1.0, 1.2)},
                settings={"seeds": 2, "steps": 700, "learning_rate": 0.03}),
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
            "split-normal": Group(*GAUSS, free(*OTHERS, *holding(NORMAL, 1)) | HELD,
                                  settings={"r_samples": 0}),
            "categorical": Group(*TENS, free(*OTHERS, *holding(UNIFORM, 2)) | HELD,
                                 settings={"r_samples": 16}),
            "restricted": Group(*FIXED, free(*holding(NORMAL, 1)) | VAE | {MAE: (1.0,)}, False),
        },
        claims.methods,
        keys=BY_METHOD,
        heads=("information", "encoder_information", "rate", "marginal_kl", "distortion",
               "below_optimum"),
        settings={"seeds": 2, "steps": 3500, "batch": 64, "learning_rate": 0.025},
    ),
    "faces": Experiment(
        "faces with two hidden factors, laid out by a two-dimensional code (Figure 3)",
        {"faces": Group(*FACE, VAE | {MAE: (2.0, 3.0, 4.0, 5.0)})},
        claims.faces,
        keys=("method", "target"),
        heads=(*INTERVAL, "elbo", "rate", "r2_angle", "r2_emotion"),
        settings={"seeds": 1, "r_samples": 8, **ON_FACES},
    ),
    "digits": Experiment(
        "digits of 64 pixels: I itself with codes of two, four and eight dimensions",
        {f"{n} codes": Group(DIGITS, FACE[1], {MAE: (3.0, 6.0)}, settings={"latent": n})
         for n in (2, 4, 8)},
        claims.digits,
        keys=("group", "target"),
        heads=(*INTERVAL, "infomax_bound", "elbo", "rate"),
        settings={"seeds": 1, "batch": 64, "hidden": 64, "learning_rate": 5e-3, "r_samples": 16},
    ),
    "information": Experiment(
        "I asked for and I had: by the bound alone, and by estimates from both sides",
        {f"{name}, {way}": group._replace(settings=group.settings | {"r_samples": n})
         for name, (group, proposals) in ASKED.items()
         for way, n in (("bound alone", 0), ("both sides", proposals))},
        claims.information,
        keys=("group", "target"),
        heads=(*INTERVAL, "infomax_bound"),
        settings=QUICK | {"seeds": 1},
    ),
}  # fmt: skip


def experiment_of(path):
    """`own`: the data of a file, a VAE and three targets."""
    problem, likelihood, read = own.read(path)
    targets = (None, *(m for m in (0.5, 1.0, 1.5) if m < problem.most))
    group = Group(problem, likelihood, {MAE: targets}, expressive=False)
    heads = ("information", *INTERVAL, "infomax_bound", "log_likelihood", "elbo")
    settings = {"seeds": 2, "r_samples": 16 if likelihood.discrete else 4}
    return Experiment(
        f"{Path(path).name}: {read}", {"own": group}, lambda rows: (), heads=heads, settings=settings
    )


# ----------------------------------------------------------------------------------------- running


def run(name, experiment, options):
    """Train, evaluate, write, draw, print one experiment -> its rows; whether all was written."""
    known = {key: group.problem for key, group in experiment.groups.items()}
    usual = USUAL | experiment.settings
    settings = {k: usual | g.settings | options.chosen for k, g in experiment.groups.items()}
    with locked(options.out / name) as folder:
        fits = train(experiment.groups, settings, options.jobs, progress_line(f"{name}: trained"))
        each = [(model, key) for key, fit in fits.items() for model in fit]
        tasks = [partial(row_of, model, key, known[key]) for model, key in each]
        rows = processes.parallel(tasks, options.jobs, progress_line(f"{name}: evaluated"))
        wrap = partial(textwrap.fill, width=90, subsequent_indent="    ")
        lines = [wrap(experiment.summary)] if name == "own" else []
        lines += [claims.table(rows, experiment.keys, experiment.heads)]
        lines += map(wrap, claims.complaints(rows, experiment))
        lines += [line for fit in fits.values() for line in claims.divergences(fit)]
        named = fits if len(fits) > 1 else dict(zip([""], fits.values()))
        files = {"models.npz": partial(models.save, fits=named, made=as_made(name, settings))}
        return rows, publish(folder, rows, lines, settings, (fits, rows, known), options, files)


def train(groups, settings, jobs, progress):
    """{group: Fit}: many groups are spread over the processes; few are trained in turn, by all."""
    outer, inner = (jobs, 1) if len(groups) > 2 * jobs else (1, jobs)
    tasks = [partial(train_group, groups[key], settings[key], inner) for key in groups]
    return dict(zip(groups, processes.parallel(tasks, outer, progress)))


def train_group(group, settings, jobs, report):
    """One Fit of all models of the group, each pair of method and target once."""

    def pairs():
        for method, targets in group.models.items():
            if method in (mae.LAGRANGIAN, mae.PENALTY):
                method = mae.METHODS[settings.get("method", method.name)]
                for target in settings.get("information", targets):
                    yield mae.VAE if target is None else method, target
            else:
                yield method, None

    methods, targets = zip(*dict.fromkeys(pairs()))
    settings = settings | {"information": targets, "method": methods, "jobs": jobs}
    progress = lambda step, gap: report(step / settings["steps"], gap)
    return mae.fit(group.problem.data, likelihood=group.likelihood, progress=progress, **settings)


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
        return claimed, publish(folder, rows, lines, options.chosen, (fits, rows), options, files)


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
        complete &= publish(folder, every, lines, {}, (every,), options)
    return complete and held == len(claimed)


def document(options):
    """Run everything, and put what it printed and drew into README and docs -> as `run_all`."""
    root, out, held = Path(__file__).parent, options.out, run_all(options)
    rows = "split-normal --seeds 1 --information none 0.8 1.6 2.4 3".split()
    main([*rows, "--jobs", str(options.jobs), "--out", str(out / "rows")])

    def printed(found):
        """A command line, and what it printed, of which `grep` leaves the lines with its text."""
        command, name, text = found.groups("")
        lines = (out / name / "table.txt").read_text("utf-8").splitlines(True)
        return command + "".join(line for line in lines if text in line)

    for page in [root / "README.md", *(root / "docs").glob("*.md")]:
        answered = out / "questions" / page.name
        text = (answered if answered.exists() else page).read_text("utf-8")
        block = r'(?ms)^(\$ python experiments\.py (\S+)(?: \| grep "(.*?)")?\n).*?(?=^```)'
        page.write_text(re.sub(block, printed, text), "utf-8")
    for picture in (root / "docs").glob("*.png"):
        places = "rows/{}/figure.png", "{}/figure.png", "*/{}.png"
        drawn = [path for at in places for path in sorted(out.glob(at.format(picture.stem)))]
        if drawn:
            shutil.copyfile(drawn[0], picture)
    for script in (root / "docs").glob("*.py"):
        runpy.run_path(str(script), run_name="__main__")
    return held


# ------------------------------------------------------------------------- how the time grows

COMMON = {"models": 24, "steps": 400, "batch": 64, "r_samples": 0}
CURVES = {  # what grows, from this common point
    "models": [8, 24, 96, 384],
    "steps": [100, 200, 400, 800],
    "batch": [16, 64, 256, 1024],
    "r_samples": [0, 1, 4, 16],
}


def seconds(models, **settings):
    """The shortest time of three split-normal fits, of four models for each target."""
    targets = np.linspace(0, 2, models // 4)
    fit = partial(mae.fit, NORMAL.data, information=targets, seeds=4, **settings)
    return min(timeit.repeat(fit, number=1, repeat=3))


def scaling(options):
    """Measure and print the four curves -> whether all was written."""
    seconds(**COMMON | {"steps": 50})  # warm up
    rows, common = [], seconds(**COMMON) / COMMON["steps"]
    for what, value in ((what, value) for what, values in CURVES.items() for value in values):
        point = COMMON | {what: value}
        taken = seconds(**point)
        step = taken / point["steps"]
        row = {"grows": what, "value": value, "seconds": taken, "ms_per_step": 1e3 * step}
        rows.append(row | {"relative_step": step / common})
    lines = ["    grows  value  seconds  ms/step  of one step of 24 models and 64 examples"]
    lines += ["{:>9}{:>7}{:>9.3f}{:>9.3f}{:>8.2f}".format(*row.values()) for row in rows]
    with locked(options.out / "scaling") as folder:
        return publish(folder, rows, lines, COMMON, (rows,), options)


# ------------------------------------------------------------------------------------ command line

COMMANDS = {
    "questions": "the reviewers' questions, in numbers (docs/questions.md)",
    "own": "data of your own: own FILE.csv, columns of numbers or one of categories",
    "scaling": "seconds of training against models, steps, batch and proposals, to plan a sweep",
    "all": "every experiment above but own, the questions, and a summary of the claims",
    "docs": "all of it, and README and docs rewritten with what it prints and draws",
}


def number(kind, low, high, name):
    """A type for argparse, which names it in its errors."""

    def read(text):
        if text.lower() == "none" and kind is float:
            return None
        if text in EXPERIMENTS:
            raise argparse.ArgumentTypeError(f"NAME comes first: {text} --information ...")
        value = kind(text)
        if not low <= value <= high:
            raise ValueError
        return value

    read.__name__ = f"{name} from {low} to {high}"
    return read


def parser():
    """Of the command line; `--help` lists the experiments and the other commands."""
    summaries = {name: own.summary for name, own in EXPERIMENTS.items()} | COMMANDS
    parser = argparse.ArgumentParser(
        usage="python experiments.py NAME [FILE] [options]", description=__doc__,
        epilog="\n".join(["NAME:", *(f"  {n:14}{text}" for n, text in summaries.items())]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add, integer = parser.add_argument, partial(number, int, name="integer")
    text = "the experiment, see below; comes first"
    add("name", metavar="NAME", choices=summaries, nargs="?", help=text)
    text = "of `own`: comma-separated values, names in line 1 or not"
    add("file", metavar="FILE", nargs="?", help=text)
    target = number(float, 0, 10**6, "target (none, or nats)")
    text = "targets for I(z, x), nats; none: no constraint, a VAE (default: its own)"
    add("--information", type=target, metavar="M", nargs="+", help=text)
    for setting, (usual, low, high, unit, text) in SETTINGS.items():
        option, text = setting.replace("_", "-"), f"{text} (default: {usual}, or its own)"
        add(f"--{option}", type=integer(low, high), metavar=unit, help=text)
    text = "how split-normal and categorical enforce the constraint (default: lagrangian)"
    add("--method", choices=["lagrangian", "penalty"], help=text)
    text = "processes; they do not change the results (default: as many as there are cores)"
    add("--jobs", type=integer(1, 10**6), metavar="N", default=processes.cores(), help=text)
    folder = lambda path: Path(path).expanduser()
    add("--out", type=folder, metavar="DIR", default=Path("out"), help="write to DIR/NAME/ (out)")
    add("--no-plot", action="store_true", help="no figures")
    return parser


def parse(arguments):
    """The options, each legal and such as applies; the experiment, or None."""
    line = parser()
    options, fail = line.parse_args(arguments), line.error
    name, file = options.name, options.file
    if not name:
        fail(f"NAME is one of {', '.join((*EXPERIMENTS, *COMMANDS))}")
    if name == "own" and not file:
        fail("own takes one FILE, of comma-separated values")
    if file and name != "own":
        fail(f"argument FILE: {file} does not apply to {name}")
    try:
        experiment = experiment_of(file) if file else EXPERIMENTS.get(name)
    except ValueError as error:
        fail(str(error))
    given = {key: getattr(options, key) for key in ("information", "method", *USUAL)}
    options.chosen = {key: value for key, value in given.items() if value is not None}
    for key in options.chosen:
        applies = experiment and (key != "method" or experiment.keys == ("target",))
        if not (applies or name == "questions" and key in ("seeds", "seed", "steps")):
            fail(f"argument --{key.replace('_', '-')}: does not apply to {name}")
    groups = experiment.groups.values() if experiment else ()
    most = min((group.problem.most for group in groups), default=math.inf)
    for value in options.chosen.get("information", ()):
        if value is not None and value > most + 1e-9:
            fail(f"argument --information: {value} is more than x can hold, {most:.7g}")
    return options, experiment


def main(arguments=None):
    """The exit status: 0 if all is written, and of `all` every claim holds."""
    options, experiment = parse(arguments)
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
    for code, end in ((getattr(signal, name, None), end) for name, end in ends.items()):
        if code and signal.getsignal(code) is not signal.SIG_IGN:
            signal.signal(code, lambda code, _, end=end: stop(128 + code, end))
    if sys.stdout:
        sys.stdout.reconfigure(errors="replace")  # ± is not in every code page
    try:
        try:
            sys.exit(main())
        finally:
            if sys.stdout:
                sys.stdout.flush()
    except BrokenPipeError:
        stop(128 + 13, "nobody reads what is printed")
    except (OSError, MemoryError) as error:
        stop(2, f"error: {str(error) or 'out of memory'}")
