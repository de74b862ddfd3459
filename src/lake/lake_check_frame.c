#include "json_token.h"
#include "lake_check_internal.h"

static const char *end_of(const struct pass *pass)
{
    return pass->bytes.ptr + pass->bytes.len;
}

static const char *skip_mark(const struct pass *pass)
{
    struct str mark = STR("\xEF\xBB\xBF");
    bool first = pass->place.bytes == 0 && str_starts(pass->bytes, mark);
    return pass->bytes.ptr + (first ? mark.len : 0);
}

/* ---- lines ---- */

static bool take_line(struct pass *pass, struct str line, struct err *err)
{
    while (line.len > 0 && is_space(line.ptr[0])) {
        line = str_from(line, 1);
    }
    while (line.len > 0 && is_space(line.ptr[line.len - 1])) {
        line.len--;
    }
    return line.len == 0 || pass_record(pass, line, line, err);
}

/* Behind the line that starts here, when it is plain; or NULL. */
static const char *take_plain_line(struct pass *pass, const char *at, const char *end)
{
    int32_t day;
    const char *after = check_fast_line(pass, at, end, &day);
    if (after == NULL) {
        return NULL;
    }
    const char *next = after;
    if (end - next >= 2 && next[0] == '\r' && next[1] == '\n') {
        next++;
    }
    bool ends = next < end ? *next == '\n' : pass->last;
    return ends && pass_take_fast(pass, at, after, day) ? next + (next < end ? 1 : 0) : NULL;
}

bool pass_ndjson(struct pass *pass, struct err *err)
{
    const char *end = end_of(pass);
    const char *at = skip_mark(pass);
    while (at < end) {
        const char *next = take_plain_line(pass, at, end);
        if (next != NULL) {
            at = next;
            continue;
        }
        const char *line_end = memchr(at, '\n', (size_t)(end - at));
        if (line_end == NULL && !pass->last) {
            return pass_unfinished(pass, at, err);
        }
        size_t size = (size_t)((line_end == NULL ? end : line_end) - at);
        if (!take_line(pass, str_make(at, size), err)) {
            return false;
        }
        at += size + (line_end == NULL ? 0 : 1);
    }
    pass->used = pass->bytes.len;
    return true;
}

/* ---- elements of an array ---- */

static const char *pass_string(const char *at, const char *end)
{
    for (at++; at < end && *at != '"'; at++) {
        at += *at == '\\' ? 1 : 0;
    }
    return at < end ? at + 1 : NULL;
}

/* Behind the value that starts here, whether it is valid or not; NULL when it does not end. */
static const char *find_end(const char *at, const char *end, bool last)
{
    size_t depth = 0;
    while (at < end) {
        char c = *at;
        if (c == '"') {
            at = pass_string(at, end);
            if (at == NULL || depth == 0) {
                return at;
            }
            continue;
        }
        bool opens = c == '{' || c == '[';
        bool closes = c == '}' || c == ']';
        if (depth == 0 && (closes || c == ',' || is_space(c))) {
            return at;
        }
        depth += opens ? 1 : 0;
        at++;
        if (closes && --depth == 0) {
            return at;
        }
    }
    return last && depth == 0 ? end : NULL;
}

enum step {
    STEP_FAILED,
    STEP_STOP, /* the pass can do no more with these bytes */
    STEP_ON
};

static enum step stop(struct pass *pass, const char *at, struct err *err)
{
    return pass_unfinished(pass, at, err) ? STEP_STOP : STEP_FAILED;
}

/* The body is broken here: what is left of it is one bad record. */
static enum step take_broken(struct pass *pass, const char *start, const char *at,
                             const char *reason, struct err *err)
{
    struct str rest = str_make(start, (size_t)(end_of(pass) - start));
    if (pass->check->options.keep_bad && !pass->last) {
        return stop(pass, start, err);
    }
    if (rest.len == 0) {
        (void)err_set(err, ERR_INVALID, "malformed JSON: %s (byte %llu)", reason,
                      (unsigned long long)(pass->place.bytes + pass->bytes.len));
        return STEP_FAILED;
    }
    pass->place.json = CHECK_JSON_DONE;
    pass->used = pass->bytes.len;
    bool goes_on = pass_record_size(pass, rest.len, err) && pass_bad(pass, rest, at, reason, err);
    return goes_on ? STEP_STOP : STEP_FAILED;
}

