"""Check correctness on a GPU, with one process per check.

    python -m benchmarks.gpu.check [NAME]

Each check prints one line of JSON with ``ok``; docs/gpu.md explains them. The exit code is 1 if one
fails. Without a GPU the checks are tiny.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.gpu.common import (
    BATCH,
    DEVICE,
    GPU,
    NETWORK,
    TINY,
    ArrayData,
    EagerSteps,
    RecordedSteps,
    Run,
    StubTeacher,
    Warnings,
    compiled,
    distance,
    emit,
    endless,
    execution,
    features,
    itertools,
    made,
    recorder,
    steps_of,
    student_spec,
    teacher_spec,
    torch,
)
from rkd_core.training.array import begin_step, validate_all

SMALL = "resnet8" if TINY else "resnet20"
STEPS = 4 if TINY else 40


def exact() -> None:
    """Use float32 without TF32 and deterministic algorithms, so that differences are meaningful."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.deterministic = True


def _students(data, network=SMALL):
    of = teacher_spec(network)
    return [
        student_spec(of, data),
        student_spec(of, data, temperature=5.0),
        student_spec(of, data, objective="balanced"),
        student_spec(of, data, objective="tradeoff", alpha=0.5),
    ]


def environment() -> None:
    from rkd_core.device.hardware import cpu_count, gpu_count, gpu_memory

    said = {
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "nvml_gpus": gpu_count(),
        "nvml_memory": gpu_memory(),
        "cpus": cpu_count(),
        "ok": not GPU or gpu_count() >= 1,
    }
    if GPU:
        p = torch.cuda.get_device_properties(0)
        said |= {
            "device": p.name,
            "sms": p.multi_processor_count,
            "l2": p.L2_cache_size,
            "bf16": torch.cuda.is_bf16_supported(including_emulation=False),
            "cudnn": torch.backends.cudnn.version(),
            "driver": getattr(torch._C, "_cuda_getDriverVersion", lambda: None)(),
        }
    emit("environment", **said)


def recorded_is_eager() -> None:
    """Check recorded against eager steps, with evaluations, multiplier updates and a short batch."""
    _is_eager("recorded_is_eager", features.forward)


def compiled_is_eager() -> None:
    """Check recorded steps with compiled forward passes in the same way."""
    _is_eager("compiled_is_eager", compiled())


def _is_eager(name, forward) -> None:
    exact()
    data = made()
    specs = _students(data)
    array_data = ArrayData(specs[0], data, execution("float32"))
    teacher, warned = StubTeacher(array_data), Warnings()
    sides = {
        n: steps_of(specs, array_data, teacher, recorded=r, forward=forward)
        for n, r in (("recorded", True), ("eager", False), ("again", False))
    }
    for number, batch in enumerate(itertools.islice(endless(array_data), STEPS)):
        if number == STEPS // 2:  # a short batch, as the last of an epoch is without drop_last
            cut = BATCH // 2
            batch = type(batch)(batch.images[:cut], batch.labels[:cut], batch.indices[:cut], None)
        for runs, steps in sides.values():
            if number % 8 == 0:
                begin_step(runs, 0, 0)
            losses = steps(batch, teacher.logits(batch), 0.05 / (1 + number))
        if number % 10 == 9:
            validate_all(sides["recorded"][0], number)
    state = {n: [t for run in runs for t in run.changing()] for n, (runs, _) in sides.items()}
    found, noise = (
        distance(state["recorded"], state["eager"]),
        distance(state["again"], state["eager"]),
    )
    emit(
        name,
        ok=found < 1e-3 and not warned.said,
        distance=found,
        noise=noise,
        losses=[round(float(x), 4) for x in losses],
        warned=warned.said,
    )


