/* GET and PUT /tables/{name}: what people see and declare of a table. */
#include "api_write.h"

enum {
    DEPTH_MAX = 64,
    DESCRIPTION_SIZE_MAX = 8 << 20
};

static void queue(struct request *request)
{
    struct err err;
    if (!request_run(request, request->api->options.ingest_timeout_ms, NULL, &err)) {
        reply_error(request, &err);
    }
}

void table_show_check(struct request *request)
{
    struct err err;
    if (write_check_known_table(buf_str(&request->parameter), &err)) {
        queue(request);
    } else {
        reply_error(request, &err);
    }
}

void table_show_run(struct request *request)
{
    struct buf body;
    struct err err;
    buf_init(&body, DESCRIPTION_SIZE_MAX);
    if (lake_table_describe(request->api->options.lake, buf_str(&request->parameter),
                            request->cancel, &body, &err)) {
        reply_buf(request, 200, &body);
    } else {
        reply_error(request, &err);
    }
    buf_finish(&body);
}

static bool read_document(struct request *request, struct err *err)
{
    struct str text = http_body(request->exchange);
    struct json_scanner scanner;
    if (!write_check_known_table(buf_str(&request->parameter), err)) {
        return false;
    }
    if (!str_is_utf8(text)) {
        return err_set(err, ERR_INVALID, "the body is not UTF-8");
    }
    json_scanner_init(&scanner, text);
    scanner.depth_max = DEPTH_MAX;
    if (!json_scan_document(&scanner, &request->body, err)) {
        return err_set(err, ERR_INVALID, "the body is not JSON: %s at byte %zu", scanner.error_text,
                       scanner.error_offset);
    }
    return request->body.kind == JSON_OBJECT ||
           err_set(err, ERR_INVALID, "the body must be a JSON object");
}

void table_declare_check(struct request *request)
{
    struct err err;
    if (read_document(request, &err)) {
        queue(request);
    } else {
        reply_error(request, &err);
    }
}

void table_declare_run(struct request *request)
{
    struct err err;
    if (lake_table_declare(request->api->options.lake, buf_str(&request->parameter), request->body,
                           request->cancel, &err)) {
        table_show_run(request);
    } else {
        write_reply_error(request, &err);
    }
}
