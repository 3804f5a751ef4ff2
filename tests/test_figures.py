"""What the figures promise: legible text, nothing clipped, names that do not touch."""

import warnings

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.text import Text

import figures
import mae
import problems


SMALL = {"seeds": 2, "steps": 300, "batch": 32, "hidden": 8}


def given(name, information, **settings):
    """Fits, rows and problems of one small run."""
    problem = {"split-normal": problems.NORMAL, "categorical": problems.UNIFORM}[name]
    likelihood = mae.GAUSSIAN if name == "split-normal" else mae.CATEGORICAL
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mae.TrainingWarning)
        fit = mae.fit(
            problem.data, information=information, likelihood=likelihood, **SMALL | settings
        )
    rows = [problems.row_of(fit[k], name, problem) for k in range(len(fit))]
    return {name: fit}, rows, {name: problem}


def drawn(name, *run, **settings):
    """The figures of one small run, by name."""
    found = given(name, *run, **settings)
    return {figure: draw(*found) for figure, draw in figures.DRAWINGS[name].items()}


@pytest.mark.parametrize("name", ["split-normal", "categorical"])
@pytest.mark.parametrize("information", [[None, 0.5, 1.5], [2.0], [None]])
def test_figures_fit_a_column_and_their_text_can_be_read(name, information):
    for figure in drawn(name, information).values():
        assert figure.get_size_inches()[0] == 3.4
        figure.draw_without_rendering()
        texts = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
        assert len(texts) > 3 and min(text.get_fontsize() for text in texts) >= 7
        for axis in figure.axes:
            for line in axis.lines:
                low, high = sorted(axis.get_ylim())
                assert low <= np.min(line.get_ydata()) and np.max(line.get_ydata()) <= high


def test_the_files_of_figures_are_complete_and_do_not_depend_on_the_processes(monkeypatch):
    found = given("split-normal", [None, 0.5])
    one, two = (figures.files("split-normal", found, jobs) for jobs in (1, 2))
    assert one == two
    starts = {name: data[:4] for name, data in one.items()}
    kinds = {"png": b"\x89PNG", "pdf": b"%PDF"}
    names = ("figure", "history")
    assert starts == {f"{name}.{kind}": kinds[kind] for name in names for kind in kinds}
    monkeypatch.setitem(figures.DRAWINGS["split-normal"], "history", lambda *found: 1 / 0)
    for jobs in (1, 2):
        with pytest.raises(ZeroDivisionError):
            figures.files("split-normal", found, jobs)


def test_curves_of_split_normal_get_lighter_from_left_to_right_in_every_row():
    for axis in drawn("split-normal", [1.0, 1.5, 2.0])["figure"].axes:
        curves = axis.lines[:-2]  # and p(x), and the truth
        peaks = [line.get_xdata()[line.get_ydata().argmax()] for line in curves]
        light = [to_rgb(line.get_color()) @ np.array([0.2126, 0.7152, 0.0722]) for line in curves]
        assert np.diff(light).min() > 0 and peaks[3] < peaks[7] < peaks[11]


@pytest.mark.parametrize(
    ("method", "information", "panels"), [("lagrangian", 1, 3), ("penalty", 1, 2), ("vae", None, 2)]
)
def test_the_history_has_a_multiplier_only_where_the_method_has_one(method, information, panels):
    figure = drawn("split-normal", [information], method=method)["history"]
    assert len(figure.axes) == panels


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_names_beside_keep_their_order_and_do_not_touch(scale):
    _, (axis,) = figures.blank(2)
    heights = [1e-3, 1.0, 0.99, 0.98, 0.5, 0.97]
    points = {str(i): (i, height) for i, height in enumerate(heights)}
    axis.plot(*zip(*points.values()))
    axis.set_yscale(scale)
    figures.names_beside(axis, points, 0.1)
    levels = np.array(
        [text.xyann[1] for text in sorted(axis.texts, key=lambda t: int(t.get_text()))]
    )
    assert (np.argsort(levels) == np.argsort(heights)).all()
    assert np.diff(np.sort(levels)).min() > 0.1 - 1e-9
    assert 0 <= levels.min() and levels.max() <= 1 + 1e-9


def test_scaling_and_the_summary_are_drawn_from_their_rows():
    grows = [("models", 1), ("models", 2), ("steps", 1), ("batch", 1), ("r_samples", 0)]
    rows = [{"grows": what, "value": value, "seconds": 1.0 + value} for what, value in grows]
    assert len(figures.scaling(rows).axes) == 4
    ends = {"information_low": 0.9, "information_high": 1.1, "reached": True, "target": 1.0}
    rows = [{"r_samples": n, "method": "lagrangian"} | ends for n in (0, 4)]
    (legend,) = figures.summary(rows).legends
    assert [text.get_text()[-14:] for text in legend.get_texts()] == ["1 of 1 reached"] * 2
