/* api_ingest.h - what the files of the ingest personality share. */
#pragma once

#include "api_problems.h"
#include "api_write.h"

enum {
    INGEST_REASON_SIZE_MAX = WRITE_TEXT_SIZE_MAX + 4096, /* a text, and what is wrong with it */
    INGEST_REPLY_SIZE_MAX = 8 << 20
};

/* 400 with a text that repeats what the client sent: it may hold a NUL, which struct err cannot. */
void ingest_reply_invalid(struct request *request, struct str text);

/* ---- fields (api_ingest_fields.c) ---- */
void ingest_add_problem(struct problems *problems, const char *type, const char *field,
                        int64_t index, const char *message, struct json_span input);
void ingest_add_value_error(struct problems *problems, const char *field, const struct buf *reason,
                            struct json_span input);
/* A member of the body; when it is absent that is noted, with the whole body as input. */
bool ingest_find_member(struct problems *problems, struct json_span body, const char *name,
                        struct json_span *ret_value);
/* The query's table_name; when it is absent that is noted. */
bool ingest_query_table(struct request *request, struct problems *problems, struct buf *table);
/* The rule of one record's names; the first bad one ends the search. */
bool ingest_check_names(struct json_span record, struct buf *reason);
/* False, with a reason, when the text is no date. */
bool ingest_settle_date(struct str text, struct lake_date *ret_date, struct buf *reason);
/* What a bad record is called in an answer of this personality: ERR_INVALID with the reason instead
 * of the lake's error, when it is about a record. */
void ingest_word_bad(const struct lake_writer *writer, struct err *err);
