#include "lake_cut.h"

#include "mem.h"

#include <stdlib.h>

void lake_cuts_finish(struct lake_cuts *cuts)
{
    mem_free(cuts->items);
    *cuts = (struct lake_cuts){0};
}

bool lake_record_visit(const struct lake_tail_record *record, const int32_t *day,
                       bool (*visit)(void *context, const struct lake_section *section),
                       void *context)
{
    struct lake_section whole = {
        .day = record->day,
        .rows = record->rows,
        .size = record->place.size >= record->lines_offset
                    ? record->place.size - record->lines_offset
                    : 0,
    };
    bool parts = record->sections != NULL;
    bool good = true;
    for (uint32_t i = 0; good && i < (parts ? record->sections_count : 1); i++) {
        struct lake_section section = parts ? record->sections[i] : whole;
        section.day = day != NULL ? *day : section.day;
        good = visit(context, &section);
    }
    return good;
}

/* ---- which cut a section belongs to ---- */

void lake_cutter_init(struct lake_cutter *cutter, const struct lake_cuts *cuts)
{
    *cutter = (struct lake_cutter){.cuts = cuts};
    cutter->open = mem_alloc_array(cuts->count + 1, sizeof(*cutter->open));
    cutter->left = mem_alloc_array(cuts->count + 1, sizeof(*cutter->left));
    for (size_t i = 0; i < cuts->count; i++) {
        cutter->open[i] = i;
        cutter->left[i] = cuts->items[i].rows;
    }
}

void lake_cutter_finish(struct lake_cutter *cutter)
{
    mem_free(cutter->open);
    mem_free(cutter->left);
    *cutter = (struct lake_cutter){0};
}

static bool find_day(struct lake_cutter *cutter, int32_t day)
{
    const struct lake_cut *items = cutter->cuts->items;
    if (cutter->cuts->count > 0 && items[cutter->first].day == day) {
        return true;
    }
    size_t first = 0;
    size_t end = cutter->cuts->count;
    while (first < end) {
        size_t middle = first + (end - first) / 2;
        if (items[middle].day < day) {
            first = middle + 1;
        } else {
            end = middle;
        }
    }
    bool found = first < cutter->cuts->count && items[first].day == day;
    cutter->first = found ? first : cutter->first;
    return found;
}

bool lake_cutter_next(struct lake_cutter *cutter, int32_t day, uint64_t rows, size_t *ret_index)
{
    if (!find_day(cutter, day)) {
        return false;
    }
    size_t index = cutter->open[cutter->first];
    *ret_index = index;
    if (cutter->left[index] != LAKE_CUT_REST) {
        cutter->left[index] -= rows < cutter->left[index] ? rows : cutter->left[index];
    }
    bool more = index + 1 < cutter->cuts->count && cutter->cuts->items[index + 1].day == day;
    cutter->open[cutter->first] += cutter->left[index] == 0 && more ? 1 : 0;
    return true;
}

/* ---- by day ---- */

struct days {
    int32_t *items;
    size_t count;
    size_t capacity;
};

static bool note_day(void *context, const struct lake_section *section)
{
    struct days *days = context;
    if (days->count == 0 || days->items[days->count - 1] != section->day) {
        days->items = mem_grow(days->items, days->count, 1, &days->capacity, sizeof(*days->items));
        days->items[days->count++] = section->day;
    }
    return true;
}

static int compare_days(const void *a, const void *b)
{
    const int32_t *left = a;
    const int32_t *right = b;
    return *left < *right ? -1 : *left > *right;
}

struct lake_cuts lake_cuts_by_day(const struct lake_tail_record *records, size_t records_count,
                                  const int32_t *day)
{
    struct days days = {0};
    for (size_t i = 0; i < records_count; i++) {
        (void)!lake_record_visit(&records[i], day, note_day, &days);
    }
    if (days.count > 0) {
        qsort(days.items, days.count, sizeof(*days.items), compare_days);
    }
    struct lake_cuts cuts = {.items = mem_alloc_array(days.count + 1, sizeof(*cuts.items))};
    for (size_t i = 0; i < days.count; i++) {
        if (i == 0 || days.items[i] != days.items[i - 1]) {
            cuts.items[cuts.count++] = (struct lake_cut){days.items[i], LAKE_CUT_REST};
        }
    }
    mem_free(days.items);
    return cuts;
}

