"""The registry of assumptions."""

from target_salesloft.salesloft.assumptions import ASSUMPTIONS, Capabilities


def test_each_assumption_has_its_own_id():
    assert len({each.id for each in ASSUMPTIONS.values()}) == len(ASSUMPTIONS)


def test_unknown_names_and_values_are_ignored():
    values = {"custom_fields": "replace", "null": "maybe", "colour": "red"}
    assert Capabilities(values) == {"custom_fields": "replace"}
