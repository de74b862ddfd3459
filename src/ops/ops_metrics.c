#include "ops_metrics.h"

#include "mem.h"

enum {
    REGISTRATIONS_MAX = 32
};
#define NO_BUCKET SIZE_MAX

/* One call of ops_metrics_add. */
struct registration {
    const struct ops_family *families;
    size_t count;
    void *context;
};

struct ops_metrics {
    struct registration registrations[REGISTRATIONS_MAX];
    size_t count;
};

struct ops_samples {
    const struct ops_family *family;
    struct buf *into;
};

struct ops_metrics *ops_metrics_create(void)
{
    return mem_alloc(sizeof(struct ops_metrics));
}

void ops_metrics_destroy(struct ops_metrics *metrics)
{
    mem_free(metrics);
}

/* ---- registering ---- */

static bool is_known(const struct ops_metrics *metrics, const char *name)
{
    for (size_t i = 0; i < metrics->count; i++) {
        const struct registration *at = &metrics->registrations[i];
        for (size_t k = 0; k < at->count; k++) {
            if (strcmp(at->families[k].name, name) == 0) {
                return true;
            }
        }
    }
    return false;
}

static bool is_name(struct str name)
{
    for (size_t i = 0; i < name.len; i++) {
        char byte = name.ptr[i];
        bool letter = (byte >= 'a' && byte <= 'z') || byte == '_';
        bool digit = byte >= '0' && byte <= '9';
        if (!letter && (!digit || i == 0)) {
            return false;
        }
    }
    return name.len > 0;
}

static bool fits_type(struct str name, enum ops_metric_type type)
{
    bool total = str_ends(name, STR("_total"));
    return type == OPS_COUNTER ? total
           : type == OPS_GAUGE ? !total
                               : str_ends(name, STR("_seconds"));
}

void ops_metrics_add(struct ops_metrics *metrics, const struct ops_family *families, size_t count,
                     void *context)
{
    assert(metrics->count < REGISTRATIONS_MAX);
    for (size_t i = 0; i < count; i++) {
        assert(is_name(str_of(families[i].name)));
        assert(fits_type(str_of(families[i].name), families[i].type));
        assert(!is_known(metrics, families[i].name));
        assert(families[i].help != NULL && families[i].collect != NULL);
    }
    metrics->registrations[metrics->count++] =
        (struct registration){.families = families, .count = count, .context = context};
}

/* ---- the text ---- */

/* A backslash and a line feed are escaped everywhere, a quote in label values only. */
static void append_escaped(struct buf *into, struct str text, bool quoted)
{
    for (size_t i = 0; i < text.len; i++) {
        char byte = text.ptr[i];
        if (byte == '\n') {
            buf_append_text(into, "\\n");
            continue;
        }
        if (byte == '\\' || (quoted && byte == '"')) {
            buf_append_byte(into, '\\');
        }
        buf_append_byte(into, byte);
    }
}

/* Label values are UTF-8 in this format: what is not counts as no value at all. */
static void append_label(struct buf *into, const char *name, struct str value)
{
    buf_append_text(into, name);
    buf_append_text(into, "=\"");
    append_escaped(into, str_is_utf8(value) ? value : STR(""), true);
    buf_append_byte(into, '"');
}

/* Exact: no value passes through a double, and none is printed with an exponent. */
static void append_seconds(struct buf *into, uint64_t value_us)
{
    buf_append_u64(into, value_us / 1000000);
    uint64_t rest = value_us % 1000000;
    if (rest > 0) {
        char digits[] = ".000000";
        for (size_t i = sizeof(digits) - 2; i > 0; i--, rest /= 10) {
            digits[i] = (char)('0' + rest % 10);
        }
        size_t len = sizeof(digits) - 1;
        while (digits[len - 1] == '0') {
            len--;
        }
        buf_append_bytes(into, digits, len);
    }
}

static void append_bound(struct buf *into, size_t bucket)
{
    buf_append_text(into, "le=\"");
    if (bucket < METRIC_BOUNDS_COUNT) {
        append_seconds(into, (uint64_t)metric_bounds_us[bucket]);
    } else {
        buf_append_text(into, "+Inf");
    }
    buf_append_byte(into, '"');
}

/* name_suffix{labels,le="..."} and a space. */
static void begin_sample(struct ops_samples *samples, const char *suffix, struct ops_labels labels,
                         size_t bucket)
{
    struct buf *into = samples->into;
    buf_append_text(into, samples->family->name);
    buf_append_text(into, suffix);
    char before = '{';
    for (size_t i = 0; i < labels.count; i++, before = ',') {
        buf_append_byte(into, before);
        append_label(into, labels.list[i].name, labels.list[i].value);
    }
    if (bucket != NO_BUCKET) {
        buf_append_byte(into, before);
        append_bound(into, bucket);
        before = ',';
    }
    buf_append_text(into, before == ',' ? "} " : " ");
}

void ops_put_u64(struct ops_samples *samples, struct ops_labels labels, uint64_t value)
{
    begin_sample(samples, "", labels, NO_BUCKET);
    buf_append_u64(samples->into, value);
    buf_append_byte(samples->into, '\n');
}

void ops_put_seconds(struct ops_samples *samples, struct ops_labels labels, int64_t value_us)
{
    begin_sample(samples, "", labels, NO_BUCKET);
    append_seconds(samples->into, value_us > 0 ? (uint64_t)value_us : 0);
    buf_append_byte(samples->into, '\n');
}

void ops_put_histogram(struct ops_samples *samples, struct ops_labels labels,
                       const struct metric_histogram *histogram)
{
    assert(samples->family->type == OPS_HISTOGRAM);
    struct metric_distribution read;
    metric_read(histogram, &read);
    for (size_t i = 0; i <= METRIC_BOUNDS_COUNT; i++) {
        begin_sample(samples, "_bucket", labels, i);
        buf_append_u64(samples->into, read.cumulative[i]);
        buf_append_byte(samples->into, '\n');
    }
    begin_sample(samples, "_sum", labels, NO_BUCKET);
    append_seconds(samples->into, read.sum_us);
    buf_append_byte(samples->into, '\n');
    begin_sample(samples, "_count", labels, NO_BUCKET);
    buf_append_u64(samples->into, read.cumulative[METRIC_BOUNDS_COUNT]);
    buf_append_byte(samples->into, '\n');
}

static void render_family(const struct ops_family *family, void *context, struct buf *into)
{
    static const char *const types[] = {
        [OPS_COUNTER] = "counter", [OPS_GAUGE] = "gauge", [OPS_HISTOGRAM] = "histogram"};
    buf_append_format(into, "# HELP %s ", family->name);
    append_escaped(into, str_of(family->help), false);
    buf_append_format(into, "\n# TYPE %s %s\n", family->name, types[family->type]);
    struct ops_samples samples = {.family = family, .into = into};
    family->collect(context, &samples);
}

void ops_metrics_render(const struct ops_metrics *metrics, struct buf *into)
{
    for (size_t i = 0; i < metrics->count; i++) {
        const struct registration *at = &metrics->registrations[i];
        for (size_t k = 0; k < at->count; k++) {
            render_family(&at->families[k], at->context, into);
        }
    }
}
