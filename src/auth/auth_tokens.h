/* auth_tokens.h - the file of tokens: one line each, name, role, SHA-256 and day of making.
 * Promise   a token is 32 random bytes, so its plain hash is enough; it is shown once, by
 *           tokens_create. The file is replaced as a whole (0600, synced), never half written; two
 *           that change it at once take turns. Root leaves it to the owner of its folder, so that
 *           the server can read it.
 * Owner     the command line (`eider token`) writes, auth.h reads.   Threads  none shared.
 * Errors    ERR_CONFLICT (the name is taken), ERR_NOT_FOUND, ERR_INVALID (a line, a name),
 *           ERR_UNAVAILABLE (the file). */
#pragma once

#include "auth.h"

enum {
    TOKEN_TEXT_SIZE = 64, /* eider_ and 43 characters, and the NUL */
    TOKEN_NAME_SIZE = 64,
    TOKEN_DAY_SIZE = 11
};

struct token_info {
    char name[TOKEN_NAME_SIZE]; /* ^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$ */
    enum auth_role role;
    char created[TOKEN_DAY_SIZE]; /* 2026-01-31 */
};

bool tokens_create(const char *path, struct str name, enum auth_role role,
                   char ret_token[static TOKEN_TEXT_SIZE], struct err *err) MUST_CHECK;
bool tokens_revoke(const char *path, struct str name, struct err *err) MUST_CHECK;
typedef void tokens_visit_fn(void *context, const struct token_info *info);
bool tokens_visit(const char *path, tokens_visit_fn *visit, void *context,
                  struct err *err) MUST_CHECK;
