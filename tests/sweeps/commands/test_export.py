"""The export: content of the folder, and refusals."""

import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from analysis.select import run as select
from analysis.selection.rule_options import Rule
from rkd_core import datasets
from rkd_core.datasets.batches.batches import EvaluationBatches
from rkd_core.device.execution import Execution
from rkd_core.metrics import average_accuracy, worst_class_accuracy
from rkd_core.models.predictor import rebuild
from rkd_core.records import shifts
from rkd_core.results import artifacts
from rkd_core.specs import DataOptions, MultiplierOptions, Variant
from rkd_core.storage import bundles
from rkd_core.training import train
from sweeps.commands import export
from sweeps.commands.model_card import Choice, _chosen, model_card
from sweeps.export import main
from tests.rkd_core.training.test_loop import RECIPE, student_spec, teacher_spec

CPU = Execution("cpu")
ROOT = Path(__file__).resolve().parents[3]
FILES = {
    "README.md",
    "labels.json",
    "manifest.json",
    "model.pt2",
    "model.safetensors",
    "preprocess.py",
    "preprocessing.json",
}


@pytest.fixture(name="digits", scope="module")
def long_tailed_digits(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return datasets.load("digits", DataOptions(imbalance=20), cache_dir=cache)


@pytest.fixture(name="runs", scope="module")
def trained(digits, tmp_path_factory):
    """Return a results folder and its records by name."""
    out = tmp_path_factory.mktemp("trained") / "results"
    rows = {}
    for seed in (0, 1):
        teacher = teacher_spec(seed=seed)
        student = student_spec(teacher, digits.fingerprint, seed=seed)
        rows[f"teacher {seed}"], rows[f"student {seed}"] = (
            train([spec], data=digits, out=out, execution=Execution("cpu"))[0]
            for spec in (teacher, student)
        )
    teacher = teacher_spec()
    others = {
        "averaged": teacher_spec(
            objective="tradeoff",
            alpha=0.5,
            multipliers=MultiplierOptions(period=2, batch=None, averaged_iterates=2),
        ),
        "post_shift": student_spec(
            teacher, digits.fingerprint, variant=Variant(method="post_shift"), temperature=None
        ),
        "without a teacher": teacher_spec(
            stage="student", objective="tradeoff", alpha=0.0, variant=Variant(method="one_hot")
        ),
    }
    for name, spec in others.items():
        (rows[name],) = train([spec], data=digits, out=out, execution=Execution("cpu"))
    select(out, Rule(shifts=False), figures=False)
    return out, rows


@pytest.fixture(name="results")
def copied(runs, tmp_path):
    return Path(shutil.copytree(runs[0], tmp_path / "results"))


def refused(capsys, *arguments, code=2):
    assert main([str(a) for a in arguments]) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("export.py: ")
    assert shown.err.count("\n") == 1
    return shown.err


def test_the_best_seed_on_validation_is_exported(runs, results, capsys):
    assert main([str(results)]) == 0
    assert capsys.readouterr().out == f"Wrote {results / 'student'}\n"
    folder = results / "student"
    assert {path.name for path in folder.iterdir()} == FILES
    students = [runs[1][f"student {seed}"] for seed in (0, 1)]
    best = max(students, key=lambda r: (r["val_worst_class_accuracy"], r["val_average_accuracy"]))
    assert json.loads((folder / "manifest.json").read_text())["run_id"] == best["run_id"]
    card = (folder / "README.md").read_text()
    assert f"Of the 2 seeds of the selected combination, this is seed {best['seed']}" in card


def test_the_card_of_a_student_without_a_teacher_has_its_objective(runs, results):
    row = runs[1]["without a teacher"]
    assert main([str(results), "--run-id", row["run_id"]]) == 0
    card = (results / "student" / "README.md").read_text()
    cells = [line.strip("|").split("|") for line in card.splitlines() if line.count("|") == 3]
    facts = {name.strip(): value.strip() for name, value in cells}
    assert facts["method"] == "one\\_hot"
    assert (facts["objective"], facts["alpha"]) == ("tradeoff", "0")
    assert "teacher's run" not in facts


@pytest.mark.parametrize("better", [0, 1])
@pytest.mark.parametrize("name", ["val_worst_class_accuracy", "val_average_accuracy"])
def test_worst_class_first_then_average(runs, monkeypatch, better, name):
    out, rows = runs
    figures = {"val_worst_class_accuracy": 0.5, "val_average_accuracy": 0.6}
    figures |= {"test_worst_class_accuracy": 0.1, "test_average_accuracy": 0.1}
    changed = {}
    for seed in (0, 1):
        own = figures | ({name: 0.7} if seed == better else {"test_average_accuracy": 0.9})
        if name == "val_worst_class_accuracy" and seed != better:
            own["val_average_accuracy"] = 0.9
        row = rows[f"student {seed}"]
        changed[row["run_id"]] = row | own
    monkeypatch.setattr(artifacts, "committed_record", lambda folder, run_id: changed[run_id])
    assert export._choose(out, None)[1]["seed"] == better


@pytest.mark.parametrize("name", ["student 0", "teacher 1", "averaged", "post_shift"])
def test_the_program_agrees_with_the_model_on_real_images(runs, digits, tmp_path, name):
    out, rows = runs
    row = rows[name]
    assert main([str(out), "--run-id", row["run_id"], "--to", str(tmp_path / "to")]) == 0
    program = torch.export.load(tmp_path / "to" / "model.pt2").module()
    artifact = artifacts.load(out / "artifacts", row["run_id"])
    model, images = rebuild(artifact), torch.from_numpy(digits.test.images)
    statistics = tuple(torch.tensor(v) for v in artifact.model["normalization"].values())
    batches = EvaluationBatches(
        digits.test, RECIPE, batch_size=999, device=torch.device("cpu"), statistics=statistics
    )
    with torch.no_grad():
        logits = program(images)
        torch.testing.assert_close(logits, model(next(iter(batches)).images), rtol=1e-4, atol=1e-4)
    right = logits.argmax(1).numpy() == digits.test.labels
    counts = [int(right[digits.test.labels == label].sum()) for label in range(10)]
    assert counts == row["test_class_correct"]
    with safe_open(tmp_path / "to" / "model.safetensors", framework="pt") as file:
        assert set(file.keys()) == set(artifact.weights)
        assert all(torch.equal(file.get_tensor(k), v) for k, v in artifact.weights.items())
        assert file.metadata()["run_id"] == row["run_id"]
    assert "named (`--run-id`)" in (tmp_path / "to" / "README.md").read_text()


def test_five_lines_of_the_documentation(runs, digits, tmp_path, monkeypatch, capsys):
    """Run the code of docs/results.md where its first command leaves its results."""
    folder = Path("results/digits-lt/student")
    assert main([str(runs[0]), "--to", str(tmp_path / folder)]) == 0
    page = ROOT / "docs" / "results.md"
    (code,) = (block for block in python_blocks(page) if "torch.export.load" in block)
    assert len([line for line in code.splitlines() if line and "import" not in line]) == 5
    assert not re.search("rkd_core|sweeps|analysis", code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    program = torch.export.load(folder / "model.pt2").module()
    capsys.readouterr()
    for row in range(3):
        pixels = digits.test.images[row]
        label = int(program(torch.from_numpy(pixels)[None]).argmax())
        Image.fromarray(pixels[..., 0]).save("digit.png")
        monkeypatch.delitem(sys.modules, "preprocess", raising=False)
        exec(code, {})
        assert capsys.readouterr().out == f"{digits.class_names[label]}\n"
    monkeypatch.delitem(sys.modules, "preprocess")
    assert main([str(runs[0]), "--to", str(tmp_path / folder)]) == 0  # __pycache__ is accepted


def python_blocks(page):
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def test_the_card_has_every_class_with_its_interval(runs, results):
    assert main([str(results), "--run-id", runs[1]["student 1"]["run_id"]]) == 0
    row = runs[1]["student 1"]
    card = (results / "student" / "README.md").read_text()
    found = re.findall(
        r"^\| (\d) \| (\d+) \| (\d+) \| ([\d.]+) % \| ([\d.]+) to ([\d.]+)", card, re.M
    )
    assert len(found) == 10
    for label, images, n, accuracy, low, high in found:
        place, z = int(label), 1.959963984540054
        k, total = row["test_class_correct"][place], row["test_class_total"][place]
        assert (int(images), int(n)) == (row["train_class_total"][place], total)
        p = k / total
        centre = (p + z * z / (2 * total)) / (1 + z * z / total)
        half = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total**2)) / (1 + z * z / total)
        expected = (p, centre - half, centre + half)
        shown = (float(accuracy), float(low), float(high))
        assert shown == pytest.approx([100 * v for v in expected], abs=0.051)
    for words in (
        row["run_id"],
        row["teacher_id"],
        row["data_fingerprint"],
        torch.__version__,
        "imbalance 20",
        "uint8 images `(n, 8, 8, 1)`, grey",
    ):
        assert words in card
    assert re.findall(r"validation.*", card)