def branches_do_not_race() -> None:
    """Check that a dozen equal students agree with one recorded alone, to the last bit."""
    exact()
    data = made()
    of = teacher_spec(SMALL)
    array_data = ArrayData(student_spec(of, data), data, execution())
    teacher, warned = StubTeacher(array_data), Warnings()
    states = []
    for count in (1, 3) if TINY else (1, 12):
        runs, steps = steps_of([student_spec(of, data)] * count, array_data, teacher, recorded=True)
        for batch in itertools.islice(endless(array_data), 3 * STEPS):
            steps(batch, teacher.logits(batch), 0.05)
        states += [[t.clone() for t in run.changing()] for run in runs]
    apart = [distance(s, states[0]) for s in states]
    emit(
        "branches_do_not_race",
        ok=max(apart) == 0 and not warned.said,
        apart=max(apart),
        among_themselves=max(distance(s, states[1]) for s in states[1:]),
        warned=warned.said,
    )


def nothing_waits() -> None:
    """Check that no step waits for the device, including its batch and the teacher's logits."""
    data = made()
    spec = student_spec(teacher_spec(SMALL), data)
    array_data = ArrayData(spec, data, execution())
    teacher, warned = StubTeacher(array_data), Warnings()
    _, steps = steps_of([spec] * 2, array_data, teacher, recorded=True)
    batches = array_data.batches.epoch(0)
    for batch in itertools.islice(batches, 2):
        steps(batch, teacher.logits(batch), 0.01)
    if GPU:
        torch.cuda.set_sync_debug_mode("error")
    error = ""
    try:
        for batch in itertools.islice(batches, 10):
            steps(batch, teacher.logits(batch), 0.01)
    except RuntimeError as caught:
        error = str(caught)[:300]
    if GPU:
        torch.cuda.set_sync_debug_mode("default")
    emit("nothing_waits", ok=not error and not warned.said, error=error, warned=warned.said)


def records_agree() -> None:
    """Check that ``train`` gives equal records side by side, one by one, and resumed."""
    from rkd_core.results import artifacts
    from rkd_core.training import train

    exact()
    data = made(train=64 if TINY else 2560, val=64 if TINY else 1000)
    of = teacher_spec(SMALL, epochs=4)
    specs = _students(data, SMALL)
    specs = [
        s.model_copy(update={"recipe": of.recipe, "teacher": student_spec(of, data).teacher})
        for s in specs
    ]
    run = execution("float32" if TINY else "bfloat16")
    weights, rows, warned = {}, {}, Warnings()
    for side in ("together", "apart", "resumed"):
        with tempfile.TemporaryDirectory() as out:
            train([of], data=data, out=out, execution=run)
            groups = [[s] for s in specs] if side == "apart" else [specs]
            found = []
            for group in groups:
                if side == "resumed":
                    train(group, data=data, out=out, execution=run, until=2)
                found += train(group, data=data, out=out, execution=run)
            rows[side] = [[r["val_average_accuracy"], r["multipliers"]] for r in found]
            weights[side] = [
                t
                for r in found
                for _, t in sorted(
                    artifacts.load(Path(out) / "artifacts", r["run_id"]).weights.items()
                )
            ]
    apart = {s: distance(weights[s], weights["together"]) for s in ("apart", "resumed")}
    emit(
        "records_agree",
        ok=max(apart.values()) < 1e-2 and not warned.said,
        distance=apart,
        to_the_last_bit=max(apart.values()) == 0,
        accuracies=[r[0] for r in rows["together"]],
        warned=warned.said[:3],
    )


