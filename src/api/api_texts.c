#include "api_texts.h"

#include "map.h"
#include "mem.h"
#include "thread.h"
#include "worker_text.h"

enum {
    SLOTS_COUNT = 256,
    TEXT_SIZE_MAX = 8 << 10
};

/* The last text whose hash led here. */
struct slot {
    char *text; /* NULL: none yet */
    size_t len;
    unsigned asked; /* one bit for each question that has an answer */
    unsigned yes;   /* the answers */
};

struct texts {
    struct lock lock; /* LOCK_TEXTS: everything below */
    struct slot slots[SLOTS_COUNT];
};

struct texts *texts_create(void)
{
    struct texts *texts = mem_alloc(sizeof(*texts));
    lock_init(&texts->lock, LOCK_TEXTS);
    return texts;
}

void texts_destroy(struct texts *texts)
{
    if (texts == NULL) {
        return;
    }
    for (size_t i = 0; i < SLOTS_COUNT; i++) {
        mem_free(texts->slots[i].text);
    }
    lock_finish(&texts->lock);
    mem_free(texts);
}

static bool look(enum text_question question, struct str text)
{
    static bool (*const looks[])(struct str text) = {
        [TEXT_IS_REPEATABLE] = worker_is_repeatable,
        [TEXT_ONLY_READS] = worker_only_reads,
        [TEXT_MAY_READ_TABLES] = worker_may_read_tables,
    };
    return looks[question](text);
}

static bool is_of(const struct slot *slot, struct str text)
{
    return slot->text != NULL && str_equal(str_make(slot->text, slot->len), text);
}

static void keep(struct slot *slot, struct str text, unsigned bit, bool yes)
{
    if (!is_of(slot, text)) {
        mem_free(slot->text);
        *slot = (struct slot){.text = mem_copy_bytes(text.ptr, text.len), .len = text.len};
    }
    slot->asked |= bit;
    slot->yes |= yes ? bit : 0;
}

bool texts_ask(struct texts *texts, enum text_question question, struct str text)
{
    if (text.len > TEXT_SIZE_MAX) {
        return look(question, text);
    }
    unsigned bit = 1U << question;
    struct slot *slot = &texts->slots[map_hash(text, 0) % SLOTS_COUNT];
    lock_take(&texts->lock);
    bool known = is_of(slot, text) && (slot->asked & bit) != 0;
    bool yes = known && (slot->yes & bit) != 0;
    lock_release(&texts->lock);
    if (known) {
        return yes;
    }
    yes = look(question, text);
    lock_take(&texts->lock);
    keep(slot, text, bit, yes);
    lock_release(&texts->lock);
    return yes;
}
