"""Somebody who reads documents and does what they say, block by block."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from importlib import resources
from pathlib import Path
from types import ModuleType

import yaml
from jsonschema import Draft7Validator

from tests.conftest import record
from tests.docs.recipes import schema_of

HERE = Path(__file__).parent
# Where a scheduler's machine keeps the project.
SERVER = "/srv/"


class Reader:
    """Does what blocks say; `needs` of a block are words of `NEEDS`.

    Args:
        shell: Where commands are run.
        recipe: Where recipes are cooked.
        run: Runs the target in this process.
        ports: Puts free ports in the place of those in a text.
        project: The directory of the Meltano project.
    """

    NEEDS = frozenset({"in", "tap", "file", "meltano.yml", "ends", "rows", "held", "arrives", "failed", "picture"})

    def __init__(self, shell, recipe, run, ports, project):
        self.shell = shell
        self._recipe = recipe
        self._run = run
        self._ports = ports
        self._project = project
        self._ran = set()
        self.kinds = {
            "bash": self._bash,
            "console": self._console,
            "diff": self._diff,
            "ini": self._ini,
            "json": self._json,
            "python": self._python,
            "text": self._text,
            "yaml": self._yaml,
        }

    def do(self, block):
        """Do what a block says; whatever cannot be done, or comes out otherwise, is an error."""
        assert block.kind in self.kinds, f"a block of the kind '{block.kind}': nobody knows what to do with it"
        assert block.needs.keys() <= self.NEEDS, f"the comment above asks for {block.needs}"
        if "in" in block.needs:
            self.shell.go_to(block.needs["in"])
        if "tap" in block.needs:
            choose_rows(self._project, block.needs["tap"])
        text = self._ports(block.text)
        if "file" in block.needs:
            if block.kind == "json":
                self._json(text, {})
            self.shell.run(f"cat >{shlex.quote(block.needs['file'])} <<'END OF FILE'\n{text}END OF FILE\n")
        else:
            self.kinds[block.kind](text, block.needs)

    def _bash(self, text, needs):
        _, _, code = needs.get("ends", "with 0").partition(" ")
        self.shell.run(text, code=int(code))
        self._ran.update(text.splitlines())

    def _console(self, text, _needs):
        for each in re.split(r"(?m)^\$ ", text)[1:]:
            command, _, printed = each.partition("\n")
            told = self.shell.run(command)
            assert masked(told).strip() == masked(printed).strip(), f"$ {command}\n{told}"

    def _diff(self, text, _needs):
        """A change of the code, in the clone."""
        self.shell.run(f"git apply <<'END OF DIFF'\n{text}END OF DIFF\n")

    def _ini(self, _text, _needs):
        raise AssertionError("a file of settings needs a name: <!-- test: file NAME -->")

    def _text(self, text, needs):
        """What the commands before it printed, but for numbers."""
        if "picture" in needs:
            return self._picture(text)
        printed = masked(self.shell.output)
        for line in text.splitlines():
            assert masked(line) in printed, f"{line}\nis not in what was printed:\n{self.shell.output[-3000:]}"
        return None

    @staticmethod
    def _picture(text):
        """A drawing of the house: what it names is there."""
        package = HERE.parent.parent / "target_salesloft"
        for name in re.findall(r"[\w/]+\.py\b|\w+/(?!\w)", text):
            assert list(package.rglob(name.rstrip("/"))), f"there is no {name} in the package"

    def _yaml(self, text, needs):
        value = yaml.safe_load(text)
        if "meltano.yml" in needs:
            self._meltano_yml(value)
        else:
            self._recipe.settings(value)

    def _meltano_yml(self, addition):
        """Put it into the project, as a person would."""
        file = self._project / "meltano.yml"
        project = merged(yaml.safe_load(file.read_text(encoding="utf-8")), addition)
        schema = json.loads((resources.files("meltano.schemas") / "meltano.schema.json").read_text(encoding="utf-8"))
        found = [error.message for error in Draft7Validator(schema).iter_errors(project)]
        assert not found, found
        file.write_text(yaml.safe_dump(project, sort_keys=False), encoding="utf-8")

    def _json(self, text, needs):
        values = json_values(text)
        if "rows" in needs:
            self._recipe.rows(needs["rows"].removeprefix("of "), values)
        elif "held" in needs:
            self._recipe.held(values)
        elif "arrives" in needs:
            self._recipe.arrives(values)
        elif "failed" in needs:
            assert values == self._failed_records(), self._failed_records()
        elif all("type" in each for each in values):
            self._send(values)
        else:
            (settings,) = values
            self._recipe.settings(settings)

    def _failed_records(self):
        newest = max((self._project / "failed_records").glob("*.singer"), key=lambda file: file.stat().st_mtime)
        messages = [json.loads(line) for line in newest.read_text(encoding="utf-8").splitlines()]
        return [each for each in messages if each["type"] == "RECORD"]

    def _send(self, messages):
        """Singer messages; where there are records only, of a schema that fits."""
        records = [each for each in messages if each["type"] == "RECORD"]
        schemas = [each for each in messages if each["type"] == "SCHEMA"] or [
            {"type": "SCHEMA", "stream": each["stream"], "schema": schema_of([each["record"]]), "key_properties": []}
            for each in records
        ]
        rest = [record(each["stream"], **each["record"]) if each in records else each for each in messages]
        result = self._run([*schemas, *(each for each in rest if each not in schemas)])
        assert result.code == 0, result.log

    def _python(self, text, _needs):
        """Load it beside stand-ins for schedulers, and run the commands that it would run."""
        commands = []
        modules = schedulers(commands)
        before = {name: sys.modules.get(name) for name in modules}
        sys.modules.update(modules)
        try:
            namespace = {"__name__": "document"}
            exec(compile(text, "document", "exec"), namespace)  # noqa: S102 (our own documents)
            for asset in getattr(namespace.get("defs"), "assets", ()):
                asset()
        finally:
            for name, module in before.items():
                sys.modules.pop(name)
                if module is not None:
                    sys.modules[name] = module
        for directory, command in commands:
            self.shell.go_to(directory.removeprefix(SERVER))
            # The same words do the same here as they did there, which takes seconds.
            if command not in self._ran:
                self._bash(command, {})


def json_values(text):
    """Return the JSON values of a text, one after another."""
    decoder = json.JSONDecoder()
    values = []
    rest = text.strip()
    while rest:
        value, end = decoder.raw_decode(rest)
        values.append(value)
        rest = rest[end:].strip()
    return values


def masked(text):
    """Return a text without its numbers, which differ from run to run."""
    return re.sub(r"\d+", "N", text)


def merged(old, new):
    """Return what a person makes of two parts of a meltano.yml: lists of named things are joined by name."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{name: merged(old.get(name), value) for name, value in new.items()}}
    if isinstance(old, list) and isinstance(new, list) and all(isinstance(each, dict) for each in old):
        by_name = {each["name"]: each for each in old}
        return list({**by_name, **{each["name"]: merged(by_name.get(each["name"]), each) for each in new}}.values())
    return new


