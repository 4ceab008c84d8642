"""The command `salesloft-sandbox`: serve the sandbox, or run the demo."""

from __future__ import annotations

import argparse
import json
import math
import signal
import sqlite3
import sys
import threading
from collections.abc import Sequence
from typing import Any

from salesloft_sandbox.admin import is_loopback
from salesloft_sandbox.api_keys import DEFAULT_KEY
from salesloft_sandbox.database import IN_MEMORY
from salesloft_sandbox.demo import run as run_demo
from salesloft_sandbox.fault_injection import Fault
from salesloft_sandbox.fields import CUSTOM_FIELD_TYPES
from salesloft_sandbox.oauth import DEFAULT_CLIENT, DEFAULT_SECRET
from salesloft_sandbox.sandbox import STATUSES, Sandbox
from salesloft_sandbox.server import ALL_INTERFACES, LOOPBACK, SandboxServer
from salesloft_sandbox.version import VERSION
from salesloft_sandbox.worlds import ASSUMPTIONS, Assumptions

MAX_PORT = 65_535
REFUSING_STATUSES = STATUSES["refuse_bulk_types"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = _build_parser().parse_args(argv)
    return int(args.run(args) or 0)


def serve(args: argparse.Namespace) -> int:
    """Serve a sandbox until the process receives SIGINT or SIGTERM."""
    try:
        sandbox = _build_sandbox(args)
    except (OSError, sqlite3.Error) as error:
        return _print_error(f"Cannot use the database {args.db}: {getattr(error, 'strerror', None) or error}.")

    stop = threading.Event()
    try:
        with SandboxServer(sandbox, host=args.host, port=args.port) as server:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: stop.set())
            key = next(iter(sandbox.api_keys))
            print(  # noqa: T201 - scripts wait for this line
                f"Sandbox at {server.url}, API key {key}, admin endpoints at {server.admin_url}",
                flush=True,
            )
            if args.client:
                print(f"OAuth client {args.client[0][0]}, token URL {server.auth_url}", flush=True)  # noqa: T201
            stop.wait()
    except OSError as error:
        sandbox.close()
        return _print_error(f"Cannot listen on {args.host}:{args.port}: {error.strerror or error}.")
    return 0


def _build_sandbox(args: argparse.Namespace) -> Sandbox:
    sandbox = Sandbox(
        db=args.db,
        api_keys=args.api_key or (DEFAULT_KEY,),
        points_per_minute=args.rate_limit,
        other_points=args.other_points,
        retry_after=args.retry_after,
        rate_headers_on_429=not args.no_rate_headers_on_429,
        request_ids=args.request_ids,
        missing_scope_status=args.missing_scope_status,
        unknown_id_status=args.unknown_id_status,
        latency=args.latency,
        bulk_rate=args.bulk_rate,
        bulk_wait=args.bulk_wait,
        bulk_queue=args.bulk_queue,
        membership_parameters=args.membership_parameters or ("query", "body"),
        refuse_bulk_types=dict(args.refuse_bulk_type),
        clients=dict(args.client) or {DEFAULT_CLIENT: DEFAULT_SECRET},
        token_seconds=args.token_seconds,
        oauth_scopes=args.oauth_scope or None,
        refresh_tokens=args.refresh_token,
        worlds=args.world,
        admin_hosts=args.admin_host,
    )
    for field_type, name, value_type in args.custom_field:
        # An existing database may already have the field.
        if name not in sandbox.state.custom_field_types(field_type):
            sandbox.define_custom_field(name, field_type, value_type)
    for fault in args.fault:
        sandbox.faults.add(fault)
    return sandbox


def demo(_args: argparse.Namespace) -> int:
    return run_demo()


def worlds(_args: argparse.Namespace) -> int:
    """List the assumptions and their worlds."""
    lines = []
    for name, assumption in ASSUMPTIONS.items():
        if assumption.default:
            lines.append((f"{name}={assumption.default} (default)", assumption.values[assumption.default]))
        lines += assumption.worlds.items()
    width = max(len(world) for world, _ in lines)
    print("\n".join(f"{world:{width}}  {meaning}" for world, meaning in lines))  # noqa: T201
    return 0


