/* nearest.h - which known word somebody may have meant by one that is not known.
 * Promise   the nearest word by edit distance (a letter too many, missing or wrong, or two swapped,
 *           counts as one), the first one of several; none when more than a third of the letters
 *           would have to change. Case does not matter. Limits  words of up to 63 bytes. */
#pragma once

#include "str.h"

struct nearest {
    struct str wanted;
    const char *found; /* NULL when nothing is near */
    size_t distance;
};

struct nearest nearest_to(struct str wanted);
void nearest_try(struct nearest *nearest, const char *word);
