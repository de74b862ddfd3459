#include "api_format.h"

enum {
    PARAMETER_SIZE_MAX = 256,
    QUALITY_MAX = 1000
};

/* clang-format off */
static const struct {
    const char *name;
    enum worker_format format;
    const char *content_type;
    const char *also; /* another media type by which clients ask for it */
} formats[] = {
    { "json",    WORKER_FORMAT_JSON,    "application/json",                     "application/*" },
    { "ndjson",  WORKER_FORMAT_NDJSON,  "application/x-ndjson",                 "application/jsonl" },
    { "csv",     WORKER_FORMAT_CSV,     "text/csv; charset=utf-8; header=present", "text/csv" },
    { "arrow",   WORKER_FORMAT_ARROW,   "application/vnd.apache.arrow.stream",  "application/vnd.apache.arrow" },
    { "parquet", WORKER_FORMAT_PARQUET, "application/vnd.apache.parquet",       "application/x-parquet" },
};
/* clang-format on */

const char *format_content_type(enum worker_format format)
{
    for (size_t i = 1; i < COUNT_OF(formats); i++) {
        if (formats[i].format == format) {
            return formats[i].content_type;
        }
    }
    return NULL;
}

/* 0.5 as 500; what is no such number counts as 1. */
static unsigned read_quality(struct str text)
{
    if (text.len < 2 || text.ptr[0] != '0' || text.ptr[1] != '.') {
        return str_equal(text, STR("0")) ? 0 : QUALITY_MAX;
    }
    unsigned quality = 0;
    unsigned unit = QUALITY_MAX / 10;
    for (size_t i = 2; i < text.len && unit > 0; i++, unit /= 10) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9') {
            return QUALITY_MAX;
        }
        quality += unit * (unsigned)(text.ptr[i] - '0');
    }
    return quality;
}

static unsigned quality_of(struct str parameters)
{
    struct str part;
    while (parameters.ptr != NULL && str_next_part(&parameters, ';', &part)) {
        part = str_trim(part);
        if (str_starts_nocase(part, STR("q="))) {
            return read_quality(str_from(part, 2));
        }
    }
    return QUALITY_MAX;
}

static bool is_media_type(struct str type, const char *full)
{
    struct str bare = str_of(full);
    return str_equal_nocase(type, str_first(bare, str_find_byte(bare, ';')));
}

/* The format of a media type; false for one that is none of ours. */
static bool find_media_type(struct str type, enum worker_format *ret_format)
{
    for (size_t i = 0; i < COUNT_OF(formats); i++) {
        if (is_media_type(type, formats[i].content_type) || is_media_type(type, formats[i].also)) {
            *ret_format = formats[i].format;
            return true;
        }
    }
    *ret_format = WORKER_FORMAT_JSON;
    return str_equal(type, STR("*/*"));
}

/* The type with the highest quality, of equal ones the first. */
static enum worker_format choose_accepted(struct str accept)
{
    enum worker_format best = WORKER_FORMAT_JSON;
    unsigned best_quality = 0;
    struct str item;
    while (accept.ptr != NULL && str_next_part(&accept, ',', &item)) {
        size_t end = str_find_byte(item, ';');
        enum worker_format format;
        unsigned quality = quality_of(str_from(item, end));
        if (quality > best_quality && find_media_type(str_trim(str_first(item, end)), &format)) {
            best = format;
            best_quality = quality;
        }
    }
    return best;
}

bool format_choose(const struct request *request, enum worker_format *ret_format, struct err *err)
{
    struct buf name;
    buf_init(&name, PARAMETER_SIZE_MAX);
    bool given = http_query_parameter(request->exchange, "format", &name);
    bool found = !given;
    if (!given) {
        *ret_format = choose_accepted(http_header(request->exchange, "Accept"));
    }
    for (size_t i = 0; given && !found && i < COUNT_OF(formats); i++) {
        found = str_equal_nocase(buf_str(&name), str_of(formats[i].name));
        *ret_format = formats[i].format;
    }
    buf_finish(&name);
    return found ||
           err_set(err, ERR_INVALID, "format must be one of json, ndjson, csv, arrow, parquet");
}
