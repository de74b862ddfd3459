"""What the contract tests stand on: the server under test, a real S3 server, a fault proxy, two Parquet readers."""
