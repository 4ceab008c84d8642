"""An object store with the interface of S3, on this machine."""

from __future__ import annotations

import logging
from contextlib import contextmanager

import boto3
from moto.server import ThreadedMotoServer

BUCKET = "target-salesloft"


class Bucket:
    """A bucket.

    Attributes:
        environment: The variables with which clients find it.
    """

    def __init__(self, url):
        self.environment = {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "key-of-the-bucket",
            "AWS_SECRET_ACCESS_KEY": "s3cr3t-of-the-bucket",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        self._client = boto3.client(
            "s3",
            endpoint_url=url,
            aws_access_key_id="key",
            aws_secret_access_key="secret",
            region_name="us-east-1",
        )

    def create(self):
        self._client.create_bucket(Bucket=BUCKET)

    def empty(self):
        for name in self.names():
            self._client.delete_object(Bucket=BUCKET, Key=name)

    def names(self, prefix=""):
        found = self._client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
        return [each["Key"] for each in found]

    def read(self, name):
        return self._client.get_object(Bucket=BUCKET, Key=name)["Body"].read().decode()

    def write(self, name, content):
        self._client.put_object(Bucket=BUCKET, Key=name, Body=content)


@contextmanager
def serve_bucket():
    """Serve a bucket while the block runs."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    bucket = Bucket(f"http://{host}:{port}")
    bucket.create()
    yield bucket
    server.stop()
