/* crc32c.h - CRC-32C (Castagnoli), which finds every damage of up to 32 bits in a row and all but
 * one in four thousand million of the others. It is no protection against somebody who means harm.
 * With the processor's own instruction where there is one: some 10 GB/s instead of 0.4.
 * Threads   any. */
#pragma once

#include "macros.h"

/* Over several pieces: start with 0, and give the result of the piece before. */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t size);

/* The one without special instructions; for tests, and for processors that have none. */
uint32_t crc32c_portable(uint32_t crc, const void *bytes, size_t size);
