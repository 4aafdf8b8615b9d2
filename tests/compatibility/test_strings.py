"""Strings that enter a digest, a random stream or a results folder.

A failure here means that results which exist would be trained again, drawn otherwise or not found.
If that is intended, ``docs/run-ids.md`` says so; then change the value here.
Run ids themselves are pinned in ``tests/rkd_core/specs``, defaults in ``test_spec.py`` there.
"""

import ast
import hashlib
from pathlib import Path

import pytest

import rkd_core
from analysis.views import answer_cache, selection_json
from rkd_core import spec_options, specs
from rkd_core.datasets.preparation import prepare
from rkd_core.objectives import OBJECTIVES
from rkd_core.records import SCHEMA, SCHEMA_VERSION, compaction
from rkd_core.results import checkpoints, initial_weights
from rkd_core.seeds import stream, stream_seed
from rkd_core.teachers import answers, table_or_live
from sweeps.folder import lease
from sweeps.search import optuna_strategy
from sweeps.search.strategy import Goal, Request, Space

CORE = Path(rkd_core.__file__).parent
ROOT = CORE.parent
CHANGED = "a string that digests, random streams or results folders hold has changed: "

STREAMS = {
    ("array_data.py", "data"),
    ("splits.py", "holdout"),
    ("multiplier_updates.py", "validation"),
    ("run.py", "weights"),
    ("run.py", "draws"),
    ("shift_family.py", "shift_family"),
    ("fusion.py", "review_kd"),
    ("ada_alpha.py", "self.name"),
}
"""First part of the seed of each named stream, and the module that draws from it."""

SEEDS = {
    ("weights", "teacher", 0): 4081702914186718803,
    ("weights", "student", 1): 1959552871078818656,
    ("data", "student", 0): 5317802281646899211,
    ("validation", 0): 9195513585982286348,
    ("holdout", 0): 5231926308762154229,
    ("review_kd", 0): 8444274490845492316,
    ("ada_alpha_shuffled", 0): 1305016764872895401,
    ("shift_family",): 394720435326264881,
    ("draws", "aaaaaaaaaaaaaaaaaaaa", 0, 0): 6472135343989470423,
}

FIELDS = {
    specs.TrainingSpec: (
        "stage dataset data architecture objective alpha temperature recipe multipliers "
        "scale_by_classes teacher seed variant held_out initial initial_weights derived tuned"
    ),
    specs.TeacherRef: "run_id family architecture objective alpha",
    specs.Derivation: "by source",
    specs.Tuned: "learning_rate weight_decay multiplier_step_size",
    specs.Variant: "method options",
    spec_options.HoldoutRule: "by share per_class seed",
    spec_options.DataOptions: (
        "classes class_seed imbalance profile limit_train subset_seed image_size split_seed "
        "stratified"
    ),
    spec_options.Recipe: (
        "epochs batch_size drop_last learning_rate momentum nesterov weight_decay decay_norm "
        "schedule warmup milestones decay crop_padding crop_fill flip normalization"
    ),
    spec_options.MultiplierOptions: "step_size period batch val_labels averaged_iterates",
}
"""Fields of what a run id digests; a field may be added if its default means "as before"."""

VALUES = {
    "MATH_VERSION": (specs.MATH_VERSION, 1),
    "version of the records' schema": (SCHEMA_VERSION, 1),
    "version of the compacted records": (compaction._VERSION, 1),
    "version of selection.json": (selection_json.SCHEMA_VERSION, 1),
    "format of prepared data sets": (prepare.FORMAT, 2),
    "format of teacher answers": (answers._FORMAT, 2),
    "compacted records": (compaction.NAME, ".compacted"),
    "last answer": (answer_cache.NAME, ".answer.json"),
    "lease": (lease.FILES, ".in-use"),
    "journal of searches": (optuna_strategy.JOURNAL, "search.journal"),
    "teacher answers": (table_or_live.FOLDER, "teacher_logits"),
    "initial weights": (initial_weights.FOLDER, "initial_weights"),
    "weights in them": (initial_weights.FILE, "weights.safetensors"),
    "checkpoints": (checkpoints.FOLDER, "checkpoints"),
    "state in them": (checkpoints.FILE, "state.safetensors"),
}

