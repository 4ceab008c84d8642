"""Whole runs of the target in fake time."""

import itertools
from collections import Counter

import pytest

from tests.conftest import (
    LIST_JOBS_POINTS,
    PREFLIGHT_POINTS,
    SAMPLE_POINTS,
    addresses,
    held,
    people,
    record,
    schema,
    state,
)

COLUMNS = schema("people", "email_address", "title", "owner_id")


# Failed records


def hundred(wrong=42):
    rows = people(range(100), title="CEO")
    rows[wrong]["record"]["email_address"] = "wrong"
    return [COLUMNS, *rows, state({"n": 100})]


@pytest.mark.parametrize(("method", "normalize"), [("record", False), ("bulk", True)])
def test_one_invalid_record_of_a_hundred_fails_and_can_be_replayed(run, sandbox, method, normalize):
    result = run(hundred(), write_method=method, normalize=normalize)
    assert (result.code, result.states) == (1, [])
    assert len(sandbox.people()) == 99
    assert result.failed_records == [{"email_address": "wrong", "title": "CEO"}]
    (file,) = result.failed_files
    assert [each["error"]["line"] for each in result.failed[1:]] == [44]
    (line,) = result.log_lines_containing("record failed (people: 1 × ")
    assert "(line 44 of the input)" in line
    assert line.endswith(f"--input {file}")
    assert "allow_failed_records" in line
    assert "wrong" not in result.log.replace(str(file), "")
    fixed = file.read_text(encoding="utf-8").replace("wrong", "p42@example.com")
    file.unlink()
    again = run(fixed, write_method=method)
    assert (again.code, again.failed_files) == (0, [])
    assert addresses(sandbox) == sorted(f"p{number}@example.com" for number in range(100))


@pytest.mark.parametrize("method", ["record", "bulk"])
def test_records_rejected_by_salesloft_are_saved_once_each(run, method):
    rows = [record("people", email_address=f"p{n}@b.co", owner_id=77) for n in range(250)]
    result = run([COLUMNS, *rows], write_method=method, max_failed_records=150, max_parallel_requests=4)
    failed = [each["email_address"] for each in result.failed_records]
    assert len(failed) == len(set(failed))
    assert len(failed) == 250 if method == "bulk" else 151 <= len(failed) <= 155
    assert result.counts() == Counter(read=250, failed=len(failed), not_confirmed=250 - len(failed))
    assert len(result.log_lines_containing("more than 150 records failed (max_failed_records)")) == 1


def test_inserts_that_a_stopped_run_has_not_sent_are_not_taken_for_its_own(run, sandbox):
    settings = {"sync_mode": "insert", "max_failed_records": 0, "max_parallel_requests": 1}
    assert run([COLUMNS, *people([1], owner_id=77), *people([2, 3])], **settings).counts()["not_confirmed"] == 2
    sandbox.add("person", email_address="p3@example.com")
    assert run([COLUMNS, *people([2, 3])], **settings).counts()["already_exists"] == 1


@pytest.mark.parametrize("mode", ["upsert", "update"])
def test_max_failed_records_counts_the_records_of_a_merged_payload(run, sandbox, mode):
    sandbox.add("person", email_address="p1@example.com")
    for allowed, code in ((2, 1), (3, 0)):
        settings = {"sync_mode": mode, "max_failed_records": allowed, "allow_failed_records": True}
        assert run([COLUMNS, *people([1, 1, 1], owner_id=77)], **settings).code == code


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize("path", ["file", "file/failed"])
def test_unusable_failed_records_dir_is_reported_before_anything_is_sent(run, sandbox, tmp_path, path, dry_run):
    (tmp_path / "file").write_text("", encoding="utf-8")
    result = run(hundred(), failed_records_dir=str(tmp_path / path), dry_run=dry_run)
    assert (result.code, result.states, sandbox.requests) == (1, [], [])
    assert len(result.log_lines_containing("failed_records_dir")) == 1


