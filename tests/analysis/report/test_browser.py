"""Tests of the page in a headless Chromium."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from analysis.report.page import save
from analysis.runs.loading import load
from analysis.select import run
from analysis.selection.criteria import Constrained, Criterion, WeightedSum
from analysis.selection.outcome import assess
from analysis.selection.rule_options import Rule
from analysis.watch import serving
from tests.analysis import worlds
from tests.analysis.report.conftest import READY, Opened, url_of
from tests.analysis.selection import test_sizes

NASTY = '</script><script>window.hacked=1</script><img src=x onerror="window.hacked=1">'


def written(results: Path, rows: list[worlds.Row]) -> str:
    worlds.write(results, rows)
    runs = load(results)
    return url_of(save(runs, assess(runs), results))


def world() -> list[worlds.Row]:
    """A sweep in which many margins select something else, with other methods beside it."""
    rows = worlds.measured(worlds.sweep(seeds=2, images=200, recall=worlds.trading))
    rows += [
        worlds.variant(f"{name}-{seed}", name, seed=seed, teacher_id=f"teacher-standard-{seed}",
                       val_class_correct=[7] * 10, test_class_correct=[6] * 10, spec=None)
        for name in ("kd", "dkd (others_weight 2)") for seed in (0, 1)
    ]  # fmt: skip
    return rows


def put(page: Any, position: int) -> None:
    page.evaluate(
        "position => { const slider = document.getElementById('margin'); slider.value = position;"
        " slider.dispatchEvent(new Event('input')); }",
        position,
    )


def test_the_slider_selects_what_the_command_selects(opened: Opened, tmp_path: Path) -> None:
    page = opened.open(written(tmp_path, world()))
    first, last = (int(page.get_attribute("#margin", name)) for name in ("min", "max"))
    seen = []
    for position in np.linspace(first, last, 10).round().astype(int).tolist():
        put(page, position)
        shown = page.inner_text("#given-up")
        points = float(shown.split()[0]) * (-1 if "more" in shown else 1)
        rule = Rule(margin=repr(points / 100))
        content = run(tmp_path, rule, figures=False, console=Console(file=io.StringIO()))
        chosen = int(page.get_attribute("#choice", "data-chosen"))
        seen.append(chosen)
        selected = content["selected"]
        assert content["combinations"][chosen]["run_ids"] == selected["run_ids"]
        # What is drawn follows.
        shapes = {
            split: page.evaluate(f"document.getElementById('pareto-{split}').layout.shapes")
            for split in ("val", "test")
        }
        line = shapes["val"][0]
        assert line["x0"] == pytest.approx(
            100 * content["constraint"]["least_val_average_accuracy"]
        )
        for split in ("val", "test"):
            (mark,) = (shape for shape in shapes[split] if shape.get("name") == "chosen")
            if split == "val":  # what the rule saw
                figures = content["combinations"][chosen]
                names = ["expected_average_accuracy", "expected_worst_k_accuracy"]
            else:
                figures, names = selected, ["test_average_accuracy", "test_worst_class_accuracy"]
            at = [mark["xanchor"], mark["yanchor"]]
            assert at == pytest.approx([100 * figures[name] for name in names], abs=1e-3)
        bars = page.evaluate("Array.from(document.getElementById('bars').data[0].x)")
        recalls = sorted(100 * value for value in selected["test_recalls"].values())
        assert bars == pytest.approx(recalls, abs=1e-2)
    assert len(set(seen)) >= 3
    assert opened.complaints == []


def test_the_page_begins_with_the_selection_and_goes_back_to_it(
    opened: Opened, tmp_path: Path
) -> None:
    page = opened.open(written(tmp_path, world()))
    selected = page.get_attribute("#choice", "data-chosen")
    assert "the selection’s own rule" in page.inner_text("#given-up")
    assert not page.is_visible("#rule")
    put(page, int(page.get_attribute("#margin", "min")))
    assert page.get_attribute("#choice", "data-chosen") != selected
    page.click("#rule")
    assert page.get_attribute("#choice", "data-chosen") == selected
    assert not page.is_visible("#rule")


def test_keys_move_the_slider_and_walk_along_the_frontier(opened: Opened, tmp_path: Path) -> None:
    page = opened.open(written(tmp_path, world()))
    page.focus("#margin")
    page.keyboard.press("Home")
    first = page.inner_text("#given-up")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#given-up") != first
    page.keyboard.press("End")
    assert page.input_value("#margin") == page.get_attribute("#margin", "max")
    assert "points" in page.get_attribute("#margin", "aria-valuetext")
    page.focus("#pareto-val")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#pareto-val .hovertext", state="attached")
    assert "αₜ\xa0=\xa0" in page.get_attribute("#pareto-val", "aria-label")


@pytest.mark.parametrize(
    "opened",
    [
        {"viewport": {"width": 400, "height": 800}},
        {"color_scheme": "dark", "has_touch": True},
    ],
    indirect=True,
    ids=["narrow", "dark"],
)
@pytest.mark.parametrize("classes", [10, 300])
def test_it_opens_without_complaint_or_request_at_any_width(
    opened: Opened, tmp_path: Path, classes: int
) -> None:
    rows = world() if classes == 10 else worlds.sweep(images=30, classes=classes)
    long_names = [f"{'a rather long name of a class, ' * (k % 4)}{k}" for k in range(classes)]
    for row in rows:
        row["class_names"] = long_names
    url = written(tmp_path, rows)
    page = opened.open(url)
    assert opened.requests == [url]
    assert opened.complaints == []
    width = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert width[0] <= width[1]
    labels = page.eval_on_selector_all("#bars .ytick text", "all => all.length")
    assert labels == min(classes, 30)


def test_a_click_or_enter_pins_a_combination_and_shows_its_classes(
    opened: Opened, tmp_path: Path
) -> None:
    page = opened.open(written(tmp_path, world()))
    page.focus("#pareto-val")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert "pinned" in page.inner_text("#given-up")
    assert "On validation" in page.get_attribute("#pareto-val", "aria-label")
    page.click("#rule")
    assert "pinned" not in page.inner_text("#given-up")
    own = page.get_attribute("#choice", "data-chosen")
    recalls = page.evaluate("document.getElementById('bars').data[0].x")
    place = page.evaluate(
        """() => {
            const plot = document.getElementById("pareto-test");
            const trace = plot.data.find((one) => one.meta === "grid");
            const point = { data: trace, customdata: trace.customdata[3] };
            plot.emit("plotly_click", { points: [point] });
            return String(point.customdata);
        }"""
    )
    assert page.get_attribute("#choice", "data-chosen") == place != own
    assert page.evaluate("document.getElementById('bars').data[0].x") != recalls
    put(page, int(page.get_attribute("#margin", "min")))
    assert "pinned" not in page.inner_text("#given-up")


def test_bars_have_wilsons_intervals(opened: Opened, tmp_path: Path) -> None:
    page = opened.open(written(tmp_path, world()))
    bars = page.evaluate("document.getElementById('bars').data[0]")
    lengths = [(bars["error_x"][name], sign) for name, sign in (("array", 1), ("arrayminus", -1))]
    for recall, *reached in zip(bars["x"], *(values for values, _ in lengths), strict=True):
        n, z, p = 200, 1.6448536269514722, recall / 100
        for length, (_, sign) in zip(reached, lengths, strict=True):
            end = p + sign * length / 100
            assert abs(end - p) == pytest.approx(z * (end * (1 - end) / n) ** 0.5)


def test_trainings_are_sorted_filtered_and_drawn(opened: Opened, tmp_path: Path) -> None:
    rows = world()
    for row in rows:
        row |= {"val_epochs": [1, 2], "val_epoch_class_correct": [row["val_class_correct"]] * 2}
    counts = [f"{split}_class_{name}" for split in ("val", "test") for name in ("total", "correct")]
    nothing = {**dict.fromkeys(counts), "val_epochs": None, "val_epoch_class_correct": None}
    rows.append({**worlds.student("broken", status="failed"), **nothing})
    page = opened.open(written(tmp_path, rows))
    body = "#trainings tbody tr"
    assert page.locator(body).count() == 20
    page.click("#more")
    assert page.locator(body).count() > 20
    worst = [float(t) for t in page.locator(f"{body} td:nth-child(5)").all_inner_texts()[:20]]
    assert worst == sorted(worst, reverse=True)
    page.click("[data-column=val_worst]")
    assert page.get_attribute("th:has([data-column=val_worst])", "aria-sort") == "ascending"
    page.fill("#filter", "failed")
    assert page.locator(body).count() == 1
    page.fill("#filter", "t = 3, seed 1")
    names = page.locator(f"{body} td:nth-child(2)").all_inner_texts()
    assert {"T = 3" in name for name in names} == {True}
    assert {*page.locator(f"{body} td:nth-child(3)").all_inner_texts()} == {"1"}
    assert not page.is_visible("#curves-area")
    page.check(f"{body}:first-child input")
    assert len(page.evaluate("document.getElementById('curves').data")) == 2
    page.click(f"{body}:first-child td:last-child button")
    page.wait_for_selector("text=copied")
    assert not opened.complaints


def test_the_grid_shows_one_strength_of_shifts_at_a_time(opened: Opened, tmp_path: Path) -> None:
    page = opened.open(written(tmp_path, world()))
    assert not page.is_visible("#shift")
    assert "highest" in page.get_attribute("#grid-0", "aria-label")


def test_names_from_records_are_text_and_nothing_else(opened: Opened, tmp_path: Path) -> None:
    rows = world()
    for row in rows:
        row["class_names"] = [f"{k}<b>x</b>{NASTY}" for k in range(10)]
        row["dataset"] = row["architecture"] = NASTY
        if row["variant"]:
            row["variant"] = f"{row['variant'][0]}{NASTY}"
    page = opened.open(written(tmp_path, rows))
    page.focus("#pareto-val")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#pareto-val .hovertext", state="attached")
    assert "</script>" in page.inner_text("header")
    shown = page.eval_on_selector_all("#bars .ytick text", "all => all.map(t => t.textContent)")
    assert all("<b>x</b></script>" in text for text in shown)
    assert "<b>x</b></script>" in page.text_content("#pareto-val .hovertext")
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("document.querySelectorAll('img, [onerror]').length") == 0
    assert opened.complaints == []
    assert len(opened.requests) == 1


def test_a_served_page_takes_over_what_is_new(chromium: Any, tmp_path: Path) -> None:
    rows = world()
    late = [row for row in rows if row["stage"] == "student" and row.get("alpha_s") == 1.0]
    early = [row for row in rows if row not in late]
    worlds.write(tmp_path, early)
    page = chromium.new_page()
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    with serving(tmp_path) as address:
        page.goto(address)
        page.wait_for_selector("html[data-ready]", state="attached", timeout=READY)
        put(page, 0)
        page.select_option("#split", "val")
        given_up = page.inner_text("#given-up")
        points = "document.getElementById('pareto-val').data?.[2].x.length"
        before = page.evaluate(points)
        worlds.write(tmp_path, late)
        deadline = time.monotonic() + READY / 1000
        while page.evaluate(points) in (before, None) and time.monotonic() < deadline:
            page.wait_for_timeout(100)
        assert page.evaluate(points) == before + len(late) // 2
        assert page.inner_text("#given-up") == given_up
        assert page.input_value("#split") == "val"
    assert all(url.startswith(address) for url in requests)
    page.close()


@pytest.mark.parametrize(
    "rule", [WeightedSum(1, 0.3), Constrained(1, -0.5), Constrained(keep="balanced")]
)
def test_any_rule_has_a_page(opened: Opened, tmp_path: Path, rule: Criterion) -> None:
    worlds.write(tmp_path, world())
    runs = load(tmp_path)
    page = opened.open(url_of(save(runs, assess(runs, rule), tmp_path)))
    assert "own rule" in page.inner_text("#given-up")
    put(page, 0)
    assert page.inner_text("#given-up") == "0.00 points"
    assert opened.complaints == []


def test_sizes_are_drawn(opened: Opened, tmp_path: Path) -> None:
    results = test_sizes.write(tmp_path)
    runs = load(results)
    page = opened.open(url_of(save(runs, assess(runs), results)))
    assert page.evaluate("document.getElementById('sizes').data[0].x") == [1000, 20_000, 500_000]
    assert page.inner_text("#sizes-section table").count("\n") >= 3
    assert opened.complaints == []
