/* lake_schema_build.h - schemas while they are made; for lake_schema*.c only.
 * Promise   what these functions get is seen by nobody else yet, so it may still change.
 * Owner     the maker, until it hands the schema out. */
#pragma once

#include "lake_schema.h"

#define LAKE_REST_NAME "_rest"

/* A schema of one's own with the same content, or an empty one for NULL. */
struct lake_schema *lake_schema_copy(const struct lake_schema *schema);
void lake_schema_discard(struct lake_schema **schema); /* for CLEANUP */

/* A new column at the end, VARCHAR. ERR_INVALID: its name is none, is taken, or there are too many.
 * The pointer is good until the next one is added. */
bool lake_schema_add(struct lake_schema *schema, struct str name,
                     struct lake_schema_column **ret_column, struct err *err) MUST_CHECK;
/* Makes sure that _rest is there. */
bool lake_schema_add_rest(struct lake_schema *schema, struct err *err) MUST_CHECK;

/* The type of a kind that says it all; CAST has none. */
const char *lake_schema_kind_type(enum lake_kind kind);
/* Kind and type; the marks go. */
void lake_schema_set_type(struct lake_schema_column *column, enum lake_kind kind,
                          struct str sql_type);

/* Why the name cannot be a column's, or NULL. */
const char *lake_schema_name_problem(struct str name);
bool lake_schema_is_rest(struct str name);

/* Whether every value of one type is one of the other (by normal spelling); a BIGINT is a DOUBLE
 * only when `exact`. */
bool lake_schema_type_widens(struct str from, struct str to, bool exact);

/* Whether values of which this was seen fit the column as it is, one by one. */
bool lake_schema_fits(const struct lake_schema_column *column, unsigned saw);

/* Whether records that hold this change the column's type or marks: `saw` of one value, or of
 * many. */
bool lake_schema_can_widen(const struct lake_schema *schema, size_t place, unsigned saw);

/* Whether a new column would be VARCHAR, for other reasons than that nothing was seen. */
bool lake_schema_is_text(unsigned saw);

static inline struct str lake_schema_column_name(const struct lake_schema_column *column)
{
    return str_make(column->name, column->name_size);
}

/* A partition column may be of this one's type. */
bool lake_schema_can_partition(const struct lake_schema_column *column);
