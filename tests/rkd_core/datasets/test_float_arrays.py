"""Float arrays of any shape as data: what is read, refused and standardized."""

import numpy as np
import pytest
import torch

from rkd_core import datasets
from rkd_core.datasets.batches.batches import (
    EvaluationBatches,
    TrainingBatches,
    normalization_statistics,
)
from rkd_core.errors import UserError
from rkd_core.specs import DataOptions, Recipe

LABELS = np.repeat([0, 1, 2], 8)


@pytest.fixture
def vectors():
    return np.random.default_rng(0).normal(50, 7, (24, 5)).astype(np.float32)


def load(data, as_arrays=False, **options):
    return datasets.from_data(data, DataOptions(**options), name="mine", as_arrays=as_arrays)


def refused(data, as_arrays=False, **options):
    with pytest.raises(UserError) as error:
        load(data, as_arrays, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_vectors_are_kept_as_they_are(vectors):
    found = load((vectors, LABELS, vectors[::-1], LABELS[::-1]))
    assert not found.of_images
    assert (found.channels, found.image_size) == (5, ())
    np.testing.assert_array_equal(found.train.values, vectors)
    assert len(found.val) == len(found.test) == 12


def test_other_numbers_and_tensors_become_float32(vectors):
    whole = np.rint(vectors).astype(np.int64)
    one = load((whole, LABELS, whole, LABELS))
    other = load((torch.from_numpy(whole).double(), LABELS, whole.astype(np.float16), LABELS))
    assert one.train.values.dtype == np.float32
    assert one.fingerprint == other.fingerprint


def test_the_fingerprint_is_that_of_the_content(vectors):
    first = load((vectors, LABELS, vectors, LABELS)).fingerprint
    assert load((vectors.copy(), LABELS, vectors, LABELS)).fingerprint == first
    changed = vectors.copy()
    changed[3, 2] += 1e-4
    assert load((changed, LABELS, vectors, LABELS)).fingerprint != first
    assert load((vectors, LABELS, vectors, LABELS[::-1])).fingerprint != first
    shaped = load((vectors[:, None], LABELS, vectors[:, None], LABELS), as_arrays=True)
    assert shaped.fingerprint != first


@pytest.mark.parametrize("shape", [(6, 4), (2, 6, 4), (2, 3, 4, 4)])
def test_rows_of_any_shape(shape):
    rows = np.random.default_rng(0).normal(size=(24, *shape))
    found = load((rows, LABELS, rows, LABELS), as_arrays=True)
    assert (found.channels, *found.image_size) == shape


def test_rows_of_two_or_three_dimensions_are_images_unless_said_otherwise(vectors):
    images = np.random.default_rng(0).random((24, 6, 4, 3))
    assert load((images, LABELS, images, LABELS)).of_images
    normalized = images * 4 - 2
    assert "`as_arrays`" in refused((normalized, LABELS, normalized, LABELS))
    assert not load((normalized, LABELS, normalized, LABELS), as_arrays=True).of_images


def test_a_map_style_dataset_of_vectors(vectors):
    pairs = torch.utils.data.TensorDataset(torch.from_numpy(vectors), torch.from_numpy(LABELS))
    found = load({"train": pairs, "test": (vectors, LABELS)})
    np.testing.assert_array_equal(found.train.values, vectors)
    assert found.fingerprint == load((vectors, LABELS, vectors, LABELS)).fingerprint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: np.where(np.arange(5) == 1, np.nan, x), "row 0 has values that are not finite"),
        (lambda x: np.where(np.arange(5) == 1, 1e300, x), "row 0 has values that are not finite"),
        (lambda x: x[:-1], "arrays: 23 rows and labels of shape (24,)"),
        (lambda x: x.astype(str), "arrays hold numbers"),
        (lambda x: x[:, :0], "arrays are (n, ...), such as (n, 768)"),
        (lambda x: x[:, 0], "have shape (24,)"),
    ],
)
def test_bad_values_are_refused(vectors, change, message):
    assert message in refused((change(vectors.astype(float)), LABELS, vectors, LABELS))


