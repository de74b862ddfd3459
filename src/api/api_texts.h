/* api_texts.h - what was found out about a statement's text, for who sends the same again.
 * Promise   the answer is that of worker_text.h, which depends on nothing but the text: what is
 *           remembered is never out of date.
 * Owner     struct api owns one; texts are copied.   Threads  any.
 * Limits    256 texts of at most 8 KiB; longer ones are looked at each time. */
#pragma once

#include "str.h"

struct texts;

enum text_question {
    TEXT_IS_REPEATABLE,   /* worker_is_repeatable */
    TEXT_ONLY_READS,      /* worker_only_reads */
    TEXT_MAY_READ_TABLES, /* worker_may_read_tables */
};

struct texts *texts_create(void);
void texts_destroy(struct texts *texts);
bool texts_ask(struct texts *texts, enum text_question question, struct str text);
