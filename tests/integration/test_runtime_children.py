"""Children and the warden: stopped by pid, logged in bounds, never outliving their parent."""

import signal
import socket
import subprocess
import sys
import time

import pytest

from engram.errors import UnavailableError
from engram.serving.web import listen
from engram_cli.runtime import children
from engram_cli.runtime.children import ChildSpec, start_child, trim_log
from engram_cli.runtime.datadir import default_data_dir, owned_data_dir
from engram_cli.runtime.ports import Ports, choose_port, free_port, is_free
from engram_cli.runtime.warden import Warden
from tests.support.servers import processes_naming
from tests.support.wait import eventually

STUBBORN = (
    "import signal, sys, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "print('ready', flush=True)\n"
    "time.sleep(600)\n"
)


def python(tmp_path, code: str) -> ChildSpec:
    return ChildSpec("child", (sys.executable, "-c", code, str(tmp_path)), tmp_path / "child.log")


async def test_a_child_that_ignores_sigterm_is_killed_after_its_grace_period(tmp_path):
    child = start_child(python(tmp_path, STUBBORN))
    await eventually(lambda: "ready" in child.log_text())
    began = time.monotonic()
    assert await child.stop(signal.SIGTERM, 0.2) == -signal.SIGKILL
    assert 0.2 <= time.monotonic() - began < 5


async def test_what_a_dead_child_leaves_in_its_group_ends_with_it(tmp_path):
    code = (
        "import subprocess, sys\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)', sys.argv[1]])\n"
    )
    child = start_child(python(tmp_path, code))
    assert await child.wait() == 0
    await eventually(lambda: not processes_naming(tmp_path))


async def test_a_child_dies_with_a_parent_killed_by_9_without_any_warden(tmp_path):
    code = (
        "import os, pathlib, sys\n"
        "from engram_cli.runtime.children import ChildSpec, start_child\n"
        "argv = (sys.executable, '-c', 'import time; time.sleep(600)', sys.argv[1])\n"
        "start_child(ChildSpec('child', argv, pathlib.Path(sys.argv[1]) / 'log'))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    parent = start_child(python(tmp_path, code))
    # Waited for by its pid only: our own wait would end what it left in its group.
    assert await eventually(parent.process.poll) == -signal.SIGKILL
    await eventually(lambda: not processes_naming(tmp_path))


async def test_a_log_is_cut_while_its_writer_goes_on(tmp_path):
    log = tmp_path / "child.log"
    with log.open("a") as writer:
        writer.write("x" * 100)
        writer.flush()
        trim_log(log, max_bytes=99)
        writer.write("after")
    assert log.read_text() == "after"
    assert (tmp_path / "child.log.1").read_text() == "x" * 100


async def test_a_childs_words_are_told_apart_from_its_predecessors(tmp_path):
    for words in ("first", "second"):
        child = start_child(python(tmp_path, f"print({words!r})"))
        await child.wait()
        assert child.log_text() == f"{words}\n"


async def test_the_warden_ends_what_it_watches_and_spares_what_it_was_told_to_forget(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(children, "death_note", lambda _how: None)
    watched = start_child(python(tmp_path, STUBBORN))
    spared = start_child(python(tmp_path, STUBBORN))
    folder = tmp_path / "folder"
    (folder / "below").mkdir(parents=True)
    warden = Warden()
    warden.start()
    try:
        for child in (watched, spared):
            warden.watch(child.pid)
        warden._process.kill()  # its successor must know all of it
        warden._process.wait()
        warden.forget(spared.pid)
        warden.remove_folder(folder)
        warden._process.stdin.close()  # what our death would do
        assert await watched.wait() == -signal.SIGKILL
        await eventually(lambda: not folder.exists())
        assert spared.running()
    finally:
        warden.close()
        await spared.stop(signal.SIGKILL, 5)
        await watched.stop(signal.SIGKILL, 5)


def test_a_data_directory_is_freed_when_its_owner_is_done_and_refused_before(tmp_path):
    code = (
        "import pathlib, sys\n"
        "from engram_cli.runtime.datadir import owned_data_dir\n"
        "with owned_data_dir(pathlib.Path(sys.argv[1])):\n"
        "    print('owned', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    argv = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout.readline() == b"owned\n"
        with (
            pytest.raises(UnavailableError, match=f"process {owner.pid}"),
            owned_data_dir(tmp_path),
        ):
            pass
        owner.communicate()
    for _ in range(2):
        with owned_data_dir(tmp_path):
            assert (tmp_path / "engram.lock").exists()


def test_the_default_data_directory_follows_the_setting(tmp_path):
    assert default_data_dir({"ENGRAM_DATA_DIR": str(tmp_path)}) == tmp_path
    assert default_data_dir({}).name == "engram"


def test_chosen_ports_lie_where_no_outgoing_connection_takes_them():
    assert all(20_000 <= choose_port(0) < 32_000 for _ in range(50))


def test_a_kept_port_is_nobody_elses_and_a_child_can_listen_on_it_again_and_again():
    ports = Ports()
    try:
        kept = [ports.keep() for _ in range(5)]
        assert len(set(kept)) == 5
        with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
            stranger.bind(("127.0.0.1", kept[0]))
        for _ in range(2):
            listen("127.0.0.1", kept[0], "ENGRAM_PORT").close()
    finally:
        ports.release()
    assert is_free(kept[0])


def test_neighbouring_ports_that_are_taken_are_replaced():
    ports = Ports()
    try:
        taken = ports.keep()
        assert ports.keep_near(taken) != taken
        assert ports.keep_near(70_000) < 65_536
        wanted = free_port()
        assert ports.keep_near(wanted) == wanted
    finally:
        ports.release()