def test_splits_of_other_shapes_are_refused(vectors):
    line = refused((vectors, LABELS, vectors[:, :4], LABELS))
    assert "rows for test are arrays of shape (4,), and those for training arrays of shape" in line
    images = np.zeros((24, 6, 4, 3), np.uint8)
    assert "rows for test are images" in refused((vectors, LABELS, images, LABELS))


def test_items_of_other_shapes_are_refused(vectors):
    ragged = [(row[: 3 + k % 2], int(LABELS[k])) for k, row in enumerate(vectors)]
    assert "rows have shapes (3,) and (4,)" in refused({"train": ragged})


def test_a_class_without_training_rows_is_refused(vectors):
    assert "class 1" in refused((vectors, LABELS * 2, vectors, LABELS * 2))


def test_options_of_images_are_refused(vectors):
    assert "`image_size` is for images" in refused((vectors, LABELS, vectors, LABELS), image_size=8)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(epochs=1, crop_padding=2),
        Recipe(epochs=1, flip=True),
        Recipe(epochs=1, normalization="symmetric"),
    ],
)
def test_recipes_of_images_are_refused(vectors, recipe):
    found = load((vectors, LABELS, vectors, LABELS))
    with pytest.raises(UserError, match="is for images"):
        TrainingBatches(found.train, recipe, seed=0)


@pytest.mark.parametrize("shape", [(5,), (3, 7), (2, 4, 3)])
def test_channels_are_standardized(shape):
    rows = np.random.default_rng(0).normal(1000, 3, (24, *shape))
    rows[:, 0] = 8  # a constant channel
    found = load((rows, LABELS, rows, LABELS), as_arrays=True)
    recipe = Recipe(epochs=1, batch_size=24)
    mean, std = normalization_statistics(found.train, recipe)
    axes = (0, *range(2, rows.ndim))
    np.testing.assert_allclose(mean, rows.mean(axis=axes), rtol=1e-6)
    np.testing.assert_allclose(std[1:], rows.std(axis=axes)[1:], rtol=1e-5)
    (batch,) = EvaluationBatches(found.train, recipe, batch_size=24)
    values = batch.images.double().numpy()
    assert values.shape == rows.shape
    np.testing.assert_array_equal(values[:, 0], 0)
    np.testing.assert_allclose(values.mean(axis=axes), 0, atol=1e-4)
    np.testing.assert_allclose(values.std(axis=axes)[1:], 1, rtol=1e-4)


def test_an_archive_of_numpy(vectors, tmp_path):
    names = {"class_names": np.array(["a", "b", "c"])}
    keras = {"x_train": vectors, "y_train": LABELS, "x_test": vectors, "y_test": LABELS}
    np.savez(tmp_path / "keras.npz", **keras, **names)
    found = datasets.load(str(tmp_path / "keras.npz"), DataOptions())
    assert found.name == "keras"
    assert found.class_names == ("a", "b", "c")
    np.testing.assert_array_equal(found.train.values, vectors)
    pixels = np.zeros((24, 6, 6), np.uint8)
    parts = {f"{s}_images": pixels for s in ("train", "val", "test")}
    parts |= {f"{s}_labels": LABELS[:, None] for s in ("train", "val", "test")}
    np.savez(tmp_path / "med.npz", **parts)
    assert datasets.load(str(tmp_path / "med.npz"), DataOptions()).of_images


def test_archives_of_something_else_are_refused(vectors, tmp_path):
    np.savez(tmp_path / "other.npz", a=vectors)
    with pytest.raises(UserError, match="holds a; name the arrays x_train"):
        datasets.load(str(tmp_path / "other.npz"), DataOptions())
    (tmp_path / "text.npz").write_text("text")
    with pytest.raises(UserError, match="is not a NumPy archive"):
        datasets.load(str(tmp_path / "text.npz"), DataOptions())
    np.savez(tmp_path / "pickled.npz", x_train=np.array([None]), y_train=LABELS)
    with pytest.raises(UserError, match="is not a NumPy archive"):
        datasets.load(str(tmp_path / "pickled.npz"), DataOptions())


def test_as_arrays_is_for_data_in_memory():
    with pytest.raises(UserError, match="`as_arrays` is for data in memory"):
        datasets.load("digits", DataOptions(), as_arrays=True)
