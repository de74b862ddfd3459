/* encoding.h - text in UTF-16 or UTF-32 becomes UTF-8, over the C library's iconv. */
#pragma once

#include "buf.h"

/* The encoding that the first bytes of a JSON text give away (RFC 4627 section 3, and byte order
 * marks); NULL for UTF-8. */
const char *encoding_sniff(struct str text);

/* Appends the text in UTF-8. False when it is not well-formed, or the encoding is not known. */
bool encoding_to_utf8(struct str text, const char *encoding, struct buf *into);
