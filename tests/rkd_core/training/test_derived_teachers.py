"""Teachers that come from one that is trained already: shifted, a new head, a warm start."""

import itertools
import math

import numpy as np
import pytest
import torch

from rkd_core.errors import UserError
from rkd_core.models.predictor import rebuild
from rkd_core.objectives import class_costs, margin_loss
from rkd_core.results import artifacts
from rkd_core.specs import Derivation, MultiplierOptions, TeacherRef, family_id, run_id
from rkd_core.training import train
from rkd_core.training.logit_shift import adjust
from tests.rkd_core.training.arrays.test_arrays import apart_from_company
from tests.rkd_core.training.test_checkpoints import RECIPE, Cut, cut_after
from tests.rkd_core.training.test_loop import CPU, colourful, student_spec, teacher_spec

ASCENT = MultiplierOptions(step_size=0.5, period=None, batch=None)


def errors(scores, labels, shift):
    """Return one minus the recall of each class, counted one image at a time."""
    wrong, total = {}, {}
    for row, label in zip(scores.tolist(), labels.tolist(), strict=True):
        moved = [s + b for s, b in zip(row, shift.tolist(), strict=True)]
        total[label] = total.get(label, 0) + 1
        wrong[label] = wrong.get(label, 0) + (moved.index(max(moved)) != label)
    return [wrong[label] / total[label] for label in sorted(total)]


def problem(classes=4, n=400, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=n)
    labels[:classes] = range(classes)
    scores = rng.standard_normal((n, classes))
    scores[np.arange(n), labels] += np.linspace(2.0, 0.2, classes)[labels]
    priors = np.exp(-np.arange(classes))
    return scores, labels, priors / priors.sum()


def test_alpha_0_is_post_hoc_logit_adjustment():
    scores, labels, priors = problem()
    shift, multipliers = adjust(scores, labels, priors, 0.0)
    assert multipliers is None
    expected = [-np.log(p) for p in priors]
    np.testing.assert_allclose(shift - shift[0], np.array(expected) - expected[0], atol=1e-12)


@pytest.mark.parametrize("alpha", [0.25, 0.5, 1.0])
def test_the_shift_is_that_of_its_multipliers_and_no_worse_than_the_first(alpha):
    scores, labels, priors = problem()
    shift, multipliers = adjust(scores, labels, priors, alpha)
    assert multipliers.sum() == pytest.approx(1)
    both = zip(multipliers, priors, strict=True)
    costs = [((1 - alpha) / 4 + alpha * multiplier) / prior for multiplier, prior in both]
    np.testing.assert_allclose(shift - shift[0], np.log(costs) - np.log(costs[0]), atol=1e-9)

    def mixed(shift):
        found = errors(scores, labels, shift)
        return (1 - alpha) * sum(found) / 4 + alpha * max(found)

    assert mixed(shift) <= mixed(-np.log(priors)) + 1e-12


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_the_multipliers_are_the_best_of_a_thousand_steps_in_loops(alpha):
    scores, labels, priors = problem(classes=3, n=40, seed=1)
    log_multipliers, best, found = [-math.log(3)] * 3, math.inf, None
    for step in range(1000):
        multipliers = [math.exp(m) for m in log_multipliers]
        costs = [
            ((1 - alpha) / 3 + alpha * m) / p for m, p in zip(multipliers, priors, strict=True)
        ]
        risks = errors(scores, labels, np.log(costs))
        error = (1 - alpha) * sum(risks) / 3 + alpha * max(risks)
        if error < best:
            best, found = error, multipliers
        size = 0.1 / (1 + step / 300)
        raised = [m + size * risk for m, risk in zip(log_multipliers, risks, strict=True)]
        total = math.log(sum(map(math.exp, raised)))
        log_multipliers = [m - total for m in raised]
    shift, multipliers = adjust(scores, labels, priors, alpha)
    assert multipliers == pytest.approx(found, rel=1e-9)
    assert shift.mean() == pytest.approx(0, abs=1e-12)


def test_robust_with_two_classes_is_the_best_threshold():
    scores, labels, priors = problem(classes=2, n=300, seed=3)
    shift, _ = adjust(scores, labels, priors, 1.0)
    gaps = np.sort(scores[:, 0] - scores[:, 1])
    places = [(a + b) / 2 for a, b in itertools.pairwise(gaps)]
    best = min(max(errors(scores, labels, np.array([0.0, place]))) for place in places)
    assert max(errors(scores, labels, shift)) <= best + 0.01


def test_a_shift_is_what_the_margin_loss_asks_for():
    """The gradient at log q + log c is zero: shifted logits are those of the other objective."""
    rng = np.random.default_rng(0)
    q = torch.from_numpy(rng.dirichlet(np.ones(4), size=50))
    priors, multipliers = q.mean(dim=0), torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    costs = class_costs("tradeoff", priors, multipliers, 0.7)
    logits = (q.log() + costs.log()).requires_grad_(True)
    margin_loss(logits, q, costs).backward()
    assert logits.grad.abs().max() < 1e-12


def test_nothing_but_classes_differs_between_images():
    scores, labels, priors = problem()
    moved = scores + np.random.default_rng(0).standard_normal((len(scores), 1))
    np.testing.assert_allclose(
        adjust(scores, labels, priors, 0.5)[0], adjust(moved, labels, priors, 0.5)[0], atol=1e-9
    )


def test_a_class_without_validation_images_has_no_risk():
    scores, labels, priors = problem()
    labels[labels == 3] = 2
    shift, multipliers = adjust(scores, labels, priors, 1.0)
    assert np.isfinite(shift).all()
    assert multipliers[3] <= 0.25 + 1e-12


# ---- Trained -------------------------------------------------------------------------------------


