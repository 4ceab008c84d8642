"""Runs with one ledger."""

import pytest

from target_salesloft.ledger.opening import open_ledger
from tests.conftest import DatedClock

SCOPE = "127.0.0.1/team/1"


@pytest.fixture
def clock():
    return DatedClock()


@pytest.fixture
def begin(clock):
    """Return a function that opens a ledger as a new run does."""
    ledgers = []

    def begin(where, scope=SCOPE, **options):
        ledger = open_ledger(where, clock, **options)
        ledgers.append(ledger)
        ledger.use_scope(scope)
        ledger.start_run(f"run-{len(ledgers)}", "1.0")
        return ledger

    yield begin
    for each in ledgers:
        each.close()


@pytest.fixture
def start(begin, uri):
    """Return a function that opens the ledger of the test as a new run does."""
    return lambda scope=SCOPE, where=uri, **options: begin(where, scope, **options)
