"""Real S3 servers (versitygw, MinIO) on free loopback ports, and what tests ask of them."""

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import boto3
from botocore.config import Config

from harness.processes import LineReader, kill_session, spawn
from harness.waiting import wait_until


def server_binary(name):
    cache = os.environ.get("EIDER_TEST_CACHE") or Path.home() / ".cache" / "eider"
    return Path(cache) / "bin" / name


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def aws_client(service, endpoint, access_key, secret_key, region="us-east-1", verify=None, attempts=3, token=None):
    return boto3.client(
        service,
        endpoint_url=endpoint,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        aws_session_token=token,
        region_name=region,
        verify=verify,
        config=Config(
            s3={"addressing_style": "path"},
            connect_timeout=5,
            read_timeout=30,
            retries={"total_max_attempts": attempts},
        ),
    )


def s3_client(*arguments, **options):
    return aws_client("s3", *arguments, **options)


def self_signed_certificate(folder):
    """A certificate for 127.0.0.1, s3.localhost and its buckets that is its own authority: (certificate file, key file)."""
    certificate, key = folder / "ca.pem", folder / "key.pem"
    names = "subjectAltName=IP:127.0.0.1,DNS:s3.localhost,DNS:*.s3.localhost"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
        + ["-addext", names, "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )
    return certificate, key


class S3Server:
    """endpoint, access_key, secret_key, region; stop() and start() keep the port and the objects.

    With domain="s3.localhost" it answers for http://BUCKET.s3.localhost:PORT too: .domain_endpoint.
    """

    name = "versitygw"
    access_key = "eider-test-key"
    region = "us-east-1"
    _names = itertools.count(1)

    def __init__(self, folder, tls=None, secret_key="eider-test-secret", domain=None, accounts=False):
        """`accounts`: add_account() works, and buckets have rules of their own."""
        self.secret_key = secret_key
        self._folder = folder
        self._accounts = folder / "accounts" if accounts else None
        if accounts:
            self._accounts.mkdir(parents=True)
        self._data = folder / "objects"
        self._data.mkdir(parents=True)
        self._tls = tls
        self._domain = domain
        self.ca_file = tls[0] if tls else None
        self._process = None
        self._client = None
        for _ in range(5):
            self.port = free_port()
            if self._start_once():
                return
        raise AssertionError(f"{self.name} did not start")

    @property
    def _scheme(self):
        return "https" if self._tls else "http"

    @property
    def endpoint(self):
        return f"{self._scheme}://127.0.0.1:{self.port}"

    @property
    def domain_endpoint(self):
        return f"{self._scheme}://{self._domain}:{self.port}"

    def _command(self):
        """What is started, and its environment."""
        command = [server_binary(self.name), "--port", f"127.0.0.1:{self.port}", "--quiet", "--keep-alive"]
        if self._tls:
            command += ["--cert", self._tls[0], "--key", self._tls[1]]
        if self._accounts:
            command += ["--iam-dir", self._accounts]
        if self._domain:
            command += ["--virtual-domain", self._domain]
        return command + ["posix", self._data], {"ROOT_ACCESS_KEY": self.access_key, "ROOT_SECRET_KEY": self.secret_key}

    def _start_once(self):
        command, env = self._command()
        self._process = spawn(command, env={"PATH": os.environ["PATH"], **env})
        self._output = [LineReader(self._process.stdout), LineReader(self._process.stderr)]

        def answers():
            if self._process.poll() is not None:
                return True
            return self.client().list_buckets()

        # A fresh client per look would be slow; botocore's own errors count as "not yet".
        def answers_or_not_yet():
            try:
                return answers()
            except Exception as error:
                raise AssertionError(str(error)) from error

        wait_until(answers_or_not_yet, 30, lambda: f"{self.name} answers: " + self._output[1].text(), 0.05)
        return self._process.poll() is None

    def start(self):
        if self._process is None or self._process.poll() is not None:
            assert self._start_once(), self._output[1].text()

    def stop(self):
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(5)
        kill_session(self._process.pid)

    def client(self):
        """The boto3 client of this server (one, shared; boto3 clients are thread-safe)."""
        if self._client is None:
            verify = str(self.ca_file) if self.ca_file else None
            self._client = s3_client(
                self.endpoint, self.access_key, self.secret_key, self.region, verify, attempts=1
            )
        return self._client

    def make_bucket(self, stem="bucket"):
        name = f"{stem}-{os.getpid()}-{next(self._names)}"
        self.client().create_bucket(Bucket=name)
        return name

    def config(self, bucket, endpoint=None):
        """`s3_config` of the snapshot contract for one bucket."""
        return {
            "endpoint": endpoint or self.endpoint,
            "bucket": bucket,
            "accessKeyId": self.access_key,
            "secretAccessKey": self.secret_key,
            "region": self.region,
        }

    def environment(self, bucket, prefix="", endpoint=None):
        """The variables that put a server's lake into a bucket."""
        return {
            "EIDER_LAKE": f"s3://{bucket}/{prefix}",
            "S3_ENDPOINT": endpoint or self.endpoint,
            "S3_ACCESS_KEY": self.access_key,
            "S3_SECRET_KEY": self.secret_key,
            "S3_REGION": self.region,
        }

    def add_account(self, access_key, secret_key):
        """Somebody who owns nothing here."""
        subprocess.run(
            [server_binary(self.name), "admin", "--access", self.access_key, "--secret", self.secret_key]
            + ["--endpoint-url", self.endpoint, "create-user"]
            + ["--access", access_key, "--secret", secret_key, "--role", "user"],
            check=True,
            capture_output=True,
            timeout=30,
        )

    def keys(self, bucket, prefix=""):
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return sorted(item["Key"] for page in pages for item in page.get("Contents", []))

    def uploads(self, bucket):
        """Multipart uploads that were begun and neither completed nor aborted."""
        return self.client().list_multipart_uploads(Bucket=bucket).get("Uploads", [])


class MinioServer(S3Server):
    """The second server. It has temporary keys: .temporary_keys()."""

    name = "minio"

    def _command(self):
        certificates = self._folder / "certificates"
        certificates.mkdir(exist_ok=True)
        if self._tls:
            shutil.copy(self._tls[0], certificates / "public.crt")
            shutil.copy(self._tls[1], certificates / "private.key")
        command = [server_binary(self.name), "server", "--quiet", "--certs-dir", certificates]
        command += ["--address", f"127.0.0.1:{self.port}", self._data]
        env = {
            "HOME": str(self._folder),
            "MINIO_ROOT_USER": self.access_key,
            "MINIO_ROOT_PASSWORD": self.secret_key,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
            "MINIO_DOMAIN": self._domain or "",
        }
        return command, env

    def _sts(self):
        verify = str(self.ca_file) if self.ca_file else None
        return aws_client("sts", self.endpoint, self.access_key, self.secret_key, self.region, verify)

    def temporary_keys(self, policy=None):
        """Keys of AssumeRole as the fields of an `s3_config`. `policy` (a dict) allows less than everything."""
        arguments = {"Policy": json.dumps(policy)} if policy else {}
        keys = self._sts().assume_role(
            RoleArn="arn:aws:iam::000000000000:role/tests", RoleSessionName="tests", DurationSeconds=900, **arguments
        )["Credentials"]
        return {
            "accessKeyId": keys["AccessKeyId"],
            "secretAccessKey": keys["SecretAccessKey"],
            "sessionToken": keys["SessionToken"],
        }
