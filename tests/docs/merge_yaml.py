"""Merge YAML from standard input into a file, as a reader of the documents edits meltano.yml."""

import sys
from pathlib import Path

import yaml


def merge(old, new):
    """Merge two values; lists of objects are merged by name."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{name: merge(old.get(name), value) for name, value in new.items()}}
    if isinstance(old, list) and isinstance(new, list) and all(isinstance(each, dict) for each in old):
        by_name = {each["name"]: each for each in old}
        return list({**by_name, **{each["name"]: merge(by_name.get(each["name"]), each) for each in new}}.values())
    return new


if __name__ == "__main__":
    file = Path(sys.argv[1])
    merged = merge(yaml.safe_load(file.read_text(encoding="utf-8")), yaml.safe_load(sys.stdin))
    file.write_text(yaml.safe_dump(merged, sort_keys=False), encoding="utf-8")
