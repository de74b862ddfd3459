/* An Arrow stream from outside: any bytes become lines or an error; each part of the body is a
 * block of its own, and what is unpacked or kept is bounded. */
#include "../unit/arrow_body_reader.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arrow_memory memory;
    struct err err = {0};
    arrow_memory_init(&memory, str_make((const char *)data, size), 1 << 20);
    if (!arrow_memory_read(&memory, 1 << 20, &err)) {
        if (err.kind != ERR_INVALID && err.kind != ERR_TOO_LARGE) {
            abort();
        }
    } else if (memory.rows > 0 && memory.lines.ptr[memory.lines.len - 1] != '\n') {
        abort();
    }
    arrow_memory_finish(&memory);
    return 0;
}
