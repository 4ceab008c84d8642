"""Random nights against an independent model; see README.md.

`MODEL_SEED=123` runs one seed and shrinks it; `MODEL_SEEDS=0:500` or `3,14,15` runs many; `MODEL_DATABASE=postgres`
uses one database.
"""

from __future__ import annotations

import os
import uuid

import pytest

from tests.model import oracle, world
from tests.model.known import KNOWN
from tests.model.runner import Runner, Zygote
from tests.model.shrink import shrink
from tests.postgres import Database

# Those that met the most of a hundred mutations of the target per second.
DEFAULT = (2, 19, 20, 33, 43, 44, 57, 73, 99, 116, 117, 118)
MANY = sorted({*range(420)} - {*DEFAULT})
SHRINK_SECONDS = float(os.environ.get("MODEL_SHRINK_SECONDS", "60"))
DATABASE = os.environ.get("MODEL_DATABASE")
IGNORED = set(filter(None, os.environ.get("MODEL_IGNORE", "").split(",")))


def chosen():
    """Return the seeds that environment variables name, or None."""
    if seed := os.environ.get("MODEL_SEED"):
        return [int(seed)]
    if seeds := os.environ.get("MODEL_SEEDS"):
        if ":" not in seeds:
            return [int(each) for each in seeds.split(",")]
        first, last = map(int, seeds.split(":"))
        return range(first, last)
    return None


SEEDS = chosen()


@pytest.fixture(scope="session")
def zygote():
    zygote = Zygote()
    yield zygote
    zygote.close()


@pytest.fixture
def findings(zygote, request):
    """Return a function that runs a scenario and returns the findings."""

    def find(scenario):
        database = None
        if scenario["ledger"] == "postgres":
            database = Database(request.getfixturevalue("postgres"), f"model_{uuid.uuid4().hex}")
            database.create()
        team, nights = Runner(scenario, zygote, database).run()
        return [each for each in oracle.check(scenario, team, nights) if each.code not in IGNORED]

    return find


def check(findings, scenario, hint=""):
    found = findings(scenario)
    if not found:
        return
    if SEEDS is not None:
        scenario = shrink(
            scenario, lambda each: any(one.code == found[0].code for one in findings(each)), SHRINK_SECONDS
        )
        found = findings(scenario) or found
    lines = [f"{each.code} (night {each.night}): {each.text}" for each in found]
    pytest.fail("\n".join([*lines, "", world.show(scenario), hint]), pytrace=False)


@pytest.mark.parametrize("name", KNOWN if SEEDS is None else ())
def test_known_combinations(findings, name):
    check(findings, KNOWN[name])


@pytest.mark.parametrize("seed", DEFAULT if SEEDS is None else SEEDS)
def test_nights_leave_salesloft_as_the_model_says(findings, seed):
    check(findings, world.generate(seed, DATABASE), f"Shrink it: MODEL_SEED={seed}")


@pytest.mark.matrix
@pytest.mark.parametrize("seed", MANY if SEEDS is None else ())
def test_many_nights_leave_salesloft_as_the_model_says(findings, seed):
    check(findings, world.generate(seed, DATABASE), f"Shrink it: MODEL_SEED={seed}")
