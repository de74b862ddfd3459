#include "store_xml.h"

enum {
    DEPTH_MAX = 16,
    TEXT_BYTES_MAX = 64 * 1024
};

struct reader {
    struct str rest;
    struct str open[DEPTH_MAX];
    size_t depth;
    bool seen_root;
    struct buf text;
    store_xml_fn *element;
    void *context;
};

static bool fail(struct err *err, const char *what)
{
    (void)err_set(err, ERR_STORE, "the store sent XML that cannot be read");
    err_add_detail(err, "%s", what);
    return false;
}

/* --- text and entities --- */

static void append_code_point(struct buf *buf, uint32_t code)
{
    if (code < 0x80) {
        buf_append_byte(buf, (char)code);
    } else if (code < 0x800) {
        buf_append_byte(buf, (char)(0xc0 | code >> 6));
        buf_append_byte(buf, (char)(0x80 | (code & 0x3f)));
    } else if (code < 0x10000) {
        buf_append_byte(buf, (char)(0xe0 | code >> 12));
        buf_append_byte(buf, (char)(0x80 | (code >> 6 & 0x3f)));
        buf_append_byte(buf, (char)(0x80 | (code & 0x3f)));
    } else {
        buf_append_byte(buf, (char)(0xf0 | code >> 18));
        buf_append_byte(buf, (char)(0x80 | (code >> 12 & 0x3f)));
        buf_append_byte(buf, (char)(0x80 | (code >> 6 & 0x3f)));
        buf_append_byte(buf, (char)(0x80 | (code & 0x3f)));
    }
}

static bool append_numeric(struct buf *buf, struct str digits)
{
    bool hexadecimal = str_starts_nocase(digits, STR("x"));
    digits = str_from(digits, hexadecimal ? 1 : 0);
    uint32_t base = hexadecimal ? 16 : 10;
    uint32_t code = 0;
    for (size_t i = 0; i < digits.len; i++) {
        char byte = digits.ptr[i];
        char lower = (char)(byte | 0x20);
        uint32_t value = byte >= '0' && byte <= '9'     ? (uint32_t)(byte - '0')
                         : lower >= 'a' && lower <= 'f' ? (uint32_t)(lower - 'a' + 10)
                                                        : 99;
        if (value >= base || code > 0x10ffff) {
            return false;
        }
        code = code * base + value;
    }
    if (digits.len == 0 || code == 0 || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) {
        return false;
    }
    append_code_point(buf, code);
    return true;
}

static bool append_entity(struct buf *buf, struct str name)
{
    static const struct {
        const char *name;
        char byte;
    } known[] = {{"amp", '&'}, {"lt", '<'}, {"gt", '>'}, {"quot", '"'}, {"apos", '\''}};
    if (name.len > 1 && name.ptr[0] == '#') {
        return append_numeric(buf, str_from(name, 1));
    }
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        if (str_equal(name, str_of(known[i].name))) {
            buf_append_byte(buf, known[i].byte);
            return true;
        }
    }
    return false;
}

static bool take_text(struct reader *reader, struct str text, struct err *err)
{
    if (reader->depth == 0) {
        return str_blank(text) || fail(err, "text outside of the document");
    }
    while (text.len > 0) {
        size_t ampersand = str_find_byte(text, '&');
        buf_append(&reader->text, str_first(text, ampersand));
        if (ampersand == text.len) {
            break;
        }
        text = str_from(text, ampersand + 1);
        size_t semicolon = str_find_byte(str_first(text, 10), ';');
        if (semicolon >= 10 || semicolon == text.len ||
            !append_entity(&reader->text, str_first(text, semicolon))) {
            return fail(err, "an entity that is not known");
        }
        text = str_from(text, semicolon + 1);
    }
    return !buf_failed(&reader->text) || fail(err, "an element with too much text");
}

/* --- tags --- */

/* Cuts *rest behind `end`; what was before it goes to ret_inner. */
static bool cut_at(struct str *rest, struct str end, struct str *ret_inner)
{
    size_t at = str_find(*rest, end);
    if (at == rest->len) {
        return false;
    }
    *ret_inner = str_first(*rest, at);
    *rest = str_from(*rest, at + end.len);
    return true;
}

