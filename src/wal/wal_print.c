/* The log as text, for people: what `eider log` prints. */
#include "wal_internal.h"

#include "clock.h"
#include "digest.h"

#include <errno.h>
#include <inttypes.h>

struct printer {
    const struct wal_print *print;
    bool each_record;
    uint64_t records; /* of the log's user */
    uint64_t bytes;   /* of their payloads */
    uint64_t torn;
    struct buf line;
};

static void flush(struct printer *printer)
{
    if (printer->print->write != NULL) {
        printer->print->write(printer->print->context, buf_str(&printer->line));
    }
    buf_reset(&printer->line);
}

static void append_type(struct buf *line, unsigned type)
{
    if (type == WAL_TYPE_PROLOGUE) {
        buf_append_text(line, "prologue");
    } else if (type == WAL_TYPE_HEARTBEAT) {
        buf_append_text(line, "heartbeat");
    } else {
        buf_append_format(line, "type %u", type);
    }
}

static bool see_record(void *context, const struct wal_place *place,
                       const struct wal_record_header *header, struct str payload, struct err *err)
{
    struct printer *printer = context;
    const struct wal_print *print = printer->print;
    (void)err;
    if (header->type >= WAL_TYPE_FIRST) {
        printer->records++;
        printer->bytes += payload.len;
    }
    if (!printer->each_record) {
        return true;
    }
    buf_append_format(&printer->line, "  %" PRIu64 "  offset %u  ", place->sequence,
                      place->offset - WAL_RECORD_HEADER_SIZE);
    append_type(&printer->line, header->type);
    buf_append_format(&printer->line, "  %u bytes  durable to %" PRIu64, place->size,
                      header->durable);
    if (print->describe != NULL && header->type != WAL_TYPE_HEARTBEAT) {
        buf_append_text(&printer->line, "  ");
        print->describe(print->context, header->type, payload, &printer->line);
    }
    flush(printer);
    return true;
}

static void print_segment(struct printer *printer, const struct wal_scanned *segment)
{
    const struct wal_segment_header *header = &segment->header;
    char begun[CLOCK_ISO_SIZE];
    clock_format_iso(header->begun_ms, begun);
    buf_append_format(&printer->line,
                      "segment %" PRIu64 ": %" PRIu64 " bytes, begun %s, epoch %" PRIu64
                      ", first sequence %" PRIu64 ", before it %" PRIu64,
                      header->number, header->file_bytes, begun, header->epoch, header->first,
                      header->previous);
    if (header->replaces < header->number) {
        buf_append_format(&printer->line, ", replaces those from %" PRIu64, header->replaces);
    }
    if (segment->replaced) {
        buf_append_text(&printer->line, ", replaced by a later one");
    }
    flush(printer);
}

static void print_end(struct printer *printer, const struct wal_scan_end *end)
{
    buf_append_format(&printer->line, "  end at offset %" PRIu64, end->offset);
    if (end->torn > 0) {
        buf_append_format(&printer->line, ", then %" PRIu64 " torn, never acknowledged", end->torn);
    }
    flush(printer);
    printer->torn += end->torn;
}

/* All segments, also those after a damaged one; the first error counts. */
static bool print_segments(struct printer *printer, struct wal_scan *scan, struct err *err)
{
    bool good = true;
    for (size_t i = 0; i < scan->count; i++) {
        struct wal_scan_end end;
        struct err found;
        print_segment(printer, &scan->segments[i]);
        if (scan->segments[i].replaced) {
            continue;
        }
        if (wal_scan_segment(scan, i, see_record, printer, &end, &found)) {
            print_end(printer, &end);
            continue;
        }
        buf_append_format(&printer->line, "  %s", found.message);
        flush(printer);
        *err = good ? found : *err;
        good = false;
    }
    return good;
}

static bool print_log(struct printer *printer, const struct wal_folder *folder, struct err *err)
{
    struct wal_scan scan = {0};
    struct wal_identity identity;
    bool found;
    char writer[2 * WAL_WRITER_SIZE + 1];
    if (!wal_identity_load(folder, &identity, &found, err)) {
        return false;
    }
    if (!found) {
        return err_set(err, ERR_NOT_FOUND, "this folder holds no log: it has no file `identity`");
    }
    digest_hex(identity.writer, sizeof(identity.writer), writer);
    buf_append_format(&printer->line, "writer %s, epoch %" PRIu64, writer, identity.epoch);
    flush(printer);
    bool good = wal_scan_init(&scan, folder, &identity, err) && print_segments(printer, &scan, err);
    if (good) {
        buf_append_format(&printer->line,
                          "ok: %zu segments, %" PRIu64 " records with %" PRIu64 " bytes, %" PRIu64
                          " torn at the end",
                          scan.count, printer->records, printer->bytes, printer->torn);
        flush(printer);
    }
    wal_scan_finish(&scan);
    return good;
}

static bool print_folder(const char *path, const struct wal_print *print, bool each_record,
                         struct err *err)
{
    struct printer printer = {.print = print, .each_record = each_record};
    struct wal_folder folder = {&wal_io_disk, -1};
    int code = wal_folder_open(&folder, path, false);
    if (code < 0) {
        return err_set_errno(err, ERR_NOT_FOUND, -code, "the folder cannot be opened");
    }
    /* A log that is being written looks damaged to who reads it from front to end. */
    int lock_fd = wal_file_open(&folder, "lock", WAL_OPEN_PROBE);
    bool used = lock_fd == -EWOULDBLOCK;
    buf_init(&printer.line, 1 << 20);
    bool good = used ? err_set(err, ERR_UNAVAILABLE,
                               "a process uses this log: stop it, or look at a copy of the folder")
                     : print_log(&printer, &folder, err);
    buf_finish(&printer.line);
    (void)wal_file_close(&folder, &lock_fd);
    wal_folder_close(&folder);
    return good;
}

bool wal_inspect(const char *folder, const struct wal_print *print, struct err *err)
{
    return print_folder(folder, print, true, err);
}

bool wal_verify(const char *folder, const struct wal_print *print, struct err *err)
{
    return print_folder(folder, print, false, err);
}
