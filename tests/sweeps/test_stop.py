"""Ctrl-C, SIGTERM and SIGHUP: trainings save, the command unwinds, then the process ends."""

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sweeps.stop import Stop

ROOT = Path(__file__).resolve().parents[2]
CODE = """
import signal, sys, time
ignored = int(sys.argv[4]) if len(sys.argv) > 4 else None
for number in signal.SIGINT, signal.SIGHUP:  # where tests run in the background they are ignored
    signal.signal(number, signal.SIG_IGN if number == ignored else signal.SIG_DFL)
from sweeps import stop as stopping
stopping._GENTLY, stopping._PATIENCE = map(float, sys.argv[2:4])
stop = stopping.Stop()
stop.handle_signals()
saves = sys.argv[1]
def train():
    print("trains", flush=True)
    while not (saves == "at once" and stop.asked):
        time.sleep(0.01)
    print("saved", flush=True)
try:
    if saves == "not":
        train()
    with stop.saving():
        train()
except stopping.Interrupted as interrupt:
    print("interrupted", interrupt.args[0], stop.cause, flush=True)
    if saves == "for ever":
        time.sleep(3600)
"""


@contextlib.contextmanager
def process(*arguments):
    command = [sys.executable, "-c", CODE, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as started:
        try:
            assert started.stdout.readline() == "trains\n"
            yield started
            started.wait(timeout=600)
        finally:
            started.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_running_trainings_save_first(number):
    with process("at once", 60, 60) as command:
        command.send_signal(number)
        assert command.communicate(timeout=600)[0] == f"saved\ninterrupted {number:d} interrupted\n"
    assert command.returncode == 0


def test_under_nohup_the_end_of_the_terminal_stops_nothing():
    with process("at once", 60, 60, int(signal.SIGHUP)) as command:
        command.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        assert command.poll() is None
        command.send_signal(signal.SIGTERM)
        assert command.communicate(timeout=600)[0] == "saved\ninterrupted 15 interrupted\n"


def test_a_preparation_that_takes_too_long_is_interrupted():
    with process("never", 0.5, 60) as command:
        command.send_signal(signal.SIGINT)
        assert command.communicate(timeout=600)[0] == "interrupted 2 interrupted\n"


def test_the_second_signal_ends_the_process_at_once():
    with process("never", 60, 60) as command:
        command.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert command.poll() is None
        command.send_signal(signal.SIGINT)
        assert command.communicate(timeout=600)[0] == "interrupted 2 interrupted\n"


def test_where_nothing_can_be_saved_the_first_interrupts():
    with process("not", 60, 60) as command:
        command.send_signal(signal.SIGINT)
        assert command.communicate(timeout=600)[0] == "interrupted 2 None\n"


def test_it_ends_whatever_is_waited_for():
    with process("for ever", 0.2, 1.0) as command:
        command.send_signal(signal.SIGTERM)
        command.communicate(timeout=600)
        assert command.returncode == 128 + signal.SIGTERM


def test_the_first_reason_counts_and_listeners_are_called_once():
    stop, told = Stop(), []
    stop.on_asked(lambda: told.append(stop.cause))
    stop.ask("the disk is full")
    stop.ask("interrupted")
    assert told == ["the disk is full"]
    with pytest.raises(OSError, match="the disk is full"), stop.saving():
        pass
