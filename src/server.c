#include "server.h"

#include "api.h"
#include "clock.h"
#include "digest.h"
#include "fd.h"
#include "log.h"
#include "mem.h"
#include "server_auth.h"
#include "server_databases.h"
#include "server_lake.h"
#include "server_layers.h"
#include "server_machine.h"
#include "server_metrics.h"
#include "server_reload.h"
#include "server_steps.h"
#include "server_tables.h"
#include "store_cache.h"
#include "thread.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    CLOSE_DATABASES_MS = 10000 /* for the last checkpoints, after the drain */
};

struct server {
    const struct config *config;
    struct config *reloaded; /* the same, when it is not the one of the start */
    int lock_fd;
    int signal_fd;
    char *spool_folder;
    struct auth *auth;
    struct net *net;
    struct server_lake where;
    struct store_cache *cache;
    struct engine *engine;
    struct lake *lake;
    struct server_databases hosted;
    struct ops_metrics *metrics;
    struct server_metrics counted;
    struct api *api;
    struct http_server *http;
};

/* ---- the data folder ---- */

/* One server per folder: the lock lives as long as the process. */
bool server_lock_data(struct server *server, struct err *err)
{
    const char *data = config_text(server->config, "EIDER_DATA");
    char path[4096];
    (void)snprintf(path, sizeof(path), "%s/spool", data);
    if (!fd_make_directories(path, err)) {
        return false;
    }
    server->spool_folder = mem_copy_text(path);
    (void)snprintf(path, sizeof(path), "%s/lock", data);
    server->lock_fd = FD_UNINTERRUPTED(open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    if (server->lock_fd < 0) {
        return err_set_errno(err, ERR_UNAVAILABLE, errno, "cannot write to EIDER_DATA (%s)", data);
    }
    if (flock(server->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        return err_set(err, ERR_UNAVAILABLE,
                       "another server uses the data folder %s; give this one its own EIDER_DATA",
                       data);
    }
    char pid[32];
    int size = snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
    (void)!ftruncate(server->lock_fd, 0); /* the number is for people; the lock is what counts */
    (void)!pwrite(server->lock_fd, pid, (size_t)size, 0);
    return true;
}

/* ---- the engine's library ---- */

/* The library that is loaded must be the one that both programs were built with, byte for byte. */
static bool check_library(int fd, struct err *err)
{
    struct stat info;
    struct sha256 digest;
    if (fstat(fd, &info) != 0 || !digest_sha256_fd(fd, (uint64_t)info.st_size, &digest, err)) {
        return err_set(err, ERR_INTERNAL, "cannot read the DuckDB library");
    }
    char hex[DIGEST_SHA256_HEX_SIZE];
    digest_hex(digest.bytes, sizeof(digest.bytes), hex);
    return strcmp(hex, EIDER_DUCKDB_SHA256) == 0 ||
           err_set(
               err, ERR_UNAVAILABLE,
               "the DuckDB library is not the one Eider was built with (sha256 %s, expected %s); "
               "build again, or point the loader to the right libduckdb.so",
               hex, EIDER_DUCKDB_SHA256);
}

/* ---- parts ---- */

bool server_open_net(struct server *server, struct err *err)
{
    const char *setting;
    struct net_options options = {.ca_file = server_ca_file(server->config, &setting)};
    if (options.ca_file != NULL && access(options.ca_file, R_OK) != 0) {
        return err_set(err, ERR_INVALID, "%s: cannot read %s", setting, options.ca_file);
    }
    server->net = net_create(&options);
    return server->net != NULL ? server_allow_endpoints(server->config, server->net, err)
                               : err_set(err, ERR_INTERNAL, "libcurl does not start");
}

static unsigned count_of(const struct server *server, const char *name)
{
    return (unsigned)config_number(server->config, name);
}

static unsigned threads_per_job(const struct server *server)
{
    unsigned threads = count_of(server, "DUCKDB_THREADS");
    if (threads == 0) {
        threads = machine_processors();
    }
    return threads > 4 && !config_is_given(server->config, "DUCKDB_THREADS") ? 4 : threads;
}

static bool open_cache(struct server *server, struct err *err)
{
    char folder[4096];
    (void)snprintf(folder, sizeof(folder), "%s/cache", config_text(server->config, "EIDER_DATA"));
    server->cache = store_cache_open(folder, config_number(server->config, "EIDER_CACHE_MAX"), err);
    return server->cache != NULL;
}

bool server_start_engine(struct server *server, struct err *err)
{
    if (!open_cache(server, err)) {
        return false;
    }
    struct server_memory memory = server_memory(server->config);
    struct engine_options options = {
        .cache = server->cache,
        .memory_total_bytes = memory.total_bytes,
        .memory_per_job_bytes = memory.per_job_bytes,
        .slots = memory.slots,
        .threads_per_job = threads_per_job(server),
        .check_library = check_library,
        .fetch_threads = 8 * count_of(server, "SIDECAR_MAX_CONCURRENT_QUERIES"),
    };
#ifdef EIDER_TEST_LAYERS
    if (!server_layers_off(server->config, &options.layers_off, err)) {
        return false;
    }
#endif
    server->engine = engine_create(&options);
    return engine_start(server->engine, err);
}

/* The engine warms up while listeners open: requests that need it wait for it, others do not. */
bool server_wait_engine(struct server *server, struct err *err)
{
    if (!engine_wait_ready(server->engine, err)) {
        return false;
    }
    if (engine_landlock_abi(server->engine) == 0) {
        LOG(LOG_WARN, "server.no_landlock",
            LOG_TEXT("note", STR("this kernel has no Landlock: query processes are confined by "
                                 "seccomp alone")));
    }
    return true;
}

static bool pool_mode(const struct config *config)
{
    return config_either(config, "S3_ENDPOINT", "S3_ENDPOINT_URL") != NULL &&
           config_either(config, "S3_BUCKET", "ANALYTICS_S3_BUCKET") != NULL &&
           config_either(config, "S3_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID") != NULL &&
           config_either(config, "S3_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY") != NULL;
}

static void create_api(struct server *server)
{
    const struct config *config = server->config;
    struct api_options options = {
        .auth = server->auth,
        .engine = server->engine,
        .lake = server->lake,
        .net = server->net,
        .metrics = server->metrics,
        .spool_folder = server->spool_folder,
        .lake_endpoint = server->where.endpoint,
        .lake_bucket = server->where.bucket,
        .lake_region = server->where.region,
        .queries_max = count_of(server, "SIDECAR_MAX_CONCURRENT_QUERIES"),
        .queries_queue_max = count_of(server, "SIDECAR_MAX_QUERY_QUEUE"),
        .snapshots_max = count_of(server, "SIDECAR_MAX_CONCURRENT_SNAPSHOTS"),
        .snapshots_queue_max = count_of(server, "SIDECAR_MAX_SNAPSHOT_QUEUE"),
        .ingests_max = count_of(server, "EIDER_MAX_CONCURRENT_INGESTS"),
        .ingests_queue_max = count_of(server, "EIDER_MAX_INGEST_QUEUE"),
        .rows_max = count_of(server, "EIDER_MAX_CONCURRENT_ROWS"),
        .check_threads = 2 * machine_processors() + 2,
        .body_bytes_max = config_number(config, "EIDER_BODY_MAX"),
        .body_decoded_bytes_max = config_number(config, "EIDER_BODY_DECODED_MAX"),
        .bodies_bytes_max = config_number(config, "EIDER_BODIES_MAX"),
        .rows_bytes_max = config_number(config, "EIDER_ROWS_BODY_MAX"),
        .rows_decoded_bytes_max = config_number(config, "EIDER_ROWS_DECODED_MAX"),
        .backlog_age_max_ms = (int64_t)config_number(config, "EIDER_BACKLOG_AGE_MAX_MS"),
        .results_bytes_max = config_number(config, "EIDER_RESULT_CACHE_MAX"),
        .query_timeout_ms = (int64_t)config_number(config, "EIDER_QUERY_TIMEOUT_MS"),
        .snapshot_timeout_ms = (int64_t)config_number(config, "EIDER_SNAPSHOT_TIMEOUT_MS"),
        .ingest_timeout_ms = (int64_t)config_number(config, "EIDER_INGEST_TIMEOUT_MS"),
        .pool_enabled = pool_mode(config),
        .pool_size = count_of(server, "DUCKDB_POOL_SIZE"),
        .pool_max = count_of(server, "DUCKDB_POOL_MAX"),
        .version = EIDER_VERSION,
    };
    server_describe_databases(config, &server->hosted, &options);
    server->api = api_create(&options);
}

/* ---- listeners ---- */

struct listener {
    const char *name;
    const char *setting;
    enum api_listener tag;
    char address[300];
};

static bool is_loopback(struct str address)
{
    size_t colon = address.len;
    while (colon > 0 && address.ptr[colon - 1] != ':') {
        colon--;
    }
    struct str host = str_first(address, colon == 0 ? 0 : colon - 1);
    struct in_addr v4;
    char text[64];
    (void)snprintf(text, sizeof(text), "%.*s", STR_ARG(host));
    if (inet_pton(AF_INET, text, &v4) == 1) {
        return (ntohl(v4.s_addr) >> 24) == 127;
    }
    return str_equal_nocase(host, STR("localhost")) || str_equal(host, STR("[::1]"));
}

static size_t gather_listeners(const struct server *server, struct listener *list)
{
    /* clang-format off */
    static const struct listener known[] = {
        { "main",      "EIDER_LISTEN",           API_SHARED,    "" },
        { "ingest",    "EIDER_INGEST_LISTEN",    API_INGEST,    "" },
        { "snapshot",  "EIDER_SNAPSHOT_LISTEN",  API_SNAPSHOT,  "" },
        { "projects",  "EIDER_PROJECTS_LISTEN",  API_PROJECTS,  "" },
        { "analytics", "EIDER_ANALYTICS_LISTEN", API_ANALYTICS, "" },
        { "staging",   "EIDER_STAGING_LISTEN",   API_STAGING,   "" },
    };
    /* clang-format on */
    size_t count = 0;
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        const char *address = config_text(server->config, known[i].setting);
        if (address != NULL) {
            list[count] = known[i];
            (void)snprintf(list[count++].address, sizeof(list[0].address), "%s", address);
        }
    }
    bool port_wanted = config_is_given(server->config, "PORT") &&
                       !config_is_given(server->config, "EIDER_SNAPSHOT_LISTEN");
    if (port_wanted) {
        const char *main_address = config_text(server->config, "EIDER_LISTEN");
        const char *colon = strrchr(main_address, ':');
        int host_size = colon == NULL ? 0 : (int)(colon - main_address);
        list[count] = (struct listener){.name = "snapshot", .setting = "PORT", .tag = API_SNAPSHOT};
        (void)snprintf(list[count++].address, sizeof(list[0].address), "%.*s:%llu", host_size,
                       main_address, (unsigned long long)config_number(server->config, "PORT"));
    }
    return count;
}

/* *ret_exposed is the setting of one that is beyond loopback, or NULL. */
static bool check_listeners(const struct listener *list, size_t count, const char **ret_exposed,
                            struct err *err)
{
    *ret_exposed = NULL;
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < i; k++) {
            bool any_port = str_ends(str_of(list[i].address), STR(":0"));
            if (!any_port && strcmp(list[i].address, list[k].address) == 0) {
                return err_set(err, ERR_INVALID, "%s and %s name the same address, %s",
                               list[k].setting, list[i].setting, list[i].address);
            }
        }
        if (*ret_exposed == NULL && !is_loopback(str_of(list[i].address))) {
            *ret_exposed = list[i].setting;
        }
    }
    return true;
}