def test_the_card_shows_names_as_they_are_and_what_was_selected(runs):
    names = ["a|b", "*x*", "<b>", "new\nline", *"456789"]
    row = runs[1]["post_shift"] | {"class_names": names, "test_class_total": [0] + [40] * 9}
    row["test_class_correct"] = [0] * 10
    spec = artifacts.load(runs[0] / "artifacts", row["run_id"]).spec
    selection = json.loads((runs[0] / "selection.json").read_text()) | {"feasible": False}
    about = {
        "input": {"shape": ["n", 8, 8, 1], "colour": "grey"},
        "decoding": {"integers": [0, 4095], "floats": None, "upright": True, "over_white": True},
        "resize": {"shorter_side": 9, "interpolation": "bilinear, antialiased"},
    }
    card = model_card(spec, row, about, Choice(("r",), selection), None, "2")
    for cell in (r"| a\|b |", r"| \*x\* |", r"| \<b\> |", "| new line |"):
        assert cell in card
    assert "Nothing is known about classes without test images." in card
    assert "shifted by class to fit validation" in card
    assert "resized to a shorter side of 9 pixels" in card
    assert "Gray values of more than 8 bits are scaled: 0 to 4095 become 0 to 255." in card
    assert "No combination met the constraint" in card
    assert "name constrained; worst k 1;" in card
    assert "used for selection, so biased upwards" in card


