"""The wheel holds one package, `mae`, made here from the flat modules of this folder.

mae.py imports its siblings by bare names, so that a clone runs without an install. Installed flat,
`nets` would clash with a user's own nets.py; so mae.py becomes mae/__init__.py, with its siblings
beside it and their imports relative. An editable install is this folder itself, like a clone.
"""

import re
import tempfile
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

# what mae.py needs
SIBLINGS = ("nets", "distributions", "batches", "processes", "models", "quadrature")


class Package(build_py):
    def find_modules(self):
        package, first = ("", "mae") if self.editable_mode else ("mae", "__init__")
        return [(package, first, "mae.py"), *((package, name, f"{name}.py") for name in SIBLINGS)]

    def build_module(self, module, file, package):
        target = Path(super().build_module(module, file, package)[0])
        text, names = target.read_text("utf-8"), "|".join(SIBLINGS)
        text = re.sub(rf"(?m)^( *)import ({names})$", r"\1from . import \2", text)
        text = re.sub(rf"(?m)^( *)from ({names}) import\b", r"\1from .\2 import", text)
        flat = "|".join(path.stem for path in Path().glob("*.py"))
        if left := re.search(rf"(?m)^ *(?:from|import.*) ({flat})\b", text):
            raise SystemExit(f"{file}: setup.py cannot package this import of {left[1]}")
        target.write_text(text, "utf-8")
        target.with_name("py.typed").touch()


with tempfile.TemporaryDirectory() as fresh:  # not build/, whose old files would enter the wheel
    setup(cmdclass={"build_py": Package}, options={"build": {"build_base": fresh}})
