"""The report server while records arrive."""

from __future__ import annotations

import http.client
import signal
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from analysis import watch
from analysis.watch import main, serving
from tests.analysis import worlds

ROOT = Path(__file__).parents[2]


def ask(address: str, path: str, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=600)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the folder for every request."""
    monkeypatch.setattr(watch, "_PAUSE", 0.0)
    monkeypatch.setattr(watch, "_IDLE", 0.0)


def rows() -> list[worlds.Row]:
    return worlds.sweep(("standard",), ("standard", 0.5), (1.0,))


@pytest.mark.usefixtures("soon")
def test_the_page_follows_the_records(tmp_path: Path) -> None:
    teacher, plain, other = rows()
    with serving(tmp_path) as address:
        assert address.startswith("http://127.0.0.1:")
        status, text = ask(address, "/")
        assert status == 200
        assert "There is nothing to compare yet" in text
        assert str(tmp_path) in text
        worlds.write(tmp_path, [teacher, plain], planned=[r["run_id"] for r in rows()])
        before = ask(address, "/version")
        page = ask(address, "/")[1]
        assert "which is standard distillation: nothing else is better by this rule" in page
        assert "So far: 2 of 3 trained" in page
        assert f'data-version="{before[1]}"' in page
        assert ask(address, "/version") == before
        worlds.write(tmp_path, [other])
        assert ask(address, "/version") != before
        assert "All planned runs are trained" in ask(address, "/")[1]
    with pytest.raises(ConnectionRefusedError):
        ask(address, "/")


@pytest.mark.usefixtures("soon")
def test_a_failure_that_is_mended_is_noticed(tmp_path: Path) -> None:
    teacher, plain, other = rows()
    worlds.write(tmp_path, [teacher, plain, {**other, "status": "failed", "cause": "memory"}])
    with serving(tmp_path) as address:
        before = ask(address, "/version")
        assert "memory" in ask(address, "/")[1]
        worlds.write(tmp_path, [other])
        assert ask(address, "/version") != before


def test_the_folder_is_read_at_most_once_per_interval(tmp_path: Path) -> None:
    teacher, plain, other = rows()
    worlds.write(tmp_path, [teacher, plain])
    with serving(tmp_path) as address:
        before = ask(address, "/version")
        worlds.write(tmp_path, [other])
        assert ask(address, "/version") == before


@pytest.mark.parametrize(
    "path",
    ["/records", "/plan.json", "/../plan.json", "/%2e%2e/plan.json", "/?x", "/etc/passwd"],
)
def test_no_path_leads_to_a_file(tmp_path: Path, path: str) -> None:
    worlds.write(tmp_path, rows(), planned=["secret"])
    with serving(tmp_path) as address:
        assert ask(address, path) == (404, "there is only /\n")


def test_another_name_for_this_machine_is_refused(tmp_path: Path) -> None:
    with serving(tmp_path) as address:
        port = urlsplit(address).port
        for host in ("evil.example", f"evil.example:{port}", f"127.0.0.1.evil.example:{port}"):
            assert ask(address, "/", Host=host)[0] == 403
        assert ask(address, "/", Host=f"localhost:{port}")[0] == 200


def test_the_page_names_a_damaged_record(tmp_path: Path) -> None:
    worlds.write(tmp_path, rows())
    (tmp_path / "records" / "x.parquet").write_bytes(b"<b>")
    with serving(tmp_path) as address:
        assert "x.parquet cannot be read as a record" in ask(address, "/")[1]


def test_a_port_that_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(tmp_path) as address:
        port = str(urlsplit(address).port)
        assert main([str(tmp_path), "--port", port]) == 2
    assert main([str(tmp_path), "--port", "70000"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    assert f"port {port} cannot be served" in errors[0]


def test_the_command_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    worlds.write(tmp_path, rows())
    code = (  # where tests run in the background, SIGINT is ignored
        "import signal, sys;"
        "signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from analysis.watch import main;"
        "sys.exit(main(sys.argv[1:]))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    ) as process:  # fmt: skip
        stopper = threading.Timer(120, process.kill)
        stopper.start()
        assert process.stdout is not None
        address = process.stdout.readline().split()[1]
        assert "Ship " in ask(address, "/")[1]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
        stopper.cancel()
    assert process.returncode == 0
    assert errors == ""
    assert [path.name for path in tmp_path.iterdir()] == ["records"]


@pytest.mark.usefixtures("soon")
def test_many_concurrent_requests(tmp_path: Path) -> None:
    worlds.write(tmp_path, rows())
    answers: list[int] = []
    with serving(tmp_path) as address:
        threads = [
            threading.Thread(target=lambda: answers.append(ask(address, "/")[0])) for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [200] * 6