/* A malformed element ends where its brackets say, if what follows makes sense there. */
static bool element_ends(const struct pass *pass, const char *at)
{
    at = skip_space(at, end_of(pass));
    return pass->place.json != CHECK_JSON_START && at < end_of(pass) && (*at == ',' || *at == ']');
}

/* One element, and *at behind it. */
static enum step take_element(struct pass *pass, const char **at, struct err *err)
{
    int32_t day = 0;
    const char *after = check_fast_element(pass, *at, end_of(pass), &day);
    if (after != NULL && pass_take_fast(pass, *at, after, day)) {
        *at = after;
        return STEP_ON;
    }
    const char *end = find_end(*at, end_of(pass), pass->last);
    if (end == NULL && !pass->last) {
        return stop(pass, *at, err);
    }
    end = end == NULL ? end_of(pass) : end;
    struct str text = str_make(*at, (size_t)(end - *at));
    struct check_problem problem;
    size_t line_start = pass->check->lines->len;
    if (!pass_record_size(pass, text.len, err)) {
        return STEP_FAILED;
    }
    enum check_found found = check_record(pass, text, text, &day, &problem);
    if (found == CHECK_MALFORMED && !element_ends(pass, end)) {
        return take_broken(pass, *at, problem.at, problem.reason, err);
    }
    *at = end;
    bool goes_on = found == CHECK_GOOD ? pass_row(pass, line_start, day, err)
                                       : pass_bad(pass, text, problem.at, problem.reason, err);
    return goes_on ? STEP_ON : STEP_FAILED;
}

static enum step take_start(struct pass *pass, const char **at, struct err *err)
{
    if (**at == '[') {
        pass->place.json = CHECK_JSON_FIRST;
        *at += 1;
        return STEP_ON;
    }
    if (**at != '{') {
        (void)err_set(err, ERR_INVALID, "the body is neither an array of objects nor an object");
        return STEP_FAILED;
    }
    enum step step = take_element(pass, at, err);
    pass->place.json = step == STEP_ON ? CHECK_JSON_DONE : pass->place.json;
    return step;
}

/* What stands between elements, or the next one. */
static enum step take_step(struct pass *pass, const char **at, struct err *err)
{
    enum check_json state = pass->place.json;
    bool closes = **at == ']' && (state == CHECK_JSON_FIRST || state == CHECK_JSON_NEXT);
    bool goes_on = **at == ',' && state == CHECK_JSON_NEXT;
    if (closes || goes_on) {
        pass->place.json = closes ? CHECK_JSON_DONE : CHECK_JSON_ELEMENT;
        *at += 1;
        return STEP_ON;
    }
    switch (state) {
    case CHECK_JSON_START:
        return take_start(pass, at, err);
    case CHECK_JSON_NEXT:
        return take_broken(pass, *at, *at, "Expecting ',' delimiter", err);
    case CHECK_JSON_DONE:
        return take_broken(pass, *at, *at, "Extra data", err);
    case CHECK_JSON_FIRST:
    case CHECK_JSON_ELEMENT:
        break;
    }
    enum step step = take_element(pass, at, err);
    pass->place.json = step == STEP_ON ? CHECK_JSON_NEXT : pass->place.json;
    return step;
}

bool pass_json(struct pass *pass, struct err *err)
{
    const char *end = end_of(pass);
    const char *at = skip_space(skip_mark(pass), end);
    enum step step = STEP_ON;
    while (step == STEP_ON && at < end) {
        step = take_step(pass, &at, err);
        at = skip_space(at, end);
    }
    if (step == STEP_ON && pass->last && pass->place.json != CHECK_JSON_DONE) {
        step = take_broken(pass, end, end, "the body ends too early", err);
    }
    if (step == STEP_ON) {
        pass->used = pass->bytes.len;
    }
    return step != STEP_FAILED;
}
