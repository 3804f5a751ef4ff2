"""Work spread over processes: the results are those of one process, in the same order."""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from functools import partial
from multiprocessing.connection import wait


def forks():
    """Whether a fork is safe here: no threads of others, and workers that die with their parent."""
    return sys.platform == "linux" and threading.active_count() == 1


def cores():
    """How many processes this one can keep busy."""
    return len(os.sched_getaffinity(0)) if forks() else 1


def parallel(tasks, jobs=1, progress=None):
    """[task(report) for task in tasks], done by `jobs` forks of this process, each task by one.

    Forks inherit the tasks, which may be any callables; what these return or raise is pickled. All
    is done here with jobs=1, and where a fork is not safe. A task calls report(share of it that is
    done, its worst gap), upon which progress(share of all that is done, worst gap) is called. An
    error ends all workers, and so does a worker that is killed: ChildProcessError.
    """
    shares, gaps, results = [0.0] * len(tasks), [0.0] * len(tasks), [None] * len(tasks)

    def report(i, share, gap=None):
        shares[i], gaps[i] = share, gaps[i] if gap is None else float(gap)
        if progress:
            progress(sum(shares) / len(tasks), max(gaps))

    def finish(i, result):
        results[i] = result
        report(i, 1.0)

    jobs = min(jobs, len(tasks)) if forks() else 1
    if jobs > 1:
        _spread(tasks, jobs, report, finish)
    else:
        for i, task in enumerate(tasks):
            finish(i, task(partial(report, i)))
    return results


def _spread(tasks, jobs, report, finish):
    """finish(number, result) of each task, as they come from this many workers."""
    waiting, workers = iter(range(jobs, len(tasks))), {}
    try:
        for i in range(jobs):
            pipe, process = _start(tasks, i)
            workers[pipe] = process
        while workers:
            for pipe in wait([*workers]):
                try:
                    kind, i, content = pipe.recv()
                except (EOFError, OSError):  # before or in the middle of what it sent
                    raise _killed(workers[pipe]) from None
                if kind == "error":
                    raise content
                if kind == "report":
                    report(i, *content)
                    continue
                finish(i, content)
                following = next(waiting, None)
                with contextlib.suppress(BrokenPipeError):  # it was killed: what comes next tells
                    pipe.send(following)
                if following is None:
                    workers.pop(pipe).join()
    finally:
        for process in workers.values():
            process.kill()
            process.join()


def _start(tasks, first):
    """A worker, and the pipe through which it gives results and is given more tasks."""
    fork = multiprocessing.get_context("fork")
    pipe, end = fork.Pipe()
    process = fork.Process(target=_work, args=(tasks, first, end, os.getpid()))
    # no signal may meet our own handlers there
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        with warnings.catch_warnings():  # from Python 3.12 on; the threads are those of BLAS
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    end.close()
    return pipe, process


def _work(tasks, i, end, parent):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for number in (signal.SIGINT, signal.SIGHUP):  # sent to all by a terminal: the parent decides
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: die with the parent
    if os.getppid() != parent:
        return
    while i is not None:
        try:
            end.send(("result", i, tasks[i](lambda *done: end.send(("report", i, done)))))
        except BaseException as error:
            end.send(("error", i, error))
        i = end.recv()


def _killed(process):
    """The error that says how this worker ended."""
    process.join()
    how = signal.strsignal(-process.exitcode) if process.exitcode < 0 else "no result"
    how += "; out of memory? Fewer jobs need less" if process.exitcode == -9 else ""
    return ChildProcessError(f"worker {process.pid} ended: {how}")
