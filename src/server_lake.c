#include "server_lake.h"

#include "mem.h"

#include <stdio.h>

#define INGEST_ENDPOINT "http://minio:9000"

static const char *first_given(const struct config *config, const char *const *names, size_t count,
                               const char *otherwise)
{
    for (size_t i = 0; i < count; i++) {
        if (config_is_given(config, names[i])) {
            return config_text(config, names[i]);
        }
    }
    return otherwise;
}

static bool ingest_variables_given(const struct config *config)
{
    static const char *const names[] = {"S3_ENDPOINT", "S3_ACCESS_KEY", "S3_SECRET_KEY",
                                        "S3_BUCKET", "S3_REGION"};
    return first_given(config, names, COUNT_OF(names), NULL) != NULL;
}

static const char *region_of(const struct config *config)
{
    static const char *const names[] = {"S3_REGION", "AWS_REGION", "AWS_DEFAULT_REGION"};
    return first_given(config, names, COUNT_OF(names), "us-east-1");
}

static const char *endpoint_of(const struct config *config, const char *otherwise)
{
    static const char *const names[] = {"S3_ENDPOINT", "S3_ENDPOINT_URL", "AWS_ENDPOINT_URL"};
    return first_given(config, names, COUNT_OF(names), otherwise);
}

/* Keys and token come from one family: a token that belongs to other keys spoils the signature. The
 * first family with an access key counts; the ingest service had defaults for its own. */
