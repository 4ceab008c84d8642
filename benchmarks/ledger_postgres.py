"""A ledger on PostgreSQL: what a record takes on disk, and in the write-ahead log, in two nights.

`PYTHONPATH=. python benchmarks/ledger_postgres.py [RECORDS]` starts a server of its own. Records are noted without
sending them, in batches of 10,000, as bulk jobs are. In the second night, 1 % have changed. A checkpoint comes before
each night, so that the log has whole pages too. Options show what takes the log: `--fillfactor 70`,
`--without-full-pages`, `--compressed-pages`.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from nights import run_night
from people import table

from target_salesloft.clock import Clock
from target_salesloft.ledger.opening import open_ledger
from tests import postgres

CHANGED_EACH = 100


def main() -> None:
    """Measure both nights, and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("records", type=int, nargs="?", default=1_000_000)
    parser.add_argument("--fillfactor", type=int, help="of the table of records")
    parser.add_argument("--without-full-pages", action="store_true")
    parser.add_argument("--compressed-pages", action="store_true")
    options = parser.parse_args()
    records = options.records
    rows = []
    server: Any = postgres  # has no types
    with server.serve_postgres(server.find_binaries()) as directory:
        database = server.Database(directory, "ledger")
        database.create()

        def ask(query: str) -> int:
            return int(database.execute(query)[0][0])

        settings = {
            "full_page_writes": options.without_full_pages and "off",
            "wal_compression": options.compressed_pages,
        }
        for setting, value in settings.items():
            if value:
                database.execute(f"ALTER SYSTEM SET {setting} = {'on' if value is True else value}")
        database.execute("SELECT pg_reload_conf()")
        open_ledger(database.url, Clock()).close()
        if options.fillfactor is not None:
            database.execute(f"ALTER TABLE records SET (fillfactor = {options.fillfactor})")

        for night, changed_each in (("first night", None), ("second night, 1 % changed", CHANGED_EACH)):
            database.execute("CHECKPOINT")
            before, started, cpu = ask("SELECT pg_current_wal_lsn() - '0/0'"), time.monotonic(), time.process_time()
            ledger = open_ledger(database.url, Clock())
            written = run_night(ledger, records, changed_each)
            ledger.close()
            wal = ask("SELECT pg_current_wal_lsn() - '0/0'") - before
            seconds, cpu = time.monotonic() - started, time.process_time() - cpu
            sizes = [ask(f"SELECT pg_total_relation_size('{name}')") for name in ("records", "pending")]
            values = (sizes[0] / records, sizes[1] / 2**20, wal / written, 1e6 * cpu / records, seconds)
            rows.append([night, f"{written:,}", *(f"{each:,.0f}" for each in values)])
        started = time.monotonic()
        database.execute("VACUUM records")
        vacuum = time.monotonic() - started
        index = ask("SELECT pg_relation_size('records_pkey')")
    table(["", "written", "bytes a record", "pending, MB", "WAL a written record", "CPU µs a record", "seconds"], rows)
    print(f"\nVacuum: {vacuum:.1f} s. Index: {index / records:.0f} bytes a record.")


if __name__ == "__main__":
    main()
