#include "worker_guard.h"

#include <stddef.h>

/* The reviewed list of the engine's functions that are refused, compared without case: as a call,
 * `name(`, and those of them that are views as `FROM name` too. Every function of the engine is
 * either here or in tests/contract/hostile/harmless_functions.txt; the suite fails for one that is
 * in neither, so that a new release of the engine is read before it is used. Some names are of
 * extensions that this build of the engine does not have.
 * Here is what reaches beyond its arguments: every table function but generators, those over a
 * client's own values, and the catalog's own tables; every scalar function that reads or changes
 * something outside the row. */
/* clang-format off */
const char *const guard_refused_names[] = {
    /* files and other databases */
    "read_csv", "read_csv_auto", "sniff_csv", "read_json", "read_json_auto", "read_json_objects",
    "read_json_objects_auto", "read_ndjson", "read_ndjson_auto", "read_ndjson_objects", "read_text", "read_blob",
    "read_duckdb", "read_parquet", "parquet_scan", "parquet_bloom_probe", "parquet_file_metadata",
    "parquet_full_metadata", "parquet_kv_metadata", "parquet_metadata", "parquet_schema", "glob", "iceberg_scan",
    "delta_scan", "sqlite_scan", "postgres_scan", "mysql_scan", "which_secret", "read_xlsx", "st_read",
    "load_aws_credentials",
    /* addresses in memory: a pointer, or the bytes of an aggregate's state, made from the client's numbers */
    "arrow_scan", "arrow_scan_dumb", "pandas_scan", "python_map_function", "seq_scan", "index_scan", "combine", "finalize",
    /* SQL inside SQL: run, planned (which opens its files) or completed (which looks for files) */
    "query", "query_table", "json_execute_serialized_sql", "json_serialize_plan", "from_substrait", "from_substrait_json",
    "sql_auto_complete", "check_peg_parser", "enable_peg_parser", "disable_peg_parser",
    /* logs, profiles, checkpoints */
    "enable_logging", "disable_logging", "set_log_level", "truncate_duckdb_logs", "write_log", "parse_duckdb_log_message",
    "enable_profiling", "enable_profile", "disable_profiling", "disable_profile", "checkpoint", "force_checkpoint",
    /* settings, state, surroundings */
    "current_setting", "set_config", "getenv", "getvariable", "current_query", "current_query_id", "txid_current",
    "current_connection_id", "current_transaction_id", "in_search_path", "add_parquet_key", "nextval", "currval",
    "duckdb_approx_database_count", "duckdb_connection_count", "duckdb_coordinate_systems", "duckdb_databases",
    "duckdb_dependencies", "duckdb_extensions", "duckdb_external_file_cache", "duckdb_log_contexts", "duckdb_logs",
    "duckdb_logs_parsed", "duckdb_memory", "duckdb_optimizers", "duckdb_prepared_statements", "duckdb_profiling_settings",
    "duckdb_secret_types", "duckdb_secrets", "duckdb_sequences", "duckdb_settings", "duckdb_temporary_files",
    "duckdb_variables", "duckdb_which_secret", "pg_settings", "pragma_database_size", "pragma_metadata_info",
    "pragma_platform", "pragma_rtree_index_info", "pragma_storage_info", "pragma_user_agent", "pragma_version",
    "pragma_database_list", "user_agent", "icu_calendar_names_settings",
    /* waiting */
    "pg_sleep", "sleep_ms", "sleep",
    NULL,
};

/* Limits that clients ask for, and what decides how their own values look. None is a path, an address or a secret. */
const char *const guard_readable_settings[] = {
    "memory_limit", "max_memory", "threads", "worker_threads", "max_temp_directory_size", "access_mode", "timezone",
    "calendar", "default_order", "default_null_order", "null_order", "preserve_insertion_order", "integer_division",
    NULL,
};
/* clang-format on */
