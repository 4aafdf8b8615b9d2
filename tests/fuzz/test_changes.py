"""A single byte changed, or the end cut off: every file of a results folder is refused by name."""

import random

import pytest

from rkd_core.errors import UserError
from rkd_core.results import artifacts, initial_weights, ledger
from rkd_core.results.checkpoints import Checkpoints
from sweeps.commands.verify import examine
from tests.fuzz.cases import COUNT, TIMES, check_line, quick_and_whole

KINDS = [
    "artifacts/*/weights.safetensors",
    "artifacts/*/spec.json",
    "artifacts/*/model.json",
    "artifacts/*/record.parquet",
    "artifacts/*/manifest.json",
    "checkpoints/*/step-1/state.safetensors",
    "checkpoints/*/step-1/manifest.json",
    "teacher_logits/*/logits.safetensors",
    "teacher_logits/*/manifest.json",
    "initial_weights/*/weights.safetensors",
    "initial_weights/*/manifest.json",
    "records/*.parquet",
]


def changes(content, count):
    """Yield contents that differ in one byte or in their length, spread over the file."""
    rng = random.Random(0 if TIMES == 0 else None)
    for place in sorted(rng.sample(range(len(content)), min(count, len(content)))):
        changed = bytearray(content)
        changed[place] ^= rng.choice([1, 2, 4, 8, 16, 32, 64, 128, rng.randrange(1, 256)])
        yield bytes(changed)
    lengths = {0, len(content) - 1, *rng.sample(range(len(content)), min(count // 4, len(content)))}
    for length in sorted(lengths):
        yield content[:length]


def find_committed(out, run_id):
    (out / "records" / f"{run_id}.parquet").unlink(missing_ok=True)
    return ledger.find(out, run_id)


def readers(kind, out, run_id):
    """Yield each function that reads a file of this kind."""
    folder = out / "artifacts"
    if kind.startswith("artifacts"):
        yield lambda: artifacts.check(folder, run_id)
        if "record" not in kind:
            yield lambda: artifacts.load(folder, run_id)
        if "record" in kind or "manifest" in kind:
            yield lambda: find_committed(out, run_id)
    elif kind.startswith("checkpoints"):
        yield lambda: Checkpoints(out, run_id).load(1)
    elif kind.startswith("initial_weights"):
        yield lambda: initial_weights.load(out, run_id)


@quick_and_whole(250)
@pytest.mark.parametrize("kind", KINDS)
def test_every_change_is_refused_by_name(results, kind, cases):
    out, _ = results
    path = sorted(out.glob(kind))[0]
    run_id = path.relative_to(out).parts[1].split("-")[0].removesuffix(".parquet")
    content = path.read_bytes()
    named = path.parent if path.name == "manifest.json" else path
    for read in readers(kind, out, run_id):
        read()  # as long as it is whole
        for changed in changes(content, cases):
            COUNT["changes"] += 1
            path.write_bytes(changed)
            with pytest.raises(UserError) as caught:
                read()
            check_line(str(caught.value), named)
        path.write_bytes(content)


@quick_and_whole(40)
@pytest.mark.parametrize("kind", KINDS)
def test_every_change_is_listed_by_verify(results, kind, cases):
    out, _ = results
    path = sorted(out.glob(kind))[0]
    content = path.read_bytes()
    named = path.parent if path.name == "manifest.json" else path
    assert list(examine(out)) == []
    for changed in changes(content, cases):
        COUNT["changes"] += 1
        path.write_bytes(changed)
        lines = [damage.line for damage in examine(out)]
        assert lines
        check_line(lines[0], named)
