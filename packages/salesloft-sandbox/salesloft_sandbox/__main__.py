"""The command `salesloft-sandbox`: serve a stand-in for Salesloft, or show the target with it."""

from __future__ import annotations

import argparse
import ipaddress
import json
import signal
import sqlite3
import sys
import threading
from typing import TYPE_CHECKING, Any

from salesloft_sandbox.api_keys import DEFAULT_KEY
from salesloft_sandbox.demo import run as run_demo
from salesloft_sandbox.fault_injection import Fault
from salesloft_sandbox.fields import CUSTOM_FIELD_TYPES
from salesloft_sandbox.oauth import DEFAULT_CLIENT, DEFAULT_SECRET
from salesloft_sandbox.server import Sandbox, SandboxServer

if TYPE_CHECKING:
    from collections.abc import Sequence

LOOPBACK = ipaddress.ip_network("127.0.0.0/8")
REFUSING_STATUSES = (400, 404, 422)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: The arguments; those of the process if they are left out.

    Returns:
        The exit code.
    """
    args = _parser().parse_args(argv)
    return int(args.run(args) or 0)


def serve(args: argparse.Namespace) -> int:
    """Serve a sandbox until the process is told to stop."""
    try:
        sandbox = _sandbox(args)
    except sqlite3.Error as error:
        return _told(f"Cannot use {args.db}: {error}.")

    stop = threading.Event()
    try:
        with SandboxServer(sandbox, host=args.host, port=args.port) as server:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: stop.set())
            key = next(iter(sandbox.api_keys))
            print(  # noqa: T201 - the line that a user and a script wait for
                f"Sandbox at {server.url}, API key {key}, control at {server.control_url}",
                flush=True,
            )
            if args.client:
                print(f"OAuth client {args.client[0][0]}, tokens at {server.auth_url}", flush=True)  # noqa: T201
            stop.wait()
    except OSError as error:
        sandbox.close()
        return _told(f"Cannot listen on {args.host}:{args.port}: {error.strerror or error}.")
    return 0


def _sandbox(args: argparse.Namespace) -> Sandbox:
    sandbox = Sandbox(
        db=args.db,
        api_keys=args.api_key or (DEFAULT_KEY,),
        points_per_minute=args.rate_limit,
        other_spends=args.other_spends,
        retry_after=args.retry_after,
        rate_headers_on_429=not args.no_rate_headers_on_429,
        request_ids=args.request_ids,
        missing_scope_status=args.missing_scope_status,
        unknown_id_status=args.unknown_id_status,
        latency=args.latency,
        bulk_rate=args.bulk_rate,
        bulk_wait=args.bulk_wait,
        bulk_queue=args.bulk_queue,
        refuse_bulk_types=dict(args.refuse_bulk_type),
        clients=dict(args.client) or {DEFAULT_CLIENT: DEFAULT_SECRET},
        token_seconds=args.token_seconds,
        oauth_scopes=args.oauth_scope or None,
        refresh_tokens=args.refresh_token,
    )
    for field_type, name, value_type in args.custom_field:
        # A database that is used again has them already.
        if name not in sandbox.state.custom_field_types(field_type):
            sandbox.define_custom_field(name, field_type, value_type)
    for fault in args.fault:
        sandbox.faults.add(fault)
    return sandbox


def demo(_args: argparse.Namespace) -> int:
    """Show the target at work on a sandbox."""
    return run_demo()


def _told(message: str) -> int:
    print(message, file=sys.stderr)  # noqa: T201 - a plain line for a person
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="salesloft-sandbox", description="A local stand-in for Salesloft's API v2.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("serve", help="serve the sandbox until it is interrupted")
    command.set_defaults(run=serve)
    add = command.add_argument
    add("--host", type=_loopback, default="127.0.0.1", help="a loopback address (%(default)s)")
    add("--port", type=int, default=8765, help="0 for a free one (%(default)s)")
    add("--db", default=":memory:", metavar="FILE", help="keep everything in this SQLite file")
    add("--api-key", action="append", metavar="KEY", help="a key that is known; repeatable")
    add("--rate-limit", type=int, default=600, metavar="POINTS", help="a minute (%(default)s)")
    add("--other-spends", type=int, default=0, metavar="POINTS", help="by others, each minute")
    add("--retry-after", action="store_true", help="send Retry-After with a 429")
    add("--no-rate-headers-on-429", action="store_true", help="omit the rate limit headers from a 429")
    add("--request-ids", action="store_true", help="send an x-request-id header with each response")
    add("--missing-scope-status", type=int, choices=(403, 422), default=403, help="(%(default)s)")
    add("--unknown-id-status", type=int, choices=(404, 422), default=404, help="of an upsert by id (%(default)s)")
    add("--latency", type=float, default=0.0, metavar="SECONDS", help="seconds before each response")
    add("--bulk-rate", type=float, metavar="ROWS", help="rows per second of a bulk job (default: all at once)")
    add("--bulk-wait", type=float, default=0.0, metavar="SECONDS", help="seconds before a bulk job starts to execute")
    add("--bulk-queue", action="store_true", help="execute one bulk job at a time")
    add(
        "--refuse-bulk-type",
        type=_refused_type,
        action="append",
        default=[],
        metavar="TYPE[=STATUS]",
        help="refuse jobs of this type with 400, 404 or 422 (422); repeatable",
    )
    add(
        "--custom-field",
        type=_custom_field,
        action="append",
        default=[],
        metavar="KIND:NAME[:date]",
        help=f"define a custom field of kind {' or '.join(CUSTOM_FIELD_TYPES)}; repeatable",
    )
    add(
        "--client",
        type=_client,
        action="append",
        default=[],
        metavar="ID:SECRET",
        help="an OAuth application; repeatable",
    )
    add("--token-seconds", type=float, default=7200, metavar="SECONDS", help="an OAuth token lasts (%(default)s)")
    add("--refresh-token", action="append", default=[], metavar="TOKEN", help="is good from the start; repeatable")
    add("--oauth-scope", action="append", metavar="SCOPE", help="what OAuth tokens may do (everything); repeatable")
    add("--fault", type=_fault, action="append", default=[], metavar="JSON", help="repeatable")
    command = commands.add_parser("demo", help="show the target at work on a sandbox")
    command.set_defaults(run=demo)
    return parser


def _loopback(host: str) -> str:
    if host != "localhost" and ipaddress.ip_address(host) not in LOOPBACK:
        raise argparse.ArgumentTypeError(f"{host} is not a loopback address")
    return host


def _refused_type(text: str) -> tuple[str, int]:
    job_type, _, status = text.partition("=")
    if status and status not in map(str, REFUSING_STATUSES):
        raise argparse.ArgumentTypeError(f"the status must be one of {REFUSING_STATUSES}")
    return job_type, int(status or 422)


def _client(text: str) -> tuple[str, str]:
    client_id, _, secret = text.partition(":")
    if not client_id or not secret:
        raise argparse.ArgumentTypeError("an application looks like ID:SECRET")
    return client_id, secret


def _custom_field(text: str) -> tuple[str, str, str]:
    field_type, _, name = text.partition(":")
    name, is_date = (name.removesuffix(":date"), True) if name.endswith(":date") else (name, False)
    if field_type not in CUSTOM_FIELD_TYPES or not name:
        raise argparse.ArgumentTypeError("a custom field looks like person:NAME or person:NAME:date")
    return field_type, name, "date" if is_date else "text"


def _fault(text: str) -> Fault:
    try:
        values: Any = json.loads(text)
        return Fault.from_json(values)
    except (TypeError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
