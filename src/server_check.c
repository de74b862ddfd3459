#include "server_check.h"

#include "clock.h"
#include "log.h"
#include "server_auth.h"
#include "server_databases.h"
#include "server_machine.h"
#include "server_steps.h"
#include "store_probe.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define FLOOR_BYTES_MIN (UINT64_C(64) << 20)

enum {
    PROBE_WRITERS = 32,
    PROBE_ROUNDS = 8,
    PROBE_TIME_MS = 120000,
    ENGINE_TIME_MS = 30000,
    DESCRIPTORS_MIN = 4096
};

/* ---- telling ---- */

struct check {
    const struct config *config;
    struct server *server;
    unsigned counts[3]; /* by enum store_probe_verdict */
};

/* One line, whatever the text holds, and without the dot of texts that come from outside. */
static void print_text(struct str text)
{
    while (str_ends(text, STR("."))) {
        text.len--;
    }
    for (size_t i = 0; i < text.len; i++) {
        unsigned char byte = (unsigned char)text.ptr[i];
        (void)putchar(byte < 0x20 || byte == 0x7f ? ' ' : byte);
    }
}

static void tell(struct check *check, enum store_probe_verdict verdict, const char *what,
                 const char *found, const char *advice)
{
    static const char *const words[] = {"ok", "warn", "FAIL"};
    check->counts[verdict]++;
    (void)printf("%-4s  %-18s  ", words[verdict], what);
    print_text(str_of(found));
    (void)printf("%s%s\n", advice[0] == '\0' ? "" : ". ", advice);
    (void)fflush(stdout);
}

static bool tell_step(struct check *check, const char *what, bool good, const char *found,
                      const struct err *err)
{
    char text[1600];
    (void)snprintf(text, sizeof(text), "%s%s%s", err->message, err->detail[0] == '\0' ? "" : ": ",
                   err->detail);
    tell(check, good ? STORE_PROBE_OK : STORE_PROBE_FAIL, what, good ? found : text, "");
    return good;
}

/* ---- what is left behind ---- */

/* A folder that a step may make, and how much of its path was there before. */
struct footprint {
    char path[SERVER_PATH_SIZE];
    size_t existed;
};

static struct footprint footprint_of(const char *path)
{
    struct footprint print = {.existed = strlen(path)};
    (void)snprintf(print.path, sizeof(print.path), "%s", path);
    char text[SERVER_PATH_SIZE];
    (void)snprintf(text, sizeof(text), "%s", path);
    while (print.existed > 0 && access(text, F_OK) != 0) {
        do {
            print.existed--;
        } while (print.existed > 0 && text[print.existed] != '/');
        text[print.existed] = '\0';
    }
    return print;
}

static void remove_beneath(const struct footprint *print, const char *name)
{
    char path[SERVER_PATH_SIZE + 32];
    (void)snprintf(path, sizeof(path), "%s/%s", print->path, name);
    (void)remove(path); /* a file, or an empty folder */
}

/* Takes away what was made, if nobody has put anything into it since. */
static void remove_footprint(struct footprint *print)
{
    static const char *const names[] = {"lock", "spool", "cache", ".eider-tmp"};
    size_t len = strlen(print->path);
    if (len == print->existed) {
        return;
    }
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        remove_beneath(print, names[i]);
    }
    while (len > print->existed) {
        (void)rmdir(print->path);
        while (len > print->existed && print->path[len] != '/') {
            len--;
        }
        print->path[len] = '\0';
    }
}

/* ---- the machine and the settings ---- */

static void check_settings(struct check *check)
{
    unsigned given = 0;
    char found[100];
    for (const struct setting *setting = server_settings; setting->name != NULL; setting++) {
        given += config_is_given(check->config, setting->name) ? 1 : 0;
    }
    (void)snprintf(found, sizeof(found), "all values are understood, %u given", given);
    tell(check, STORE_PROBE_OK, "settings", found, "");
    if (geteuid() == 0) {
        tell(check, STORE_PROBE_WARN, "user", "this is root",
             "Run it as a user of its own; query processes give up their rights either way.");
    }
}

static void check_listeners(struct check *check)
{
    struct err err = {0};
    bool good = server_check_listeners(check->server, &err);
    (void)tell_step(check, "listeners", good, "every address can be opened", &err);
    if (good && server_auth_is_insecure(check->config)) {
        tell(check, STORE_PROBE_WARN, "exposure", "EIDER_INSECURE is set",
             "Whoever reaches a listener may read and write the lake: close the network around "
             "it.");
    }
}

