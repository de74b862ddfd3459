/* lake_cut.h - which lines of a plan go to which object; for lake*.c only.
 * Promise   an object has lines of one day, and of not more than bytes_max unless a single section
 *           is larger: cuts are between the sections of records, never within one, so that the same
 *           records and cuts always give the same objects.
 * Owner     the caller: lake_cuts_finish.   Threads  any.
 * Limits    a section is lines of one day of one ROWS record: 2 MiB, or one line. */
#pragma once

#include "lake_table.h"

#define LAKE_CUT_REST UINT64_MAX

/* The next `rows` rows of the day, or all that are left of it. */
struct lake_cut {
    int32_t day;
    uint64_t rows;
};

/* Ascending by day; of one day in the order of positions. */
struct lake_cuts {
    struct lake_cut *items;
    size_t count;
};

void lake_cuts_finish(struct lake_cuts *cuts); /* accepts zeroed memory */

/* One for each day there is; `day` (may be NULL) puts all rows there. */
struct lake_cuts lake_cuts_by_day(const struct lake_tail_record *records, size_t records_count,
                                  const int32_t *day);
/* As an earlier plan had them. */
struct lake_cuts lake_cuts_of_plan(const struct lake_plan *plan);

/* The first `fixed` stay; what is larger than bytes_max of the others is cut. */
struct lake_cuts lake_cuts_refine(const struct lake_cuts *cuts, size_t fixed, uint64_t bytes_max,
                                  const struct lake_tail_record *records, size_t records_count,
                                  const int32_t *day);

/* Walks over sections in the order of positions, and says which cut each belongs to. */
struct lake_cutter {
    const struct lake_cuts *cuts;
    size_t *open;   /* for the first cut of a day: the one that is being filled */
    uint64_t *left; /* rows that each still takes */
    size_t first;   /* of the day of the last section: the next is most often of the same */
};
void lake_cutter_init(struct lake_cutter *cutter, const struct lake_cuts *cuts);
void lake_cutter_finish(struct lake_cutter *cutter);
/* False: there is no cut for the day. */
bool lake_cutter_next(struct lake_cutter *cutter, int32_t day, uint64_t rows,
                      size_t *ret_index) MUST_CHECK;

/* Sections of a record, also of one that has none: `visit` false ends it. */
bool lake_record_visit(const struct lake_tail_record *record, const int32_t *day,
                       bool (*visit)(void *context, const struct lake_section *section),
                       void *context) MUST_CHECK;
