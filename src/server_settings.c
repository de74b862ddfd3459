#include "server.h"

/* clang-format off */
#define TEXT(name_, default_, help_)        { name_, SETTING_TEXT, default_, 0, 0, false, help_, false }
#define SECRET(name_, default_, help_)      { name_, SETTING_TEXT, default_, 0, 0, true, help_, false }
#define COUNT(name_, default_, min_, max_, help_) { name_, SETTING_COUNT, default_, min_, max_, false, help_, false }
#define LOOSE(name_, default_, help_)       { name_, SETTING_LOOSE_COUNT, default_, 1, 1000000, false, help_, false }
#define BYTES(name_, default_, help_)       { name_, SETTING_BYTES, default_, 0, 0, false, help_, false }
/* May change while the server runs; server_reload.c applies them. */
#define HOT_TEXT(name_, default_, help_)    { name_, SETTING_TEXT, default_, 0, 0, false, help_, true }
#define HOT_COUNT(name_, default_, min_, max_, help_) { name_, SETTING_COUNT, default_, min_, max_, false, help_, true }
#define HOT_BYTES(name_, default_, help_)   { name_, SETTING_BYTES, default_, 0, 0, false, help_, true }
#define FLAG(name_, default_, help_)        { name_, SETTING_BOOL, default_, 0, 0, false, help_, false }
#define LOOSE_FLAG(name_, default_, help_)  { name_, SETTING_LOOSE_BOOL, default_, 0, 0, false, help_, false }

