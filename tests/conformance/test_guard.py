"""A function under check cannot end the process, hang for ever, or leave global state changed."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

import grape_verified
from grape_verified.conformance import check, guard


def right(logps, old_logps, advantages, mask):
    return grape_verified.ppo_loss(logps, old_logps, advantages, mask).loss


def beside(action):
    """PPO that does something else, too."""

    def stranger(logps, old_logps, advantages, mask):
        action()
        return right(logps, old_logps, advantages, mask)

    return stranger


def state():
    return (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled(), torch.initial_seed())


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (lambda: torch.set_default_dtype(torch.float64), "the default dtype from torch.float32 to torch.float64"),
        (lambda: torch.set_num_threads(7), "the number of threads from "),
        (lambda: torch.manual_seed(1234), "the seed from "),
    ],
)
def test_global_state_is_as_before_and_the_change_is_said(action, words):
    before, numbers = state(), torch.get_rng_state()
    report = check(beside(action), "ppo", examples=10)
    assert state() == before
    assert torch.equal(torch.get_rng_state(), numbers)
    assert report.failed == ("inputs",)
    assert report.finding("inputs").text.startswith(f"the function changes {words}")
    assert report.formula == "right"


def test_gradients_are_computed_again_after_a_function_that_turned_them_off():
    def stranger(logps, old_logps, advantages, mask):
        loss = right(logps, old_logps, advantages, mask)
        torch.set_grad_enabled(False)
        return loss

    report = check(stranger, "ppo", examples=10)
    assert torch.is_grad_enabled()
    assert report.failed == ("inputs",)
    assert "whether gradients are computed from True to False" in report.finding("inputs").text


def test_random_numbers_go_on_as_if_the_function_had_drawn_none():
    numbers = torch.get_rng_state()
    check(beside(lambda: torch.rand(3)), "ppo", examples=2)
    assert torch.equal(torch.get_rng_state(), numbers)


def test_an_exit_past_python_is_a_finding():
    leave = os._exit
    report = check(beside(lambda: os._exit(7)), "ppo", examples=5)  # not 0, with which pytest would seem to have passed
    assert os._exit is leave
    assert report.finding("signature").text == "raised SystemExit: os._exit(7)"


def test_a_child_that_is_forked_within_ends():
    def forks():
        child = os.fork()
        if not child:
            os._exit(3)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3

    assert check(beside(forks), "ppo", examples=2).accepted


def test_what_hangs_is_stopped_and_named(monkeypatch):
    monkeypatch.setattr(guard, "LIMIT", 2.0)
    asleep = {"calls": 0}

    def sometimes():
        asleep["calls"] += 1
        if asleep["calls"] > 20:
            time.sleep(30)

    before, start = signal.getsignal(signal.SIGALRM), time.monotonic()
    report = check(beside(sometimes), "ppo", examples=20)
    assert time.monotonic() - start < 25
    assert signal.getsignal(signal.SIGALRM) is before
    (name,) = report.failed
    assert report.finding(name).text == "raised TookTooLong: a call took more than 2 seconds"
    after = report.properties[[finding.name for finding in report.properties].index(name) + 1 :]
    assert {finding.text for finding in after} == {"the function takes too long"}


@pytest.fixture
def alarm():
    """Sets an alarm of another, as pytest-timeout does for each test; gives when it went off."""
    rung = []

    def set_to(seconds, interval=0.0, raises=None):
        def rings(*_):
            rung.append(time.monotonic())
            if raises:
                raise raises

        signal.signal(signal.SIGALRM, rings)
        signal.setitimer(signal.ITIMER_REAL, seconds, interval)
        return rung

    before = signal.getsignal(signal.SIGALRM)
    yield set_to
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_an_alarm_that_is_set_is_left_as_it_was(alarm):
    rung = alarm(300, 500)
    check(right, "ppo", examples=2)
    left, interval = signal.getitimer(signal.ITIMER_REAL)
    assert 200 < left < 300
    assert interval == 500
    assert not rung


def test_an_alarm_goes_off_on_time_where_no_call_takes_long(alarm, monkeypatch):
    monkeypatch.setattr(guard, "LIMIT", 1.0)
    rung, start, changes = alarm(2.0, 0.5), time.monotonic(), set()
    with guard.guarded():
        while len(rung) < 2 and time.monotonic() - start < 60:
            guard.call(lambda: time.sleep(0.01), changes)
    assert 1.9 <= rung[0] - start < 10
    assert rung[1] - rung[0] >= 0.45


def test_a_call_that_takes_too_long_is_stopped_before_an_alarm_that_is_set(alarm, monkeypatch):
    monkeypatch.setattr(guard, "LIMIT", 1.0)
    rung = alarm(300)
    with guard.guarded(), pytest.raises(guard.TookTooLong):
        guard.call(lambda: time.sleep(30), set())
    assert not rung


@pytest.mark.parametrize("seconds", [0.3, 0.0005])
def test_what_the_handler_of_an_alarm_raises_ends_the_check(alarm, seconds):
    """Hypothesis takes what pytest raises for a failure of the function, and tries the input again."""
    alarm(2.0, raises=pytest.fail.Exception("Timeout"))
    start = time.monotonic()
    with pytest.raises(pytest.fail.Exception, match="Timeout"):
        check(beside(lambda: time.sleep(seconds)), "ppo", examples=10**6)
    assert time.monotonic() - start < 30


def test_the_command_says_that_a_function_exits(tmp_path):
    (tmp_path / "leaver.py").write_text("import os\n\ndef f(logps, old_logps, advantages, mask):\n    os._exit(0)\n")
    command = [sys.executable, "-m", "grape_verified", "check", "leaver:f", "--as", "ppo", "--examples", "3"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "raised SystemExit: os._exit(0)" in run.stdout
