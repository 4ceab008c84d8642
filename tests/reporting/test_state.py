import gc
import weakref

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from target_salesloft.engine.journal import Accounts
from target_salesloft.reporting.state import StateBuffer

SINKS = st.integers(1, 3)


class BufferMachine(RuleBasedStateMachine):
    """Records, states, drains and failures in any order, held against a list of what came."""

    def __init__(self):
        super().__init__()
        self.buffer = StateBuffer()
        self.accounts = Accounts()
        self.open = {}  # sink → its batch
        self.unsettled = []  # (position, sink) of each record that is not settled
        self.position = 0
        self.states = []  # (position, value), in the order they came
        self.left = []
        self.failed = set()

    @rule(sink=SINKS)
    def a_record_comes(self, sink):
        self.position += 1
        self.unsettled.append((self.position, sink))
        if sink not in self.open:
            self.open[sink] = self.accounts.open_batch()
        self.accounts.add_record(self.open[sink])

    @rule()
    def a_state_comes(self):
        value = {"n": len(self.states)}
        self.states.append((self.position, value))
        self.buffer.add(value, self.accounts.records, self.accounts.last_open)
        self.release()

    @rule(sink=SINKS)
    def a_sink_drains(self, sink):
        if sink not in self.failed:
            self.unsettled = [each for each in self.unsettled if each[1] != sink]
            self.drain(sink)
        self.release()

    def drain(self, sink):
        batch = self.open.pop(sink, None) or self.accounts.open_batch()
        self.accounts.close_batch(batch)
        while not self.accounts.pop_settled():
            self.accounts.settle(batch, failed=False)
        self.accounts.remove(batch)

    @precondition(lambda self: not self.failed)
    @rule(sink=SINKS)
    def a_sink_fails(self, sink):
        if any(each[1] == sink for each in self.unsettled):
            self.failed.add(sink)

    def release(self):
        value = self.buffer.pop_ready(self.accounts.first_open)
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
            self.drain(sink)
        self.unsettled = []
        self.release()
        assert self.left[-1] == self.states[-1][1]


TestAnySequenceOfMessages = BufferMachine.TestCase


def test_only_the_newest_state_of_many_is_stored():
    class State(dict):
        """A state that can be watched."""

    buffer = StateBuffer()
    alive = weakref.WeakValueDictionary()
    for number in range(100):
        alive[number] = state = State(n=number)
        buffer.add(state, records=1, last_open=1)
    del state
    gc.collect()
    assert list(alive) == [99]
    assert buffer.pop_ready(first_open=1) is None
    assert buffer.pop_ready(first_open=2) == {"n": 99}
