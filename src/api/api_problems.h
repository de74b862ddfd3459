/* api_problems.h - the 422 answers of the ingest personality: a list of what is wrong, one entry
 * per field. Shape: {"detail":[{"type","loc":[...],"msg","input","ctx"?}]} (contracts/ingest.md
 * section 2.2). `input` echoes the offending value while it is small, valid JSON; else its first
 * bytes as text. */
#pragma once

#include "api_internal.h"

struct problems {
    struct buf body;
    struct json_writer writer;
    size_t count; /* as many are listed, at most 1,000; further ones are dropped */
};

void problems_init(struct problems *problems);
void problems_finish(struct problems *problems);

struct problem {
    const char *type;
    const char *place; /* "body" or "query" */
    const char *field; /* NULL: the place itself */
    int64_t index;     /* of a record; -1 for none */
    struct str message;
    struct json_span input; /* text.ptr NULL: null */
    const char *context;    /* raw JSON of ctx; NULL for none */
};
void problems_add(struct problems *problems, const struct problem *problem);
/* Ends the list and sends it as 422. */
void problems_reply(struct problems *problems, struct request *request);

/* The body as JSON in request->body. False when a reply has been sent: 400 for text that is no JSON
 * text at all, 422 for malformed JSON, a missing body, or one that is not an object. `other`
 * collects problems found before, which a missing body joins. */
bool ingest_read_body(struct request *request, struct problems *other);

/* ---- names and dates (contracts/ingest.md section 3): the message is appended to `message` when
 * the rule is broken ---- */
bool ingest_check_table(struct str name, struct buf *message); /* of a table that takes records */
/* Of a table that may be there: one of dead letters is called longer than its table. */
bool ingest_check_known_table(struct str name, struct buf *message);
bool ingest_check_column(struct str name, struct buf *message);
/* %Y-%m-%d as the original reads it: month and day of one or two digits. */
bool ingest_parse_date(struct str text, struct lake_date *ret_date);
