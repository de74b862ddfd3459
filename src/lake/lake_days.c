#include "lake_days.h"

#include "mem.h"

#include <string.h>

static size_t place_of(const struct lake_days *days, int32_t day)
{
    size_t first = 0;
    size_t end = days->count;
    while (first < end) {
        size_t middle = first + (end - first) / 2;
        if (days->items[middle] < day) {
            first = middle + 1;
        } else {
            end = middle;
        }
    }
    return first;
}

bool lake_days_add(struct lake_days *days, int32_t day, size_t count_max)
{
    size_t place = place_of(days, day);
    if (place < days->count && days->items[place] == day) {
        return true;
    }
    if (days->count >= count_max) {
        return false;
    }
    days->items = mem_grow(days->items, days->count, 1, &days->capacity, sizeof(*days->items));
    memmove(days->items + place + 1, days->items + place,
            (days->count - place) * sizeof(*days->items));
    days->items[place] = day;
    days->count++;
    return true;
}

void lake_days_finish(struct lake_days *days)
{
    mem_free(days->items);
    *days = (struct lake_days){0};
}
