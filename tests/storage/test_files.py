import concurrent.futures
import errno
import multiprocessing
import os
import pickle
import signal
import time
from pathlib import Path

import pytest

from rkd_core.errors import UserError
from rkd_core.storage import files, local, object_store

SPAWN = multiprocessing.get_context("spawn")


def test_local_locations_are_plain_paths(tmp_path):
    assert type(files.location("a/b")) is type(Path("a/b"))
    assert files.location("a/b") == Path("a/b")
    assert files.location(f"file://{tmp_path}/a%20b") == tmp_path / "a b"
    assert files.location(tmp_path) is tmp_path
    assert files.local_path(files.location("a")) == Path("a")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hdfs://host/a", "hdfs:// is not known; give a folder, s3://bucket/prefix or gs://"),
        ("s4://bucket/a", "s4:// is not known"),
        ("s3:/bucket/a", "two slashes"),
        ("s3://", "give s3://bucket/prefix"),
        ("s3:///a", "give s3://bucket/prefix"),
        ("s3://bucket/../a", "without # and .."),
        ("s3://key:secret@bucket/a", "leave credentials out"),
        ("s3://bucket/a?colour=red", "colour=red is not an option; there are endpoint_override"),
        ("s3://bucket/a?region=", "region= is not an option"),
        ("s3://bucket/a?scheme=ftp", "neither http nor https"),
        ("file://host/a", "file:///folder"),
    ],
)
def test_other_locations_are_refused_in_one_line(text, said):
    with pytest.raises(UserError) as error:
        files.location(text)
    assert said in str(error.value)
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


def test_options_are_those_of_pyarrow(monkeypatch):
    pytest.importorskip("s3fs")
    path = files.location(
        "s3://bucket/a%20b//c/?endpoint_override=h:1&scheme=http&region=eu-west-1"
    )
    assert str(path) == "s3://bucket/a b/c"
    assert path.storage_options["endpoint_url"] == "http://h:1"
    assert path.storage_options["client_kwargs"] == {"region_name": "eu-west-1"}
    assert files.local_path(path) is None
    assert str(path / "records" / "x") == "s3://bucket/a b/c/records/x"


