#include "crc32c.h"

#include <string.h>

#if defined(__x86_64__)
#include <wmmintrin.h>
#endif

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
#define CRC_TARGET __attribute__((target("sse4.2,pclmul")))
#define CRC_8(crc, value) ((uint32_t)__builtin_ia32_crc32di((crc), (value)))
#define CRC_1(crc, value) __builtin_ia32_crc32qi((crc), (value))
static bool has_instruction(void)
{
    return __builtin_cpu_supports("sse4.2") != 0 && __builtin_cpu_supports("pclmul") != 0;
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

CRC_TARGET static uint64_t load_8(const unsigned char *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

#if defined(__x86_64__)

enum {
    PART_SIZE = 1024
};

/* x to the power of 8n - 33, modulo the polynomial, its bits reversed: for n zero bytes. */
#define BEHIND_1_PART 0x170076faU
#define BEHIND_2_PARTS 0xa51b6135U

/* The CRC of the same bytes with zeros behind them. The factor lacks x to the power of 33, of which
 * the instruction brings 32, and the product's place in the register one. */
CRC_TARGET static uint32_t add_zeros(uint32_t crc, uint32_t behind)
{
    __m128i product =
        _mm_clmulepi64_si128(_mm_cvtsi32_si128((int)crc), _mm_cvtsi32_si128((int)behind), 0);
    return CRC_8(0, (uint64_t)_mm_cvtsi128_si64(product));
}

/* The instruction takes 3 cycles, and one can begin in each: so three parts at once. *ret_size: how
 * many bytes there are, and how many of them were taken. */
CRC_TARGET static uint32_t take_parts(uint32_t crc, const unsigned char *at, size_t *ret_size)
{
    size_t size = *ret_size / (3 * (size_t)PART_SIZE) * (3 * (size_t)PART_SIZE);
    for (const unsigned char *end = at + size; at < end; at += 2 * (size_t)PART_SIZE) {
        uint32_t second = 0;
        uint32_t third = 0;
        for (const unsigned char *part_end = at + PART_SIZE; at < part_end; at += 8) {
            crc = CRC_8(crc, load_8(at));
            second = CRC_8(second, load_8(at + PART_SIZE));
            third = CRC_8(third, load_8(at + 2 * (size_t)PART_SIZE));
        }
        crc = add_zeros(crc, BEHIND_2_PARTS) ^ add_zeros(second, BEHIND_1_PART) ^ third;
    }
    *ret_size = size;
    return crc;
}

#else

static uint32_t take_parts(uint32_t crc, const unsigned char *at, size_t *ret_size)
{
    (void)at;
    *ret_size = 0;
    return crc;
}

#endif

CRC_TARGET static uint32_t crc32c_fast(uint32_t crc, const unsigned char *at, size_t size)
{
    size_t taken = size;
    crc = take_parts(~crc, at, &taken);
    at += taken;
    size -= taken;
    for (; size >= sizeof(uint64_t); size -= sizeof(uint64_t), at += sizeof(uint64_t)) {
        crc = CRC_8(crc, load_8(at));
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
