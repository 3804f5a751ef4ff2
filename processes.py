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

# A terminal sends the first two to all of its processes: what to do is for the parent to say.
ENDS = {"SIGINT": signal.SIG_IGN, "SIGHUP": signal.SIG_IGN, "SIGTERM": signal.SIG_DFL}
ENDS = {getattr(signal, name): end for name, end in ENDS.items() if hasattr(signal, name)}


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

    jobs = min(jobs, len(tasks)) if forks() else 1
    here = ((i, task(partial(report, i))) for i, task in enumerate(tasks))
    with contextlib.closing(_forked(tasks, jobs, report) if jobs > 1 else here) as done:
        for i, result in done:
            results[i] = result
            report(i, 1.0)
    return results


def _forked(tasks, jobs, report):
    """(number, result) of each task, as they come."""
    workers, waiting = {}, iter(range(len(tasks)))

    def give(pipe):
        i = next(waiting, None)
        with contextlib.suppress(BrokenPipeError):  # it was killed: what comes next tells
            pipe.send(i)
        if i is None:
            workers.pop(pipe).join()

    try:
        for _ in range(jobs):
            pipe, process = _start(tasks)
            workers[pipe] = process
            give(pipe)
        while workers:
            for pipe in wait([*workers]):
                kind, i, content = _received(pipe, workers[pipe])
                if kind == "error":
                    raise content
                if kind == "report":
                    report(i, *content)
                else:
                    yield i, content
                    give(pipe)
    finally:
        for process in workers.values():
            process.kill()
            process.join()


def _start(tasks):
    """A worker, and the pipe through which it is given numbers of tasks, and reports."""
    fork = multiprocessing.get_context("fork")
    pipe, end = fork.Pipe()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)  # none may meet our own handlers there
    process = fork.Process(target=_work, args=(tasks, end, os.getpid(), blocked))
    try:
        with warnings.catch_warnings():  # from Python 3.12 on; the threads are those of BLAS
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    end.close()
    return pipe, process


def _work(tasks, end, parent, blocked):
    for number, action in ENDS.items():
        signal.signal(number, action)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: die with the parent
    if os.getppid() != parent:
        return
    for i in iter(end.recv, None):
        try:
            end.send(("result", i, tasks[i](lambda *done: end.send(("report", i, done)))))
        except Exception as error:
            end.send(("error", i, error))


def _received(pipe, process):
    try:
        return pipe.recv()
    except (EOFError, OSError):  # before or in the middle of what it sent
        process.join()
        how = signal.strsignal(-process.exitcode) if process.exitcode < 0 else "no result"
        how += "; out of memory? Fewer jobs need less" if process.exitcode == -9 else ""
        raise ChildProcessError(f"worker {process.pid} ended: {how}") from None
