#!/bin/bash
# versitygw.sh - makes sure that the first S3 server of the tests is in the cache's bin folder; prints
# its path.
. "$(dirname "$0")/go_tool.sh"

go_tool versitygw github.com/versity/versitygw v1.8.0 /cmd/versitygw
