"""Several runs with one ledger at the same time, and runs that are killed."""

import signal
import subprocess
import sys
import time

import pytest

from target_salesloft.ledger.ledger import SETTLED_AFTER_SECONDS
from tests.ledger.conftest import SCOPE

PREAMBLE = """
import sys
from target_salesloft.clock import Clock
from target_salesloft.ledger.ledger import StartedJob
from target_salesloft.ledger.opening import open_ledger
uri, scope, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
ledger = open_ledger(uri, Clock())
ledger.use_scope(scope)
ledger.start_run(f"run-{number}", "1.0")
people = ledger.stream("people", "people")
keys = [f"email_address=p{each}@b.co" for each in range(300)]
def wait(what):
    print(what, flush=True)
    sys.stdin.readline()
"""
KEYS = [f"email_address=p{each}@b.co" for each in range(300)]


@pytest.fixture
def launch(uri, processes):
    """Return a function that starts a process with the ledger."""

    def launch(script):
        arguments = [sys.executable, "-c", PREAMBLE + script, uri, SCOPE, str(len(processes))]
        process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        processes.append(process)
        return process

    return launch


def go_on(*processes):
    for each in processes:
        assert each.stdout.readline(), each.stderr.read()
    for each in processes:
        each.stdin.write("\n")
        each.stdin.flush()


def finish(process):
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err[-700:]


@pytest.mark.slow
def test_processes_write_the_same_records_in_any_order_without_a_deadlock(launch, start, clock):
    script = """
import random
wait("ready")
chance = random.Random(number)
for night in range(8):
    chance.shuffle(keys)
    some = keys[:200]
    job = StartedJob(100 * number + night, "person/upsert", "email_address")
    people.mark_pending([(key, {"title": f"{number if night % 2 else 0}"}, {}) for key in some], job)
    people.reject(some[:20])
    if night % 3:
        people.confirm([(key, None, True) for key in some[20:]])
        ledger.forget_job(100 * number + night)
    else:
        ledger.settle_job(100 * number + night, {key: True for key in some[20:40]})
    ledger.forget("people", some[40:60])
    ledger.set_lookups("account.domain", {key: 1 for key in some})
    ledger.forget_lookups("account.domain", some[:50])
    ledger.claim(some, 60)
    ledger.release(some[:100])
"""
    processes = [launch(script) for _ in range(3)]
    go_on(*processes)
    for each in processes:
        finish(each)
    ledger = start()
    people = ledger.stream("people", "people")
    assert ledger.get_unsettled_jobs() == []
    # One more run after what was in doubt is settled, and everything is known again.
    clock.tick(time.time() - clock.time() + SETTLED_AFTER_SECONDS)
    people.mark_pending([(key, {"title": "CEO"}, {}) for key in KEYS])
    people.confirm([(key, None, True) for key in KEYS])
    last = start().stream("people", "people")
    last.mark_pending([(key, {"title": "CEO"}, {}) for key in KEYS])
    last.confirm([(key, None, True) for key in KEYS])
    entries = last.get(KEYS)
    assert all(entries[key].is_unchanged(last.fingerprint({"title": "CEO"})) for key in KEYS)


@pytest.mark.parametrize("uri", ["sqlite"], indirect=True)
def test_process_that_is_killed_leaves_what_it_has_noted(launch, start):
    script = """
items = [(key, {"title": "CEO"}, {}) for key in keys]
people.mark_pending(items[:200])
people.mark_pending(items[200:], StartedJob(7, "person/upsert", "email_address"))
people.confirm([(key, None, True) for key in keys[:100]])
wait("sent")
"""
    process = launch(script)
    assert process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    ledger = start()
    people = ledger.stream("people", "people")
    fingerprint = people.fingerprint({"title": "CEO"})
    entries = people.get(KEYS)
    assert [entries[key].is_unchanged(fingerprint) for key in KEYS] == [True] * 100 + [False] * 200
    assert [entries[key].is_pending for key in KEYS] == [False] * 100 + [True] * 200
    (job,) = ledger.get_unsettled_jobs()
    assert len(job.keys) == 100
    ledger.settle_job(7, {KEYS[200]: True})
    entries = people.get(KEYS)
    assert [key for key in KEYS[200:] if key not in entries] == KEYS[200:201]
    assert all(entries[key].is_unchanged(fingerprint) for key in KEYS[201:])