@pytest.mark.parametrize(
    "text",
    [
        '{"title": NaN}',
        r'{"title": "\ud800"}',
        r'{"\ud800": 1}',
        '{"owner_id": 1e999}',
        '{"owner_id": 123456789012345678901}',
    ],
)
def test_unrepresentable_value_fails_only_its_record(run, sandbox, text):
    bad = text.replace("{", '{"email_address": "bad@b.co", ')
    lines = [COLUMNS, *people([1]), f'{{"type": "RECORD", "stream": "people", "record": {bad}}}', *people([2])]
    result = run(lines)
    assert (result.code, addresses(sandbox)) == (1, ["p1@example.com", "p2@example.com"])
    assert [each["email_address"] for each in result.failed_records] == ["bad@b.co"]
    replay, reasons = result.failed_files[0].read_text(encoding="utf-8"), result.reasons
    result.failed_files[0].unlink()
    assert run(replay).reasons == reasons


# Deleted


@pytest.mark.parametrize("column", ["deleted_at", "IsDeleted"])
def test_unused_column_that_may_mark_deleted_records_is_a_warning(run, caplog, column):
    rows = [schema("people", "email_address", column), *people(range(3), **{column: None})]
    run(rows, batch_size_rows=1)
    (warning,) = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert column in warning
    assert "deleted_column" in warning
    said = {"people": {"deleted_column": column}, "leads": {"mapping": {column: None}}}
    said["contacts"] = {"mapping": {column: "title"}}
    rows = [schema(each, "email_address", column) for each in said]
    assert run(rows, streams=said).log_lines_containing("deleted_column") == []


def test_deletion_by_the_tap_that_is_not_used_is_a_warning(run):
    rows = [schema("people", "email_address", "gone", "_sdc_deleted_at"), *people([1, 2], _sdc_deleted_at=None)]
    streams = {"people": {"deleted_column": "gone"}}
    assert run(rows, streams=streams).log_lines_containing("_sdc_deleted_at") == []
    rows += people([3, 4], _sdc_deleted_at="2026-11-20T08:00:00Z")
    (warning,) = run(rows, streams=streams).log_lines_containing("_sdc_deleted_at")
    assert "deleted_column" in warning


def test_deleted_column_that_the_stream_does_not_have_is_a_warning(run):
    streams = {"people": {"deleted_column": "removed_at"}}
    (warning,) = run([COLUMNS, *people([1])], streams=streams).log_lines_containing("removed_at")
    assert "deleted_column" in warning
    maps = {"people": {"removed_at": "__NULL__"}}
    rows = [schema("people", "email_address", "removed_at"), *people([1])]
    assert run(rows, streams=streams, stream_maps=maps).log_lines_containing("removed_at") == []


def test_activate_version_deletes_nothing(run, sandbox):
    result = run([COLUMNS, *people([1]), {"type": "ACTIVATE_VERSION", "stream": "people", "version": 2}])
    assert (result.code, len(sandbox.people())) == (0, 1)


# Bad input


@pytest.mark.parametrize(
    "line",
    [
        '{"type": "RECORD", "stream": "people", "record": {"email_address": "s3cr3t',
        '{"type": "RECORD", "stream": "people", "s3cr3t": 1}',
        '{"type": "STATE", "s3cr3t": 1}',
        {**schema("people", "s3cr3t"), "key_properties": "s3cr3t"},
        '{"type": "SCHEMA", "stream": "leads", "schema": {"s3cr3t": 1}}',
        record("leads", email_address="s3cr3t"),
        {"type": "SCHEMA", "stream": "leads", "schema": {"properties": {"a": {"type": "x"}}}},
    ],
)
def test_invalid_line_is_named_and_earlier_records_are_written(run, sandbox, line):
    result = run([COLUMNS, *people([1, 2]), state({"n": 2}), line, *people([3]), state({"n": 3})])
    assert (result.code, result.states) == (1, [{"n": 2}])
    assert addresses(sandbox) == ["p1@example.com", "p2@example.com"]
    assert len(result.log_lines_containing("line 5")) == 1
    assert "s3cr3t" not in result.log


