"""An AWS on this machine: MiniStack on a free loopback port, with S3, DynamoDB and Lambda.

`python aws.py COMMAND…` runs a command with variables that lead to it, and to an empty bucket and table in it.
It runs the functions' zips as child processes. Nothing here can reach a real account: the endpoint is set for
every client and for every function, with keys that no account knows.
"""

import http.client
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import requests
from botocore.config import Config

REGION = "us-east-1"
START_SECONDS = 60


def free_port():
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class MiniStack:
    """A running emulator. A context manager; its processes live in a group of their own and are ended with it."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        folder = str(self.folder)
        # The bind address is 0.0.0.0 unless told; without AWS_ENDPOINT_URL the functions would call the real
        # cloud; a host name that ends in a number makes lambda_http panic.
        env = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": folder,
            "LANG": "C.UTF-8",
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(self.port),
            "MINISTACK_HOST": "localhost",
            "IOT_MTLS_ENABLED": "0",
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
            "TMPDIR": folder,
            "STATE_DIR": str(self.folder / "state"),
        }
        self.log = open(self.folder / "ministack.log", "wb")
        self.process = subprocess.Popen(
            [str(Path(sys.executable).parent / "ministack")],
            env=env,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                if requests.get(f"{self.url}/_ministack/health", timeout=5).ok:
                    return self
            except requests.ConnectionError:
                pass
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise AssertionError("ministack did not start\n" + (self.folder / "ministack.log").read_text()[-4000:])
            time.sleep(0.1)

    def __exit__(self, *_):
        group = self.process.pid
        try:
            self.process.terminate()
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def environment(self):
        """Variables that point an AWS SDK at this emulator and at nothing else."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def client(self, service):
        """A boto3 client of this emulator."""
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, read_timeout=60),
        )

    def create_storage(self, name):
        """Creates a bucket and an index table of that name, as the Terraform module would."""
        self.client("s3").create_bucket(Bucket=name)
        self.client("dynamodb").create_table(
            TableName=name,
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            AttributeDefinitions=[
                {"AttributeName": "pk", "AttributeType": "S"},
                {"AttributeName": "sk", "AttributeType": "S"},
            ],
            BillingMode="PAY_PER_REQUEST",
        )

    def objects(self, bucket):
        """Keys and bodies of everything in a bucket."""
        s3 = self.client("s3")
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        return {key: s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}

    def create_function(self, name, zip_path, variables, memory_mb=1024):
        """Deploys a zip with a role and a function URL, and returns it as a `Function`."""
        role = self.client("iam").create_role(
            RoleName=name, AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": []})
        )["Role"]["Arn"]
        client = self.client("lambda")
        client.create_function(
            FunctionName=name,
            Runtime="provided.al2023",
            Architectures=["x86_64"],
            Role=role,
            Handler="bootstrap",
            Code={"ZipFile": Path(zip_path).read_bytes()},
            MemorySize=memory_mb,
            Timeout=30,
            Environment={"Variables": variables},
        )
        url = client.create_function_url_config(FunctionName=name, AuthType="NONE")["FunctionUrl"]
        client.add_permission(
            FunctionName=name,
            StatementId="url",
            Action="lambda:InvokeFunctionUrl",
            Principal="*",
            FunctionUrlAuthType="NONE",
        )
        return Function(self, name, urlsplit(url).netloc)


class Function:
    """A deployed function behind its function URL."""

    def __init__(self, stack, name, host):
        self.stack, self.name, self.host = stack, name, host

    def request(self, method, target, body=None, headers=()):
        """One HTTP request with the target sent as it is, byte for byte. Returns (status, headers, body)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.stack.port, timeout=60)
        try:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", self.host)
            for key, value in dict(headers).items():
                connection.putheader(key, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
        finally:
            connection.close()

    def get_json(self, target):
        """The JSON body of a GET that has to succeed."""
        status, headers, body = self.request("GET", target)
        assert status == 200, f"{target}: {status} {body[:2000]!r}"
        assert headers["content-type"].startswith("application/json"), headers
        return json.loads(body)

    def invoke(self, event):
        """Invokes with a raw event, for what no HTTP client of the emulator can produce. Returns the answer."""
        answer = self.stack.client("lambda").invoke(FunctionName=self.name, Payload=json.dumps(event).encode())
        payload = json.loads(answer["Payload"].read())
        assert "FunctionError" not in answer, payload
        return payload


def url_event(method="GET", path="/", query="", body=None, headers=None, base64=False, domain="abc.lambda-url.us-east-1.on.aws"):
    """A payload 2.0 event as a function URL (or, by `domain`, an HTTP API) sends it: path and query unchanged."""
    event = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": {"host": domain, "x-forwarded-proto": "https", **(headers or {})},
        "requestContext": {
            "accountId": "anonymous",
            "apiId": domain.split(".")[0],
            "domainName": domain,
            "domainPrefix": domain.split(".")[0],
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "tests"},
            "requestId": "00000000-0000-0000-0000-000000000000",
            "routeKey": "$default",
            "stage": "$default",
            "time": "01/Jan/2026:00:00:00 +0000",
            "timeEpoch": 1767225600000,
        },
        "isBase64Encoded": base64,
    }
    if body is not None:
        event["body"] = body
    return event


def bootstrap_of(zip_path, folder):
    """Unpacks a Lambda zip and returns the path of its executable."""
    with zipfile.ZipFile(io.BytesIO(Path(zip_path).read_bytes())) as archive:
        assert archive.namelist() == ["bootstrap"], archive.namelist()
        archive.extract("bootstrap", folder)
    path = Path(folder) / "bootstrap"
    path.chmod(0o755)
    return path


def main(command):
    """Runs a command beside an emulator and returns its exit code."""
    with MiniStack(tempfile.mkdtemp(prefix="spandrel-aws-")) as stack:
        stack.create_storage("conformance")
        variables = {
            "SPANDREL_TEST_OBJECT_STORE": "s3://conformance/tests",
            "SPANDREL_TEST_INDEX": "dynamodb://conformance",
        }
        return subprocess.run(command, env={**os.environ, **stack.environment(), **variables}).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
