"""Object stores with the interfaces of S3, Google Cloud Storage and Azure Blob Storage, on this machine."""

import logging
import os
import signal
import socket
import subprocess
from contextlib import closing, contextmanager

BUCKET = "target-salesloft"
# Public: of the emulator's only account.
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class Bucket:
    """A bucket."""

    def __init__(self, url):
        import boto3  # noqa: PLC0415 (slow to import)

        self.environment = {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "key-of-the-bucket",
            "AWS_SECRET_ACCESS_KEY": "s3cr3t-of-the-bucket",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        self._client = boto3.client(
            "s3", endpoint_url=url, aws_access_key_id="key", aws_secret_access_key="secret", region_name="us-east-1"
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
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 (slow to import)

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    bucket = Bucket(f"http://{host}:{port}")
    bucket.create()
    yield bucket
    server.stop()


@contextmanager
def serve_google_bucket():
    """Serve a bucket of Google Cloud Storage while the block runs; yield the variables with which clients find it."""
    from gcp_storage_emulator.server import create_server  # noqa: PLC0415 (slow to import)

    port = find_port()
    with create_server("127.0.0.1", port, in_memory=True, default_bucket=BUCKET):
        yield {
            "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}",
            "FSSPEC_GS_TOKEN": "anon",
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # asks with gRPC, which the emulator does not know
        }


@contextmanager
def serve_azure_container():
    """Serve a container of Azure Blob Storage while the block runs; yield the variables with which clients find it."""
    from azure.storage.blob import BlobServiceClient  # noqa: PLC0415 (slow to import)

    port = find_port()
    command = ["npx", "--yes", "--package=azurite@3", "azurite-blob", "--inMemoryPersistence", "--skipApiVersionCheck"]
    command += ["--disableTelemetry", "--blobPort", str(port)]
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(command, start_new_session=True, **output)
    try:
        assert any("successfully listens" in line for line in process.stdout)
        account = f"DefaultEndpointsProtocol=http;BlobEndpoint=http://127.0.0.1:{port}/devstoreaccount1"
        connection = f"{account};AccountName=devstoreaccount1;AccountKey={AZURITE_KEY}"
        with BlobServiceClient.from_connection_string(connection) as client:
            client.create_container(BUCKET)
        yield {"AZURE_STORAGE_CONNECTION_STRING": connection}
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate()


def find_port():
    """Return a free port."""
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
