/* lake_check_internal.h - the parts of a check that its files share; for lake_check*.c only.
 *   lake_check.c         passes, wants, sections
 *   lake_check_frame.c   where records begin and end: lines, elements of an array
 *   lake_check_csv.c     the same for CSV, whose records become JSON here
 *   lake_check_fast.c    one record of the usual shape
 *   lake_check_record.c  one record of any shape, with all that may be wrong with it
 *   lake_check_value.c   what a value is; which day it means */
#pragma once

#include "lake_check.h"
#include "lake_rows_line.h"
#include "map.h"

/* A name that the schema lacks. A record that turned out bad may leave one with nothing seen. */
struct check_new {
    char *name;
    char *folded;
    size_t name_size;
    unsigned saw;
    const char *sql_type;
};

/* The value of one column, or new name, in the record at hand. */
struct check_slot {
    uint64_t record; /* the number of the record that this is of */
    struct json_span key;
    struct json_span value;
};

/* What the fast way knows of a column, made when it is met first. */
struct check_column {
    char key_start[16]; /* of `key`, so that a short one needs no look elsewhere */
    char prefix[16];    /* ,"cN": */
    unsigned prefix_size;
    unsigned char class;
    bool exact;
    uint32_t next;   /* the place of the column that followed last time */
    uint64_t record; /* the number of the record that had it last */
    size_t key_size; /* 0: not met yet */
    char *key;       /* "name": */
};

struct check_known {
    char *folded;
    size_t folded_size;
    char *sql_type;
};

/* Where a JSON body is. */
enum check_json {
    CHECK_JSON_START,
    CHECK_JSON_FIRST,   /* after the bracket that opens the array */
    CHECK_JSON_ELEMENT, /* after a comma */
    CHECK_JSON_NEXT,    /* after an element */
    CHECK_JSON_DONE
};

struct check_csv_field {
    char *key; /* the name as a JSON string, and a colon */
    size_t key_size;
    char *name;
    size_t name_size;
    bool shadowed; /* a later field has the same name, and wins */
    bool plain;    /* what looks like a number or boolean is one */
};

/* One field of the CSV record at hand. */
struct check_csv_cell {
    struct str text; /* without the quotes around it */
    bool quoted;
    bool doubled; /* holds quotes that are written twice */
};

struct check_csv {
    struct check_csv_field *fields;
    size_t fields_count;
    struct check_csv_cell *cells;
    size_t cells_capacity;
    struct buf record; /* as JSON */
    struct buf text;
};

/* Where the check stands: kept when a pass counts, restored when it does not. */
struct check_place {
    uint64_t records;
    uint64_t bytes;
    enum check_json json;
    bool header; /* CSV: it has been read */
};

struct lake_check {
    struct lake_check_options options;
    struct check_place place;
    const struct lake_schema *schema; /* of the last pass */
    bool clean;                       /* that was good, and found nothing to note */

    struct check_slot *slots; /* columns, then new names */
    size_t slots_capacity;
    uint32_t *touched; /* the slots of the record at hand, in its order */
    size_t touched_count;
    uint64_t record_number;
    unsigned *saw; /* by column: values that did not fit */
    struct check_new *news;
    size_t news_count;
    size_t news_capacity;
    struct map news_places;

    struct check_column *columns;
    const struct check_column *partition; /* or NULL: all rows go to one day */
    uint32_t first;                       /* the column that came first last time */
    char *fast_end;

    struct buf *lines; /* of the options, or own_lines */
    struct buf own_lines;
    struct line_writer writer;
    struct buf name;
    struct buf rest;
    struct lake_section *sections;
    size_t sections_count;
    size_t sections_capacity;
    struct lake_want *wants;
    struct check_csv csv;
    struct check_known *known;
    size_t known_count;
};

/* One pass. `bad` is called in a second run over the same bytes, when it is known that the pass
 * counts. */
struct pass {
    struct lake_check *check;
    const struct lake_schema *schema;
    struct str bytes;
    bool last;
    bool loud;
    struct check_place place;
    size_t lines_start;     /* in check->lines: what is before is not of this pass */
    const char *utf8_until; /* the first byte that is no UTF-8, or the end */
    bool wanting;
    uint64_t bad_count;
    uint64_t rows;
    size_t used;
    struct lake_bad_record *ret_bad;
};

/* ---- lake_check.c ---- */

/* Notes a bad record; false when the request ends with it. */
bool pass_bad(struct pass *pass, struct str record, const char *at, const char *reason,
              struct err *err) MUST_CHECK;
/* A line has been written from `line_start` on; it belongs to this day. */
bool pass_row(struct pass *pass, size_t line_start, int32_t day, struct err *err) MUST_CHECK;
/* Whether a record that the fast way has read may stand as it is; if so, it does. */
bool pass_take_fast(struct pass *pass, const char *start, const char *end, int32_t day);
/* What begins here needs more bytes than there are: the pass ends, unless it is too large as it
 * is. */
bool pass_unfinished(struct pass *pass, const char *at, struct err *err) MUST_CHECK;
bool pass_record_size(struct pass *pass, size_t size, struct err *err) MUST_CHECK;
/* Where these bytes are no UTF-8, or NULL; bytes before them are done with. */
const char *pass_utf8_problem(struct pass *pass, const char *start, const char *end);

/* ---- lake_check_frame.c, lake_check_csv.c ---- */

bool pass_ndjson(struct pass *pass, struct err *err) MUST_CHECK;
bool pass_json(struct pass *pass, struct err *err) MUST_CHECK;
bool pass_csv(struct pass *pass, struct err *err) MUST_CHECK;
void check_csv_finish(struct check_csv *csv);

/* ---- lake_check_record.c ---- */

enum check_found {
    CHECK_GOOD,
    CHECK_MALFORMED, /* not JSON: where it ends is a guess */
    CHECK_BAD        /* JSON, and yet no record */
};
struct check_problem {
    const char *at; /* in what came */
    char reason[200];
};
/* One record: `json` is its text, `shown` how it came (the same, but for CSV). A good one has
 * become a line, or wants of the schema. */
enum check_found check_record(struct pass *pass, struct str json, struct str shown,
                              int32_t *ret_day, struct check_problem *ret_problem);
/* The same, and what follows from it. */
bool pass_record(struct pass *pass, struct str json, struct str shown, struct err *err) MUST_CHECK;

/* ---- lake_check_fast.c ---- */

/* A record that is plain and good: written behind the lines, to be taken with pass_take_fast, and
 * where it ends. NULL: the slow way has to look at it. In a line a line end is no white space. */
const char *check_fast_line(struct pass *pass, const char *at, const char *end, int32_t *ret_day);
const char *check_fast_element(struct pass *pass, const char *at, const char *end,
                               int32_t *ret_day);
/* For the schema that check->schema is, or was. */
void check_fast_prepare(struct lake_check *check);
void check_fast_forget(struct lake_check *check);

/* ---- lake_check_value.c ---- */

unsigned check_look_at(struct json_span value);
/* Whether the text is exactly one number or boolean of JSON. */
bool check_plain_value(struct str text);

enum check_day {
    CHECK_DAY_KNOWN,
    CHECK_DAY_MISSING,
    CHECK_DAY_WRONG
};
enum check_day check_day_of(const struct lake_schema_column *column, struct json_span value,
                            int32_t *ret_day);
