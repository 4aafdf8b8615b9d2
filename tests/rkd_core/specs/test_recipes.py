import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from analysis.papers import table
from rkd_core import records
from rkd_core.errors import UserError
from rkd_core.specs import Recipe, TrainingSpec, recipes
from sweeps.cli.checks import check
from sweeps.cli.parse import parse
from sweeps.commands.paper import PaperOptions
from sweeps.planning.settings import resolve

ROOT = Path(__file__).parents[3]
FILES = sorted((ROOT / "rkd_core" / "specs" / "recipe_files").glob("*.toml"))
MINE = """
description = "mine"
epochs = 4
optimizer = "adamw"
learning_rate = 1
betas = [0.8, 0.9]
schedule = "step"
warmup_epochs = 1
milestone_epochs = [2, 3]
"""


def written(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_file_is_a_recipe(tmp_path):
    description, recipe = recipes.read(written(tmp_path, MINE))
    assert description == "mine"
    assert recipe == Recipe(
        epochs=4,
        optimizer="adamw",
        learning_rate=1.0,
        betas=(0.8, 0.9),
        schedule="step",
        warmup=0.25,
        milestones=(0.5, 0.75),
    )
    assert recipes.get(str(tmp_path / "mine.toml")) == recipe


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("epochs = 4\nmomentun = 0.9", "unknown key 'momentun': did you mean momentum?"),
        ("epochs = 4\n[recipe]\nepochs = 3", "unknown key 'recipe'"),
        ("batch_size = 4", "epochs must be a whole number above 0"),
        ("epochs = 0", "epochs must be a whole number above 0"),
        ("epochs = true", "epochs must be a whole number above 0"),
        ('epochs = 4\nlearning_rate = "0.1"', "learning_rate: Input should be a valid number"),
        ("epochs = 4\nlearning_rate = nan", "learning_rate: Input should be a finite number"),
        ("epochs = 4\nlearning_rate = -1", "learning_rate: Input should be greater than 0"),
        ("epochs = 4\nbatch_size = 1.5", "batch_size: Input should be a valid integer"),
        ("epochs = 4\nflip = 1", "flip: Input should be a valid boolean"),
        ('epochs = 4\noptimizer = "adam"', "optimizer: Input should be 'sgd' or 'adamw'"),
        ("epochs = 4\nbetas = [0.9]", "betas"),
        ("epochs = 4\nbetas = [0.8, 0.9]", "betas does not belong to the optimizer sgd"),
        ("epochs = 4\nmilestones = 0.5", "milestones: Input should be a valid tuple"),
        ("epochs = 4\nmilestone_epochs = [3, 2]", "milestones must increase"),
        ("epochs = 4\nmilestone_epochs = [4]", "milestone_epochs must be from 0 to below the 4"),
        ("epochs = 4\nwarmup_epochs = '1'", "warmup_epochs must be from 0 to below the 4"),
        ("epochs = 4\nwarmup = 0.1\nwarmup_epochs = 1", "either warmup or warmup_epochs"),
        ("epochs = 4\ndescription = 1", "description must be text"),
        ("epochs = 4\nepochs = 5", "is not TOML: Cannot overwrite a value"),
        ("epochs: 4", "is not TOML"),
        (b"epochs = 4 # \xff", "is not TOML"),
        ("", "epochs must be"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(tmp_path, text, says):
    path = written(tmp_path, text)
    with pytest.raises(UserError, match=re.escape(f"recipe {path}")) as caught:
        recipes.get(str(path))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no\.toml cannot be read: No such file"):
        recipes.get(str(tmp_path / "no.toml"))
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(UserError, match=r"folder\.toml cannot be read"):
        recipes.get(str(tmp_path / "folder.toml"))
    with pytest.raises(UserError, match=r"or a file NAME\.toml"):
        recipes.get("mine")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_file_states_a_command_and_a_result(path):
    """The command parses, trains with this recipe, and names networks and tables that exist."""
    text = path.read_text()
    head = text.split("\n\n")[0]
    assert all(line.startswith("#") for line in head.splitlines())
    assert "Expect" in head or "no result is measured here" in head
    line = re.match(r"# python ((?:[^\\\n]+\\\n#)*[^\\\n]+)", head)[1].replace("\\\n#", " ")
    program, *arguments = shlex.split(line)
    assert arguments[arguments.index("--recipe") + 1] == path.stem
    if program == "sweeps/paper.py":
        options = parse(arguments, "paper.py", PaperOptions)
        assert table(options.table, options.data.dataset).parts
    else:
        assert program == "sweeps/pareto.py"
        check(parse(arguments))
    assert tomllib.loads(text)["description"]


def test_names_of_recipes_are_those_of_the_files():
    assert list(recipes.RECIPES) == sorted(path.stem for path in FILES)
    assert {"finetune", "imagenet", "digits"} < set(recipes.RECIPES)


def command(*options):
    return subprocess.run(
        [sys.executable, "sweeps/pareto.py", "--serial", "--scale", "small", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_trains_with_a_file_and_does_not_depend_on_its_place(tmp_path):
    text = MINE.replace("learning_rate = 1", "learning_rate = 3e-3")
    options = [
        "--alphas",
        "1",
        "--temperatures",
        "1",
        "--epochs",
        "2",
        "--out",
        str(tmp_path / "o"),
    ]
    ended = command(*options, "--recipe", str(written(tmp_path, text)))
    assert ended.returncode == 0, ended.stderr
    rows = records.read(tmp_path / "o" / "records").to_pylist()
    for row in rows:
        recipe = TrainingSpec.model_validate_json(row["spec"]).recipe
        assert (recipe.epochs, recipe.optimizer, recipe.milestones) == (2, "adamw", (0.5, 0.75))
    moved = tmp_path / "moved.toml"
    moved.write_text("# a comment\n" + text)
    again = command(*options, "--recipe", str(moved))
    assert again.returncode == 0, again.stderr
    assert len(records.read(tmp_path / "o" / "records").to_pylist()) == len(rows)


def test_a_wrong_file_ends_the_command_before_anything_is_written(tmp_path):
    path = written(tmp_path, "epochs = 4\nlearning_rat = 0.1")
    ended = command("--recipe", str(path), "--out", str(tmp_path / "o"))
    assert ended.returncode == 2
    assert "unknown key 'learning_rat': did you mean learning_rate" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "o").exists()


def test_a_recipe_for_color_images_is_refused_on_grey_ones(digits):
    with pytest.raises(UserError, match="normalization imagenet of the recipe is for color images"):
        resolve(parse(["--recipe", "finetune"]), digits, gpu=False)