NAMES = (
    "records",
    "artifacts",
    "splits",
    "ray",
    "plan.json",
    "dataset.json",
    "inventory.json",
    "selection.json",
    "sweep.log",
)
"""Further folders and files of a results folder, which the packages name in literals."""

COLUMNS = (
    "run_id teacher_id family stage method variant teacher_objective student_objective alpha_t "
    "alpha_s temperature tuned dataset data_fingerprint class_names train_class_total architecture "
    "parameters seed epochs epochs_trained val_class_total val_class_correct test_class_total "
    "test_class_correct val_average_accuracy val_worst_class_accuracy test_average_accuracy "
    "test_worst_class_accuracy val_epochs val_epoch_class_correct val_class_log_loss "
    "val_class_margin test_class_log_loss test_class_margin val_calibration_images "
    "val_calibration_positives val_calibration_probability test_calibration_images "
    "test_calibration_positives test_calibration_probability teacher_calibration_error "
    "train_regularization_samples val_regularization_samples multipliers train_loss train_seconds "
    "trained_together teacher_pass started_at host device precision versions status cause spec "
    "schema_version"
)
"""Columns of the records, which other columns may follow."""


def trees():
    for path in sorted(CORE.rglob("*.py")):
        yield path, ast.parse(path.read_text())


def literals(folder):
    return {
        node.value
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def test_named_streams():
    found = {
        (path.name, ast.unparse(node.args[0]).strip("'"))
        for path, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "stream_seed"
    }
    assert found == STREAMS, CHANGED + "names of random streams"


@pytest.mark.parametrize("parts", SEEDS, ids=str)
def test_seeds_of_streams(parts):
    assert stream_seed(*parts) == SEEDS[parts], CHANGED + "seeds of random streams"


def test_numbers_of_a_stream():
    drawn = stream(stream_seed("data", "student", 0), 3, 1).permutation(6).tolist()
    assert drawn == [5, 3, 4, 2, 1, 0], CHANGED + "numbers of random streams"


@pytest.mark.parametrize("model", FIELDS, ids=lambda model: model.__name__)
def test_fields_of_specs(model):
    pinned = FIELDS[model].split()
    assert set(pinned) <= set(model.model_fields), CHANGED + f"fields of {model.__name__}"
    for name in set(model.model_fields) - set(pinned):
        assert not model.model_fields[name].is_required(), f"{name} needs a default"


@pytest.mark.parametrize("name", VALUES)
def test_constants(name):
    value, pinned = VALUES[name]
    assert value == pinned, CHANGED + name


def test_names_in_a_results_folder():
    known = literals("rkd_core") | literals("sweeps") | literals("analysis")
    assert set(NAMES) <= known, CHANGED + "names in a results folder"


def test_columns_of_records():
    pinned = COLUMNS.split()
    assert [name for name in SCHEMA.names if name in pinned] == pinned, CHANGED + "record columns"


def test_names_of_objectives():
    assert list(OBJECTIVES)[:4] == ["standard", "balanced", "tradeoff", "robust"], CHANGED


def test_names_of_optuna_studies(tmp_path):
    """Study names digest the text of a tuple, in which two classes print themselves."""
    pytest.importorskip("optuna")
    space, tuning = Space((0.0, 1.0), (1.0, 3.0), (0,)), {"learning_rate": 0.1}
    request = Request(space, Goal(), dataset="d", family="f", tuning=tuning, out=tmp_path)
    text = (
        "('f', Space(alphas=(0.0, 1.0), temperatures=(1.0, 3.0), seeds=(0,)), "
        "Goal(worst_k=1, margin=None), 'tpe', 'constrained', False, ('learning_rate', 0.1))"
    )
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    study = optuna_strategy.create(request)._study.study_name
    assert study == f"d-{digest}", CHANGED + "names of Optuna studies"
