"""Latency of the students' networks in the results folder."""

import json
from dataclasses import replace

import pytest

from rkd_core import datasets
from rkd_core.models import cost
from rkd_core.models.cost import Speed
from rkd_core.specs import DataOptions
from sweeps.running.latency import keep_latency
from tests.sweeps.planning.test_plan import SETTINGS

TWO = replace(SETTINGS, student_architectures=("digits_cnn", "resnet8"))


@pytest.fixture(name="digits", scope="module")
def loaded():
    return datasets.load("digits", DataOptions())


def test_all_networks_are_measured_once(digits, tmp_path, monkeypatch):
    asked = []

    def speed(name, *_):
        asked.append(name)
        return Speed(0.001, 2000.0)

    monkeypatch.setattr(cost, "speed", speed)
    said = []
    keep_latency(TWO, digits, tmp_path, said.append)
    assert said == ["Measuring the latency of 2 networks on one thread of this machine"]
    content = json.loads((tmp_path / "latency.json").read_text())
    assert (content["threads"], content["batch"]) == (1, 32)
    assert {n: one["latency"] for n, one in content["networks"].items()} == {
        "digits_cnn": 0.001,
        "resnet8": 0.001,
    }
    assert content["networks"]["digits_cnn"]["multiply_adds"] == 84_224
    keep_latency(TWO, digits, tmp_path, said.append)
    keep_latency(SETTINGS, digits, tmp_path, said.append)
    assert asked == ["digits_cnn", "resnet8"]
    content["host"] = "another"
    (tmp_path / "latency.json").write_text(json.dumps(content))
    keep_latency(TWO, digits, tmp_path, said.append)
    assert asked == ["digits_cnn", "resnet8"] * 2


def test_a_network_that_cannot_be_measured_is_said(digits, tmp_path, monkeypatch):
    def speed(name, *_):
        if name == "resnet8":
            raise RuntimeError("no kernel\nat all")
        return Speed(0.001, 2000.0)

    monkeypatch.setattr(cost, "speed", speed)
    said = []
    keep_latency(TWO, digits, tmp_path, said.append)
    assert said[1:] == ["No latency of resnet8: no kernel"]
    assert [*json.loads((tmp_path / "latency.json").read_text())["networks"]] == ["digits_cnn"]