# Settings of streams


@pytest.mark.parametrize(
    ("maps", "named"),
    [
        ({"title": "int(title)"}, "'title'"),
        ({"title": "{'7': 'x'}[title]"}, "'title'"),
        ({"title": "title if title == '7' else 1 / 0"}, "'title'"),
        ({"title": "md5(title if title == '7' else 1)"}, "'title'"),
        ({"__filter__": "int(title) > 1"}, "'__filter__'"),
        # What does not exist is named.
        ({"title": "title if title == '7' else job_titel.upper()"}, "'job_titel'"),
        ({"title": "title if title == '7' else uper(title)"}, "'uper'"),
        ({"title": "title if title == '7' else title.uper()"}, "'uper'"),
    ],
)
def test_stream_map_error_fails_its_record(run, sandbox, maps, named):
    rows = [*people([1], title="7"), *people([2], title="s3cr3t")]
    result = run([COLUMNS, *rows, *people([3], title="7"), state({"n": 3})], stream_maps={"people": maps})
    assert (result.code, result.states, addresses(sandbox)) == (1, [], ["p1@example.com", "p3@example.com"])
    assert result.failed_records == [rows[1]["record"]]
    (reason,) = result.reasons
    assert f"'{next(iter(maps))}'" in reason
    assert named in reason
    assert "s3cr3t" not in result.log


def test_stream_map_that_cannot_compute_a_deleted_record_does_not_fail_it(run):
    rows = [*people([1], title="7"), *people([2], title=None, _sdc_deleted_at="2026-11-20T08:00:00Z")]
    maps = {"people": {"title": "title.upper()"}}
    result = run([COLUMNS, *rows], stream_maps=maps)
    assert (result.code, result.counts()["skipped"]) == (0, 1)
    assert "'title'" in run([COLUMNS, *rows], stream_maps=maps, deleted_records="delete").reasons[0]


@pytest.mark.parametrize("others", [True, {}, {"type": "string"}])
def test_schema_may_say_what_other_columns_hold(run, sandbox, others):
    columns = schema("people", "city")  # the key is one of the others
    columns["schema"]["additionalProperties"] = others
    assert run([columns, *people([1], title="CEO")]).code == 0
    assert sandbox.people()[0]["title"] == "CEO"


@pytest.mark.parametrize(
    "properties",
    [{"x": {"type": "object", "properties": {"y": {}}}, "x__y": {}}, {"x": True}],
    ids=["duplicate column", "boolean schema"],
)
def test_schema_that_cannot_be_flattened_is_an_input_error(run, properties):
    message = {"type": "SCHEMA", "stream": "people", "schema": {"properties": properties}, "key_properties": []}
    result = run([message], flattening_enabled=True, flattening_max_depth=2)
    assert result.code == 1
    (line,) = result.log_lines_containing("Invalid input at line 1: ")
    assert "'people'" in line
    assert "flattening" in line


def nested(depth):
    value = {}
    for _ in range(depth):
        value = {"a": value}
    return value


def test_deeply_nested_state_is_emitted(run):
    result = run([COLUMNS, *people([1]), state(nested(900))])
    assert (result.code, result.states) == (0, [nested(900)])


@pytest.mark.parametrize(("settings", "kept"), [({}, 1), ({"dry_run": True}, 2), ({"failed_records_days": None}, 2)])
def test_old_failed_records_files_are_deleted_if_a_run_says_so(run, tmp_path, settings, kept):
    directory = tmp_path / "failed"
    directory.mkdir()
    for year in (2001, 2999):
        (directory / f"{year}-01-01T000000Z-1.singer").touch()
    result = run([COLUMNS, *people([1])], **{"failed_records_days": 30, **settings})
    assert (result.code, len(result.failed_files)) == (0, kept)
    assert len(result.log_lines_containing("failed_records_days")) == 2 - kept