def choose_rows(project, name):
    """Let the project's tap have these rows from now on."""
    (project / "rows.singer").write_text((HERE / f"{name}.singer").read_text(encoding="utf-8"), encoding="utf-8")


def module(name, **contents):
    made = ModuleType(name)
    made.__dict__.update(contents)
    return made


def schedulers(commands):
    """Return stand-ins for Airflow, Dagster and what they need; what they would run goes into `commands`."""

    class Anything:
        """Takes what it is given, and is a `with` block where one is wanted."""

        def __init__(self, *_, **given):
            self.__dict__.update(given)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    def bash_operator(*, task_id, bash_command, cwd, append_env, retries, retry_delay):
        assert task_id
        assert append_env, "without it, Meltano would not find its settings"
        assert retries
        assert retry_delay
        commands.append((cwd, bash_command))

    def run(arguments, *, cwd, check):
        assert check, "without it, a failed run would pass for a good one"
        commands.append((cwd, shlex.join(arguments)))
        return subprocess.CompletedProcess(arguments, 0)

    return {
        "airflow.sdk": module("airflow.sdk", DAG=Anything),
        "airflow.providers.standard.operators.bash": module("bash", BashOperator=bash_operator),
        "pendulum": module("pendulum", datetime=Anything, duration=Anything),
        "dagster": module(
            "dagster", asset=lambda function: function, Definitions=Anything, ScheduleDefinition=Anything
        ),
        "subprocess": module("subprocess", run=run),
    }
