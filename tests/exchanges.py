"""Compares each request to the sandbox, and each response, with Salesloft's documentation."""

import json
import re
import threading
from functools import cache
from urllib.parse import parse_qsl

import jsonschema_rs

from salesloft_sandbox.worlds import ASSUMPTIONS
from tests.documented_api import build

DEVIATIONS = {
    r"GET /bulk_jobs\S*: parameter (state|status)\[\]": (
        "Documented as a list separated by commas. Other lists take brackets, and the target sends both forms."
    ),
    r"GET /bulk_jobs: parameter page": "Not documented; clients of others send it, and the sandbox accepts it.",
    r"GET /groups: parameter": "Parameters of groups are not documented, and ignored.",
    r"GET \S+: parameter \w+\[_starts_with\]": "Documented in the text of filters, not as a parameter.",
    r"GET /cadence_memberships: parameter created_at\[gt\]": "Not documented; a reader of others sends it.",
    r"POST /cadence_memberships: body": (
        "Documented as parameters of the query. Others send a body, and so does the target if the query is rejected."
    ),
    r"POST /cadence_memberships: status 201": "Documented as 200; others have observed 201.",
    r"\S+ /bulk_jobs/\{id\}/(results|job_data): response \S*/error ": (
        "Documented as text. That it can be a list or an object is an assumption, which the target tolerates."
    ),
    r"GET /(me|users|users/\{id\}): response \S*/role": "The id of a role is text, such as `Admin`.",
}
"""Pattern of a violation -> why it is accepted."""

RANGES = ("[gt]", "[gte]", "[lt]", "[lte]")
NUMBER = re.compile(r"/\d+(?=/|$)")


class Exchanges:
    """Collects what is not as documented."""

    def __init__(self, *, with_requests=True):
        self._with_requests = with_requests
        self._lock = threading.Lock()
        self._violations = set()
        self.count = 0

    def watch(self, sandbox):
        """Compare the exchanges of a sandbox, as long as it makes the default assumptions."""
        defaults = {name: each.default for name, each in ASSUMPTIONS.items()}

        def compare(event):
            if event.is_before or not event.path.startswith("/v2/") or sandbox.assumptions.values != defaults:
                return
            found = set(find_violations(event, with_request=self._with_requests))
            with self._lock:
                self.count += 1
                self._violations |= {each for each in found if not is_accepted(each)}

        sandbox.on_request = compare

    def take(self):
        """Return the violations so far, and forget them."""
        with self._lock:
            violations, self._violations = sorted(self._violations), set()
        return violations


def is_accepted(violation):
    """Return whether a violation is a known deviation."""
    return any(re.match(pattern, violation) for pattern in DEVIATIONS)


def find_violations(event, *, with_request=True):
    """Return what in a request, if it was accepted, and its response is not as documented."""
    path = NUMBER.sub("/{id}", event.path.removeprefix("/v2").removesuffix(".json"))
    name = f"{event.method} {path}"
    if event.status >= 400:
        yield from _error_violations(name, event)
        return
    operation = build()["paths"].get(path, {}).get(event.method.lower())
    if operation is None:
        yield f"{name}: not documented"
        return
    if with_request:
        yield from _request_violations(name, operation, event)
    response = operation["responses"].get(str(event.status))
    if response is None:
        yield f"{name}: status {event.status}"
        (response,) = operation["responses"].values()
    content = response.get("content")
    if content is None and event.response:
        yield f"{name}: response has a body"
    elif content is not None:
        for error in _validator(name, "response").iter_errors(json.loads(event.response)):
            yield f"{name}: response {_location(error)} {error.message}"


def _request_violations(name, operation, event):
    documented = {each["name"] for each in operation["parameters"]}
    for parameter, _ in parse_qsl(event.query, keep_blank_values=True):
        plain = parameter
        for suffix in RANGES:
            plain = plain.removesuffix(suffix)
        if not documented & {parameter, f"{plain}[]"}:
            yield f"{name}: parameter {parameter}"
    # A form is documented as well; its values are text.
    if event.body and not event.content_type.startswith("application/x-www-form-urlencoded"):
        if "requestBody" not in operation:
            yield f"{name}: body"
            return
        for error in _validator(name, "request").iter_errors(json.loads(event.body)):
            yield f"{name}: request {_location(error)} {error.message}"


def _error_violations(name, event):
    body = json.loads(event.response)
    errors = body.get("errors")
    is_documented = (
        isinstance(body.get("error"), str)
        if errors is None
        else event.status == 422 and all(isinstance(text, str) for texts in errors.values() for text in texts)
    )
    if not is_documented:
        yield f"{name}: response with status {event.status} has neither `error` nor `errors`"


def _location(error):
    return "/" + "/".join("0" if isinstance(part, int) else part for part in error.instance_path)


@cache
def _validator(name, part):
    method, _, path = name.partition(" ")
    document = build()
    operation = document["paths"][path][method.lower()]
    if part == "request":
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
    else:
        (response,) = operation["responses"].values()
        schema = response["content"]["application/json"]["schema"]
    return jsonschema_rs.validator_for({**schema, "components": document["components"]}, validate_formats=True)
