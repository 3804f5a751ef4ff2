"""Data of your own: a file of comma-separated values becomes a Problem."""

import contextlib
import csv
import math

import numpy as np

import mae
import nets
from problems import Problem, on_categories

MOST_ROWS = 1000  # whose mean log-likelihood is taken, evenly spread over the file


def read(path):
    """(Problem, Likelihood, what was read) of columns of numbers, or of one of categories.

    Numbers are standardised. A first line that is not like the others names the columns.
    ValueError: the line, the column and what is legal there.
    """
    with open(path, newline="", encoding="utf-8-sig") as file:
        lines = csv.reader(file)
        try:
            rows = {lines.line_num: [cell.strip() for cell in row] for row in lines if row}
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path}: {error}; legal is text in UTF-8") from None
    if len(rows) < 3:
        raise ValueError(f"{path} has {len(rows)} lines that are not empty; at least 3 are needed")
    first, *others = rows.values()
    for line, row in rows.items():
        if len(row) != len(first) or not all(row):
            seen = f"{len(row)} columns, {row.count('')} of them blank"
            raise ValueError(f"{path}, line {line}: {seen}; legal are {len(first)}, none blank")
    if len(first) == 1 and not any(_is_number(*row) for row in others):
        return _categories(path, [cell for (cell,) in rows.values()])
    names = [f"column {i + 1}" for i in range(len(first))]
    if not all(map(_is_number, first)):
        names = rows.pop(min(rows))
    for line, row in rows.items():
        for name, cell in zip(names, row):
            if not _is_number(cell):
                raise ValueError(f"{path}, line {line}: {name} is {cell!r}, not a finite number")
    return _numbers(path, names, np.array([*rows.values()], float))


def _is_number(cell):
    with contextlib.suppress(ValueError):
        return math.isfinite(float(cell))


def _numbers(path, names, values):
    with np.errstate(over="ignore", under="ignore"):
        mean, std = values.mean(0), values.std(0)
    for name, column, spread in zip(names, values.T, std):
        if (column == column[0]).all():
            raise ValueError(f"{path}: {name} is {column[0]:g} in every row; leave it out")
        if not 0 < spread < math.inf:
            raise ValueError(f"{path}: {name} has standard deviation {spread:g}; change its unit")
    data, one = (values - mean) / std, len(names) == 1
    data = np.sort(data, axis=0) if one else data  # so that a batch is spread evenly
    n = min(len(data), MOST_ROWS)
    some = data[np.arange(n) * len(data) // n]
    density, ends = np.histogram(data[:, 0], "auto", density=True)
    problem = Problem(
        data=lambda rng, n: data[(nets.evenly(rng, n) * len(data)).astype(int)],
        rows=some[:: -(-n // 256)],
        data_mean=(lambda of: ([value.mean(-1) for value in of(some)], 0.0)) if one else None,
        extras=lambda model: {} if one else _log_likelihood(model, some),
        truth=lambda x: np.pad(density, 1)[np.searchsorted(ends, x[:, 0])],
        names=tuple(names),
        units=(mean, std),
    )
    few = len(np.unique(data)) if one else len(data)
    hint = f"; only {few} values: categories are words, not numbers" * (few < min(20, len(data)))
    read = f"{len(data)} rows of {', '.join(names)}; standardised{hint}"
    return problem, mae.GAUSSIAN, read


def _log_likelihood(model, rows):
    """The mean, exact for any number of features, where the quadrature is not refused."""
    with contextlib.suppress(mae.QuadratureError):
        return {"log_likelihood": float(mae.exact_log_likelihood(model.decoder, rows).mean())}
    return {}


def _categories(path, cells):
    """Each different cell is one; the first is a name if it stands out as the only single one."""
    single = [cell for cell in dict.fromkeys(cells) if cells.count(cell) == 1]
    cells = cells[single == cells[:1] :]
    names, counts = np.unique(cells, return_counts=True)
    if len(names) in (1, len(cells)):
        seen = f"{len(names)} different values in {len(cells)} rows"
        raise ValueError(f"{path}: {seen}; legal are numbers, or categories of which some repeat")
    problem = on_categories(counts / len(cells), rows=256)._replace(names=tuple(names.tolist()))
    read = f"{len(cells)} rows of {len(names)} categories: {', '.join(names)}"
    return problem, mae.CATEGORICAL, read