SOURCE = teacher_spec(architecture="resnet8", recipe=RECIPE)


def derived(fingerprint, by, alpha=0.5, **changes):
    ref = TeacherRef(
        run_id=run_id(SOURCE, fingerprint),
        family=family_id(SOURCE, fingerprint),
        architecture=SOURCE.architecture,
        objective=SOURCE.objective,
    )
    fields = {
        "architecture": "resnet8",
        "recipe": RECIPE,
        "objective": "tradeoff",
        "alpha": alpha,
        "multipliers": ASCENT if alpha and by != "shifted" else None,
        "derived": Derivation(by=by, source=ref),
    }
    return teacher_spec(**(fields | changes))


@pytest.fixture(name="world")
def data_and_a_standard_teacher(tmp_path):
    data = colourful()
    train([SOURCE], data=data, out=tmp_path, execution=CPU)
    return data, tmp_path


def network(out, run):
    return rebuild(artifacts.load(out / "artifacts", run))


def test_a_shifted_teacher_is_its_source_plus_a_constant_for_each_class(world):
    data, out = world
    spec = derived(data.fingerprint, "shifted")
    (row,) = train([spec], data=data, out=out, execution=CPU)
    images = torch.randn(5, data.channels, *data.image_size)
    source = spec.derived.source.run_id
    shift = network(out, row["run_id"])(images) - network(out, source)(images)
    torch.testing.assert_close(shift, shift[:1].expand_as(shift), rtol=0, atol=1e-5)
    assert shift.abs().max() > 1e-3
    assert (row["stage"], row["method"]) == ("teacher", "shifted_teacher")
    assert (row["epochs"], row["epochs_trained"]) == (0, 0)
    assert (row["teacher_objective"], row["alpha_t"]) == ("tradeoff", 0.5)
    assert row["teacher_id"] is None
    assert sum(row["multipliers"]) == pytest.approx(1)
    assert row["val_calibration_images"] is not None


def test_a_head_leaves_all_below_it_as_it_was(world):
    data, out = world
    spec = derived(data.fingerprint, "head")
    (row,) = train([spec], data=data, out=out, execution=CPU)
    assert row["method"] == "head_teacher"
    before = artifacts.load(out / "artifacts", spec.derived.source.run_id).weights
    after = artifacts.load(out / "artifacts", row["run_id"]).weights
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"classifier.weight", "classifier.bias"}


def test_a_warm_start_begins_at_its_source(world):
    data, out = world
    still = RECIPE.model_copy(update={"epochs": 1, "learning_rate": 1e-12, "weight_decay": 0.0})
    spec = derived(data.fingerprint, "warm", recipe=still)
    (row,) = train([spec], data=data, out=out, execution=CPU)
    assert row["method"] == "warm_teacher"
    before = artifacts.load(out / "artifacts", spec.derived.source.run_id).weights
    after = artifacts.load(out / "artifacts", row["run_id"]).weights
    for name, value in before.items():
        if "running" not in name and "tracked" not in name:
            torch.testing.assert_close(after[name], value, rtol=0, atol=1e-6)


@pytest.mark.parametrize("by", ["head", "warm"])
def test_a_resumed_training_has_the_record_of_an_uninterrupted_one(world, by):
    data, out = world
    spec = derived(data.fingerprint, by)
    source = out / "artifacts" / spec.derived.source.run_id
    (whole,) = train([spec], data=data, out=out, execution=CPU)
    other = out / "other"
    (other / "artifacts").mkdir(parents=True)
    (other / "artifacts" / source.name).symlink_to(source)
    options = {"data": data, "out": other, "execution": CPU, "checkpoint_every": 1}
    with pytest.raises(Cut):
        train([spec], report=cut_after(3, []), **options)
    (row,) = train([spec], **options)
    assert apart_from_company(row) == apart_from_company(whole)
    weights = [
        (folder / "artifacts" / row["run_id"] / "weights.safetensors").read_bytes()
        for folder in (out, other)
    ]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("by", ["shifted", "head", "warm"])
def test_it_teaches_like_any_other_and_is_of_its_sources_family(world, by):
    data, out = world
    spec = derived(data.fingerprint, by)
    student = student_spec(spec, data.fingerprint, architecture="resnet8", recipe=RECIPE)
    teacher, row = train([spec, student], data=data, out=out, execution=CPU)
    assert row["teacher_id"] == teacher["run_id"]
    assert (row["teacher_objective"], row["alpha_t"]) == ("tradeoff", 0.5)
    assert teacher["family"] == family_id(SOURCE, data.fingerprint)
    trained = teacher_spec(
        architecture="resnet8", recipe=RECIPE, objective="tradeoff", alpha=0.5, multipliers=ASCENT
    )
    beside = student_spec(trained, data.fingerprint, architecture="resnet8", recipe=RECIPE)
    assert row["family"] == family_id(beside, data.fingerprint)
    assert row["run_id"] != run_id(beside, data.fingerprint)


def test_without_its_source_it_is_refused_by_name(tmp_path):
    data = colourful()
    for by in ("shifted", "head", "warm"):
        with pytest.raises(UserError, match="artifacts/"):
            train([derived(data.fingerprint, by)], data=data, out=tmp_path, execution=CPU)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"objective": "standard", "alpha": None, "multipliers": None}, "of a trade-off"),
        ({"architecture": "resnet14"}, "keeps the network"),
        ({"initial_weights": "0" * 64}, "neither initial weights"),
        ({"multipliers": None}, "multipliers belong"),
    ],
)
def test_a_spec_without_sense_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        derived("data", "warm", **changes)
    with pytest.raises(ValueError, match="multipliers belong"):
        derived("data", "shifted", multipliers=ASCENT)
