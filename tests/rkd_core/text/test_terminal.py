"""Standard output and error: poor encodings, readers that end, closed descriptors."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from rkd_core.text.console import Console
from rkd_core.text.terminal import shown, transliterate

ROOT = Path(__file__).resolve().parents[3]
PREPARE = "import sys; from rkd_core.text import terminal; terminal.prepare(own_process=True)\n"


def run(code, *, shell="", environment=(), **options):
    command = [sys.executable, "-c", PREPARE + code]
    if shell:
        command = ["bash", "-c", f'"$0" -c "$1" {shell}', sys.executable, PREPARE + code]
    return subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | dict(environment),
        timeout=600,
        check=False,
        **{"capture_output": True} | options,
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("α_t 0.5 → 1, Δ −3 ± 2", "alpha_t 0.5 -> 1, Delta -3 +- 2"),
        ("αₜ ½ × 3² … · ≤", "alpha_t 1/2 x 32 ... - <="),
        ("▸ ○ — “é” ß", '> o - "e" \\xdf'),
        ("─━│┃╭┼ ███░", "--||++ ####"),
        ("猫 \udce9 ⠋", "\\u732b \\udce9 ?"),
        ("plain", "plain"),
    ],
)
def test_transliteration(text, expected):
    assert transliterate(text) == expected


def test_only_what_the_encoding_lacks_is_transliterated():
    assert shown("α ± é", "latin-1") == "alpha ± é"
    assert shown("α ± é", "utf-8") == "α ± é"


def test_columns_stay_aligned_where_a_letter_is_written_out(tmp_path):
    from rich.table import Table

    table = Table(box=None)
    for row in (("standard", "1"), ("α 0", "2")):
        table.add_row(*row)
    with (tmp_path / "out").open("w", encoding="ascii", errors="rkd.transliterate") as stream:
        Console(file=stream, width=40).print(table)
    first, second = (tmp_path / "out").read_text(encoding="ascii").splitlines()[-2:]
    assert "alpha 0" in second
    assert first.index("1") == second.index("2")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_a_stream_of_any_encoding_takes_any_text(encoding):
    code = "for s in sys.stdout, sys.stderr: print('α → é 猫 \\udce9', file=s)"
    done = run(code, environment={"PYTHONIOENCODING": encoding})
    assert done.returncode == 0
    assert done.stdout == done.stderr
    assert done.stdout.decode(encoding).startswith("α" if encoding == "utf-8" else "alpha -> ")


def test_files_are_named_in_utf8_whatever_the_locale(tmp_path):
    (tmp_path / "café").touch()
    code = f"import os; print(ascii(os.listdir({str(tmp_path)!r})), chr(233))"
    locale = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = run(code, environment=locale)
    assert done.stdout == b"['caf\\xe9'] e\n"


def test_a_reader_of_the_head_does_not_end_the_command():
    code = "for i in range(20000): print(i, flush=True)\nprint('worked on', file=sys.stderr)"
    done = run(code, shell="| head -1; exit ${PIPESTATUS[0]}")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"0\n", b"worked on\n")


def test_output_without_a_reader_goes_to_the_log(tmp_path):
    log = tmp_path / "sweep.log"
    code = f"""
import pathlib, time
for i in range(3):
    print("early", flush=True); time.sleep(0.05)
log = pathlib.Path({str(log)!r}); log.touch()
terminal.spill_to(log)
print("late", flush=True)
"""
    done = run(code, shell="| true; exit ${PIPESTATUS[0]}")
    assert done.returncode == 0
    assert log.read_text() == "late\n"


def test_a_reader_that_ends_later_is_named_once(tmp_path):
    log = tmp_path / "sweep.log"
    log.touch()
    code = f"import pathlib; terminal.spill_to(pathlib.Path({str(log)!r}))\n"
    code += "for i in range(20000): print(i, flush=True)"
    done = run(code, shell="| head -1; exit ${PIPESTATUS[0]}")
    assert done.returncode == 0
    assert (
        done.stderr.decode()
        == f"standard output cannot be written: Broken pipe; it goes to {log}\n"
    )
    assert log.read_text().endswith("19999\n")


def test_a_full_disk_is_named_and_ends_nothing():
    done = run("print('x' * 100000, flush=True); print('y')", shell="> /dev/full")
    assert done.returncode == 0
    assert done.stderr == b"standard output cannot be written: No space left on device\n"


@pytest.mark.parametrize(
    ("closed", "unbuffered"), [(">&-", ""), ("2>&-", "1"), ("<&-", ""), (">&- 2>&- <&-", "")]
)
def test_no_file_takes_the_number_of_a_closed_stream(tmp_path, closed, unbuffered):
    code = f"""
file = open({str(tmp_path / "file")!r}, "w", encoding="utf-8")
print("out"); print("error", file=sys.stderr); assert file.fileno() > 2
import subprocess; subprocess.run(["bash", "-c", "echo child; echo child >&2"], check=True)
"""
    done = run(code, shell=closed, environment={"PYTHONUNBUFFERED": unbuffered})
    assert done.returncode == 0
    assert (tmp_path / "file").read_text() == ""


def test_the_end_of_a_terminal_ends_nothing(tmp_path):
    """Writing to a closed terminal raises EIO; SIGHUP is handled elsewhere."""
    master, slave = pty.openpty()
    code = f"""
import pathlib
print(sys.stdout.isatty(), flush=True)
input()
for i in range(3): print(i, flush=True)
pathlib.Path({str(tmp_path / "done")!r}).touch()
"""
    command = [sys.executable, "-c", PREPARE + code]
    with subprocess.Popen(
        command, stdout=slave, stderr=slave, stdin=subprocess.PIPE, cwd=ROOT
    ) as process:
        os.close(slave)
        assert os.read(master, 100).split() == [b"True"]
        os.close(master)
        process.communicate(b"\n", timeout=600)
    assert process.returncode == 0
    assert (tmp_path / "done").exists()


def test_a_terminal_that_somebody_made_non_blocking():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    code = "print('x' * 300000, flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", PREPARE + code], stdout=writer, cwd=ROOT
    ) as process:
        os.close(writer)
        with os.fdopen(reader, "rb") as stream:
            assert len(stream.read()) == 300001
    assert process.returncode == 0


def test_in_a_process_of_others_streams_are_left_in_place(capfd):
    from rkd_core.text import terminal

    before = sys.stdout, sys.stderr
    terminal.prepare(own_process=False)
    assert before == (sys.stdout, sys.stderr)
    print("α")
    assert capfd.readouterr().out == "α\n"