const struct setting server_settings[] = {
    TEXT("EIDER_DATA", "./eider-data", "Folder for everything Eider keeps. One server per folder."),
    TEXT("EIDER_LAKE", NULL, "The lake: a folder, or s3://bucket/prefix. Unset: the folder `lake` in EIDER_DATA, or, when a variable of the ingest service is set (S3_ENDPOINT, S3_ACCESS_KEY, S3_SECRET_KEY, S3_BUCKET, S3_REGION), the bucket it names."),
    TEXT("EIDER_LISTEN", "127.0.0.1:8080", "host:port that serves every route with a name of its own, and SQL over the lake."),
    TEXT("EIDER_INGEST_LISTEN", NULL, "host:port for clients of the ingest service (it used port 8001)."),
    TEXT("EIDER_SNAPSHOT_LISTEN", NULL, "host:port for clients of the snapshot service (it used port 3214)."),
    TEXT("EIDER_PROJECTS_LISTEN", NULL, "host:port for clients of the projects service (port 8000). Answers 501 in this version."),
    TEXT("EIDER_ANALYTICS_LISTEN", NULL, "host:port for clients of the analytics service (port 8000): hosted databases."),
    TEXT("EIDER_STAGING_LISTEN", NULL, "host:port for clients of the staging service (port 8001). Answers 501 in this version."),
    { "PORT", SETTING_PORT_NUMBER, NULL, 0, 65535, false, "As the snapshot service had it: opens the snapshot listener on this port, on the host of EIDER_LISTEN.", false },
    TEXT("EIDER_AUTH", "auto", "auto, required or off: who has to bring a token. auto: everybody, as soon as one listener is beyond loopback. See auth.md."),
    FLAG("EIDER_INSECURE", "false", "Allow listening beyond loopback although nothing asks clients who they are; `eider serve --insecure` says the same."),
    TEXT("EIDER_TOKENS_FILE", NULL, "File of hashed tokens, which `eider token` writes. Default: tokens in EIDER_DATA. It is read again when it has changed."),
    TEXT("EIDER_JWT_KEYS", NULL, "JWKS file with the keys of signed tokens (RS256, ES256, HS256). It is read again when it has changed. Unset: there are none."),
    TEXT("EIDER_JWT_ISSUER", NULL, "The `iss` that signed tokens must have. Unset: any."),
    TEXT("EIDER_JWT_AUDIENCE", NULL, "The `aud` that signed tokens must have. Unset: any."),
    HOT_TEXT("EIDER_ALLOWED_ENDPOINTS", NULL, "Where s3_config.endpoint of a request may point, separated by commas: host, host:port, *.suffix, address, address:port, network (10.0.0.0/8), or none. Unset: anywhere but link-local and metadata addresses. See operations.md."),
    TEXT("EIDER_CA_FILE", NULL, "PEM file with the certificate authorities for https stores. Also read: AWS_CA_BUNDLE, SSL_CERT_FILE, NODE_EXTRA_CA_CERTS."),
    HOT_TEXT("EIDER_LOG_LEVEL", NULL, "debug, info, warn or error; default info. LOG_LEVEL is read too."),
    COUNT("EIDER_HTTP_THREADS", "2", 1, 64, "Threads that move bytes of requests and replies."),
    BYTES("EIDER_BODY_MAX", "50MiB", "Largest request body, as sent."),
    BYTES("EIDER_BODY_DECODED_MAX", "100MiB", "Largest request body after its Content-Encoding is undone."),
    BYTES("EIDER_BODIES_MAX", "1GiB", "All request bodies in memory at one time; beyond it requests get 503. Bodies of POST /tables/{name}/rows over 256KiB are read while they arrive: EIDER_MAX_CONCURRENT_ROWS of them, and one for each 8MiB of this, at one time."),
    BYTES("EIDER_RESULT_CACHE_MAX", "64MiB", "Memory for results of queries that are asked again; 0 keeps none."),
    COUNT("EIDER_QUERY_TIMEOUT_MS", "100000", 10, 86400000, "Time for one query, waiting included; then 504, and its process is killed."),
    COUNT("EIDER_SNAPSHOT_TIMEOUT_MS", "100000", 10, 86400000, "Time for one snapshot."),
    COUNT("EIDER_INGEST_TIMEOUT_MS", "60000", 10, 86400000, "Time for one batch to reach the lake."),
    HOT_COUNT("EIDER_DRAIN_MS", "30000", 0, 600000, "After SIGTERM: time for requests in flight."),
    BYTES("EIDER_LOG_MAX", "8GiB", "Disk for records that are acknowledged and not in the lake yet; beyond it new ones get 503."),
    BYTES("EIDER_LOG_MEMORY_MAX", "1GiB", "Memory for where the records in the log are, some 72 bytes for each request; beyond it new records get 503."),
    BYTES("EIDER_LOG_SEGMENT", "64MiB", "Size of one file of the log."),
    BYTES("EIDER_LOG_FREE_MIN", "1GiB", "Free disk that the log leaves; beyond it new records get 503."),
    HOT_BYTES("EIDER_FLUSH_BYTES", "128MiB", "A table is flushed to the lake when so many bytes of its records wait."),
    HOT_COUNT("EIDER_FLUSH_ROWS", "1000000", 1, 100000000, "A table is flushed to the lake when so many of its records wait."),
    HOT_COUNT("EIDER_FLUSH_AGE_MS", "60000", 10, 86400000, "A table is flushed to the lake when its oldest record has waited so long."),
    BYTES("EIDER_QUERY_TAILS_MAX", "2GiB", "Records that are not in the lake yet, as JSON, that all queries together may hold; beyond it they get 503. 0: no limit."),
    BYTES("EIDER_OBJECT_BYTES", "256MiB", "Bytes of records, as JSON, that one object of a flush holds at the most; a larger flush or request becomes several objects."),
    FLAG("EIDER_FLUSH_SET_ASIDE", "false", "Rows that no worker can write, in the smallest objects and after three attempts, leave the log for `_eider/set_aside` in the lake, as NDJSON that SQL does not see. See log.md."),
    COUNT("EIDER_FLUSH_THREADS", "2", 1, 64, "Tables that are flushed at one time."),
    BYTES("EIDER_CACHE_MAX", "1GiB", "Disk for blocks of objects that queries have read; the least recently used go first. 0 keeps none."),
    BYTES("EIDER_MEMORY_TOTAL", NULL, "Memory for all query processes together. Default: three quarters of the machine or container."),
    LOOSE("EIDER_MAX_CONCURRENT_INGESTS", "4", "Batches that are written at one time."),
    LOOSE("EIDER_MAX_INGEST_QUEUE", "200", "Batches that may wait; beyond it 503."),
    COUNT("EIDER_MAX_CONCURRENT_ROWS", "8", 1, 1000, "Bodies of POST /tables/{name}/rows that are worked on at one time, not counting those that wait for their clients; EIDER_MAX_INGEST_QUEUE may wait for a place."),
    BYTES("EIDER_ROWS_BODY_MAX", "1GiB", "Largest body of POST /tables/{name}/rows, as sent."),
    BYTES("EIDER_ROWS_DECODED_MAX", "4GiB", "The same after its Content-Encoding is undone."),
    HOT_COUNT("EIDER_BACKLOG_AGE_MAX_MS", "1800000", 1, 604800000, "/health/ready says no when a record has waited for the lake for so long."),

    BYTES("DUCKDB_MEMORY_LIMIT", NULL, "Memory of one query. Default: 6GB, or a quarter of the machine or container if that is less."),
    LOOSE("DUCKDB_THREADS", NULL, "Threads of one query. Default: the processors, at most 4."),
    LOOSE_FLAG("DUCKDB_ENABLE_OBJECT_CACHE", "true", "Accepted for compatibility; no effect."),
    LOOSE("SIDECAR_MAX_CONCURRENT_QUERIES", "12", "Queries that run at one time."),
    LOOSE("SIDECAR_MAX_QUERY_QUEUE", "200", "Queries that may wait; beyond it 503."),
    LOOSE("SIDECAR_MAX_CONCURRENT_SNAPSHOTS", "4", "Snapshots that are written at one time."),
    LOOSE("SIDECAR_MAX_SNAPSHOT_QUEUE", "100", "Snapshots that may wait; beyond it 503."),
    LOOSE("DUCKDB_POOL_SIZE", "4", "Shown by /pool-stats; requests share no engine."),
    LOOSE("DUCKDB_POOL_MAX", "12", "Shown by /pool-stats."),
    LOOSE("DUCKDB_POOL_RECYCLE_MS", "900000", "Accepted for compatibility; no effect."),

    TEXT("DUCKDB_DATABASE_PATH", NULL, "File of the hosted database that requests mean when they name none. Default: db/default.duckdb in EIDER_DATA."),
    TEXT("DUCKDB_TEMP_DIRECTORY", NULL, "Folder for what hosted databases spill. Default: db in EIDER_DATA."),
    COUNT("DUCKDB_MAX_MEMORY_PERCENTAGE", "60", 1, 100, "A hosted database gets at most so much of the memory of the machine or container, and DUCKDB_MEMORY_LIMIT, or 2GB, if that is less. Units count in 1024s there."),
    COUNT("DUCKDB_WORKER_THREADS", "4", 1, 32, "Threads of one hosted database; twice as many requests run in it at one time."),
    COUNT("DUCKDB_CIRCUIT_BREAKER_FAILURE_THRESHOLD", "5", 1, 64, "Failures of engine or disk, within 5 minutes, that open the breaker of a hosted database."),
    COUNT("DUCKDB_CIRCUIT_BREAKER_RECOVERY_TIMEOUT", "30", 1, 300, "Seconds an open breaker waits before it lets one request through; doubled up to 300."),
    COUNT("ANALYTICS_MAX_RESULT_SIZE", "1000000", 1, 1000000000, "Rows of one result of a hosted database; a longer one is cut and says so."),
    COUNT("EIDER_DATABASES_MAX", "1000", 1, 100000, "Hosted databases there may be."),
    COUNT("EIDER_DATABASES_OPEN_MAX", "16", 1, 1000, "Hosted databases that are open at one time; the one used longest ago is closed for another."),
    COUNT("EIDER_DATABASE_IDLE_MS", "300000", 100, 86400000, "A hosted database that nobody uses for so long is closed."),
    COUNT("EIDER_DATABASE_REQUESTS", "64", 1, 1000, "Requests to all hosted databases that run, or wait for their database, at one time."),
    COUNT("EIDER_DATABASE_QUEUE", "256", 1, 100000, "Requests that may wait; beyond it 503."),
    BYTES("EIDER_DATABASE_FILE_MAX", "1024GiB", "Largest file of a hosted database."),
    BYTES("EIDER_DATABASE_TEMP_MAX", "10GiB", "Disk that one hosted database may spill; 0: none."),
    COUNT("EIDER_DATABASE_COPY_TIMEOUT_MS", "3600000", 1000, 86400000, "Time for one backup, restore, import or export."),
    TEXT("EIDER_BACKUP_FOLDER", NULL, "Folder beneath which backups, imports and exports without s3:// are. Default: backup in EIDER_DATA."),
    COUNT("EIDER_TRASH_KEEP_DAYS", "7", 0, 36500, "Days that a dropped or replaced database stays in the folder trash of EIDER_DATA."),

    TEXT("S3_ENDPOINT", NULL, "S3 server of the lake, http:// or https://. Default for s3:// lakes: AWS; for the ingest service's variables: http://minio:9000."),
    TEXT("S3_ENDPOINT_URL", NULL, "Another name of S3_ENDPOINT."),
    TEXT("AWS_ENDPOINT_URL", NULL, "Another name of S3_ENDPOINT."),
    TEXT("S3_BUCKET", NULL, "Bucket of the lake when EIDER_LAKE is unset; default lake-data."),
    TEXT("ANALYTICS_S3_BUCKET", NULL, "Another name of S3_BUCKET, for /pool-stats only."),
    TEXT("S3_REGION", NULL, "Region for signatures; default us-east-1. AWS_REGION and AWS_DEFAULT_REGION are read too."),
    TEXT("AWS_REGION", NULL, "Another name of S3_REGION."),
    TEXT("AWS_DEFAULT_REGION", NULL, "Another name of S3_REGION."),
    FLAG("S3_FORCE_PATH_STYLE", NULL, "The bucket of the lake in the path of the URL (true) or in front of the host name (false). Default: in front of the host name for AWS endpoints, else in the path."),
    SECRET("S3_ACCESS_KEY", NULL, "Access key of the lake. With the ingest service's variables: default admin."),
    SECRET("S3_SECRET_KEY", NULL, "Secret key of the lake."),
    SECRET("S3_ACCESS_KEY_ID", NULL, "Another name of S3_ACCESS_KEY."),
    SECRET("S3_SECRET_ACCESS_KEY", NULL, "Another name of S3_SECRET_KEY."),
    SECRET("AWS_ACCESS_KEY_ID", NULL, "Another name of S3_ACCESS_KEY."),
    SECRET("AWS_SECRET_ACCESS_KEY", NULL, "Another name of S3_SECRET_KEY."),
    SECRET("S3_SESSION_TOKEN", NULL, "Session token that belongs to the S3_ keys, where they are temporary."),
    SECRET("AWS_SESSION_TOKEN", NULL, "Session token that belongs to AWS_ACCESS_KEY_ID."),
    TEXT("AWS_CA_BUNDLE", NULL, "See EIDER_CA_FILE."),
    TEXT("SSL_CERT_FILE", NULL, "See EIDER_CA_FILE."),
    TEXT("NODE_EXTRA_CA_CERTS", NULL, "See EIDER_CA_FILE."),
    HOT_TEXT("LOG_LEVEL", NULL, "See EIDER_LOG_LEVEL; words it does not know are ignored."),
#ifdef EIDER_TEST_LAYERS
    TEXT("EIDER_TEST_LAYERS_OFF", NULL, "This build is for tests. The layers around SQL that are left out: guard, settings, os; separated by commas."),
#endif
    { NULL, SETTING_TEXT, NULL, 0, 0, false, NULL, false },
};
/* clang-format on */
