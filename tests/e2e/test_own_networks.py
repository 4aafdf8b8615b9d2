"""The command with networks of the user's and of libraries."""

import shutil
import signal
import subprocess
import sys

import pytest

from sweeps.commands.verify import examine
from tests.e2e.command import ROOT, pareto, pareto_in_process, rows

NETS = """from torch import nn

from blocks import block


class TinyNet(nn.Module):
    def __init__(self, num_classes, in_chans=3, width=8):
        super().__init__()
        self.maps = nn.Sequential(block(in_chans, width), nn.Dropout(0.1), block(width, width))
        self.head = nn.Linear(width, num_classes)

    def forward(self, x):
        return self.head(self.maps(x).mean((2, 3)))


class Flat(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.head = nn.Linear(64, num_classes)

    def forward(self, x):
        return self.head(x.flatten(1))
"""
BLOCKS = """from torch import nn


def block(width_in, width):
    return nn.Sequential(nn.Conv2d(width_in, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU())
"""
SMALL = ["--dataset", "digits-lt", "--alphas", "0", "--temperatures", "1"]
RUN = """import sys, numpy as np, torch
program = torch.export.load(sys.argv[1]).module()
print(tuple(program(torch.from_numpy(np.zeros((3, 8, 8, 1), np.uint8))).shape))
"""


@pytest.fixture(name="nets")
def network_in_a_file(tmp_path):
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "nets.py").write_text(NETS)
    (folder / "blocks.py").write_text(BLOCKS)
    return folder / "nets.py"


def given(nets, *more):
    return [
        *SMALL,
        *("--teacher-architecture", f"{nets}:TinyNet(width=16)"),
        *("--student-architecture", f"{nets}:TinyNet"),
        *more,
    ]


def test_a_network_in_a_file_from_training_to_export(tmp_path, nets):
    out = tmp_path / "out"
    done = pareto(*given(nets, "--epochs", "2"), "--out", out)
    assert done.returncode == 0, done.stderr
    assert "2 teachers (nets:TinyNet(width=16)) and" in done.stdout
    kept = rows(out)
    assert {row["architecture"] for row in kept.values()} == {
        "nets:TinyNet",
        "nets:TinyNet(width=16)",
    }
    assert {row["status"] for row in kept.values()} == {"completed"}
    assert list(examine(out)) == []
    shutil.move(nets.parent, tmp_path / "moved")
    again = pareto(*given(tmp_path / "moved" / "nets.py", "--epochs", "2"), "--out", out)
    assert again.returncode == 0, again.stderr
    assert rows(out) == kept
    shutil.rmtree(tmp_path / "moved")
    export = [sys.executable, "-m", "sweeps.export", str(out), "--to", str(tmp_path / "shipped")]
    subprocess.run(export, check=True, cwd=ROOT, capture_output=True)
    (program,) = (tmp_path / "shipped").glob("**/*.pt2")
    ran = subprocess.run(
        [sys.executable, "-c", RUN, program], check=True, cwd=tmp_path, capture_output=True
    )
    assert ran.stdout.decode().strip() == "(3, 10)"


