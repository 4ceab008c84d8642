"""The registry of assumptions."""

import typing

from target_salesloft.salesloft.assumptions import ASSUMPTIONS, Capabilities


def test_capabilities_have_the_values_of_the_registry():
    hints = typing.get_type_hints(Capabilities)
    allowed = {name: set(typing.get_args(typing.get_args(hint)[0])) for name, hint in hints.items()}
    assert allowed == {name: set(each.values) for name, each in ASSUMPTIONS.items()}
    assert len({each.id for each in ASSUMPTIONS.values()}) == len(ASSUMPTIONS)


def test_unknown_names_and_values_are_left_out():
    values = {"custom_fields": "replace", "null": "maybe", "colour": "red"}
    assert Capabilities.from_values(values).values == {"custom_fields": "replace"}
