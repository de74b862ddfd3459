#include "request_scene.h"

#include <sys/mman.h>

int main(int argc, char **argv)
{
    scene_open(); (void)scene_answer;
    int memory = memfd_create("x", 0);
    for (int i = 1; i + 1 < argc; i += 2) {
        struct str statement = str_of(argv[i]);
        struct worker_request r = scene_request(&statement, 1);
        int fds[2] = {-1, -1};
        r.parameters = str_of(argv[i + 1]);
        r.loose_parameters = 1;
        for (; strchr("REIAPV", statement.ptr[0]) && statement.ptr[1] == ':'; statement = str_from(statement, 2)) {
            if (statement.ptr[0] == 'R') r.role = WORKER_ROLE_READ;
            if (statement.ptr[0] == 'P') r.format = WORKER_FORMAT_PARQUET;
            if (statement.ptr[0] == 'E') { r.kind = WORKER_EXPORT; fds[0] = memory; }
            if (statement.ptr[0] == 'I') { r.kind = WORKER_IMPORT; r.table = str_of(argv[i + 1]); fds[0] = memory; r.parameters = STR("");}
            if (statement.ptr[0] == 'A') { r.mode = WORKER_IMPORT_APPEND; }
            if (statement.ptr[0] == 'V') { r.mode = WORKER_IMPORT_REPLACE; }
        }
        bool good = scene_run(&r, fds);
        if (good && r.format == WORKER_FORMAT_PARQUET) {
            printf("%s -> parquet %zu rows %lu\n", argv[i], scene.result.len, scene.done.rows); continue; }
        const char *a = good ? buf_str(&scene.result).ptr : scene.message;
        printf("%s\n  -> %s | %s | kind %u fault %u rb %u rows %lu us %lu at %u\n", argv[i], a, scene.columns.ptr ? scene.columns.ptr : "", scene.done.kind, scene.done.fault, scene.done.rolled_back, scene.done.rows, scene.done.execution_us, scene.done.failed_at);
    }
    return 0;
}
