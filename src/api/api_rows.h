/* api_rows.h - what POST /tables/{name}/rows is made of. */
#pragma once

#include "api_reply.h"
#include "api_write.h"
#include "lake_read.h"