def test_columns_that_are_not_sent_are_logged_in_one_line(run, caplog):
    columns = schema("people", "email_address", "email", "titel", "id", "salary", "x", "y")
    streams = {"people": {"mapping": {"salary": "__NULL__"}}}
    result = run([columns, *people(range(10), titel="CEO", other=1), columns], batch_size_rows=3, streams=streams)
    assert result.code == 0
    declared, undeclared = result.log_lines_containing("not sent: ")
    assert all(name in declared for name in ("5 columns", "titel", "'title'", "email", "id", "x, y"))
    assert "salary" not in declared
    assert "other" in undeclared
    assert [each.levelname for each in caplog.records if each.levelname == "WARNING"] == []


def test_many_merged_records_are_a_warning_that_names_the_key_and_its_column(run):
    streams = {"people": {"mapping": {"owner_email": "email_address"}}}
    rows = [record("people", owner_email=f"o{max(0, number - 100)}@example.com") for number in range(300)]
    result = run([schema("people", "owner_email"), *rows], streams=streams, batch_size_rows=250, write_method="record")
    (warning,) = result.log_lines_containing("same email_address")
    assert "'owner_email'" in warning
    assert "100 of " in warning


# Stream maps and flattening


def test_stream_maps_rename_filter_and_compute(run, sandbox):
    result = run(
        [
            schema("contacts", first={"type": "string"}, last={"type": "string"}, score={"type": "integer"}),
            record("contacts", first="Ada", last="L", score=9),
            record("contacts", first="Bob", last="M", score=1),
            record("contacts", first="No address", last="N", score=9),
        ],
        stream_maps={
            "contacts": {
                "__filter__": "score > 5",
                "__alias__": "people",
                "email_address": "first.lower() + '@example.com'",
                "first_name": "first",
                "first": None,
                "last": None,
                "score": None,
            }
        },
    )
    assert [(each["email_address"], each["first_name"]) for each in sandbox.people()] == [("ada@example.com", "Ada")]
    # As the tap wrote it.
    assert (result.code, result.failed_records) == (1, [{"first": "No address", "last": "N", "score": 9}])


# State


def test_old_records_are_written_before_their_batch_is_full(run, monkeypatch):
    monkeypatch.setattr("target_salesloft.engine.engine.MAX_RECORD_AGE_SECONDS", -1.0)
    monkeypatch.setattr("target_salesloft.singer.reader.BLOCK_BYTES", 1)
    assert run([COLUMNS, *people([1]), state(1), *people([2]), state(2)]).states == [1, 2]


def test_a_later_schema_replaces_an_earlier_one(run, sandbox):
    schemas = [schema("people", email_address={}, title={"type": kind}) for kind in ("string", "integer")]
    assert run([schemas[0], *people([1], title="1"), schemas[1], *people([2], title=2)]).code == 0
    assert {each["email_address"][:2]: each["title"] for each in sandbox.people()} == {"p1": "1", "p2": "2"}


def test_repeated_schema_starts_no_new_batch(run, sandbox):
    lines = list(itertools.chain.from_iterable([COLUMNS, *people([n])] for n in range(60)))
    assert run(lines).code == 0
    assert len(sandbox.people()) == 60
    assert sandbox.points_spent == PREFLIGHT_POINTS + LIST_JOBS_POINTS + SAMPLE_POINTS + 5


# Streams that stream maps remove


@pytest.mark.parametrize("maps", [{"deals": None}, {"deals": "__NULL__"}, {"people": {}, "__else__": None}])
def test_stream_removed_by_stream_maps_needs_no_object(run, sandbox, maps):
    lines = [schema("deals", "name"), record("deals", name="Big"), COLUMNS, *people([1]), state({"n": 1})]
    result = run(lines, stream_maps=maps)
    assert (result.code, result.states, addresses(sandbox)) == (0, [{"n": 1}], ["p1@example.com"])