def methods_record() -> None:
    """Check that every method with a loss is recorded, with the steps of eager mode."""
    from rkd_core import methods
    from rkd_core.specs import Variant
    from rkd_core.teachers.answers import Teacher
    from rkd_core.teachers.holdouts import Holdouts
    from rkd_core.training import train

    exact()
    data = made(train=160 if TINY else 1280, val=64 if TINY else 256)
    of = teacher_spec("resnet8", epochs=1)
    results = {}
    with tempfile.TemporaryDirectory() as out:
        train([of], data=data, out=out, execution=execution("float32"))
        for name in methods.descriptions():
            began, warned = time.perf_counter(), Warnings()
            try:
                options = (
                    {"holdout": "validation"}
                    if "holdout" in methods.find(name).model_fields
                    else {}
                )
                method = methods.create(name, options)
                if method.cell is not None or not method.trains:
                    continue
                fields = {
                    "variant": Variant(method=name, options=options),
                    "objective": "standard",
                    "temperature": getattr(method, "temperature", None),
                }
                if method.needs.teacher is None:
                    spec = teacher_spec("resnet8", epochs=1, stage="student", **fields)
                else:
                    spec = student_spec(of, data, **fields)
                array_data = ArrayData(spec, data, execution("float32"))
                teacher = (
                    None if spec.teacher is None else Teacher(spec.teacher, array_data, Path(out))
                )
                held = Holdouts(array_data, teacher, Path(out)).of(spec)
                rate, states = torch.tensor(0.02, device=DEVICE), []
                for recorded in (True, False):
                    run = Run(spec, name, array_data, teacher, rate if recorded else None, held)
                    run.begin_epoch(0)
                    steps = (
                        RecordedSteps([run], rate, BATCH, recorder(1))
                        if recorded
                        else EagerSteps([run])
                    )
                    for batch in itertools.islice(endless(array_data), 3):
                        steps(batch, None if teacher is None else teacher.logits(batch), 0.02)
                    states.append([t.clone() for t in run.changing()])
                results[name] = warned.said[0] if warned.said else round(distance(*states), 7)
            except Exception as error:
                results[name] = f"{type(error).__name__}: {str(error)[:160]}"
            if time.perf_counter() - began > 20:
                results[name] = f"{results[name]} ({time.perf_counter() - began:.0f} s)"
    bad = {n: r for n, r in results.items() if isinstance(r, str) or r > 1e-3}
    emit("methods_record", ok=not bad, bad=bad, distances=results)


def networks_record() -> None:
    """Check that every network is recorded, and its memory against ``training_bytes``."""
    from rkd_core import models
    from rkd_core.models.memory import training_bytes

    data, results = made(side=32, train=160 if TINY else 512, val=16), {}
    names = list(models.architectures())[:2] if TINY else models.architectures()
    for name in names:
        warned = Warnings()
        try:
            spec = teacher_spec(name, epochs=1)
            array_data = ArrayData(spec, data, execution())
            if GPU:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
                before = torch.cuda.memory_reserved()
            runs, steps = steps_of([spec], array_data, None, recorded=True)
            for batch in itertools.islice(endless(array_data), 2):
                losses = steps(batch, None, 0.01)
            peak = (torch.cuda.max_memory_reserved() - before) / 2**20 if GPU else 0
            said = training_bytes(name, spec.recipe, data, half=True) / 2**20
            finite = bool(torch.isfinite(losses).all())
            results[name] = [round(peak), round(said), finite, warned.said[:1]]
            del runs, steps
        except Exception as error:
            results[name] = [0, 0, False, f"{type(error).__name__}: {str(error)[:160]}"]
    bad = {n: r for n, r in results.items() if not r[2] or r[3] or (GPU and r[0] > r[1])}
    emit("networks_record", ok=not bad, bad=bad, mib_measured_and_expected=results)


def _while_recording(what) -> dict:
    """Carry out a trial whose steps fail while they are recorded, and another one after it."""
    from sweeps.running.trial import carry_out, spoiled

    data = made(train=320 if TINY else 1280, val=64)
    objectives = ("standard", "balanced", "robust")
    specs = [teacher_spec("resnet8", epochs=1, objective=o) for o in objectives]
    step, warned = Run.step, Warnings()

    def broken(self, *arguments):
        loss = step(self, *arguments)
        if GPU and torch.cuda.is_current_stream_capturing():
            what(loss)
        return loss

    Run.step = broken  # in this process only
    with tempfile.TemporaryDirectory() as out:
        ended = [
            outcome
            for part in (specs[:2], specs[2:])
            for outcome in carry_out(part, [], dataset=data, out=Path(out), execution=execution())
        ]
    statuses = [e["status"] for e in ended]
    ok = statuses == ["completed"] * 3 and spoiled() == GPU
    causes = sorted({e.get("cause", "") for e in ended})
    return {"ok": ok, "statuses": statuses, "causes": causes, "warned": warned.said}


