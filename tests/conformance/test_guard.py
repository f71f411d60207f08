"""A function under check cannot end the process, hang for ever, or leave global state changed."""

import os
import random
import signal
import subprocess
import sys
import time
import warnings
from contextlib import suppress
from typing import get_args

import numpy as np
import pytest
import torch

import grape_verified
from grape_verified.conformance import check, guard
from grape_verified.conformance.report import FailOn
from grape_verified.conformance.state import Changes


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


def changed_to(function, *value):
    return beside(lambda: function(*value))


def cleared(name):
    """A function that takes a variable out of the environment."""
    return beside(lambda: os.environ.pop(name, None))


@pytest.mark.parametrize(
    ("function", "read", "words"),
    [
        (changed_to(os.chdir, "/"), os.getcwd, "the working folder from "),
        (cleared("GRAPE_VERIFIED_TEST"), lambda: dict(os.environ), "the environment"),
        (changed_to(warnings.simplefilter, "error"), lambda: list(warnings.filters), "the filters of warnings"),
        (changed_to(signal.signal, signal.SIGINT, signal.SIG_IGN), lambda: signal.getsignal(signal.SIGINT),
         "the handlers of signals"),
        (changed_to(torch.use_deterministic_algorithms, True), torch.are_deterministic_algorithms_enabled,
         "the mode of deterministic algorithms from 0 to 2"),
        (changed_to(torch.set_autocast_enabled, "cpu", True), lambda: torch.is_autocast_enabled("cpu"),
         "whether autocast is on from False to True"),
        (changed_to(torch.set_float32_matmul_precision, "medium"), torch.get_float32_matmul_precision,
         "the precision of matrix products from highest to medium"),
        (changed_to(torch.autograd.set_detect_anomaly, True), torch.is_anomaly_enabled,
         "whether anomalies are detected from False to True"),
        (changed_to(torch.set_default_device, "cpu"), lambda: torch.empty(0).device, "the default device from None"),
        (changed_to(sys.setrecursionlimit, 3000), sys.getrecursionlimit, "the limit of recursion"),
        (beside(lambda: np.seterr(all="raise")), np.geterr, "what NumPy does about errors"),
        (beside(lambda: sys.stdout.close()), lambda: sys.stdout.closed, "the standard streams"),
        (beside(lambda: setattr(sys, "stdout", None)), lambda: sys.stdout, "the standard streams"),
    ],
)  # fmt: skip
def test_more_global_state_is_as_before_and_the_change_is_said(function, read, words, monkeypatch):
    monkeypatch.setenv("GRAPE_VERIFIED_TEST", "1")
    before = read()
    report = check(function, "ppo", examples=5)
    assert read() == before
    assert report.failed == ("inputs",)
    assert report.finding("inputs").text.startswith(f"the function changes {words}")


def test_what_a_library_changes_when_it_is_first_used_is_no_finding(monkeypatch):
    used = []

    def first():
        if not used:
            used.append(os.environ.setdefault("GRAPE_VERIFIED_LIBRARY", "1"))

    assert check(beside(first), "ppo", examples=5).accepted
    assert "GRAPE_VERIFIED_LIBRARY" not in os.environ


def test_random_numbers_of_python_and_numpy_go_on(monkeypatch):
    before = random.getstate(), np.random.get_state()[1].tolist()
    check(beside(lambda: (random.seed(3), np.random.seed(3))), "ppo", examples=2)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


def test_what_is_printed_is_bounded(capsys):
    check(beside(lambda: print("x" * 10**6)), "ppo", examples=2)
    out = capsys.readouterr().out
    assert 10**5 <= len(out) < 10**5 + 100
    assert out.endswith("[… what else the function prints is left out]\n")


# -- the backward pass ------------------------------------------------------------------------------------------------


def in_the_backward_pass(action):
    """PPO whose backward pass does something else, too."""

    class Stranger(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, upstream):
            action()
            return upstream

    return lambda logps, old_logps, advantages, mask: Stranger.apply(right(logps, old_logps, advantages, mask))


@pytest.mark.parametrize(
    ("action", "words"), [(lambda: sys.exit(0), "SystemExit: 0"), (lambda: os._exit(7), "SystemExit: os._exit(7)")]
)
def test_a_backward_pass_that_exits_is_a_finding(action, words):
    report = check(in_the_backward_pass(action), "ppo", examples=5)
    assert "gradient" in report.failed
    assert report.finding("gradient").text == f"the loss cannot be differentiated: {words}"


def test_a_backward_pass_that_hangs_is_stopped(monkeypatch):
    monkeypatch.setattr(guard, "LIMIT", 1.0)
    start = time.monotonic()
    report = check(in_the_backward_pass(lambda: time.sleep(30)), "ppo", examples=5)
    assert time.monotonic() - start < 25
    assert report.formula == "not known"
    assert any(
        "TookTooLong: a call took more than 1 seconds, in the backward pass" in f.text for f in report.properties
    )