static bool listen_on(struct server *server, const struct listener *listener, struct err *err)
{
    uint16_t port;
    if (!http_listen(server->http, str_of(listener->address), listener->tag, &port, err)) {
        struct err reason = *err;
        return err_set(err, reason.kind, "%s: %s %s", listener->setting, reason.message,
                       reason.detail);
    }
    const char *colon = strrchr(listener->address, ':');
    char bound[320];
    (void)snprintf(bound, sizeof(bound), "%.*s:%u", (int)(colon - listener->address),
                   listener->address, port);
    LOG(LOG_INFO, "server.listening", LOG_TEXT("name", str_of(listener->name)),
        LOG_TEXT("address", str_of(bound)));
    return true;
}

bool server_check_listeners(const struct server *server, struct err *err)
{
    struct listener list[API_LISTENER_COUNT + 1];
    size_t count = gather_listeners(server, list);
    const char *exposed;
    bool required;
    bool good = check_listeners(list, count, &exposed, err) &&
                server_auth_required(server->config, exposed, &required, err);
    for (size_t i = 0; good && i < count; i++) {
        struct err reason;
        good =
            http_try_address(str_of(list[i].address), &reason) ||
            err_set(err, reason.kind, "%s: %s %s", list[i].setting, reason.message, reason.detail);
    }
    return good;
}

