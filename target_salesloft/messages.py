"""The codes of messages: errors and warnings have one, which later versions keep.

A code is shown after a message, and is in the field `code` of JSON logs and in the summary. The reference page is
generated from this table.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Message(NamedTuple):
    """What the reference says about a code."""

    code: str
    name: str
    meaning: str
    action: str


INVALID_SETTINGS: Final = "SL001"
UNREAD_VARIABLE: Final = "SL002"
UNKNOWN_SETTING: Final = "SL007"
MISSING_CREDENTIALS: Final = "SL008"
CONFLICTING_SETTINGS: Final = "SL009"
INTERNAL_ERROR: Final = "SL099"
INVALID_INPUT: Final = "SL050"
SUMMARY_NOT_WRITTEN: Final = "SL054"
# Title of a group → its messages.
GROUPS: Final = {
    "Settings and streams": (
        Message(
            INVALID_SETTINGS,
            "invalid setting",
            "The value of a setting or option, or a settings file, is invalid.",
            "Use a value that the message lists.",
        ),
        Message(
            UNREAD_VARIABLE,
            "variable not read",
            "An environment variable is set, but has no effect.",
            "Add `--config ENV`, or correct or unset the variable.",
        ),
        Message(
            "SL003",
            "invalid stream settings",
            "The object, mode, key, or mapping of a stream doesn't fit its columns or Salesloft's fields.",
            "Correct the entry in `streams`. `target-salesloft-admin fields` lists the fields.",
        ),
        Message(
            "SL004",
            "unknown column",
            "A column matches no field, and `unknown_fields` is `fail`.",
            "Map the column, map it to null, or set `unknown_fields: ignore`.",
        ),
        Message(
            "SL005",
            "mapping without effect",
            "`mapping` or `deleted_column` names a column that the stream doesn't have, or a column that may mark "
            "deleted records is not used.",
            "Check the spelling of the column.",
        ),
        Message(
            "SL006",
            "unknown stream",
            "`streams` or `stream_maps` names a stream that this run doesn't have.",
            "Check the spelling of the stream.",
        ),
        Message(
            UNKNOWN_SETTING,
            "unknown setting",
            "There is no setting of this name, or it can only be set per stream.",
            "Check the spelling and the place.",
        ),
        Message(
            MISSING_CREDENTIALS,
            "missing credentials",
            "The settings that authentication needs are not set.",
            "Set those of one [authentication method](../guides/authentication.md).",
        ),
        Message(
            CONFLICTING_SETTINGS,
            "conflicting settings",
            "A setting requires another one, or excludes it.",
            "Set what it requires, or remove one of the two.",
        ),
    ),
    "Authentication": (
        Message("SL010", "not authenticated", "Salesloft rejects the key or token (401).", "Replace it, or log in."),
        Message(
            "SL011",
            "OAuth grant rejected",
            "The authorization server rejects the client, refresh token, or code.",
            "Check `client_id` and `client_secret`, or log in.",
        ),
        Message("SL012", "token refresh without a response", "Two refreshes got no response.", "Run again, or log in."),
        Message(
            "SL013",
            "token store unusable",
            "The stored OAuth token can't be read, locked, or written.",
            "Fix the place that the message names. It states whether a token was spent.",
        ),
        Message("SL014", "login timed out", "The application was not authorized in time.", "Log in again."),
        Message(
            "SL015",
            "permission denied",
            "The token lacks a scope, or its user a permission (403).",
            "Add the scope. For OAuth, log in again.",
        ),
        Message("SL016", "token store corrupt", "The file was moved away.", "Log in, if no other token works."),
        Message("SL017", "token refresh repeated", "A refresh got no response, and is retried.", "Nothing."),
    ),
    "Salesloft and the network": (
        Message(
            "SL020",
            "retries exhausted",
            "Salesloft, the network, or a proxy is down, or other integrations use all points.",
            "Run again later, or increase `max_retry_seconds`.",
        ),
        Message(
            "SL021",
            "unexpected response",
            "A response is not as documented, or a request can't be sent.",
            "Check `api_url` and the proxy settings.",
        ),
        Message("SL022", "query rejected", "Salesloft rejects a list request.", "Check `api_url`, and report it."),
        Message("SL023", "request retried", "A request failed and is sent again.", "Nothing, unless it persists."),
        Message(
            "SL024",
            "custom fields not listed",
            "Only custom fields that `mapping` names are sent, unchecked.",
            "Add the scope `custom_fields:read`.",
        ),
        Message(
            "SL025", "records not listed", "Records are looked up one by one instead.", "Nothing. It costs points."
        ),
        Message(
            "SL026", "parameters moved", "Salesloft expects parameters elsewhere.", "Nothing, but please report it."
        ),
        Message(
            "SL027",
            "request failed for a record",
            "Salesloft fails for one record again and again.",
            "See the failed records file.",
        ),
        Message(
            "SL028",
            "assumption does not hold",
            "Salesloft doesn't behave as the target assumes: for example, it did not store a value that it accepted.",
            "Follow the message; see [Assumptions](../explanation/assumptions.md).",
        ),
    ),
    "Bulk jobs": (
        Message(
            "SL030",
            "bulk job unfinished",
            "The results of a job are not known in full.",
            "Run again: the next run fetches them. Otherwise, set `write_method: record`.",
        ),
        Message(
            "SL031",
            "no bulk jobs",
            "Salesloft rejects this type of job, or the token may not create jobs. Single requests are used.",
            "Set `write_method: record` to skip the attempt.",
        ),
        Message(
            "SL032",
            "upload refused",
            "Salesloft refuses all records of a job. They are sent with single requests.",
            "See the reasons of the failed records.",
        ),
        Message(
            "SL033",
            "jobs of earlier runs unknown",
            "Salesloft's list of jobs can't be used, so an older job may overwrite newer values.",
            "Don't run several pipelines at once.",
        ),
        Message("SL034", "unknown job state", "A job has a state that is not documented.", "Check it in Salesloft."),
        Message(
            "SL035",
            "results of an earlier job unknown",
            "A job of an interrupted run left no usable results.",
            "Nothing: its records are sent again.",
        ),
    ),
    "The ledger": (
        Message(
            "SL040",
            "ledger unusable",
            "The ledger is locked, damaged, or can't be reached. The run stops before it writes.",
            "See [A ledger that can't be used](../guides/lost-ledger.md#a-ledger-that-cant-be-used).",
        ),
        Message("SL041", "ledger of a newer version", "A newer version has written the ledger.", "Upgrade."),
        Message(
            "SL042", "no ledger", "The default ledger can't be created, so nothing is remembered.", "Set `ledger_uri`."
        ),
        Message(
            "SL043",
            "records unknown to the ledger",
            "Salesloft has records that the ledger doesn't know, so their values are kept.",
            "If the ledger was lost, use [`adopt`](../guides/lost-ledger.md#adopt-what-salesloft-holds).",
        ),
    ),
    "Input and output": (
        Message(
            INVALID_INPUT,
            "invalid input",
            "A line is not a Singer message. Earlier records were written.",
            "Check the tap's log; see [Input](messages-input.md#input).",
        ),
        Message("SL051", "state not written", "Standard output is closed, or its disk is full.", "Run again."),
        Message(
            "SL052", "failed records file not written", "The run stops before a record is lost.", "Free disk space."
        ),
        Message("SL053", "results file not written", "The run stops before results are lost.", "Free disk space."),
        Message(SUMMARY_NOT_WRITTEN, "summary not written", "The run itself is complete.", "Change `summary_path`."),
        Message("SL055", "stopped", "A signal stopped the run.", "Run again."),
        Message(
            "SL056", "telemetry lost", "Traces and metrics can't be exported.", "Check the collector, or the extra."
        ),
        Message(
            "SL057",
            "old files not deleted",
            "Failed records files that are not needed can't be deleted.",
            "Check the permissions of `failed_records_dir`.",
        ),
    ),
    "Records and limits": (
        Message(
            "SL060",
            "failed records",
            "Records failed, and more than allowed if the run failed.",
            "Fix the rows or the cause, and run again, or [replay](../guides/failed-records.md) the file.",
        ),
        Message(
            "SL061", "reason of failures", "How many records of a stream failed for it, and where.", "Fix the cause."
        ),
        Message(
            "SL062",
            "missing references",
            "Records were written without a link, because its target was not found.",
            "Fix the name, or load what it names first.",
        ),
        Message(
            "SL063",
            "limit of removals",
            "More deleted records than `max_deleted_records`. None was removed.",
            "If the number is right, raise the limit for one run.",
        ),
        Message(
            "SL064",
            "limit of enrollments",
            "More people to add to cadences than `max_enrollments`. Nobody was added.",
            "If the number is right, raise the limit for one run.",
        ),
        Message(
            "SL065",
            "too many missing references",
            "More than `max_missing_references_percent`. Everything was written.",
            "Check the source of the references.",
        ),
        Message("SL066", "many rows with one key", "Many records were merged.", "Check which column is the key."),
        Message(
            "SL067",
            "too many waiting records",
            "More than 20,000 records refer to records that come later.",
            "Let the tap read those first.",
        ),
        Message(
            "SL068",
            "deleted row with another row",
            "A deleted row was not removed, because another row names the same record.",
            "Check whether both rows should name it.",
        ),
        Message(
            "SL069",
            "retry impossible",
            "Failed records of an earlier run can't be read.",
            "Put the file back, or forget them with `target-salesloft-admin prune`.",
        ),
        Message(INTERNAL_ERROR, "internal error", "A bug in the target.", "Please report the line."),
    ),
}
MESSAGES: Final = {each.code: each for group in GROUPS.values() for each in group}
