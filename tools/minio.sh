#!/bin/bash
# minio.sh - makes sure that the second S3 server of the tests is in the cache's bin folder; prints its
# path. This is the last commit of a project that is no longer maintained: a tool of the tests, which has
# a real AssumeRole, and no advice to anybody.
. "$(dirname "$0")/go_tool.sh"

go_tool minio github.com/minio/minio v0.0.0-20260212201848-7aac2a2c5b7c