static bool start_http(struct server *server, const struct listener *list, size_t count,
                       struct err *err)
{
    struct http_options options = {
        .threads = count_of(server, "EIDER_HTTP_THREADS"),
        .handlers = api_handlers(server->api),
    };
    server->http = http_server_create(&options);
    server->counted.engine = server->engine;
    server->counted.cache = server->cache;
    server->counted.http = server->http;
    server->counted.lake = server->lake;
    server_metrics_add(&server->counted, server->metrics);
    for (size_t i = 0; i < count; i++) {
        if (!listen_on(server, &list[i], err)) {
            return false;
        }
    }
    return http_start(server->http, err);
}

/* ---- the process ---- */

/* Connections, and the objects that statements read: as many as the system lets us have. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static void prepare_process(struct server *server)
{
    sigset_t signals;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGHUP);
    (void)pthread_sigmask(SIG_BLOCK, &signals, NULL);
    server->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
    (void)signal(SIGPIPE, SIG_IGN);
    raise_descriptor_limit();
    (void)umask(077);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    /* No core files and no debugger of another user: credentials are in this memory. Leak checking
     * needs it on. */
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
#endif
    if (geteuid() == 0) {
        LOG(LOG_WARN, "server.root",
            LOG_TEXT("note", STR("running as root; query processes drop to an unprivileged user")));
    }
}

