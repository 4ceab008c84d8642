"""Runs with one ledger."""

import pytest

from target_salesloft.ledger.opening import open_ledger
from tests.conftest import DatedClock

SCOPE = "127.0.0.1/team/1"


@pytest.fixture
def clock():
    return DatedClock()


@pytest.fixture
def start(uri, clock):
    """Return a function that opens the ledger as a new run does."""
    ledgers = []

    def start(scope=SCOPE, where=uri, **options):
        ledger = open_ledger(where, clock, **options)
        ledgers.append(ledger)
        ledger.use_scope(scope)
        ledger.start_run(f"run-{len(ledgers)}", "1.0")
        return ledger

    yield start
    for each in ledgers:
        each.close()
