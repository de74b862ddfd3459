#include "crc32c.h"

#include <string.h>

/* The polynomial 0x1EDC6F41, its bits reversed: bytes are taken lowest bit first. */
#define POLYNOMIAL 0x82F63B78U

/* Four bits at a time: the table is small enough to be written down by the loop below each time it
 * is first needed by a call, which costs 16 x 4 steps. */
uint32_t crc32c_portable(uint32_t crc, const void *bytes, size_t size)
{
    uint32_t table[16];
    for (uint32_t i = 0; i < COUNT_OF(table); i++) {
        uint32_t value = i;
        for (unsigned bit = 0; bit < 4; bit++) {
            value = (value >> 1) ^ ((value & 1) != 0 ? POLYNOMIAL : 0);
        }
        table[i] = value;
    }
    const unsigned char *at = bytes;
    crc = ~crc;
    for (size_t i = 0; i < size; i++) {
        crc ^= at[i];
        crc = (crc >> 4) ^ table[crc & 15];
        crc = (crc >> 4) ^ table[crc & 15];
    }
    return ~crc;
}

#if defined(__x86_64__) || (defined(__aarch64__) && defined(__ARM_FEATURE_CRC32))

#if defined(__x86_64__)
#define CRC_TARGET __attribute__((target("sse4.2")))
#define CRC_8(crc, value) ((uint32_t)__builtin_ia32_crc32di((crc), (value)))
#define CRC_1(crc, value) __builtin_ia32_crc32qi((crc), (value))
static bool has_instruction(void)
{
    return __builtin_cpu_supports("sse4.2") != 0;
}
#else
#define CRC_TARGET
#define CRC_8(crc, value) __builtin_aarch64_crc32cx((crc), (value))
#define CRC_1(crc, value) __builtin_aarch64_crc32cb((crc), (value))
static bool has_instruction(void)
{
    return true;
}
#endif

CRC_TARGET static uint32_t crc32c_fast(uint32_t crc, const unsigned char *at, size_t size)
{
    crc = ~crc;
    for (; size >= sizeof(uint64_t); size -= sizeof(uint64_t), at += sizeof(uint64_t)) {
        uint64_t value;
        memcpy(&value, at, sizeof(value));
        crc = CRC_8(crc, value);
    }
    for (; size > 0; size--, at++) {
        crc = CRC_1(crc, *at);
    }
    return ~crc;
}

uint32_t crc32c(uint32_t crc, const void *bytes, size_t size)
{
    return has_instruction() ? crc32c_fast(crc, bytes, size) : crc32c_portable(crc, bytes, size);
}

#else

uint32_t crc32c(uint32_t crc, const void *bytes, size_t size)
{
    return crc32c_portable(crc, bytes, size);
}

#endif
