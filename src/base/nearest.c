#include "nearest.h"

enum {
    WORD_LEN_MAX = 63
};

static char lower(char byte)
{
    return byte >= 'A' && byte <= 'Z' ? (char)(byte | 0x20) : byte;
}

static bool same(struct str a, size_t i, struct str b, size_t k)
{
    return lower(a.ptr[i]) == lower(b.ptr[k]);
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Optimal string alignment, row by row: cell k of row i is the distance of the first i letters of a
 * to the first k of b. */
static size_t distance(struct str a, struct str b)
{
    size_t rows[3][WORD_LEN_MAX + 1];
    assert(a.len <= WORD_LEN_MAX && b.len <= WORD_LEN_MAX);
    for (size_t k = 0; k <= b.len; k++) {
        rows[0][k] = k;
    }
    for (size_t i = 1; i <= a.len; i++) {
        size_t *row = rows[i % 3];
        const size_t *above = rows[(i + 2) % 3];
        const size_t *before = rows[(i + 1) % 3]; /* two above */
        row[0] = i;
        for (size_t k = 1; k <= b.len; k++) {
            size_t changed = above[k - 1] + (same(a, i - 1, b, k - 1) ? 0 : 1);
            row[k] = least(changed, least(above[k], row[k - 1]) + 1);
            if (i > 1 && k > 1 && same(a, i - 1, b, k - 2) && same(a, i - 2, b, k - 1)) {
                row[k] = least(row[k], before[k - 2] + 1);
            }
        }
    }
    return rows[a.len % 3][b.len];
}

struct nearest nearest_to(struct str wanted)
{
    return (struct nearest){.wanted = wanted, .distance = wanted.len / 3 + 1};
}

void nearest_try(struct nearest *nearest, const char *word)
{
    struct str known = str_of(word);
    if (nearest->wanted.len > WORD_LEN_MAX || known.len > WORD_LEN_MAX) {
        return;
    }
    size_t steps = distance(nearest->wanted, known);
    if (steps < nearest->distance) {
        nearest->distance = steps;
        nearest->found = word;
    }
}
