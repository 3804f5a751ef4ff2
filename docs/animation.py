"""The normal splitting as M rises: `python docs/animation.py` writes docs/animation.gif."""

import sys
from pathlib import Path

import numpy as np

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

import figures  # and with it the style
import mae
from matplotlib.animation import PillowWriter
from problems import NORMAL


def animation(path, frames=31):
    """One frame for each M from 0 to 3, from a model of its own; the last one stays."""
    targets = np.linspace(0, 3, frames)
    fit = mae.fit(NORMAL.data, information=targets, r_samples=0)
    figure, (axis,) = figures.blank(2)
    writer = PillowWriter(fps=8)
    with writer.saving(figure, path, dpi=130):
        for k in [*range(frames)] + 12 * [frames - 1]:
            axis.clear()
            figures.mixture(axis, fit[k], NORMAL)
            axis.set(ylim=(0, 1.6), xlabel="$x$", yticks=[])
            axis.set_title(f"$I(z, x) = {targets[k]:.1f}$ nats")
            writer.grab_frame()


if __name__ == "__main__":
    animation(DOCS / "animation.gif")