/* Cuts a tag at its `>`, which does not count within quotes. */
static bool cut_tag(struct str *rest, struct str *ret_inner)
{
    char quote = '\0';
    for (size_t i = 0; i < rest->len; i++) {
        char byte = rest->ptr[i];
        if (quote != '\0') {
            quote = byte == quote ? '\0' : quote;
        } else if (byte == '"' || byte == '\'') {
            quote = byte;
        } else if (byte == '>') {
            *ret_inner = str_first(*rest, i);
            *rest = str_from(*rest, i + 1);
            return true;
        }
    }
    return false;
}

static struct str tag_name(struct str inner)
{
    size_t len = 0;
    while (len < inner.len && strchr(" \t\r\n/", inner.ptr[len]) == NULL) {
        len++;
    }
    struct str name = str_first(inner, len);
    size_t colon = str_find_byte(name, ':');
    return colon == name.len ? name : str_from(name, colon + 1);
}

static bool open_element(struct reader *reader, struct str name, struct err *err)
{
    if (name.len == 0 || (reader->depth == 0 && reader->seen_root)) {
        return fail(err, "a tag in the wrong place");
    }
    if (reader->depth == DEPTH_MAX) {
        return fail(err, "elements nested too deeply");
    }
    reader->seen_root = true;
    reader->open[reader->depth++] = name;
    buf_reset(&reader->text);
    return true;
}

static bool close_element(struct reader *reader, struct str name, struct err *err)
{
    if (reader->depth == 0 || !str_equal(reader->open[reader->depth - 1], name)) {
        return fail(err, "a closing tag without its opening tag");
    }
    reader->depth--;
    struct str parent = reader->depth == 0 ? STR("") : reader->open[reader->depth - 1];
    bool good = reader->element(reader->context, parent, name, buf_str(&reader->text), err);
    buf_reset(&reader->text);
    return good;
}

/* What follows a `<`. */
static bool take_markup(struct reader *reader, struct err *err)
{
    struct str inner;
    if (str_starts(reader->rest, STR("!--"))) {
        reader->rest = str_from(reader->rest, 3);
        return cut_at(&reader->rest, STR("-->"), &inner) || fail(err, "an open comment");
    }
    if (str_starts(reader->rest, STR("?"))) {
        return cut_at(&reader->rest, STR("?>"), &inner) || fail(err, "an open declaration");
    }
    if (str_starts(reader->rest, STR("![CDATA["))) {
        reader->rest = str_from(reader->rest, 8);
        if (reader->depth == 0 || !cut_at(&reader->rest, STR("]]>"), &inner)) {
            return fail(err, "a CDATA section in the wrong place");
        }
        buf_append(&reader->text, inner);
        return !buf_failed(&reader->text) || fail(err, "an element with too much text");
    }
    if (str_starts(reader->rest, STR("!"))) {
        return fail(err, "a document type");
    }
    if (!cut_tag(&reader->rest, &inner)) {
        return fail(err, "an open tag");
    }
    if (str_starts(inner, STR("/"))) {
        return close_element(reader, tag_name(str_from(inner, 1)), err);
    }
    struct str name = tag_name(inner);
    return open_element(reader, name, err) &&
           (!str_ends(inner, STR("/")) || close_element(reader, name, err));
}

bool store_xml_read(struct str document, store_xml_fn *element, void *context, struct err *err)
{
    struct reader reader = {.rest = document, .element = element, .context = context};
    if (str_starts(document, STR("\xef\xbb\xbf"))) {
        reader.rest = str_from(document, 3);
    }
    buf_init(&reader.text, TEXT_BYTES_MAX);
    bool good = true;
    while (good && reader.rest.len > 0) {
        size_t tag = str_find_byte(reader.rest, '<');
        good = take_text(&reader, str_first(reader.rest, tag), err);
        reader.rest = str_from(reader.rest, tag);
        if (good && reader.rest.len > 0) {
            reader.rest = str_from(reader.rest, 1);
            good = take_markup(&reader, err);
        }
    }
    if (good && (reader.depth > 0 || !reader.seen_root)) {
        good = fail(err, "the document ends too early");
    }
    buf_finish(&reader.text);
    return good;
}

void store_xml_append_escaped(struct buf *buf, struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        char byte = text.ptr[i];
        if (byte == '&') {
            buf_append_text(buf, "&amp;");
        } else if (byte == '<') {
            buf_append_text(buf, "&lt;");
        } else if (byte == '>') {
            buf_append_text(buf, "&gt;");
        } else if (byte == '"') {
            buf_append_text(buf, "&quot;");
        } else {
            buf_append_byte(buf, byte);
        }
    }
}
