"""Arrays in memory and a network of your own, from data to the trained student."""

# %% Made-up images of bars and disks; disks are rare in training.
import numpy as np
import torch
from tiny_net import TinyNet

from sweeps import Sweep

NAMES = ["across", "down", "disk"]


def shapes(counts, seed):
    """Return uint8 images (n, 12, 12, 1) and labels, ``counts[k]`` of class ``k``."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), counts)
    rows, columns = np.mgrid[:12, :12]
    images = np.empty((len(labels), 12, 12, 1), np.uint8)
    for image, label in zip(images, labels, strict=True):
        y, x = rng.integers(4, 8, 2)
        dy, dx = abs(rows - y), abs(columns - x)
        drawn = ((dy < 2) & (dx < 5), (dx < 2) & (dy < 5), dy**2 + dx**2 < 12)[label]
        noisy = 100 * drawn + rng.normal(80, 40, (12, 12))
        image[..., 0] = noisy.clip(0, 255)
    return images, labels


data = {
    "train": shapes((80, 60, 12), seed=0),
    "val": shapes((40, 40, 40), seed=1),
    "test": shapes((40, 40, 40), seed=2),
}

# %% Teachers are wider than students. The same cell again trains only what is missing.
results = Sweep(
    data=data,
    class_names=NAMES,
    name="shapes",
    teacher="tiny_net.py:TinyNet(width=16)",
    student=TinyNet,
    alphas=(0, 1),
    temperatures=1,
    recipe="digits",  # for a few hundred small images
    epochs=15,
    out="results/shapes",
    serial=True,  # without Ray; leave it out to use all cores
).run()

# %% The selected student: its setting, and its accuracy of each class on validation.
selected = results.selected
print("alpha_t", selected.alpha_t, "alpha_s", selected.alpha_s, "shift", selected.shift)
for name, recall in selected.recalls.items():
    print(f"{name}: {recall:.0%}")

# %% The model takes images as they are and returns logits.
model = results.load()
images, labels = data["test"]
with torch.no_grad():
    predicted = model(torch.from_numpy(images)).argmax(dim=1).numpy()
for label, name in enumerate(NAMES):
    print(f"{name} on test: {np.mean(predicted[labels == label] == label):.0%}")