def test_a_student_at_chance_is_exported_with_a_warning(runs, monkeypatch, tmp_path, capfd):
    out, rows = runs
    row = rows["student 0"]
    first = [row["val_class_total"][0], *[0] * (len(row["val_class_total"]) - 1)]
    lost = row | {"val_class_correct": first}
    monkeypatch.setattr(artifacts, "committed_record", lambda folder, run_id: lost)
    assert main([str(out), "--run-id", row["run_id"], "--to", str(tmp_path / "to")]) == 0
    assert "warning: do not ship this model: it has learned nothing" in capfd.readouterr().err
    assert "**Not to be used as it is:** it has learned nothing" in (
        tmp_path / "to" / "README.md"
    ).read_text(encoding="utf-8")
    advised = {"ship": False, "title": "Nothing to ship", "text": "Train longer."}
    choice = Choice((row["run_id"],), {"recommendation": advised})
    assert "**The selection does not recommend it.** Nothing to ship. Train longer." in (
        _chosen(choice, row)
    )


def test_preprocessing_and_labels(runs, results, digits):
    main([str(results)])
    about = json.loads((results / "student" / "preprocessing.json").read_text())
    assert about["input"] == {"dtype": "uint8", "shape": ["n", 8, 8, 1], "colour": "grey"}
    levels = digits.train.images / 255
    assert about["normalization"]["mean"] == pytest.approx([levels.mean()])
    assert about["normalization"]["std"] == pytest.approx([levels.std()])
    assert about["resize"] is None
    assert about["decoding"] == {
        "integers": None,
        "floats": None,
        "upright": True,
        "over_white": True,
    }
    assert json.loads((results / "student" / "labels.json").read_text()) == list("0123456789")


