"""An ensemble of scikit-learn models as the teacher, by its logits alone."""

# %% Train the ensemble on the pixels of the included digits.
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

from rkd_core.datasets import load
from rkd_core.specs import DataOptions
from sweeps import Sweep

data = load("digits-lt", DataOptions(imbalance=20))


def pixels(images):
    """Return the gray values of images as rows of features in [0, 1]."""
    return images.images.reshape(len(images), -1) / 255


models = [
    LogisticRegression(max_iter=1000),
    SVC(probability=True, random_state=0),
    ExtraTreesClassifier(300, random_state=0),
]
for model in models:
    model.fit(pixels(data.train), data.train.labels)


def logits(images):
    """Return the logarithm of the mean probability, (images, classes)."""
    mean = np.mean([model.predict_proba(pixels(images)) for model in models], axis=0)
    return np.log(np.maximum(mean, 1e-6))


# %% One file for each split. `image` is the number of the image in its original split.
folder = Path("answers")
folder.mkdir(exist_ok=True)
for name, images, rows in (
    ("train", data.train, data.train_indices),
    ("validation", data.val, data.val_indices),
    ("test", data.test, data.test_indices),
):
    columns = {"image": rows, "label": images.labels, "logits": list(logits(images))}
    pq.write_table(pa.table(columns), folder / f"{name}.parquet")

# %% Students of the ensemble, and of the ensemble with its logits shifted.
results = Sweep(
    "digits-lt",
    teacher_logits="answers",
    alphas=(0, 1),
    temperatures=1,
    epochs=10,
    out="results/ensemble",
    serial=True,
).run()

# %% The teacher beside the selected student, both on test.
table = results.to_pandas()
teacher = table[(table.stage == "teacher") & (table.teacher_objective == "standard")].iloc[0]
print(f"ensemble: average {teacher.test_average_accuracy:.1%}")
print(f"selected student: average {results.selected.test_average}")
