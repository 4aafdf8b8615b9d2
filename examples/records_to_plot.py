"""A plot of your own from the records of a sweep, which need neither PyTorch nor Ray."""

# %% A small sweep; a finished one is only read.
import matplotlib.pyplot as plt
import numpy as np
import pyarrow.dataset as ds

from sweeps import Sweep

Sweep(
    "digits-lt", alphas=(0, 0.5, 1), temperatures=1, epochs=10, out="results/plot", serial=True
).run()

# %% One row for each training. Columns are described on the page about records.
table = ds.dataset("results/plot/records", format="parquet").to_table().to_pandas()
students = table[(table.stage == "student") & (table.method != "one_hot")]
recalls = np.stack(students.val_class_correct) / np.stack(students.val_class_total)
students = students.assign(hardest=recalls.argmin(axis=1))
axis = ["standard", 0.0, 0.5, 1.0]


def place(alpha):
    """Return the place of an alpha on an axis; standard has none."""
    return 0 if np.isnan(alpha) else axis.index(alpha)


# %% The worst-class accuracy by both trade-offs, with the class that is recognized worst.
grid = np.full((len(axis), len(axis)), np.nan)
figure, axes = plt.subplots(figsize=(5, 4.2), layout="constrained")
for row in students.itertuples():
    at = place(row.alpha_t), place(row.alpha_s)
    grid[at] = 100 * row.val_worst_class_accuracy
    label = f"{grid[at]:.0f}\nclass {row.class_names[row.hardest]}"
    axes.text(at[1], at[0], label, ha="center", va="center", fontsize=9)
image = axes.imshow(grid, cmap="YlGn", vmin=0, vmax=120)
axes.set_xticks(range(len(axis)), axis)
axes.set_yticks(range(len(axis)), axis)
axes.set(xlabel="alpha_s of the student", ylabel="alpha_t of the teacher")
axes.set_title("Worst-class accuracy on validation (%)")
figure.savefig("worst_class.png", dpi=120)
print(f"{len(students)} students, best worst class {np.nanmax(grid):.0f} %")
