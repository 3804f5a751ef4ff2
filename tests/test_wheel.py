"""What `pip install .` puts into an environment, and a user's project beside it."""

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mae

ROOT = Path(__file__).parent.parent
FLAT = ["nets", "batches", "processes", "models", "distributions", "quadrature"]
FLAT += ["problems", "own", "claims", "figures", "questions", "results", "experiments"]
PROJECT = f"""
import importlib.metadata, os, pickle, warnings
import numpy as np
import mae
import {", ".join(FLAT)}

def test_use():
    assert all(module.OWNER == "user" for module in ({", ".join(FLAT)}))
    assert mae.__file__ == os.path.join(os.environ["PYTHONPATH"], "mae", "__init__.py")
    assert mae.__version__ == importlib.metadata.version("mutual-autoencoder")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit = mae.fit(lambda rng, n: rng.standard_normal((n, 1)), information=[0.5, 1], steps=3)
    assert {{warning.category for warning in caught}} == {{mae.TrainingWarning}}
    assert {{warning.filename for warning in caught}} == {{__file__}} and len(caught) == 2
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "models.npz")
    fit.save(path)
    loaded = mae.load(path)
    assert type(loaded) is mae.Fit and (loaded.params == fit.params).all()
    information = mae.exact_mutual_information(loaded.decoder)
    assert (information == mae.exact_mutual_information(fit.decoder)).all()

    exact = mae.exact_mutual_information(lambda z: mae.Gaussian(0.8 * z, np.log(0.36)))
    assert abs(exact + np.log(0.6)) < 1e-7
    assert pickle.loads(pickle.dumps(mae.Fit)) is mae.Fit
    assert mae.Fit.__module__.split(".")[0] == "mae"
    copy = pickle.loads(pickle.dumps(mae.Gaussian(np.zeros((3, 1)), 0.0)))
    assert type(copy) is mae.Gaussian and copy.log_prob(np.zeros((3, 1))).shape == (3,)

if __name__ == "__main__":
    test_use()
"""


def python(command, folder, **variables):
    """Run Python in a folder, with nothing of this process's own paths and settings."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYT")}
    options = {"cwd": folder, "env": kept | variables, "capture_output": True, "text": True}
    return subprocess.run([sys.executable, *command], check=False, **options)


def install(folder, **appended):
    """pip install a copy of the checkout to folder/site, with lines appended to its modules."""
    if not importlib.util.find_spec("pip"):
        pytest.skip("pip is not installed")
    (folder / "source" / "build" / "lib").mkdir(parents=True)
    (folder / "source" / "build" / "lib" / "nets.py").touch()  # as left by another build
    for path in filter(Path.is_file, ROOT.iterdir()):
        shutil.copy(path, folder / "source")
    for name, line in appended.items():
        with open(folder / "source" / f"{name}.py", "a") as file:
            file.write(line)
    versions = [each.version for each in importlib.metadata.distributions(name="setuptools")]
    recent = versions and int(versions[0].split(".")[0]) >= 77  # pyproject.toml's requirement
    options = ["--no-deps", "--target", "site"] + ["--no-build-isolation"] * bool(recent)
    command = ["-m", "pip", "install", *options, "./source"]
    done = python(command, folder, PIP_RETRIES="1")
    if "No matching distribution found for setuptools" in done.stderr:
        pytest.skip("setuptools>=77 is neither installed nor to be had from a registry")
    return done


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    done = install(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


def test_mae_is_all_that_is_new_at_the_top_level(site):
    metadata = f"mutual_autoencoder-{mae.__version__}.dist-info"
    assert {path.name for path in site.iterdir()} == {"mae", metadata}
    assert (site / metadata / "licenses" / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert (site / "mae" / "py.typed").exists()


@pytest.mark.parametrize("folder", ["project", "."], ids=["at home", "from another folder"])
@pytest.mark.parametrize(
    "mode", ["", "prepend", "importlib"], ids=["script", "prepend", "importlib"]
)
def test_a_project_with_modules_of_the_same_names_keeps_them(site, tmp_path, mode, folder):
    project = tmp_path / "project"
    project.mkdir()
    for name in FLAT:
        (project / f"{name}.py").write_text('OWNER = "user"\n')
    (project / "test_use.py").write_text(PROJECT)
    (project / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
    runner = ["-m", "pytest", f"--import-mode={mode}"] if mode else []
    command = ["-W", "error", *runner, str(project / "test_use.py")]
    done = python(command, tmp_path / folder, PYTHONPATH=str(site))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_module_missing_from_the_wheel_fails_the_build_by_name(tmp_path):
    done = install(tmp_path, nets="import problems\n", problems="")
    assert done.returncode and "setup.py cannot package this import of problems" in done.stderr
