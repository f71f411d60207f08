"""Inputs are drawn once for many properties, and reach what a bug needs."""

import random

import grape_verified
from grape_verified.conformance import CONTRACTS, run
from grape_verified.conformance.drawing import drawn, run_on
from grape_verified.conformance.properties import PROPERTIES
from grape_verified.conformance.subject import read

SIZE = CONTRACTS["ppo"].space(PROPERTIES["value"].regime, (), {}, CONTRACTS["ppo"].variants).size


def test_the_same_inputs_are_drawn_again():
    again = []
    run_on(again.append, SIZE, 30)
    assert tuple(again) == drawn(SIZE, 30)
    assert len(set(again)) > 20


def test_a_failing_input_is_reduced_from_where_it_was_found():
    calls = []

    def wrong_at_three_rows(logps, old_logps, advantages, mask):
        calls.append(len(logps))
        found = grape_verified.ppo_loss(logps, old_logps, advantages, mask).loss
        return found + 1 if len(logps) >= 3 else found

    subject = read(wrong_at_three_rows, CONTRACTS["ppo"], {})
    calls.clear()
    finding = run.run_property(subject, PROPERTIES["value"], 40)
    first = next(place for place, rows in enumerate(calls) if rows >= 3)
    assert finding.examples == first + 1
    assert calls[first + 1] >= 3  # drawn again, and not what passed before it
    assert finding.counterexample.count("[1.0") == 3


def test_a_failure_that_does_not_come_again_is_said():
    calls = []

    def wrong_once(logps, old_logps, advantages, mask):
        calls.append(1)
        return grape_verified.ppo_loss(logps, old_logps, advantages, mask).loss + (len(calls) == 20)

    subject = read(wrong_once, CONTRACTS["ppo"], {})
    finding = run.run_property(subject, PROPERTIES["value"], 40)
    assert finding.text.startswith("gives different results for the same input; once, the loss is ")


def test_random_numbers_of_python_go_on_afterwards():
    def draws(logps, old_logps, advantages, mask):
        random.random()
        return grape_verified.ppo_loss(logps, old_logps, advantages, mask).loss

    subject = read(draws, CONTRACTS["ppo"], {})
    random.seed(1)
    expected = random.Random(1).random()
    assert run.run_property(subject, PROPERTIES["value"], 5).status == "passed"
    assert random.random() == expected
