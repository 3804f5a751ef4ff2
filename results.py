"""What a run leaves: numbers and models first, then figures, as one complete set; what it says."""

import contextlib
import csv
import json
import os
import platform
import sys
import tempfile
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

import mae
import models

FIGURES = ("figure", "history", "strings", "posteriors", "questions-trace", "questions-posteriors",
           "questions-targets")  # what a run may draw  # fmt: skip
VERSIONS = {name: version(name) for name in ("numpy", "autograd")}  # what else numbers depend on
VERSIONS |= {"mae": mae.__version__, "python": platform.python_version()}
VERSIONS |= {"machine": platform.machine()}

say = partial(print, sep="\n", flush=True)  # at once, into a file or pipe, too


def progress_line(text):
    """A callback that keeps one line on the terminal: share done, seconds left, worst gap."""
    if not (sys.stderr and sys.stderr.isatty()):
        return None
    width = (os.get_terminal_size(sys.stderr.fileno()).columns or 80) - 1
    start = time.perf_counter()

    def show(share, gap):
        left = (time.perf_counter() - start) * (1 / max(share, 1e-3) - 1)
        line = f"{text} {share:.0%}, {left:.0f} s left"
        line += f", worst |I - M| {gap:.3f}" if gap else ""
        line = line[:width] if share < 1 else ""
        with contextlib.suppress(OSError):  # the terminal may be gone
            print(f"\r{line:{width}}" + "\r" * (share == 1), end="", file=sys.stderr, flush=True)

    return show


@contextlib.contextmanager
def locked(folder):
    """Make the folder, and keep other runs out of it; OSError if nothing can be written to it."""
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()  # fails now, not after training, if it has to
    handle = os.open(folder, os.O_RDONLY) if fcntl else None
    try:
        if fcntl:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder
    except BlockingIOError:
        raise BlockingIOError(f"another run is writing to {folder}") from None
    finally:
        if fcntl:
            os.close(handle)


def as_made(name, settings):
    """How results were made, to stand beside them."""
    return json.dumps({"experiment": name, "settings": settings} | VERSIONS, indent=1) + "\n"


def file_of(content):
    """save(path) of a file with this text, or these bytes."""
    data = content.encode() if isinstance(content, str) else content
    return lambda path: Path(path).write_bytes(data)


def write_metrics(rows, path):
    """One line per row; columns that some rows lack are empty there, and so is what is nan."""
    text = lambda value: str(value).lower() if isinstance(value, bool) else value
    with open(path, "w", newline="") as file:
        columns = dict.fromkeys(name for row in rows for name in row)
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: text(v) for name, v in row.items() if v == v})


def publish(folder, rows, lines, settings, given, options, more={}):
    """Write numbers, then figures of what is given, print; more: files -> if all is written."""
    files = {
        "metrics.csv": partial(write_metrics, rows),
        "made.json": file_of(as_made(folder.name, settings)),
        "table.txt": file_of("\n".join(lines) + "\n"),
    }
    stale = [f"{figure}.{kind}" for figure in FIGURES for kind in ("png", "pdf")]
    written = models.write(folder, files | more, stale=stale)
    drawn, complete = ([], True) if options.no_plot else draw(folder, given, options.jobs)
    say(*lines, *written, *drawn)
    return complete


def draw(folder, given, jobs):
    """Write the figures -> their paths, or why there are none; whether all is well."""
    os.environ["MPLBACKEND"] = "agg"  # whatever a user's own settings ask for
    try:
        import figures  # and with it matplotlib, which takes its time

        files = figures.files(folder.name, given, jobs)
        return models.write(folder, {name: file_of(data) for name, data in files.items()}), True
    except Exception as error:  # the numbers are safe, and worth more than any figure
        why = " ".join(f"{type(error).__name__}: {error}".split())
        return [f"WARNING: no figures: {why}"], False
