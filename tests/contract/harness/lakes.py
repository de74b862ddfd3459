"""Where a server's Parquet files are: the same questions for a local folder and for a bucket."""

import re

FILE_NAME = re.compile(r"data_\d{6}_[^/]+\.parquet$")


class FolderLake:
    kind = "folder"

    def __init__(self):
        self.root = None

    def env(self, data):
        """The embedded default: the lake is a folder in EIDER_DATA, and nothing has to be set."""
        self.root = data / "lake"
        return {}

    def keys(self, prefix=""):
        files = [path for path in self.root.rglob("*") if path.is_file()]
        return sorted(key for key in (str(path.relative_to(self.root)) for path in files) if key.startswith(prefix))

    def read(self, key):
        return (self.root / key).read_bytes()

    def write(self, key, body):
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)

    def remove(self, key):
        (self.root / key).unlink()

    def url(self, key):
        """The address of a key as `s3_path` gives it."""
        return f"file://{self.root.resolve()}/{key}"  # as DuckDB reads it: not percent-encoded

    def table_keys(self, table):
        """The keys of the Parquet files of a table. Any other file under data/ is a half-made thing."""
        keys = self.keys(f"data/{table}/")
        for key in keys:
            assert FILE_NAME.search(key), f"stray object {key}"
        return keys


class S3Lake(FolderLake):
    kind = "s3"

    def __init__(self, server, bucket, prefix="lake", endpoint=None):
        self.server = server
        self.bucket = bucket
        self.prefix = f"{prefix.strip('/')}/" if prefix else ""
        self.endpoint = endpoint

    def env(self, data):
        return self.server.environment(self.bucket, self.prefix.rstrip("/"), self.endpoint)

    def keys(self, prefix=""):
        found = self.server.keys(self.bucket, self.prefix + prefix)
        return [key[len(self.prefix) :] for key in found]

    def read(self, key):
        return self.server.client().get_object(Bucket=self.bucket, Key=self.prefix + key)["Body"].read()

    def write(self, key, body):
        self.server.client().put_object(Bucket=self.bucket, Key=self.prefix + key, Body=body)

    def remove(self, key):
        self.server.client().delete_object(Bucket=self.bucket, Key=self.prefix + key)

    def url(self, key):
        return f"s3://{self.bucket}/{self.prefix}{key}"
