"""Authorizes an OAuth application in the sandbox, as a user in a browser does."""

import sys

import requests
from requests.adapters import HTTPAdapter
from urllib3 import Retry

if __name__ == "__main__":
    session = requests.Session()
    session.mount("http://", HTTPAdapter(max_retries=Retry(connect=10, backoff_factor=0.1)))
    session.get(sys.argv[1], timeout=5).raise_for_status()
    session.post(sys.argv[1], data={"answer": "allow"}, timeout=5).raise_for_status()