def _print_error(message: str) -> int:
    print(message, file=sys.stderr)  # noqa: T201 - output for a person
    return 1


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="salesloft-sandbox", description="A local fake of the Salesloft API v2.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {VERSION}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("serve", help="serve the sandbox until it is interrupted")
    command.set_defaults(run=serve)
    add = command.add_argument
    add("--host", type=_loopback_host, default=LOOPBACK, help="loopback address to listen on (%(default)s)")
    add(
        "--all-interfaces",
        dest="host",
        action="store_const",
        const=ALL_INTERFACES,
        help="listen on all interfaces of a container, whose port must be published on a loopback address only",
    )
    add(
        "--admin-host",
        action="append",
        default=[],
        metavar="NAME",
        help="name of this host for other containers, which may use the admin endpoints; repeatable",
    )
    add("--port", type=_port, default=8765, help="port to listen on; 0 for a free one (%(default)s)")
    add("--db", default=IN_MEMORY, metavar="FILE", help="store the data in this SQLite file (default: in memory)")
    add("--api-key", type=_key, action="append", metavar="KEY", help="valid API key; repeatable")
    add("--rate-limit", type=_integer, default=600, metavar="POINTS", help="points per minute (%(default)s)")
    add("--other-points", type=_integer, default=0, metavar="POINTS", help="points per minute spent by others")
    add("--retry-after", action="store_true", help="send Retry-After with a 429")
    add("--no-rate-headers-on-429", action="store_true", help="omit the rate limit headers from a 429")
    add("--request-ids", action="store_true", help="send an x-request-id header with each response")
    add(
        "--missing-scope-status",
        type=int,
        choices=STATUSES["missing_scope_status"],
        default=403,
        help="status if the API key lacks a scope (%(default)s)",
    )
    add(
        "--unknown-id-status",
        type=int,
        choices=STATUSES["unknown_id_status"],
        default=404,
        help="status of an upsert by an unknown id (%(default)s)",
    )
    add("--latency", type=_number, default=0.0, metavar="SECONDS", help="seconds before each response")
    add("--bulk-rate", type=_number, metavar="ROWS", help="rows per second of a bulk job (default: all at once)")
    add("--bulk-wait", type=_number, default=0.0, metavar="SECONDS", help="seconds that each bulk job waits")
    add("--bulk-queue", action="store_true", help="execute one bulk job at a time")
    add(
        "--refuse-bulk-type",
        type=_refused_type,
        action="append",
        default=[],
        metavar="TYPE[=STATUS]",
        help=f"reject bulk jobs of this type with {_either(REFUSING_STATUSES)} (default: 422); repeatable",
    )
    add(
        "--membership-parameters",
        action="append",
        choices=("query", "body"),
        help="where cadence memberships accept their parameters (default: both); repeatable",
    )
    add(
        "--custom-field",
        type=_custom_field,
        action="append",
        default=[],
        metavar="TYPE:NAME[:date]",
        help=f"custom field of type {_either(CUSTOM_FIELD_TYPES)}; repeatable",
    )
    add(
        "--client",
        type=_client,
        action="append",
        default=[],
        metavar="ID:SECRET",
        help="OAuth application; repeatable",
    )
    add("--token-seconds", type=_number, default=7200, metavar="SECONDS", help="OAuth token lifetime (%(default)s)")
    add("--refresh-token", action="append", default=[], metavar="TOKEN", help="initial refresh token; repeatable")
    add("--oauth-scope", action="append", metavar="SCOPE", help="scope of OAuth tokens (default: all); repeatable")
    add("--fault", type=_fault, action="append", default=[], metavar="JSON", help="fault to inject; repeatable")
    add(
        "--world",
        type=_world,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change an assumption about Salesloft, see `salesloft-sandbox worlds`; repeatable",
    )
    command = commands.add_parser("worlds", help="list the assumptions about Salesloft that --world can change")
    command.set_defaults(run=worlds)
    command = commands.add_parser("demo", help="run the sample pipeline against a sandbox")
    command.set_defaults(run=demo)
    return parser


def _either(values: Sequence[object]) -> str:
    *others, last = map(str, values)
    return f"{', '.join(others)} or {last}"


def _loopback_host(host: str) -> str:
    if ":" in host or not is_loopback(host):
        raise argparse.ArgumentTypeError(f"{host} is not an IPv4 loopback address")
    return host


def _number(text: str) -> float:
    number = float(text)
    if number < 0 or not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text} is not a number of 0 or more")
    return number


def _integer(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is not an integer of 0 or more")
    return number


def _port(text: str) -> int:
    port = _integer(text)
    if port > MAX_PORT:
        raise argparse.ArgumentTypeError(f"{text} is not a port (0 to {MAX_PORT})")
    return port


def _key(text: str) -> str:
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise argparse.ArgumentTypeError("an API key has printable ASCII characters and no spaces")
    return text


def _refused_type(text: str) -> tuple[str, int]:
    job_type, _, status = text.partition("=")
    if status and status not in map(str, REFUSING_STATUSES):
        raise argparse.ArgumentTypeError(f"the status must be {_either(REFUSING_STATUSES)}")
    return job_type, int(status or 422)


def _client(text: str) -> tuple[str, str]:
    client_id, _, secret = text.partition(":")
    if not client_id or not secret:
        raise argparse.ArgumentTypeError("expected ID:SECRET")
    return client_id, secret


def _custom_field(text: str) -> tuple[str, str, str]:
    field_type, _, name = text.partition(":")
    name, is_date = (name.removesuffix(":date"), True) if name.endswith(":date") else (name, False)
    if field_type not in CUSTOM_FIELD_TYPES or not name:
        raise argparse.ArgumentTypeError("expected person:NAME, company:NAME, or the same with :date")
    return field_type, name, "date" if is_date else "text"


def _world(text: str) -> str:
    try:
        Assumptions((text,))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _fault(text: str) -> Fault:
    try:
        values: Any = json.loads(text)
        return Fault.from_json(values)
    except (TypeError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
