/* worker_json_text.h - a text as a JSON string, for results: the same bytes as json_append_string,
 * sooner when nothing in it has to be escaped. */
#pragma once

#include "buf.h"

void json_text_append(struct buf *out, struct str text);