def test_resized_images_are_reported(digits, tmp_path):
    data = DataOptions(imbalance=20, image_size=4)
    small = datasets.load("digits", data, cache_dir=tmp_path / "cache")
    (row,) = train([teacher_spec(data=data)], data=small, out=tmp_path / "out")
    assert main([str(tmp_path / "out"), "--run-id", row["run_id"]]) == 0
    about = json.loads((tmp_path / "out" / "student" / "preprocessing.json").read_text())
    assert about["resize"]["shorter_side"] == 4
    assert about["resize"]["centre_crop"] == [4, 4]


def kinds_of_images():
    """Write images of about 20 x 16 pixels, one of every kind with decoding rules of its own."""
    rng = np.random.default_rng(0)
    color = Image.fromarray(rng.integers(0, 256, (16, 20, 3)).astype(np.uint8))
    alpha = Image.fromarray(rng.integers(0, 256, (16, 20)).astype(np.uint8))
    seen = color.copy()
    seen.putalpha(alpha)
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray(rng.integers(0, 4096, (16, 20)).astype(np.uint16))
    floating = Image.fromarray(rng.random((16, 20)).astype(np.float32))
    return {
        "turned.jpg": encoded(color, "JPEG", exif=exif),
        "alpha.png": encoded(seen),
        "palette.png": encoded(color.convert("P"), transparency=bytes(range(256))),
        "la.png": encoded(Image.merge("LA", (color.convert("L"), alpha))),
        "cmyk.jpg": encoded(color.convert("CMYK"), "JPEG"),
        "bit.png": encoded(color.convert("1")),
        "gray.bmp": encoded(color.convert("L"), "BMP"),
        "color.webp": encoded(color, "WEBP"),
        "deep.png": encoded(deep),
        "float.tif": encoded(floating, "TIFF"),
    }


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def image_set(root, images):
    """Write a folder of two classes with the same images in training and test."""
    for split in ("train", "test"):
        for label in ("a", "b"):
            folder = root / split / label
            folder.mkdir(parents=True)
            for name, content in images.items():
                (folder / name).write_bytes(content)
    return root


RUN_CARDS = """
import json, shutil, sys
from pathlib import Path
card, images = (Path(name) for name in sys.argv[1:])
code = card.read_text().partition("```python\\n")[2].partition("```")[0]
found = {}
for image in sorted(images.iterdir()):
    shutil.copy(image, "image.png")  # the format is read from the content
    scope = {}
    exec(code, scope)
    found[image.name] = scope["model"](scope["images"])[0].tolist()
assert not {"rkd_core", "sweeps", "analysis", "torchvision"} & set(sys.modules)
print(json.dumps(found))
"""


@pytest.mark.parametrize("form", ["decoded", "gray", "streamed"])
def test_the_card_as_printed_sees_what_training_sees(tmp_path, form):
    """Run the card's code in another directory, without this product, on an image of each kind."""
    images = kinds_of_images()
    if form == "gray":  # one size, so no resizing
        images = {name: images[name] for name in ("la.png", "bit.png", "gray.bmp", "deep.png")}
    data = DataOptions(image_size=None if form == "gray" else 12)
    limit = {"decode_limit": 0} if form == "streamed" else {}
    root = image_set(tmp_path / "images", images)
    dataset = datasets.load(str(root), data, cache_dir=tmp_path / "cache", **limit)
    assert dataset.channels == (1 if form == "gray" else 3)
    (row,) = train([teacher_spec(data=data)], data=dataset, out=tmp_path / "out", execution=CPU)
    away = tmp_path / "away"
    assert main([str(tmp_path / "out"), "--run-id", row["run_id"], "--to", str(away)]) == 0

    artifact = artifacts.load(tmp_path / "out" / "artifacts", row["run_id"])
    statistics = tuple(torch.tensor(v) for v in artifact.model["normalization"].values())
    expected = {}
    for part, rows in ((dataset.val, dataset.val_indices), (dataset.test, dataset.test_indices)):
        batches = EvaluationBatches(
            part, RECIPE, batch_size=99, statistics=statistics, **({"workers": 0} if limit else {})
        )
        with torch.no_grad():
            logits = rebuild(artifact)(next(iter(batches)).images)
        names = sorted(images)
        expected |= {names[r % len(names)]: v for r, v in zip(rows, logits.tolist(), strict=True)}

    shutil.rmtree(root)
    (tmp_path / "one").mkdir()
    for name, content in images.items():
        (tmp_path / "one" / name).write_bytes(content)
    (away / "use.py").write_text(RUN_CARDS)
    (tmp_path / "elsewhere").mkdir()
    done = subprocess.run(
        [sys.executable, str(away / "use.py"), str(away / "README.md"), str(tmp_path / "one")],
        cwd=tmp_path / "elsewhere",
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        | {"PYTHONWARNINGS": "ignore:The given buffer is not writable"},  # torch 2.11 itself
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found) == set(expected) == set(images)
    for name, logits in found.items():
        assert logits == pytest.approx(expected[name], rel=1e-4, abs=1e-4), name
    distinct = {tuple(np.round(logits, 4)) for logits in found.values()}
    assert len(distinct) == len(images)  # otherwise agreement would mean little


