"""The wheel, installed in an environment of its own and used in a folder outside the repository."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.e2e.command import GRID, ROOT, answer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("pip") is None, reason="pip is not installed"),
]

PACKAGES = ("rkd_core", "sweeps", "analysis")


def run(*words, cwd, **environment):
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [*map(str, words)],
        check=False,
        cwd=cwd,
        capture_output=True,
        text=True,
        env=env | environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """The folder with the programs of an environment that has the wheel.

    The dependencies are those of this environment.
    """
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a build leaves files beside the packages
    ignored = shutil.ignore_patterns("__pycache__")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "wheel", ".", "--no-deps", "--no-build-isolation", "-w", folder, cwd=source)
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    programs = folder / "venv" / "bin"
    (wheel,) = folder.glob("*.whl")
    run(*pip, "--python", programs / "python", "install", "--no-deps", wheel, cwd=folder)
    packages = run(
        programs / "python",
        "-c",
        "import sysconfig; print(sysconfig.get_path('purelib'))",
        cwd=folder,
    ).strip()
    places = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (Path(packages) / "dependencies.pth").write_text("\n".join(places))
    return programs


def test_the_wheel_sweeps_selects_reports_and_exports(programs, tmp_path):
    place = run(programs / "python", "-c", "import sweeps; print(sweeps.__file__)", cwd=tmp_path)
    assert place.startswith(str(programs.parent))

    rkd, out = programs / "rkd", Path("results", "digits-lt")
    shown = run(rkd, "sweep", "--dataset", "digits-lt", *GRID, "--serial", cwd=tmp_path)
    said = answer(shown)
    plan = json.loads((tmp_path / out / "plan.json").read_bytes())
    assert plan["command"][:3] == ["rkd", "sweep", "--dataset"]

    assert said.strip() in run(rkd, "select", out, cwd=tmp_path)
    (tmp_path / out / "report.html").unlink()
    assert run(rkd, "report", out, cwd=tmp_path).startswith("Wrote ")
    report = (tmp_path / out / "report.html").read_text()
    assert "rkd sweep --dataset digits-lt" in report
    assert "<style" in report

    run(rkd, "export", out, cwd=tmp_path)
    assert (tmp_path / out / "student" / "model.pt2").is_file()
    whole = f"{len(plan['run_ids'])} trainings are whole"
    assert whole in run(rkd, "verify", out, cwd=tmp_path)
    assert "digits-lt" in run(rkd, "sweep", "--list", cwd=tmp_path)


def test_the_wheel_has_its_data_and_nothing_else(programs):
    packages = next((programs.parent / "lib").glob("python*/site-packages"))
    names = {path.name for path in packages.iterdir()} - {"dependencies.pth"}
    assert {name.partition("-")[0] for name in names} == {
        *PACKAGES,
        "robust_distillation",
    }
    for package in PACKAGES:
        data, installed = (
            {
                path.relative_to(root)
                for path in (root / package).rglob("*.*")
                if path.suffix not in (".py", ".pyc")
            }
            for root in (ROOT, packages)
        )
        assert installed == data
