"""The announced plan."""

import numpy as np
import pytest
from PIL import Image

from sweeps.pareto import main


@pytest.mark.parametrize("highest", [4000, 70000])
def test_a_dry_run_says_how_pixel_values_are_scaled(tmp_path, capsys, monkeypatch, highest):
    monkeypatch.setenv("RKD_CACHE_DIR", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for split, top in (("train", 4000), ("test", highest)):
        for label in "ab":
            (tmp_path / "scans" / split / label).mkdir(parents=True)
            for i in range(4):
                values = rng.integers(0, top, (8, 8)).astype(np.int32)
                values[0, :2] = 0, top
                path = tmp_path / "scans" / split / label / f"{i}.tif"
                Image.fromarray(values).save(path)
    networks = ["--teacher-architecture", "digits_cnn", "--student-architecture", "digits_cnn"]
    command = ["--dataset", str(tmp_path / "scans"), "--serial", "--dry-run", *networks]
    code = main([*command, "--out", str(tmp_path / "out")])
    said = capsys.readouterr()
    if highest == 4000:
        line = "pixel values: 32-bit gray, 0 to 4095 -> 0 to 255 (training images have 0 to 4000)"
        assert code == 0
        assert line in said.out.replace("\n", " ")
    else:
        assert code == 2
        assert said.err.count("\n") == 1
        assert "test/a/0.tif cannot be decoded: its values are 0 to 70000, outside" in said.err
    assert not (tmp_path / "out").exists()