def test_an_earlier_export_has_no_preprocess_py(runs, results):
    run_id = runs[1]["student 0"]["run_id"]
    contents = dict.fromkeys(FILES - {"manifest.json", "preprocess.py"}, b"{}")
    bundles.write(results / "student", run_id, contents)
    assert main([str(results), "--run-id", run_id]) == 0
    assert {path.name for path in (results / "student").iterdir()} == FILES


def test_an_export_is_replaced_by_another(runs, results):
    one, other = (runs[1][f"student {seed}"]["run_id"] for seed in (0, 1))
    for run_id in (one, other, other):
        assert main([str(results), "--run-id", run_id]) == 0
        bundles.check(results / "student", run_id, FILES - {"manifest.json"})
    assert [p.name for p in results.iterdir() if p.name.startswith(".student")] == []


@pytest.mark.parametrize("what", ["stranger", "edited", "file", "artifact", "link", "missing"])
def test_foreign_files_are_left_alone(results, tmp_path, capsys, what):
    to = tmp_path / "to"
    if what == "file":
        to.write_text("mine")
    elif what == "artifact":
        to = next((results / "artifacts").iterdir())
    else:
        main([str(results), "--to", str(to)])
        if what == "link":
            to.rename(tmp_path / "real")
            to.symlink_to(tmp_path / "real")
        elif what == "missing":
            (to / "model.pt2").unlink()
        else:
            (to / ("notes.txt" if what == "stranger" else "README.md")).write_text("mine")
    capsys.readouterr()
    before = {p: p.read_bytes() for p in sorted(to.parent.rglob("*")) if p.is_file()}
    line = refused(capsys, results, "--to", to)
    assert str(to) in line
    assert {p: p.read_bytes() for p in sorted(to.parent.rglob("*")) if p.is_file()} == before


def test_an_empty_folder_is_taken(results, tmp_path):
    (tmp_path / "to").mkdir()
    assert main([str(results), "--to", str(tmp_path / "to")]) == 0
    assert {path.name for path in (tmp_path / "to").iterdir()} == FILES


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "selection.json is missing"),
        ("{", "selection.json is damaged"),
        ("[]", "selection.json is damaged"),
        ('{"selected": {"run_ids": []}}', "selection.json is damaged"),
        ('{"selected": {"run_ids": [1]}}', "selection.json is damaged"),
        ('{"selected": {"run_ids": ["nobody"]}}', "has no run nobody"),
    ],
)
def test_a_selection_that_names_nothing(results, capsys, content, words):
    (results / "selection.json").unlink()
    if content is not None:
        (results / "selection.json").write_text(content)
    assert words in refused(capsys, results)
    assert not (results / "student").exists()


def test_bad_input_is_one_line(results, tmp_path, capsys):
    assert "does not exist" in refused(capsys, tmp_path / "nowhere")
    assert "has no run nobody" in refused(capsys, results, "--run-id", "nobody")
    assert "--run-di" in refused(capsys, results, "--run-di", "x")
    refused(capsys)