struct server *server_create(const struct config *config)
{
    struct server *server = mem_alloc(sizeof(*server));
    server->config = config;
    server->lock_fd = -1;
    server->signal_fd = -1;
    return server;
}

bool server_open_lake(struct server *server, const struct server_lake **ret_lake, struct err *err)
{
    *ret_lake = &server->where;
    return server_lake_open(server->config, server->net, &server->where, err);
}

struct engine *server_engine(const struct server *server)
{
    return server->engine;
}

struct server *server_start(const struct config *config, struct err *err)
{
    struct listener list[API_LISTENER_COUNT + 1];
    const struct server_lake *where;
    mem_keep_freed(2 * machine_processors());
    struct server *server = server_create(config);
    log_set_level(server_log_level(config));
    prepare_process(server);
    log_start();
    size_t count = gather_listeners(server, list);
    const char *exposed;
    bool good = check_listeners(list, count, &exposed, err) &&
                server_open_auth(config, exposed, &server->auth, err) &&
                server_lock_data(server, err);
    /* The engine first, since it takes longest. */
    good = good && server_start_engine(server, err) && server_open_net(server, err) &&
           server_open_lake(server, &where, err);
    if (good) {
        server->lake =
            server_open_tables(config, &server->where, server->engine, server->spool_folder, err);
        good = server->lake != NULL &&
               server_open_databases(config, server->engine, server->spool_folder, &server->hosted,
                                     err);
    }
    if (good) {
        server->metrics = ops_metrics_create();
        create_api(server);
        good = start_http(server, list, count, err) && server_wait_engine(server, err);
    }
    if (good) {
        lake_start(server->lake);
    }
    if (!good) {
        server_stop(server);
        return NULL;
    }
    LOG(LOG_INFO, "server.ready", LOG_TEXT("version", STR(EIDER_VERSION)),
        LOG_TEXT("engine", str_of(engine_version())),
        LOG_TEXT("lake", str_of(server->where.endpoint)));
    return server;
}

/* The number, or 0 when none can be waited for. */
static int wait_signal(int signal_fd)
{
    struct signalfd_siginfo info;
    ssize_t size;
    do {
        size = read(signal_fd, &info, sizeof(info));
    } while (size < 0 && errno == EINTR);
    if (size != (ssize_t)sizeof(info)) {
        return 0;
    }
    LOG(LOG_INFO, "server.signal", LOG_NUM("signal", info.ssi_signo));
    return (int)info.ssi_signo;
}

/* While requests end, a second signal must still be able to end the process: a thread of its own
 * waits for it. It outlives the server, so it knows only the descriptor, which stays open. */
static void *watch_second_signal(void *argument)
{
    int number;
    do {
        number = wait_signal((int)(intptr_t)argument);
    } while (number == SIGHUP); /* settings do not matter any more */
    if (number != 0) {
        _exit(130);
    }
    return NULL;
}

static void reload(struct server *server)
{
    const struct server_running running = {
        .config = server->config,
        .auth = server->auth,
        .net = server->net,
        .lake = server->lake,
        .api = server->api,
    };
    struct config *config = server_reload(&running);
    if (config != NULL) {
        config_destroy(server->reloaded);
        server->reloaded = config;
        server->config = config;
    }
}

int server_wait(struct server *server)
{
    while (wait_signal(server->signal_fd) == SIGHUP) {
        reload(server);
    }
    pthread_t second =
        thread_start("signal", watch_second_signal, (void *)(intptr_t)server->signal_fd);
    (void)pthread_detach(second);
    api_start_drain(server->api);
    http_stop_accepting(server->http);
    int64_t until_ms = clock_now_ms() + (int64_t)config_number(server->config, "EIDER_DRAIN_MS");
    bool idle = http_wait_idle(server->http, until_ms);
    LOG(idle ? LOG_INFO : LOG_WARN, "server.drained", LOG_NUM("all", idle));
    server_drain_tables(server->lake, until_ms);
    return 0;
}

void server_stop(struct server *server)
{
    if (server == NULL) {
        return;
    }
    if (server->http != NULL) {
        http_server_destroy(server->http);
    }
    api_destroy(server->api);
    auth_destroy(server->auth);
    ops_metrics_destroy(server->metrics);
    lake_close(server->lake);
    server_close_databases(&server->hosted, clock_now_ms() + CLOSE_DATABASES_MS);
    engine_destroy(server->engine);
    store_cache_close(server->cache);
    server_lake_close(&server->where);
    if (server->net != NULL) {
        net_destroy(server->net);
    }
    fd_close(&server->lock_fd);
    mem_free(server->spool_folder);
    config_destroy(server->reloaded);
    log_stop();
    mem_free(server);
}
