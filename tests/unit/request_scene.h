/* request_scene.h - a database in memory and one slot of it: requests run as in a worker, and what
 * they send is read on the other end of the slot's socket. */
#pragma once

#include "test.h"

#include "mem.h"
#include "thread.h"
#include "worker_request.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct scene {
    struct duck duck;
    int server_fd;
    int slot_fd;
    struct channel *channel;
    struct buf columns; /* "name TYPE, name TYPE" of the last request */
    struct buf result;  /* its RESULT frames */
    struct worker_done done;
    char message[1024];
};

static struct scene scene;

/* What a test of requests stands on: without it there is nothing to go on with. */
static void must(bool true_p, const char *what)
{
    if (!true_p) {
        fprintf(stderr, "not true: %s\n", what);
        exit(1);
    }
}

static void scene_open(void)
{
    struct err err;
    int pair[2];
    must(duck_open(&scene.duck, &err), "duck_open");
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0,
         "socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0");
    scene.server_fd = pair[0];
    scene.slot_fd = pair[1];
    scene.channel = channel_create(scene.slot_fd);
    buf_init(&scene.columns, 1 << 20);
    buf_init(&scene.result, 64 << 20);
}

static void take_columns(struct str payload)
{
    struct worker_cursor cursor = {.rest = payload};
    struct worker_schema schema;
    must(worker_get_schema(&cursor, &schema), "worker_get_schema(&cursor, &schema)");
    for (size_t i = 0; i < schema.columns_count; i++) {
        buf_append_format(&scene.columns, "%s%.*s %.*s", i > 0 ? ", " : "",
                          STR_ARG(schema.columns[i].name), STR_ARG(schema.columns[i].type));
    }
    worker_schema_finish(&schema);
}

/* Reads until DONE: a thread, since a large result would fill the socket. */
static void *read_frames(void *unused)
{
    struct worker_frame frame;
    struct err err;
    (void)unused;
    worker_frame_init(&frame);
    while (worker_receive(scene.server_fd, &frame, &err) && frame.type != WORKER_OUTCOME) {
        if (frame.type == WORKER_COLUMNS) {
            must(scene.result.len == 0, "scene.result.len == 0");
            take_columns(buf_str(&frame.payload));
        } else if (frame.type == WORKER_RESULT) {
            buf_append(&scene.result, buf_str(&frame.payload));
        }
    }
    worker_frame_finish(&frame);
    return NULL;
}

/* On a connection of its own, as in a worker. OUTCOME stands for the DONE of the caller. */
static bool scene_run(const struct worker_request *request, const int fds[2])
{
    duckdb_connection connection;
    must(duckdb_connect(scene.duck.database, &connection) == DuckDBSuccess,
         "duckdb_connect(scene.duck.database, &connection) == DuckDBSuccess");
    buf_reset(&scene.columns);
    buf_reset(&scene.result);
    pthread_t reader = thread_start("reader", read_frames, NULL);
    bool good = request_serve(&scene.duck, connection, scene.channel, request, fds, &scene.done);
    channel_send(scene.channel, WORKER_OUTCOME, STR(""));
    must(pthread_join(reader, NULL) == 0, "pthread_join(reader, NULL) == 0");
    must(good == (scene.done.kind == ERR_NONE), "good == (scene.done.kind == ERR_NONE)");
    (void)snprintf(scene.message, sizeof(scene.message), "%.*s", STR_ARG(scene.done.message));
    request_done_finish(&scene.done);
    duckdb_disconnect(&connection);
    return good;
}

/* A request for rows, which a writer sends; the test changes what it is about. */
static struct worker_request scene_request(const struct str *statements, size_t count)
{
    return (struct worker_request){
        .number = 1,
        .kind = WORKER_STATEMENTS,
        .role = WORKER_ROLE_WRITE,
        .format = WORKER_FORMAT_ROWS,
        .fetch = WORKER_FETCH_ALL,
        .result_bytes_max = 1 << 20,
        .statements = statements,
        .statements_count = count,
    };
}

static const int no_fds[2] = {-1, -1};

static bool scene_query(const char *sql, const char *parameters)
{
    struct str statement = str_of(sql);
    struct worker_request request = scene_request(&statement, 1);
    request.parameters = str_of(parameters);
    request.loose_parameters = 1;
    return scene_run(&request, no_fds);
}

/* The result, or the error, of one text. */
static const char *scene_answer(const char *sql, const char *parameters)
{
    return scene_query(sql, parameters) ? buf_str(&scene.result).ptr : scene.message;
}