@pytest.mark.parametrize(
    "name", ["weights.safetensors", "model.json", "spec.json", "record.parquet", "manifest.json"]
)
def test_a_damaged_artifact_is_named(runs, results, capsys, name):
    run_id = runs[1]["student 0"]["run_id"]
    path = results / "artifacts" / run_id / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert str(path) in refused(capsys, results, "--run-id", run_id)
    assert not (results / "student").exists()


def test_a_failure_leaves_the_former_export(results, capsys, monkeypatch):
    main([str(results)])
    before = {p.name: p.read_bytes() for p in (results / "student").iterdir()}
    rename, target = Path.rename, results / "student"

    def full(path, to):
        if to == target and not path.name.endswith(".old") and path.name != "student":
            monkeypatch.setattr(Path, "rename", rename)
            raise OSError(28, "No space left on device")
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", full)
    capsys.readouterr()
    assert "No space left" in refused(capsys, results, code=1)
    assert {p.name: p.read_bytes() for p in (results / "student").iterdir()} == before
    assert [p.name for p in results.iterdir() if p.name.startswith(".student")] == []


def test_without_its_teacher(runs, results):
    row = runs[1]["student 0"]
    shutil.rmtree(results / "artifacts" / row["teacher_id"])
    assert main([str(results), "--run-id", row["run_id"]]) == 0
    card = (results / "student" / "README.md").read_text()
    assert row["teacher_id"] in card
    assert "teacher on test" not in card


def test_images_are_numbers_that_differ(digits):
    """Otherwise the comparison above would detect nothing."""
    assert len(np.unique(digits.test.images)) > 10


@pytest.fixture(name="shifted")
def selected_with_a_shift(results):
    """The results, with a shift of the students selected at every seed."""
    select(results, Rule(margin="1"), figures=False)
    content = json.loads((results / "selection.json").read_text())
    content["selected"]["shift"] = 0.5
    (results / "selection.json").write_text(json.dumps(content))
    return results, content["selected"]["run_ids"]


def test_a_shifted_program_has_the_test_counts_of_its_shift(digits, shifted):
    results, run_ids = shifted
    assert main([str(results)]) == 0
    folder = results / "student"
    run_id = json.loads((folder / "manifest.json").read_text())["run_id"]
    rows = {
        row["base_run_id"]: row
        for row in shifts.read(results, run_ids).to_pylist()
        if row["alpha"] == 0.5
    }

    def on_validation(row):
        counts = row["val_class_correct"], row["val_class_total"]
        return worst_class_accuracy(*counts), average_accuracy(*counts)

    assert run_id == max(run_ids, key=lambda name: on_validation(rows[name]))
    program = torch.export.load(folder / "model.pt2").module()
    images = torch.from_numpy(digits.test.images)
    with torch.no_grad():
        predicted = torch.cat([program(part) for part in images.split(100)]).argmax(1).numpy()
    right = digits.test.labels[predicted == digits.test.labels]
    assert np.bincount(right, minlength=10).tolist() == rows[run_id]["test_class_correct"]
    assert (export.classifier(results)(images).argmax(1).numpy() == predicted).all()

    card = (folder / "README.md").read_text()
    assert "at strength 0.5 between balanced (0) and robust (1)" in card
    test = average_accuracy(rows[run_id]["test_class_correct"], rows[run_id]["test_class_total"])
    assert f"average {100 * test:.1f} %" in card
    with safe_open(folder / "model.safetensors", "pt") as weights:
        assert weights.get_tensor("logit_shift").tolist() == rows[run_id]["shift"]


def test_a_missing_or_damaged_shift_is_refused(shifted, capsys):
    results, run_ids = shifted
    path = shifts.path_of(results, run_ids[0])
    content = path.read_bytes()
    path.unlink()
    assert "has no shift 0.5; run the sweep again" in refused(capsys, results)
    path.write_bytes(content[:-9])
    assert "cannot be read as shifts" in refused(capsys, results)
    (results / "selection.json").write_text('{"selected": {"run_ids": ["a"], "shift": "0.5"}}')
    assert "selection.json is damaged" in refused(capsys, results)
    assert not (results / "student").exists()
