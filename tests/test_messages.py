"""The codes of messages: everything that a user may see has one, and the reference explains all of them."""

import ast
import re
from pathlib import Path

import pytest

from target_salesloft import exceptions
from tests.conftest import people, record, schema

SOURCES = sorted(Path(exceptions.__file__).parent.rglob("*.py"))
REFERENCE = sorted((Path(__file__).parents[1] / "docs" / "reference" / "codes").glob("*.md"))
CODE = re.compile(r'"(SL\d{3})"')
DOCUMENTED = [
    code for each in REFERENCE for code in re.findall(r"<span id=(SL\d{3})>\1<", each.read_text(encoding="utf-8"))
]


def test_the_reference_explains_each_code_that_is_used_once():
    texts = [each.read_text(encoding="utf-8") for each in SOURCES]
    used = {code for text in texts for code in CODE.findall(text)}
    assert sorted(DOCUMENTED) == sorted(used)


def test_every_fatal_error_has_a_code():
    kinds = [each for each in vars(exceptions).values() if isinstance(each, type)]
    fatal = [each for each in kinds if issubclass(each, exceptions.SalesloftFatalError)]
    assert [each.__name__ for each in fatal if "code" not in vars(each)] == []


def get_warnings():
    """Yield the place and the code of each function that logs a warning."""
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        for function in ast.walk(ast.parse(text)):
            if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            calls = [each for each in ast.walk(function) if isinstance(each, ast.Call)]
            if any(isinstance(each.func, ast.Attribute) and each.func.attr == "warning" for each in calls):
                lines = text.splitlines()[function.lineno - 1 : function.end_lineno]
                yield f"{path.name}:{function.name}", CODE.findall("\n".join(lines))


def test_every_warning_has_a_code():
    codes = dict(get_warnings())
    assert [place for place, found in codes.items() if not found] == []
    assert len(codes) > 20


@pytest.mark.parametrize(
    ("settings", "lines", "code"),
    [
        ({"api_key": "wrong"}, [], "SL010"),
        ({"sync_mode": "wrong"}, [], "SL001"),
        ({"sync_mod": "upsert"}, [], "SL007"),
        ({"api_key": None}, [], "SL008"),
        ({"compare": True}, [], "SL009"),
        ({"streams": {"people": {"mapping": {"email_address": "nickname"}}}}, [], "SL003"),
        ({"max_failed_records": 0}, [record("people", email_address="nonsense")], "SL060"),
        ({}, ["no JSON"], "SL050"),
    ],
)
def test_an_error_ends_with_its_code(run, caplog, settings, lines, code):
    run([schema("people", "email_address"), *people([1]), *lines], **settings)
    last = caplog.records[-1]
    assert last.code == code
    assert last.getMessage().endswith(f" [{code}]")
