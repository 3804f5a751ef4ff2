"""The method in one picture: `python docs/drawing.py` writes docs/drawing.svg and docs/drawing.png.

Above, what the data go through; below, what the model makes of its own codes.
"""

import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

from matplotlib.patches import Rectangle

import figures  # and with it the style

BOXES = {  # text: left, bottom, width, height
    "encoder\n$q(z|x)$\nascends $E$": (2, 3.4, 1.9, 1.7),
    "auxiliary\n$r(z|x)$\nascends $B$": (2, 0.9, 1.9, 1.7),
    "decoder\n$p(x|z)$\nascends\n$E + w\\,I$": (5.9, 0.9, 1.9, 4.2),
}
ARROWS = {  # what is handed on: from x, to x, y
    "data $x$": (0.1, 2, 4.25),
    "$z \\sim q(z|x)$": (3.9, 5.9, 4.25),
    "$\\log p(x|z)$": (7.8, 9.9, 4.25),
    "$z \\sim p(z)$": (9.9, 7.8, 1.75),
    "$x \\sim p(x|z)$": (5.9, 3.9, 1.75),
    "$\\log r(z|x)$": (2, 0.1, 1.75),
}
NOTES = {  # text: y
    "$E$ = ELBO: reconstruction of the data, less KL": 5.6,
    "$B$ = infomax bound: how well $r$ tells the model's codes; $B \\leq I$": 0.45,
    "$w$ rises while $I < M$, and falls while $I > M$": -0.15,
}


def drawing():
    figure, (axis,) = figures.blank(2.2)
    style = {"va": "center", "ha": "center"}
    for text, (left, bottom, width, height) in BOXES.items():
        axis.add_patch(Rectangle((left, bottom), width, height, fc="0.92", ec="k", lw=0.6))
        axis.text(left + width / 2, bottom + height / 2, text, **style)
    for text, (start, end, y) in ARROWS.items():
        axis.annotate(
            "", (end, y), (start, y), arrowprops=figures.ARROW | {"shrinkA": 0, "shrinkB": 0}
        )
        axis.text((start + end) / 2, y + 0.3, text, **style)
    for text, y in NOTES.items():
        axis.text(5, y, text, **style)
    axis.set(xlim=(0, 10), ylim=(-0.5, 6))
    axis.axis("off")
    return figure


if __name__ == "__main__":
    figure = drawing()
    figure.savefig(DOCS / "drawing.png")
    figure.savefig(DOCS / "drawing.svg", metadata={"Date": None})
