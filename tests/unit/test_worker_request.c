#include "request_scene.h"

int main(int argc, char **argv)
{
    scene_open();
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *a = scene_answer(argv[i], argv[i + 1]);
        printf("%s\n  -> %s | %s | kind %u fault %u rb %u rows %lu us %lu\n", argv[i], a, scene.columns.ptr ? scene.columns.ptr : "", scene.done.kind, scene.done.fault, scene.done.rolled_back, scene.done.rows, scene.done.execution_us);
    }
    return 0;
}
