from __future__ import annotations

import gc
import weakref

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from target_salesloft.singer.state import StateBuffer

SINKS = st.integers(1, 3)


class BufferMachine(RuleBasedStateMachine):
    """Records, states, drains and failures in any order, held against a list of what came."""

    def __init__(self):
        super().__init__()
        self.buffer = StateBuffer()
        self.unsettled = []  # (position, sink) of each record that is not settled
        self.position = 0
        self.states = []  # (position, value), in the order they came
        self.left = []
        self.failed = set()

    @rule(sink=SINKS)
    def a_record_comes(self, sink):
        self.position += 1
        self.unsettled.append((self.position, sink))
        self.buffer.add_record(sink)

    @rule()
    def a_state_comes(self):
        value = {"n": len(self.states)}
        self.states.append((self.position, value))
        self.buffer.add_state(value)
        self.release()

    @rule(sink=SINKS)
    def a_sink_drains(self, sink):
        if sink not in self.failed:
            self.unsettled = [each for each in self.unsettled if each[1] != sink]
            self.buffer.mark_settled(self.buffer.close_batch(sink))
        self.release()

    @precondition(lambda self: not self.failed)
    @rule(sink=SINKS)
    def a_sink_fails(self, sink):
        if any(each[1] == sink for each in self.unsettled):
            self.failed.add(sink)

    def release(self):
        value = self.buffer.pop_ready()
        may_leave = [each for position, each in self.states if all(position < first for first, _ in self.unsettled)]
        expected = may_leave[-1] if may_leave and may_leave[-1] not in self.left else None
        assert value == expected
        if value is not None:
            self.left.append(value)

    @invariant()
    def states_leave_in_the_order_they_came(self):
        numbers = [each["n"] for each in self.left]
        assert numbers == sorted(set(numbers))

    @invariant()
    def no_state_has_passed_an_unsettled_record(self):
        positions = {value["n"]: position for position, value in self.states}
        assert all(positions[each["n"]] < first for each in self.left for first, _ in self.unsettled)

    def teardown(self):
        if self.failed or not self.states:
            return
        for sink in (1, 2, 3):
            self.buffer.mark_settled(self.buffer.close_batch(sink))
        self.unsettled = []
        self.release()
        assert self.left[-1] == self.states[-1][1]


TestAnySequenceOfMessages = BufferMachine.TestCase


def test_sink_numbers_are_unique():
    buffer = StateBuffer()
    assert len({buffer.register_sink() for _ in range(1_000)}) == 1_000


def test_only_the_newest_state_of_many_is_stored():
    class State(dict):
        """A state that can be watched."""

    buffer = StateBuffer()
    buffer.add_record(1)
    alive = weakref.WeakValueDictionary()
    for number in range(100):
        alive[number] = state = State(n=number)
        buffer.add_state(state)
    del state
    gc.collect()
    assert list(alive) == [99]
    buffer.mark_settled(buffer.close_batch(1))
    assert buffer.pop_ready() == {"n": 99}
