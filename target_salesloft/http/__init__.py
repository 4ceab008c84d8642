"""HTTP requests, errors and retries, shared by `api` and `auth`."""
