/* worker_params.h - values for a statement's parameters, from JSON.
 * Promise   a value is bound with the type that the same text has as a literal of SQL, and exactly:
 *             null                 NULL
 *             true, false          BOOLEAN
 *             12                   INTEGER, BIGINT or HUGEINT, the first that holds it
 *             0.10                 DECIMAL with those digits; beyond 38 digits, and with an
 *                                  exponent, DOUBLE
 *             "text"               VARCHAR
 *             [1, 2]               LIST of the elements' one type; integers and fractions together
 *                                  are DOUBLE
 *             {"a": 1}             STRUCT
 *           A database's client (PARAMETERS_AS_PYTHON) has the types that Python's would have:
 *             12                   INTEGER, BIGINT, UBIGINT or HUGEINT
 *             0.10                 DOUBLE
 *             {"key": [1], "value": ["a"]}   MAP, when that is all and the lists are as long
 *           An array gives values to ?, $1, $2 in their order, an object to $name.
 * Errors    ERR_INVALID that names the parameter. Values that the statement does not ask for are an
 *           error in an array, and ignored in an object.
 * Owner     the caller; parameters_finish accepts zeroed memory.   Threads  none shared. */
#pragma once

#include "err.h"
#include "str.h"

#include <duckdb.h>

enum parameters_style {
    PARAMETERS_AS_SQL,
    PARAMETERS_AS_PYTHON,
};

struct parameter {
    struct str name; /* of an object's member */
    duckdb_value value;
};

struct parameters {
    struct parameter *items;
    size_t count;
    bool named;
};

/* `json` is empty for none. */
bool parameters_read(struct parameters *parameters, struct str json, struct err *err) MUST_CHECK;
bool parameters_read_as(struct parameters *parameters, enum parameters_style style, struct str json,
                        struct err *err) MUST_CHECK;
bool parameters_bind(const struct parameters *parameters, duckdb_prepared_statement prepared,
                     struct err *err) MUST_CHECK;
void parameters_finish(struct parameters *parameters);
