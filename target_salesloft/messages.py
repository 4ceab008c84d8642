"""The codes of messages that several modules or no exception have.

A code is shown after a message, and is in the field `code` of JSON logs and in the summary. Later versions keep it.
`docs/reference/codes/` explains all codes.
"""

from __future__ import annotations

from typing import Final

INVALID_SETTINGS: Final = "SL001"
UNREAD_VARIABLE: Final = "SL002"
UNKNOWN_SETTING: Final = "SL007"
MISSING_CREDENTIALS: Final = "SL008"
CONFLICTING_SETTINGS: Final = "SL009"
INVALID_INPUT: Final = "SL050"
SUMMARY_NOT_WRITTEN: Final = "SL054"
INTERNAL_ERROR: Final = "SL099"
