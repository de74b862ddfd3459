#include "api_ingest.h"

enum {
    DATE_ECHO_MAX = 200
};

void ingest_add_problem(struct problems *problems, const char *type, const char *field,
                        int64_t index, const char *message, struct json_span input)
{
    problems_add(problems, &(struct problem){.type = type,
                                             .place = "body",
                                             .field = field,
                                             .index = index,
                                             .message = str_of(message),
                                             .input = input});
}

void ingest_add_value_error(struct problems *problems, const char *field, const struct buf *reason,
                            struct json_span input)
{
    struct buf message;
    buf_init(&message, INGEST_REASON_SIZE_MAX);
    buf_append_text(&message, "Value error, ");
    buf_append(&message, buf_str(reason));
    problems_add(problems, &(struct problem){.type = "value_error",
                                             .place = "body",
                                             .field = field,
                                             .index = -1,
                                             .message = buf_str(&message),
                                             .input = input,
                                             .context = "{\"error\":{}}"});
    buf_finish(&message);
}

bool ingest_find_member(struct problems *problems, struct json_span body, const char *name,
                        struct json_span *ret_value)
{
    if (json_find(body, str_of(name), ret_value)) {
        return true;
    }
    ingest_add_problem(problems, "missing", name, -1, "Field required", body);
    return false;
}

bool ingest_check_names(struct json_span record, struct buf *reason)
{
    struct json_cursor cursor = json_open(record);
    struct json_span key;
    struct json_span value;
    struct buf name;
    buf_init(&name, WRITE_TEXT_SIZE_MAX);
    bool good = true;
    while (good && json_next(&cursor, &key, &value)) {
        buf_reset(&name);
        (void)json_unescape(key, &name);
        if (buf_failed(&name)) {
            buf_append_text(reason, "Column name too long");
            good = false;
        } else {
            good = ingest_check_column(buf_str(&name), reason);
        }
    }
    buf_finish(&name);
    return good;
}

bool ingest_settle_date(struct str text, struct lake_date *ret_date, struct buf *reason)
{
    if (ingest_parse_date(text, ret_date)) {
        return true;
    }
    buf_append_text(reason, "Invalid date format: ");
    buf_append(reason, str_first(text, DATE_ECHO_MAX));
    buf_append_text(reason, ". Expected YYYY-MM-DD");
    return false;
}

bool ingest_query_table(struct request *request, struct problems *problems, struct buf *table)
{
    if (http_query_parameter(request->exchange, "table_name", table)) {
        return true;
    }
    problems_add(problems, &(struct problem){.type = "missing",
                                             .place = "query",
                                             .field = "table_name",
                                             .index = -1,
                                             .message = STR("Field required")});
    return false;
}

void ingest_word_bad(const struct lake_writer *writer, struct err *err)
{
    const struct lake_bad_record *bad = lake_writer_bad(writer);
    if (err->kind == ERR_UNPROCESSABLE && bad != NULL) {
        (void)err_set(err, ERR_INVALID, "record %llu: %s", (unsigned long long)bad->index,
                      bad->reason);
    }
}