def test_missing_key_property_of_stream_map_is_named(run):
    lines = [schema("people", "id", "email_address", keys=["id"]), record("people", id=2)]
    result = run(lines, stream_maps={"people": {"__key_properties__": ["email_address"]}})
    assert result.code == 1
    (line,) = result.log_lines_containing("Invalid input at line 2: ")
    assert "email_address" in line


# Several streams for one object


@pytest.mark.parametrize("order", [1, -1])
def test_later_message_wins_across_streams_with_other_keys(run, sandbox, order):
    number = sandbox.add("person", email_address="a@b.co")
    columns = [schema("leads", "email_address", "title"), schema("users", "id", "title")]
    rows = [
        record("leads", email_address="a@b.co", title="first"),
        record("users", id=number, title="second"),
        record("leads", email_address="c@d.co", title="other"),
        record("leads", email_address="a@b.co", title="last"),
    ]
    streams = {"users": {"object": "people", "upsert_key": "id"}, "leads": {"object": "people"}}
    assert run([*columns[::order], *rows], streams=streams, write_method="record").code == 0
    assert held(sandbox, "title") == {"a@b.co": "last", "c@d.co": "other"}


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("names", [["leads", "users"], ["users", "leads"]])
def test_streams_with_several_keys_of_a_record_are_written_in_the_order_of_the_input(run, sandbox, names, order):
    for letter in "ab":
        crm_id = {"crm_id": f"00300000000000000{letter}", "crm_id_type": "salesforce"}
        sandbox.add("person", email_address=f"{letter}@b.co", **crm_id)
    columns = [schema("leads", "email_address", "title"), schema("users", "crm_id", "email_address", "title")]
    keys = {
        "leads": lambda letter: {"email_address": f"{letter}@b.co"},
        "users": lambda letter: {"crm_id": f"00300000000000000{letter}", "email_address": f"{letter}@b.co"},
    }
    crossed = [("a", names[0]), ("b", names[1]), ("a", names[1]), ("b", names[0])]
    rows = [record(name, **keys[name](letter), title=f"{letter} of {name}") for letter, name in crossed]
    streams = {"users": {"object": "people", "upsert_key": "crm_id"}, "leads": {"object": "people"}}
    assert run([*columns[::order], *rows], streams=streams).code == 0
    assert held(sandbox, "title") == {"a@b.co": f"a of {names[1]}", "b@b.co": f"b of {names[0]}"}


# Memory


def test_batches_are_bounded_by_bytes_over_all_streams(run, sandbox, monkeypatch):
    monkeypatch.setattr("target_salesloft.engine.engine.MAX_PENDING_BYTES", 20_000)
    lines = [schema("leads", "email_address", "title"), schema("users", "email_address", "title")]
    for number in range(100):
        lines += people([number], "leads", title="x" * 100) + people([number + 100], "users", title="x" * 100)
    result = run([*lines, state({"n": 200})], object="people", write_method="bulk")
    assert (result.code, result.states, len(sandbox.people())) == (0, [{"n": 200}], 200)
    jobs = sum(each.path == "/v2/bulk_jobs" and each.method == "POST" for each in sandbox.requests)
    assert 3 <= jobs <= 6


# Connection test of Meltano


def test_meltano_test_stream_is_a_connection_test(run, sandbox):
    columns = {"id": {"type": "integer"}, "created_at": {"type": "string", "format": "date-time"}}
    row = record("meltano_test_stream", id=1, created_at="2025-09-29T00:00:00Z")
    result = run([schema("meltano_test_stream", keys=["id"], **columns), row, state({"bookmarks": {"last_record": 1}})])
    assert (result.code, result.failed_files) == (0, [])
    assert [(each.method, each.path) for each in sandbox.requests] == [("GET", "/v2/me")]
    assert [each for each in result.messages if "error" in each.lower() or "exception" in each.lower()] == []
