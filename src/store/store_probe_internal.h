/* store_probe_internal.h - what the general probe and that of one kind of store share. */
#pragma once

#include "store_internal.h"
#include "store_probe.h"

struct store_probe {
    struct store *store;
    const struct store_probe_options *options;
    struct cancel *cancel;
    char id[17];
    bool failed;
    bool stopped; /* nothing more can be learnt */
};

struct probe_key {
    char text[STORE_KEY_SIZE_MAX + 1];
};

/* The key of one of the probe's own objects. */
struct probe_key probe_key_of(const struct store_probe *probe, const char *name);

void probe_tell(struct store_probe *probe, const char *what, enum store_probe_verdict verdict,
                enum store_cause cause, const char *format, ...) PRINTF_LIKE(5, 6);
/* A request that should have worked did not: fails with what `err` says. */
void probe_tell_error(struct store_probe *probe, const char *what, const struct err *err);

bool folder_probe_reach(struct store *store, struct store_probe *probe) MUST_CHECK;
void folder_probe_end(struct store *store, const struct store_probe *probe);
bool s3_probe_reach(struct store *store, struct store_probe *probe) MUST_CHECK;
void s3_probe_conditions(struct store *store, struct store_probe *probe);