def cannot_be_recorded() -> None:
    """Check that steps with ``.item()`` are taken unrecorded, in a new process."""
    emit("cannot_be_recorded", **_while_recording(lambda loss: loss.item()))


def no_memory_while_recording() -> None:
    """Check that an array that does not fit while it is recorded is halved, in new processes."""
    too_large = 2**44
    said = _while_recording(lambda _: torch.empty(too_large, device=DEVICE))
    emit("no_memory_while_recording", **said)


def no_memory() -> None:
    """Check that ``carry_out`` halves an array too large for the GPU until it fits."""
    from sweeps.running.trial import carry_out

    data = made(train=320 if TINY else 1280, val=64)
    specs = [
        teacher_spec(NETWORK, epochs=1, objective=o, alpha=a)
        for o, a in (
            ("standard", None),
            ("balanced", None),
            ("tradeoff", 0.0),
            ("tradeoff", 0.25),
            ("tradeoff", 0.5),
            ("tradeoff", 0.75),
            ("tradeoff", 1.0),
            ("robust", None),
        )
    ]
    warned = Warnings()
    if GPU:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(2.0 * 2**30 / total)
    with tempfile.TemporaryDirectory() as out:
        ended = list(
            carry_out(
                specs[: 2 if TINY else 8],
                [],
                dataset=data,
                out=Path(out),
                execution=execution(),
            )
        )
    emit(
        "no_memory",
        ok=all(e["status"] == "completed" for e in ended),
        statuses=[e["status"] for e in ended],
        causes=sorted({e.get("cause", "") for e in ended}),
        warned=warned.said,
    )


def fused_norm() -> None:
    """Check the prototype's kernels against float64."""
    if not GPU:
        note = "TRITON_INTERPRET=1 python -m benchmarks.gpu.fused checks it on a CPU"
        emit("fused_norm", ok=True, note=note)
        return
    from benchmarks.gpu import fused

    fused._check()
    emit("fused_norm", ok=True)


CHECKS = [
    environment,
    recorded_is_eager,
    compiled_is_eager,
    branches_do_not_race,
    nothing_waits,
    records_agree,
    methods_record,
    networks_record,
    no_memory,
    fused_norm,
    no_memory_while_recording,
    cannot_be_recorded,
]


def main() -> None:
    names = {check.__name__: check for check in CHECKS}
    if len(sys.argv) > 1:
        if len(sys.argv) > 2 or sys.argv[1] not in names:
            raise SystemExit(f"usage: python -m benchmarks.gpu.check [{' | '.join(names)}]")
        names[sys.argv[1]]()
        return
    limit = float(os.environ.get("LIMIT", 200 if GPU else 3000))
    began, failed = time.perf_counter(), []

    def one(name: str) -> str:
        start, left = time.perf_counter(), limit - (time.perf_counter() - began)
        if left < 5:
            return json.dumps({"name": name, "ok": False, "error": "no time left"})
        command = [sys.executable, "-m", "benchmarks.gpu.check", name]
        try:
            done = subprocess.run(
                command, timeout=min(left, limit / 2), capture_output=True, text=True
            )
        except subprocess.TimeoutExpired:
            return json.dumps({"name": name, "ok": False, "error": "timed out"})
        line = done.stdout.strip()
        if done.returncode or not line:
            line += json.dumps(
                {"name": name, "ok": False, "code": done.returncode, "error": done.stderr[-600:]}
            )
        return f"{line}\n# {name} took {time.perf_counter() - start:.1f} s"

    # A CUDA error ends only its own process. Results do not depend on other processes, and times
    # are not measured here.
    with ThreadPoolExecutor(4 if GPU else 1) as pool:
        for name, said in zip(names, pool.map(one, names)):
            print(said, flush=True)
            if '"ok": true' not in said:
                failed.append(name)
    emit("checks", failed=failed, seconds=round(time.perf_counter() - began))
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