def test_global_state_is_as_before_a_backward_pass_that_changed_it():
    report = check(in_the_backward_pass(lambda: torch.set_default_dtype(torch.float64)), "ppo", examples=5)
    assert torch.get_default_dtype() == torch.float32
    assert report.finding("inputs").text.startswith("the function changes the default dtype")


# -- what cannot be called --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("returned", ["loss", None, {"other": 1}, float("nan"), np.float32(1), (), torch.ones(7)])
def test_nothing_is_known_about_what_gives_no_loss(returned):
    report = check(lambda logps, old_logps, advantages, mask: returned, "ppo", examples=5)
    assert report.verdicts_in_words() == "Formula: not known (signature). Robustness: not known."
    for fail_on in get_args(FailOn):
        assert report.fails(fail_on)
        assert report.deciding(fail_on)


class Default:
    """A default that cannot be compared."""

    def __eq__(self, other):
        raise RuntimeError("not to be compared")


class Odd:
    """PPO as an object whose other attributes raise."""

    def __call__(self, logps, old_logps, advantages, mask):
        return right(logps, old_logps, advantages, mask)

    def __getattr__(self, name):
        raise RuntimeError(name)


def odd_default(logps, old_logps, advantages, mask, clip_low=Default(), clip_high=torch.tensor([0.2, 0.2])):  # noqa: B008
    return grape_verified.ppo_loss(logps, old_logps, advantages, mask, clip_low=clip_low, clip_high=clip_high).loss


@pytest.mark.parametrize("function", [Odd, lambda: odd_default])
def test_odd_objects_are_checked(function):
    assert "value" not in check(function(), "ppo", examples=5).failed


class Raises:
    """A result whose attributes run code."""

    def __init__(self, error):
        self.error = error

    def __getattr__(self, name):
        raise self.error


@pytest.mark.parametrize("error", [RuntimeError("[red]no\x1b[31m"), SystemExit(0), GeneratorExit()])
def test_a_result_that_raises_is_a_finding(error):
    text = check(lambda logps, old_logps, advantages, mask: Raises(error), "ppo", examples=5).finding("signature").text
    assert text.startswith(f"raised {type(error).__name__}")
    assert text.isprintable()


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


def swallows(error):
    def action():
        with suppress(error):
            time.sleep(3)

    return action


def sets_the_alarm():
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    time.sleep(3)


@pytest.mark.parametrize("action", [swallows(Exception), swallows(BaseException), sets_the_alarm])
def test_a_call_that_is_not_stopped_took_too_long_all_the_same(action, monkeypatch):
    monkeypatch.setattr(guard, "LIMIT", 1.0)
    before = signal.getsignal(signal.SIGALRM)
    report = check(beside(action), "ppo", examples=5)
    assert signal.getsignal(signal.SIGALRM) is before
    assert report.finding("signature").text == "raised TookTooLong: a call took more than 1 seconds"


def test_a_loop_that_goes_on_after_any_error_is_stopped(monkeypatch):
    monkeypatch.setattr(guard, "LIMIT", 1.0)

    def goes_on():
        for _ in range(15):
            with suppress(Exception):
                time.sleep(3)

    start = time.monotonic()
    with guard.guarded(), pytest.raises(guard.TookTooLong):
        guard.call(goes_on, Changes())
    assert time.monotonic() - start < 10


def test_a_call_is_stopped_after_one_that_set_the_alarm(monkeypatch):
    monkeypatch.setattr(guard, "LIMIT", 1.0)
    start = time.monotonic()
    with guard.guarded():
        guard.call(lambda: signal.signal(signal.SIGALRM, signal.SIG_IGN), Changes())
        with pytest.raises(guard.TookTooLong):
            guard.call(lambda: time.sleep(30), Changes())
    assert time.monotonic() - start < 20


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
    rung, start, changes = alarm(2.0, 0.5), time.monotonic(), Changes()
    with guard.guarded():
        while len(rung) < 2 and time.monotonic() - start < 60:
            guard.call(lambda: time.sleep(0.01), changes)
    assert 1.9 <= rung[0] - start < 10
    assert rung[1] - rung[0] >= 0.45


def test_a_call_that_takes_too_long_is_stopped_before_an_alarm_that_is_set(alarm, monkeypatch):
    monkeypatch.setattr(guard, "LIMIT", 1.0)
    rung = alarm(300)
    with guard.guarded(), pytest.raises(guard.TookTooLong):
        guard.call(lambda: time.sleep(30), Changes())
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


def test_a_sibling_that_ends_its_call_does_not_make_this_one_late():
    """Workers of one server share `DUE`."""
    assert guard.call(lambda: guard.DUE.__setitem__(0, 0.0) or 7, Changes()) == 7