struct lake_cuts lake_cuts_of_plan(const struct lake_plan *plan)
{
    struct lake_cuts cuts = {.items = mem_alloc_array(plan->objects_count + 1, sizeof(*cuts.items)),
                             .count = plan->objects_count};
    for (size_t i = 0; i < plan->objects_count; i++) {
        cuts.items[i] = (struct lake_cut){plan->objects[i].day, plan->objects[i].rows};
    }
    return cuts;
}

/* ---- smaller ---- */

struct piece {
    size_t cut;
    uint64_t rows;
    uint64_t bytes;
};

struct refining {
    struct lake_cutter cutter;
    size_t fixed;
    uint64_t bytes_max;
    struct piece *open; /* of each cut; rows 0: none */
    struct piece *done; /* in the order in which they were full */
    size_t done_count;
    size_t done_capacity;
};

static void close_piece(struct refining *refining, struct piece *piece)
{
    if (piece->rows > 0) {
        refining->done = mem_grow(refining->done, refining->done_count, 1, &refining->done_capacity,
                                  sizeof(*refining->done));
        refining->done[refining->done_count++] = *piece;
        piece->rows = 0;
        piece->bytes = 0;
    }
}

static bool add_section(void *context, const struct lake_section *section)
{
    struct refining *refining = context;
    size_t cut;
    if (section->rows == 0 ||
        !lake_cutter_next(&refining->cutter, section->day, section->rows, &cut)) {
        return true;
    }
    struct piece *piece = &refining->open[cut];
    piece->cut = cut;
    if (cut >= refining->fixed && section->size > refining->bytes_max - piece->bytes) {
        close_piece(refining, piece);
    }
    piece->rows += section->rows;
    piece->bytes += cut < refining->fixed                 ? 0
                    : section->size < refining->bytes_max ? section->size
                                                          : refining->bytes_max;
    return true;
}

/* Those of one cut are in order already. */
static struct lake_cuts sort_pieces(const struct refining *refining, const struct lake_cuts *cuts)
{
    size_t *next = mem_alloc_array(cuts->count + 1, sizeof(*next));
    struct lake_cuts refined = {
        .items = mem_alloc_array(refining->done_count + 1, sizeof(*refined.items)),
        .count = refining->done_count,
    };
    for (size_t i = 0; i < refining->done_count; i++) {
        next[refining->done[i].cut + 1]++;
    }
    for (size_t i = 1; i <= cuts->count; i++) {
        next[i] += next[i - 1];
    }
    for (size_t i = 0; i < refining->done_count; i++) {
        const struct piece *piece = &refining->done[i];
        refined.items[next[piece->cut]++] =
            (struct lake_cut){cuts->items[piece->cut].day, piece->rows};
    }
    mem_free(next);
    return refined;
}

struct lake_cuts lake_cuts_refine(const struct lake_cuts *cuts, size_t fixed, uint64_t bytes_max,
                                  const struct lake_tail_record *records, size_t records_count,
                                  const int32_t *day)
{
    struct refining refining = {.fixed = fixed, .bytes_max = bytes_max};
    lake_cutter_init(&refining.cutter, cuts);
    refining.open = mem_alloc_array(cuts->count + 1, sizeof(*refining.open));
    for (size_t i = 0; i < records_count; i++) {
        (void)!lake_record_visit(&records[i], day, add_section, &refining);
    }
    for (size_t i = 0; i < cuts->count; i++) {
        close_piece(&refining, &refining.open[i]);
    }
    struct lake_cuts refined = sort_pieces(&refining, cuts);
    lake_cutter_finish(&refining.cutter);
    mem_free(refining.open);
    mem_free(refining.done);
    return refined;
}