static void settle_keys(const struct config *config, bool ingest_defaults,
                        struct store_s3_options *options)
{
    static const char *const families[][3] = {
        {"S3_ACCESS_KEY", "S3_SECRET_KEY", "S3_SESSION_TOKEN"},
        {"S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY", "S3_SESSION_TOKEN"},
        {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"},
    };
    size_t chosen = 0;
    while (chosen + 1 < COUNT_OF(families) && !config_is_given(config, families[chosen][0])) {
        chosen++;
    }
    bool given = config_is_given(config, families[chosen][0]);
    chosen = given ? chosen : 0;
    options->access_key = str_of(
        first_given(config, &families[chosen][0], 1, ingest_defaults && !given ? "admin" : ""));
    options->secret_key = str_of(first_given(config, &families[chosen][1], 1,
                                             ingest_defaults && chosen == 0 ? "password" : ""));
    options->session_token = str_of(first_given(config, &families[chosen][2], 1, ""));
}

/* The prefix with exactly one slash at its end and none in front. */
static char *clean_prefix(struct str prefix)
{
    while (prefix.len > 0 && prefix.ptr[0] == '/') {
        prefix = str_from(prefix, 1);
    }
    while (prefix.len > 0 && prefix.ptr[prefix.len - 1] == '/') {
        prefix.len--;
    }
    char *clean = mem_alloc(prefix.len + 2);
    if (prefix.len > 0) {
        memcpy(clean, prefix.ptr, prefix.len);
        clean[prefix.len] = '/';
    }
    return clean;
}

static bool check_place(struct str bucket, struct str prefix, const char *setting, struct err *err)
{
    struct err reason;
    bool good = store_check_bucket(bucket, &reason) &&
                (prefix.len == 0 || store_check_key(str_first(prefix, prefix.len - 1), &reason));
    return good || err_set(err, ERR_INVALID, "%s: %s", setting, reason.message);
}

/* AWS wants the bucket in the host name; other stores answer to it only when told their domain. */
static bool bucket_in_host(const struct config *config, const char *endpoint)
{
    return config_is_given(config, "S3_FORCE_PATH_STYLE")
               ? !config_bool(config, "S3_FORCE_PATH_STYLE")
               : store_is_aws(str_of(endpoint));
}

static bool open_s3(const struct config *config, struct net *net, struct str bucket,
                    struct str prefix, bool ingest_defaults, struct server_lake *lake,
                    struct err *err)
{
    char aws[128];
    const char *region = region_of(config);
    (void)snprintf(aws, sizeof(aws), "https://s3.%s.amazonaws.com", region);
    const char *endpoint = endpoint_of(config, ingest_defaults ? INGEST_ENDPOINT : aws);
    struct store_s3_options options = {
        .endpoint = str_of(endpoint),
        .bucket = bucket,
        .region = str_of(region),
        .own = true,
        .virtual_hosted = bucket_in_host(config, endpoint),
    };
    settle_keys(config, ingest_defaults, &options);
    lake->prefix = clean_prefix(prefix);
    if (!check_place(bucket, str_of(lake->prefix), ingest_defaults ? "S3_BUCKET" : "EIDER_LAKE",
                     err)) {
        return false;
    }
    if (options.access_key.len == 0 || options.secret_key.len == 0) {
        return err_set(err, ERR_INVALID,
                       "the lake is in S3, but S3_ACCESS_KEY and S3_SECRET_KEY (or "
                       "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) are not set");
    }
    struct err reason;
    if (!store_check_endpoint(options.endpoint, &reason)) {
        return err_set(err, ERR_INVALID, "S3_ENDPOINT: %s", reason.message);
    }
    lake->store = store_open_s3(net, &options, err);
    lake->endpoint = mem_copy_text(endpoint);
    lake->bucket = mem_copy_bytes(bucket.ptr, bucket.len);
    lake->region = mem_copy_text(region);
    return lake->store != NULL;
}

static bool open_folder(const struct config *config, const char *folder, struct server_lake *lake,
                        struct err *err)
{
    lake->store = store_open_folder(folder, err);
    if (lake->store == NULL) {
        return false;
    }
    struct buf url;
    buf_init(&url, 8192);
    store_append_url(lake->store, STR(""), &url);
    size_t size;
    lake->endpoint = buf_take(&url, &size);
    lake->prefix = mem_copy_text("");
    lake->bucket = mem_copy_text("");
    lake->region = mem_copy_text(region_of(config));
    return true;
}

bool server_lake_folder(const struct config *config, char path[static SERVER_PATH_SIZE])
{
    const char *lake = config_text(config, "EIDER_LAKE");
    if (lake == NULL) {
        (void)snprintf(path, SERVER_PATH_SIZE, "%s/lake", config_text(config, "EIDER_DATA"));
        return !ingest_variables_given(config);
    }
    bool file = str_starts(str_of(lake), STR("file:///"));
    (void)snprintf(path, SERVER_PATH_SIZE, "%s", file ? lake + 7 : lake);
    /* s3:/bucket is no folder either: records must not end up on this disk by a slip. */
    struct str text = str_of(lake);
    bool scheme = str_find_byte(text, ':') < str_find_byte(text, '/');
    return file || (!scheme && str_find(text, STR("://")) == text.len);
}

bool server_lake_open(const struct config *config, struct net *net, struct server_lake *ret_lake,
                      struct err *err)
{
    const char *lake = config_text(config, "EIDER_LAKE");
    struct str text = str_of(lake);
    char folder[SERVER_PATH_SIZE];
    if (server_lake_folder(config, folder)) {
        return open_folder(config, folder, ret_lake, err);
    }
    if (str_starts(text, STR("s3://"))) {
        struct str rest = str_from(text, 5);
        size_t slash = str_find_byte(rest, '/');
        return open_s3(config, net, str_first(rest, slash), str_from(rest, slash), false, ret_lake,
                       err);
    }
    if (lake != NULL) {
        return err_set(err, ERR_INVALID,
                       "EIDER_LAKE: '%s' is neither s3://bucket/prefix nor a folder", lake);
    }
    const char *bucket = config_text(config, "S3_BUCKET");
    return open_s3(config, net, str_of(bucket == NULL ? "lake-data" : bucket), STR(""), true,
                   ret_lake, err);
}

void server_lake_close(struct server_lake *lake)
{
    store_close(lake->store);
    mem_free(lake->prefix);
    mem_free(lake->endpoint);
    mem_free(lake->bucket);
    mem_free(lake->region);
    *lake = (struct server_lake){0};
}
