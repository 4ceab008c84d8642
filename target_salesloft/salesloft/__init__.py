"""Salesloft's REST API: client, rate limit, responses, lookups."""
