"""The version of the sandbox."""

VERSION = "0.1.0"