static void check_tokens(struct check *check)
{
    struct err err = {0};
    struct auth *auth = NULL;
    char found[100];
    bool good = server_open_auth(check->config, NULL, &auth, &err);
    bool any = good && auth_has_any(auth);
    (void)snprintf(found, sizeof(found), "%s", any ? "they can be read" : "there are none");
    (void)tell_step(check, "tokens and keys", good, found, &err);
    auth_destroy(auth);
}

static void check_backups(struct check *check)
{
    struct err err = {0};
    char path[SERVER_PATH_SIZE];
    server_backup_folder(check->config, path);
    struct store *store = store_open_folder(path, &err);
    (void)tell_step(check, "backup folder", store != NULL, "it can be opened", &err);
    store_close(store);
}

static void check_descriptors(struct check *check)
{
    struct rlimit limit = {0};
    char found[100];
    (void)getrlimit(RLIMIT_NOFILE, &limit);
    bool enough = limit.rlim_max >= DESCRIPTORS_MIN;
    (void)snprintf(found, sizeof(found), "%llu files and connections may be open",
                   (unsigned long long)limit.rlim_max);
    tell(check, enough ? STORE_PROBE_OK : STORE_PROBE_WARN, "descriptors", found,
         enough ? "" : "Raise the hard limit (ulimit -Hn, LimitNOFILE=) to 4096 or more.");
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

static void check_memory(struct check *check)
{
    struct server_memory memory = server_memory(check->config);
    char found[200];
    (void)snprintf(found, sizeof(found),
                   "machine %.1f GB, all queries %.1f GB, one query %.1f GB, %u at once",
                   (double)memory.machine_bytes / 1e9, (double)memory.total_bytes / 1e9,
                   (double)memory.per_job_bytes / 1e9, memory.slots);
    const char *advice = "";
    if (memory.total_bytes > memory.machine_bytes) {
        advice = "EIDER_MEMORY_TOTAL is more than there is: lower it, or leave it unset.";
    } else if (memory.per_job_bytes < FLOOR_BYTES_MIN ||
               memory.total_bytes / memory.slots < FLOOR_BYTES_MIN) {
        advice = "When all run, each has less than 64 MiB: lower SIDECAR_MAX_CONCURRENT_QUERIES, "
                 "SIDECAR_MAX_CONCURRENT_SNAPSHOTS and EIDER_MAX_CONCURRENT_INGESTS, or raise "
                 "EIDER_MEMORY_TOTAL and DUCKDB_MEMORY_LIMIT.";
    }
    tell(check, advice[0] == '\0' ? STORE_PROBE_OK : STORE_PROBE_WARN, "memory", found, advice);
}

/* ---- engine ---- */

static bool count_bytes(void *context, struct str bytes, struct err *err)
{
    (void)err;
    *(size_t *)context += bytes.len;
    return true;
}

/* A worker that cannot confine itself runs nothing: an answer says that the sandbox stands. */
static void check_engine(struct check *check)
{
    struct err err = {0};
    struct engine_outcome outcome = {0};
    struct cancel cancel;
    size_t size = 0;
    const struct engine_request request = {
        .job = {.kind = WORKER_QUERY, .statement = STR("SELECT 42 AS answer")},
        .input_fd = -1,
        .output_fd = -1,
        .result = count_bytes,
        .context = &size,
    };
    bool good = server_start_engine(check->server, &err) && server_wait_engine(check->server, &err);
    if (!tell_step(check, "query engine", good,
                   "eider-engine and its DuckDB library are those of this build", &err)) {
        return;
    }
    cancel_init(&cancel, clock_now_ms() + ENGINE_TIME_MS);
    good = engine_run(server_engine(check->server), &request, &cancel, &outcome, &err);
    cancel_finish(&cancel);
    if (!good) {
        (void)tell_step(check, "query process", false, "", &err);
        return;
    }
    char found[200];
    unsigned landlock = engine_landlock_abi(server_engine(check->server));
    (void)snprintf(found, sizeof(found),
                   "DuckDB %s answers from a confined process (seccomp, Landlock version %u)",
                   engine_version(), landlock);
    tell(check, landlock > 0 ? STORE_PROBE_OK : STORE_PROBE_WARN, "query process", found,
         landlock > 0 ? ""
                      : "This kernel has no Landlock: seccomp alone confines queries. A kernel of "
                        "5.13 or later with Landlock is safer.");
}

/* ---- certificates ---- */

static bool holds_certificate(const char *file)
{
    char line[512];
    bool found = false;
    FILE *stream = fopen(file, "re");
    while (stream != NULL && !found && fgets(line, sizeof(line), stream) != NULL) {
        found = strstr(line, "-----BEGIN CERTIFICATE-----") != NULL ||
                strstr(line, "-----BEGIN TRUSTED CERTIFICATE-----") != NULL;
    }
    if (stream != NULL) {
        (void)fclose(stream);
    }
    return found;
}

static bool check_net(struct check *check)
{
    struct err err = {0};
    char found[SERVER_PATH_SIZE + 100] = "those of the system";
    const char *setting = "";
    const char *file = server_ca_file(check->config, &setting);
    bool good = server_open_net(check->server, &err);
    if (file != NULL && good && !holds_certificate(file)) {
        (void)snprintf(found, sizeof(found), "%s: %s holds no certificate", setting, file);
        tell(check, STORE_PROBE_FAIL, "authorities", found,
             "It has to be a PEM file: blocks that begin with -----BEGIN CERTIFICATE-----.");
        return true;
    }
    if (file != NULL) {
        (void)snprintf(found, sizeof(found), "%s (%s)", file, setting);
    }
    return tell_step(check, "authorities", good, found, &err);
}

/* ---- the lake ---- */

/* clang-format off */
static const char *const advices[STORE_CAUSE_COUNT] = {
    [STORE_CAUSE_NONE]           = "",
    [STORE_CAUSE_HOST_UNKNOWN]   = "Correct S3_ENDPOINT, or the name service. If the name begins with the bucket, the store may know no such names: set S3_FORCE_PATH_STYLE=true.",
    [STORE_CAUSE_NO_CONNECTION]  = "Is the store running, and S3_ENDPOINT its host and port? A firewall may be between.",
    [STORE_CAUSE_NOT_TRUSTED]    = "Set EIDER_CA_FILE to the PEM file of the authority that signed it, and use a host name that the certificate has.",
    [STORE_CAUSE_NO_TLS]         = "Is this port for http? Then S3_ENDPOINT has to begin with http://.",
    [STORE_CAUSE_FORBIDDEN]      = "Link-local and metadata addresses are never contacted: correct S3_ENDPOINT.",
    [STORE_CAUSE_SILENT]         = "Something accepts connections and does not answer in time: look at the store's log, and at proxies in between.",
    [STORE_CAUSE_HOST_STYLE]     = "The store does not know buckets in its host name: set S3_FORCE_PATH_STYLE=true, or tell the store its domain.",
    [STORE_CAUSE_NOT_S3]         = "S3_ENDPOINT seems to be another service (a console, a proxy), or it wants https://.",
    [STORE_CAUSE_BUCKET_MISSING] = "Create the bucket, or correct its name in EIDER_LAKE (S3_BUCKET).",
    [STORE_CAUSE_REGION]         = "Set S3_REGION to the bucket's region, and S3_ENDPOINT to the endpoint of that region.",
    [STORE_CAUSE_KEY_UNKNOWN]    = "Correct S3_ACCESS_KEY (AWS_ACCESS_KEY_ID): the store does not know it.",
    [STORE_CAUSE_SECRET_WRONG]   = "Correct S3_SECRET_KEY (AWS_SECRET_ACCESS_KEY): it is not the one of this access key. A wrong S3_REGION can look the same.",
    [STORE_CAUSE_TOKEN_EXPIRED]  = "Get new temporary keys: access key, secret key and S3_SESSION_TOKEN (AWS_SESSION_TOKEN) belong together.",
    [STORE_CAUSE_TOKEN_WRONG]    = "Access key, secret key and S3_SESSION_TOKEN (AWS_SESSION_TOKEN) belong together; permanent keys have no token.",
    [STORE_CAUSE_CLOCK]          = "Set this machine's clock, for example with NTP.",
    [STORE_CAUSE_DENIED]         = "Allow these keys s3:ListBucket on the bucket, and s3:GetObject, s3:PutObject and s3:DeleteObject on what is below the prefix; for a folder, give its user write access.",
    [STORE_CAUSE_FULL]           = "Make room: batches and snapshots are refused when the disk is full.",
    [STORE_CAUSE_FAILED]         = "Look at the store's own log, and run this again.",
    [STORE_CAUSE_STALE]          = "Queries would miss or mix records: use a store that shows what was written (AWS S3, and others that are consistent).",
    [STORE_CAUSE_OVERWRITES]     = "Do not use this store: objects could be replaced and records lost.",
    [STORE_CAUSE_RACES]          = "Do not use this store with more than one writer, and better not at all: of two objects of one name, one would be lost.",
    [STORE_CAUSE_NO_COMPARE]     = "Eider compares ETags itself when it reads; nothing that replaces objects by comparison may be built on this store.",
    [STORE_CAUSE_NO_CHECKSUM]    = "Damage on the way to the store is not noticed there; use https.",
    [STORE_CAUSE_NO_ETAG]        = "An object that is replaced while it is read may not be noticed: never write to the lake's keys by other means.",
    [STORE_CAUSE_CANNOT_DELETE]  = "Allow s3:DeleteObject, or remove them by hand.",
};
/* clang-format on */

static void tell_finding(void *context, const struct store_probe_finding *finding)
{
    char what[40];
    (void)snprintf(what, sizeof(what), "store: %s", finding->what);
    tell(context, finding->verdict, what, finding->found, advices[finding->cause]);
}

static void check_lake(struct check *check)
{
    struct err err = {0};
    const struct server_lake *lake;
    bool good = server_open_lake(check->server, &lake, &err);
    char found[SERVER_PATH_SIZE];
    if (good && lake->bucket[0] != '\0') {
        (void)snprintf(found, sizeof(found), "s3://%s/%s at %s", lake->bucket, lake->prefix,
                       lake->endpoint);
    } else {
        (void)snprintf(found, sizeof(found), "%s", good ? lake->endpoint : "");
    }
    if (!tell_step(check, "lake", good, found, &err)) {
        return;
    }
    const struct store_probe_options options = {
        .prefix = str_of(lake->prefix),
        .writers = PROBE_WRITERS,
        .rounds = PROBE_ROUNDS,
        .tell = tell_finding,
        .context = check,
    };
    struct cancel cancel;
    cancel_init(&cancel, clock_now_ms() + PROBE_TIME_MS);
    (void)store_probe(lake->store, &options, &cancel);
    cancel_finish(&cancel);
}

/* ---- the command ---- */

static int conclude(const struct check *check)
{
    unsigned warnings = check->counts[STORE_PROBE_WARN];
    unsigned failures = check->counts[STORE_PROBE_FAIL];
    (void)printf("%u ok, %u warning%s, %u failure%s\n", check->counts[STORE_PROBE_OK], warnings,
                 warnings == 1 ? "" : "s", failures, failures == 1 ? "" : "s");
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static void check_all(struct check *check)
{
    struct err err = {0};
    check_settings(check);
    check_listeners(check);
    bool owned = tell_step(check, "data folder", server_lock_data(check->server, &err),
                           "it can be written to, and no other server uses it", &err);
    check_tokens(check);
    if (owned) {
        check_backups(check);
    }
    check_descriptors(check);
    check_memory(check);
    if (owned) {
        check_engine(check);
    }
    if (check_net(check)) {
        check_lake(check);
    }
}

int server_check(const struct config *config, const struct err *err)
{
    struct check check = {.config = config};
    if (config == NULL) {
        (void)tell_step(&check, "settings", false, "", err);
        return conclude(&check);
    }
    char folder[SERVER_PATH_SIZE];
    bool in_folder = server_lake_folder(config, folder);
    struct footprint data = footprint_of(config_text(config, "EIDER_DATA"));
    struct footprint lake = footprint_of(in_folder ? folder : "");
    char backups_path[SERVER_PATH_SIZE];
    server_backup_folder(config, backups_path);
    struct footprint backups = footprint_of(backups_path);
    log_set_level(LOG_ERROR); /* what there is to say is said here */
    (void)signal(SIGPIPE, SIG_IGN);
    (void)umask(077);
    check.server = server_create(config);
    check_all(&check);
    server_stop(check.server);
    remove_footprint(&lake);
    remove_footprint(&backups);
    remove_footprint(&data);
    return conclude(&check);
}
