"""Writes loaders/target-salesloft.yml, by which Meltano knows this target: `uv run python plugins/generate.py`.

HEAD is written by hand. The rest is what `target-salesloft --about` says.
"""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from target_salesloft.target import TargetSalesloft

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FILE: Final = Path(__file__).parent / "loaders" / "target-salesloft.yml"

# As meltano/hub wants it in _data/meltano/loaders/target-salesloft/VARIANT.yml. There a variant is named after the
# owner of its repository.
HEAD: Final = """\
# Written by plugins/generate.py. In a Meltano project:
#
#   meltano add target-salesloft --from-ref FILE_OR_ADDRESS_OF_THIS
#
# Until the package is released, add --no-install, change pip_url in the project's meltano.yml to the address of the
# Git repository (git+https://…) or to the path of a clone, and then: meltano install loader target-salesloft
name: target-salesloft
namespace: target_salesloft
variant: your
label: Salesloft
description: Sales engagement platform
definition: >-
  is a Singer target that keeps the People and Accounts of Salesloft in step with your data: it creates and updates
  them, record by record or as bulk jobs, and sets aside what Salesloft refuses.
domain_url: https://salesloft.com/
logo_url: /assets/logos/loaders/salesloft.png
repo: https://git.example.com/your/target-salesloft
pip_url: target-salesloft
executable: target-salesloft
maintenance_status: beta
quality: unknown
keywords: [api, meltano_sdk, reverse_etl]
log_parser: singer-sdk
prereq: |
  A Salesloft API key, or an OAuth application, with the scopes `people:read`, `people:write`, `accounts:read`,
  `accounts:write` and, where Salesloft offers it, `custom_fields:read`.
settings_preamble: |
  Set exactly one of these: `api_key`; or `client_id` and `client_secret`; or those two with `refresh_token`. Only a dry
  run needs none.
next_steps: |
  See that Salesloft accepts the credentials, and what a run would send, before anything is written:

  ```bash
  meltano invoke target-salesloft:check
  TARGET_SALESLOFT_DRY_RUN=true meltano run tap-yours target-salesloft
  ```
usage: |
  ## People or accounts

  A stream whose name ends in a word such as `people`, `contacts`, `accounts` or `companies` needs no setting. For any
  other, say what it holds, and where columns go whose names are not Salesloft's:

  ```yaml
  config:
    streams:
      public-dim_customers:
        object: people
        mapping:
          job_title: title
          score: Lead Score
          salary_band: __NULL__
  ```

  ## Failed records

  A record that Salesloft refuses goes to a file in `failed_records_dir` with its reason, and the others are written.
  When the cause is mended, send that file again:

  ```bash
  meltano invoke target-salesloft --input failed_records/FILE.singer
  ```
settings_group_validation:
- [api_key]
- [client_id, client_secret]
- [client_id, client_secret, refresh_token]
commands:
  login:
    executable: target-salesloft-auth
    args: login
    description: Authorize by OAuth, and keep the token.
  check:
    executable: target-salesloft-auth
    args: check
    description: Say who the token acts as, what it may do, and how many points are left.
"""

# The SDK's targets say so, but Meltano's own schema has no such capability.
UNKNOWN_TO_MELTANO: Final = {"validate-records"}
# The SDK's settings that take several types; these are the kinds that Meltano Hub gives them.
KINDS_OF_SEVERAL_TYPES: Final = {"faker_config.seed": "string", "faker_config.locale": "array"}


def definition() -> str:
    """Return the definition as it is written."""
    out = io.StringIO()
    with redirect_stdout(out):
        TargetSalesloft.invoke(about=True, about_format="json")
    about = json.loads(out.getvalue())
    generated = {
        "supported_python_versions": about["supported_python_versions"],
        "capabilities": [each for each in about["capabilities"] if each not in UNKNOWN_TO_MELTANO],
        "settings": [_setting(name, schema) for name, schema in leaves(about["settings"]["properties"])],
    }
    return HEAD + yaml.safe_dump(generated, sort_keys=False, allow_unicode=True, width=120)


def leaves(properties: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each setting that holds no others, by its name with dots."""
    for name, schema in properties.items():
        # Names such as __else__ are the grammar of stream maps, not settings.
        inner = {key: value for key, value in schema.get("properties", {}).items() if not key.startswith("__")}
        if inner:
            yield from leaves(inner, f"{prefix}{name}.")
        else:
            yield prefix + name, schema


def _setting(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    setting = {"name": name, "kind": _kind(name, schema), "label": schema["title"]}
    if schema.get("secret"):
        setting["sensitive"] = True
    if "default" in schema:
        setting["value"] = schema["default"]
    setting["description"] = schema["description"]
    if "enum" in schema:
        setting["options"] = [{"label": each, "value": each} for each in schema["enum"]]
    return setting


def _kind(name: str, schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return "options"
    return KINDS_OF_SEVERAL_TYPES.get(name) or next(each for each in schema["type"] if each != "null")


if __name__ == "__main__":
    FILE.write_text(definition(), encoding="utf-8")