def test_a_missing_package_is_named(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(object_store.importlib, "import_module", missing)
    with pytest.raises(UserError, match=r"s3fs is not installed; .* pip install -e '\.\[s3\]'"):
        files.location("s3://bucket/a")
    with pytest.raises(UserError, match=r"gcsfs is not installed; .* pip install -e '\.\[gcs\]'"):
        files.location("gs://bucket/a")


def test_a_location_in_a_store_reads_like_a_path():
    pytest.importorskip("s3fs")
    path = files.location("s3://bucket/a?region=eu-west-1") / "records" / "x.parquet"
    assert (path.name, path.stem, str(path.parent)) == ("x.parquet", "x", "s3://bucket/a/records")
    assert str(path.with_name(".y")) == "s3://bucket/a/records/.y"
    assert path.with_name(".y").stem == ".y"
    assert path.absolute() == path
    assert pickle.loads(pickle.dumps(path)) == path
    assert path.parent / "x.parquet" == path
    assert path != files.location("s3://bucket/a") / "records" / "x.parquet"  # another region
    assert len({path, path.parent / "x.parquet"}) == 1


def test_a_lock_is_held_once(tmp_path):
    storage, path = files.storage_of(tmp_path), tmp_path / "folder" / ".lock"
    with storage.lock(path, 0) as locked:
        assert locked
        with pytest.raises(TimeoutError), storage.lock(path, 0):
            pass
    with storage.lock(path, 0) as locked:
        assert locked


def test_without_locks_there_is_none(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    with files.storage_of(tmp_path).lock(tmp_path / "file" / ".lock", 0) as locked:
        assert not locked  # no folder can be made there
    pytest.importorskip("s3fs")
    path = files.location("s3://bucket/a")
    with files.storage_of(path).lock(path / ".lock", 0) as locked:
        assert not locked


def test_a_folder_is_published_with_its_files_or_not_at_all(tmp_path):
    hidden, final = tmp_path / ".hidden", tmp_path / "final"
    for content in (b"one", b"two"):
        hidden.mkdir(exist_ok=True)
        (hidden / "file").write_bytes(content)
        if content == b"one":
            local.publish_folder(hidden, final)
    with pytest.raises(FileExistsError, match="final"):
        local.publish_folder(hidden, final)
    assert (final / "file").read_bytes() == b"one"
    local.publish_folder(hidden, final, replace=True)
    assert (final / "file").read_bytes() == b"two"
    assert files.names(tmp_path) == ["final"]


def test_a_folder_that_cannot_be_replaced_stays(tmp_path, monkeypatch):
    hidden, final = tmp_path / ".hidden", tmp_path / "final"
    for folder, content in ((hidden, b"new"), (final, b"old")):
        folder.mkdir()
        (folder / "file").write_bytes(content)
    rename = Path.rename

    def refuse(self, target):
        if self == hidden:
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="Input/output"):
        local.publish_folder(hidden, final, replace=True)
    assert (final / "file").read_bytes() == b"old"
    assert files.names(tmp_path) == [".hidden", "final"]


def test_the_first_to_create_a_file_has_it(out):
    path = out / "deep" / "file"
    assert files.create(path, b"one")
    assert not files.create(path, b"two")
    assert files.read(path) == b"one"
    files.replace_file(path, b"three")
    assert files.read(path) == b"three"
    assert files.names(out / "deep") == ["file"]


def test_replaceable_files_are_replaced(out):
    path = out / "file"
    assert files.create(path, b"failed 1", lambda b: b.startswith(b"failed"))
    assert files.create(path, b"failed 2", lambda b: b.startswith(b"failed"))
    assert files.create(path, b"completed", lambda b: b.startswith(b"failed"))
    assert not files.create(path, b"failed 3", lambda b: b.startswith(b"failed"))
    assert files.read(path) == b"completed"


def test_names_and_folders(out):
    assert files.names(out) == []
    assert not files.is_folder(out)
    assert not files.exists(out)
    for name in ("b/x", "a", ".hidden", "ab/y"):
        files.create(out / name, name.encode())
    assert files.names(out) == [".hidden", "a", "ab", "b"]
    assert files.is_folder(out / "b")
    assert not files.is_folder(out / "a")
    assert files.exists(out / "a")
    files.remove(out / "b")
    files.remove(out / "a")
    files.remove(out / "nothing")
    assert files.names(out) == [".hidden", "ab"]
    with pytest.raises(FileNotFoundError):
        files.read(out / "a")


def test_files_set_aside_are_hidden_and_kept(out):
    files.create(out / "folder" / "x", b"x")
    files.create(out / "file", b"y")
    files.set_aside(out / "folder")
    files.set_aside(out / "file")
    files.set_aside(out / "nothing")
    assert all(name.startswith(".damaged.") for name in files.names(out))
    file, folder = files.names(out)
    assert (files.read(out / file), files.read(out / folder / "x")) == (b"y", b"x")
    assert files.create(out / "file", b"z")


def test_many_files_are_read_in_order(out):
    paths = [out / str(number) for number in range(40)]
    for path in paths[:20]:
        files.create(path, path.name.encode())
    read = list(files.read_many(paths))
    assert read[:20] == [path.name.encode() for path in paths[:20]]
    assert all(isinstance(error, FileNotFoundError) for error in read[20:])


def _race(place, barrier, number, keys):
    out = files.location(place)
    for key in range(keys):
        barrier.wait(600)
        if files.create(out / f"k{key}", f"{number} {key}".encode() * 50):
            print(number, key)
            files.create(out / "winners" / f"{key} {number}", b"")


@pytest.mark.parametrize("processes", [2, 8])
@pytest.mark.parametrize("place", ["local", "s3"])
def test_one_of_many_processes_wins(processes, place, request, tmp_path):
    """Race for every key at the same moment as the other processes."""
    text = str(tmp_path / "out") if place == "local" else request.getfixturevalue("url")
    keys, barrier = 8, SPAWN.Barrier(processes)
    racers = [
        SPAWN.Process(target=_race, args=(text, barrier, number, keys))
        for number in range(processes)
    ]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(600)
    assert [racer.exitcode for racer in racers] == [0] * processes
    out = files.location(text)
    won = dict(name.split() for name in files.names(out / "winners"))
    assert len(won) == len(files.names(out / "winners")) == keys
    for key, number in won.items():
        assert files.read(out / f"k{key}") == f"{number} {key}".encode() * 50
    assert files.names(out) == sorted([*(f"k{key}" for key in range(keys)), "winners"])


def test_readers_see_all_of_it_or_nothing(out):
    contents = [bytes([65 + number]) * 100_000 for number in range(20)]

    def write():
        for content in contents:
            files.create(out / "file", content, lambda _: True)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        writing, seen = pool.submit(write), set()
        while not writing.done():
            (content,) = files.read_many([out / "file"])
            if not isinstance(content, FileNotFoundError):
                seen.add(content)
        writing.result()
    assert seen <= set(contents)


def _stall(path, where, ready):
    """Stop forever in the middle of creating a file."""

    def stop(*_):
        ready.set()
        time.sleep(600)

    if where == "before":
        local.Path.rename = stop
    elif where == "claimed":
        local._settle = stop
    else:
        local.shutil.rmtree = stop
        local._holds = stop
        settle = local._settle
        local._settle = lambda *given: (settle(*given), stop())
    files.create(path, b"of the dead")


@pytest.mark.parametrize("where", ["before", "claimed", "published"])
def test_a_writer_killed_while_creating_blocks_no_other(tmp_path, where):
    path, ready = tmp_path / "file", SPAWN.Event()
    victim = SPAWN.Process(target=_stall, args=(path, where, ready))
    victim.start()
    assert ready.wait(600)
    os.kill(victim.pid, signal.SIGKILL)
    victim.join()
    created = files.create(path, b"of the living")
    assert created == (where == "before")  # else it was as good as done, and is finished
    assert files.read(path) == (b"of the living" if created else b"of the dead")
    assert all(files.is_leftover(name) for name in files.names(tmp_path) if name != "file")
    assert not (tmp_path / ".file.claim").exists()


def test_a_stalled_writer_cannot_change_a_file_created_meanwhile(tmp_path, monkeypatch):
    """Stalled at any step, until somebody else has created the file."""
    steps = []

    def other():
        steps.append(1)
        monkeypatch.undo()
        files.create(path, b"other")

    for name in ("_settle", "_vacant", "write_synced", "_holds"):
        for wanted in range(4):
            path, calls = tmp_path / f"{name}{wanted}", []
            real = getattr(local, name)

            def late(*given, real=real, calls=calls, wanted=wanted):
                calls.append(1)
                if len(calls) == wanted + 1:
                    other()
                return real(*given)

            monkeypatch.setattr(local, name, late)
            mine = files.create(path, b"mine")
            monkeypatch.undo()
            assert files.read(path) == (b"mine" if mine else b"other")
    assert len(steps) >= 5


def test_no_hard_links_and_no_locks_are_needed(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", unsupported)
    monkeypatch.setattr(os, "symlink", unsupported)
    assert files.create(tmp_path / "file", b"one")
    assert not files.create(tmp_path / "file", b"two")


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(path, content):
        path.write_bytes(content[:1])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(local, "write_synced", full)
    with pytest.raises(OSError, match="No space left"):
        files.create(tmp_path / "file", b"one")
    with pytest.raises(OSError, match="No space left"):
        files.replace_file(tmp_path / "file", b"one")
    assert files.names(tmp_path) == []


def test_a_lost_response_does_not_lose_the_file(server, url):
    """The store has it, the line breaks, and the library's second try finds it there."""
    cut = []

    def after(method, path):
        lost = method == "PUT" and path.endswith("/file") and not cut
        if lost:
            cut.append(path)
        return lost

    server.after = after
    try:
        assert files.create(files.location(url) / "file", b"one")
    finally:
        server.after = lambda method, path: False
    assert cut
    assert files.read(files.location(url) / "file") == b"one"
    assert not files.create(files.location(url) / "file", b"one")


def test_a_store_that_ignores_conditions_is_refused(url, monkeypatch):
    out = files.location(url)
    files.storage_of(out).check_writable(out)
    assert files.names(out) == []

    def heedless(system, key, content, attempt, version):
        system.pipe_file(key, content)
        return True

    monkeypatch.setattr(object_store, "_put_if", heedless)
    with pytest.raises(UserError, match="ignores conditional writes"):
        files.storage_of(out).check_writable(out)


def test_errors_of_the_library_become_oserror(server, monkeypatch):
    nowhere = files.location(f"s3://no-bucket/x?endpoint_override={server.address}&scheme=http")
    with pytest.raises(FileNotFoundError):
        files.create(nowhere / "file", b"")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    address = f"s3://bucket-x/x?endpoint_override={server.address}&scheme=http&region=eu-north-1"
    with pytest.raises(OSError, match=r"s3://bucket-x/x/file: Unable to locate credentials"):
        files.create(files.location(address) / "file", b"")
