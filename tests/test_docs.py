"""The command `docs`, on a copy: what was printed and drawn is in the pages, and nothing else."""

import re
from pathlib import Path

from test_experiments import DRAWN, QUOTED, ROOT

import experiments

BLOCK = r'(?ms)^(\$ python experiments\.py (\S+)(?: \| grep "(.*?)")?\n)(.*?)^```'
SCRIPT = "from pathlib import Path\nPath(__file__).with_suffix('.ran').touch()\n"


def pages(root):
    return {path: path.read_text("utf-8") for path in (root / "README.md", *root.glob("docs/*.md"))}


def test_what_was_printed_and_drawn_is_put_into_the_pages(tmp_path, monkeypatch):
    root, out = tmp_path / "copy", tmp_path / "out"
    (root / "docs").mkdir(parents=True)
    for path in [ROOT / "README.md", *(ROOT / "docs").iterdir()]:
        new = {".png": "old", ".py": SCRIPT}.get(path.suffix)
        text = path.read_text("utf-8") if path.suffix == ".md" else new
        (root / path.relative_to(ROOT)).write_text(text or "", "utf-8")
    before, asked = pages(root), []
    answers = before[root / "docs" / "questions.md"] + "answered\n"
    printed = {name: [f"all of {name} ± 1"] for name, _, _ in QUOTED}
    for name, word, _ in QUOTED:
        printed[name] += [f"{name}: {word}"] * bool(word)

    def run_all(options):
        """Leave what the real one does."""
        for name in (*experiments.EXPERIMENTS, "questions", "all"):
            (out / name).mkdir(parents=True)
            lines = printed.get(name, ["table"])
            (out / name / "table.txt").write_text("\n".join(lines) + "\n", "utf-8")
            for figure in ("figure", DRAWN.get(name, "figure")):
                (out / name / f"{figure}.png").write_text(f"{name}/{figure}")
        for figure in ("trace", "posteriors", "targets"):
            (out / "questions" / f"questions-{figure}.png").write_text(f"questions-{figure}")
        (out / "questions" / "questions.md").write_text(answers, "utf-8")
        return "held"

    def main(arguments):
        asked.append(arguments)
        folder = Path(arguments[arguments.index("--out") + 1]) / arguments[0]
        folder.mkdir(parents=True)
        (folder / "figure.png").write_text("rows")

    monkeypatch.setattr(experiments, "__file__", str(root / "experiments.py"))
    monkeypatch.setattr(experiments, "run_all", run_all)
    monkeypatch.setattr(experiments, "main", main)
    options, experiment = experiments.parse(["docs", "--out", str(out)])
    assert experiment is None and experiments.document(options) == "held"

    after = pages(root)
    before[root / "docs" / "questions.md"] = answers
    for path in before:
        assert re.sub(BLOCK, "", after[path]) == re.sub(BLOCK, "", before[path])
    found = [block for text in after.values() for block in re.findall(BLOCK, text)]
    assert len(found) == len(QUOTED)
    for _, name, word, block in found:
        assert block.splitlines() == [line for line in printed[name] if word in line]

    drawn = {path.stem: path.read_text() for path in root.glob("docs/*.png")}
    assert [name for name in drawn if drawn[name] == "old"] == ["drawing"]  # by its script
    assert drawn["split-normal"] == "rows" and asked[0][0] == "split-normal"
    assert drawn["history"] == "categorical/history" and drawn["methods"] == "methods/figure"
    assert {path.stem for path in root.glob("docs/*.ran")} == {"drawing", "animation"}