@pytest.mark.slow
def test_a_killed_sweep_continues_with_moved_code(tmp_path, nets):
    more = ["--epochs", "60", "--checkpoint-every", "2", "--serial"]
    whole = pareto(*given(nets, *more), "--out", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    out, total = tmp_path / "out", len(rows(tmp_path / "whole"))
    script = [sys.executable, str(ROOT / "sweeps" / "pareto.py"), *given(nets, *more)]
    with subprocess.Popen(
        [*script, "--out", str(out)], stdout=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            if line.startswith("[1/"):
                break
        process.send_signal(signal.SIGKILL)
    assert len(rows(out)) < total
    shutil.move(nets.parent, tmp_path / "moved")
    done = pareto(*given(tmp_path / "moved" / "nets.py", *more), "--out", out)
    assert done.returncode == 0, done.stderr
    assert rows(out) == rows(tmp_path / "whole")


@pytest.mark.slow
def test_students_of_libraries_with_a_given_timm_teacher(tmp_path):
    timm = pytest.importorskip("timm", reason="timm is an extra")
    torch = pytest.importorskip("torch")
    weights = tmp_path / "teacher.pt"
    torch.manual_seed(0)
    torch.save(timm.create_model("resnet10t", in_chans=1).state_dict(), weights)
    teacher = ["--teacher-architecture", "timm:resnet10t", "--teacher-weights", weights]
    out = tmp_path / "out"
    for student in (
        "timm:mobilenetv3_small_050",
        "timm:vit_tiny_patch16_224(patch_size=4, embed_dim=24, depth=2)",
        "torchvision:regnet_y_400mf",
    ):
        done = pareto(
            *("--dataset", "digits-lt", "--alphas", "1", "--temperatures", "1", "--epochs", "1"),
            *("--image-size", "32", "--limit-train", "100", "--serial"),
            *(*teacher, "--student-architecture", student, "--out", out),
        )
        assert done.returncode == 0, done.stderr
        assert student.partition("(")[0] in done.stdout
    kept = rows(out).values()
    assert len({row["architecture"] for row in kept}) == 4
    assert {row["status"] for row in kept} == {"completed"}
    assert sum(row["stage"] == "teacher" for row in kept) == 2  # shared by all students


def test_feature_methods_compare_the_stages_that_are_named(tmp_path, nets):
    out = tmp_path / "out"
    line = [*("--dataset", "digits-lt", "--alphas", "1", "--temperatures", "1", "--epochs", "1"),
            *("--limit-train", "100", "--methods", "review_kd", "--no-undistilled", "--serial"),
            *("--teacher-architecture", f"{nets}:TinyNet(width=16)"),
            *("--teacher-stages", "maps.0", "maps.2"),
            *("--student-architecture", f"{nets}:TinyNet"), "--out", out]  # fmt: skip
    done = pareto_in_process(*line, "--student-stages", "maps.0,maps.2")
    assert done.returncode == 0, done.stderr
    kept = rows(out)
    names = {row["stage"]: row["architecture"] for row in kept.values()}
    assert names == {
        "teacher": "nets:TinyNet(width=16)[maps.0,maps.2]",
        "student": "nets:TinyNet[maps.0,maps.2]",
    }
    again = pareto_in_process(*line[:-4], f"--student-architecture={nets}:TinyNet[maps.0,maps.2]",
                              "--out", out)  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert rows(out) == kept
    assert list(examine(out)) == []


@pytest.mark.parametrize(
    ("text", "more", "message"),
    [
        ("{}:TinyNett", [], "did you mean TinyNet"),
        ("{}:TinyNet(widht=3)", [], "unexpected keyword argument 'widht'"),
        ("none.py:TinyNet", [], "cannot be read: "),
        ("no_such_module_at_all:Net", [], "there is no module 'no_such_module_at_all'"),
        ("timm:resnet_of_mine", [], "unknown network of timm"),
        ("{}:Flat", ["--methods", "tradeoff,review_kd"], "has no maps at several resolutions"),
        ("{}:TinyNet", ["--student-stages", "maps.7"], "has no module maps.7: did you mean maps."),
        ("{}:TinyNet", ["--student-stages", "head"], "a stage returns a map"),
        ("{}:TinyNet[head]", ["--student-stages", "maps.0"], "has its stages in brackets"),
        ("digits_cnn", ["--student-stages", "maps.0"], "outside the built-in ones"),
        ("{}:TinyNet", ["--teacher-stages", "maps.0"], "give it as --teacher-architecture"),
    ],
)
def test_bad_networks_are_refused_before_anything_is_trained(tmp_path, nets, text, more, message):
    if text.startswith("timm"):
        pytest.importorskip("timm", reason="timm is an extra")
    out = tmp_path / "out"
    done = pareto_in_process(
        *(*SMALL, "--student-architecture", text.format(nets), *more, "--out", out, "--dry-run")
    )
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("pareto.py: ")
    assert message in line
    assert not out.exists()
