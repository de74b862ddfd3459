#include "worker_request_run.h"

enum {
    PATH_SIZE = 64,
    SQL_SIZE_MAX = 1 << 20
};

bool request_run_import(struct request *run)
{
    (void)run;
    return false;
}

bool request_run_export(struct request *run)
{
    (void)run;
    return false;
}
