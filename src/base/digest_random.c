#include "digest.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

/* A file of its own: what only needs random bytes is not linked with the library of digests. */

enum {
    SUPPLY_SIZE = 256
};

void digest_random(void *bytes, size_t size)
{
    assert(size <= 256);
    if (getrandom(bytes, size, 0) != (ssize_t)size) {
        (void)fputs("eider: no random bytes\n", stderr);
        abort();
    }
}

void digest_random_id(void *bytes, size_t size)
{
    static _Thread_local unsigned char supply[SUPPLY_SIZE];
    static _Thread_local size_t left;
    assert(size <= sizeof(supply));
    if (left < size) {
        digest_random(supply, sizeof(supply));
        left = sizeof(supply);
    }
    left -= size;
    memcpy(bytes, supply + left, size);
}
