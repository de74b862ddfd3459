/* store_xml.h - a small reader for the XML that S3 answers with.
 * Promise   any bytes either parse or are ERR_STORE; no entity but the five and numeric ones, no
 * DTD, nothing is fetched. Elements are told by their name without a prefix; attributes are
 * skipped. Limits    depth 16, text of one element 64 KiB. */
#pragma once

#include "buf.h"
#include "err.h"

/* Called at the end of each element with its parent's name ("" for the outermost) and the text
 * since the last tag: the whole content of a leaf. Returns false, with err set, to stop. */
typedef bool store_xml_fn(void *context, struct str parent, struct str name, struct str text,
                          struct err *err);

bool store_xml_read(struct str document, store_xml_fn *element, void *context,
                    struct err *err) MUST_CHECK;

/* Text for the inside of an element. */
void store_xml_append_escaped(struct buf *buf, struct str text);
