#include "server_layers.h"

#ifdef EIDER_TEST_LAYERS
#include "log.h"
#include "worker_layers.h"

static const struct layer {
    const char *name;
    enum worker_layer bit;
} layers[] = {
    {"guard", WORKER_LAYER_GUARD},
    {"settings", WORKER_LAYER_SETTINGS},
    {"os", WORKER_LAYER_OS},
};

static uint32_t find_layer(struct str name)
{
    for (size_t i = 0; i < COUNT_OF(layers); i++) {
        if (str_equal(name, str_of(layers[i].name))) {
            return layers[i].bit;
        }
    }
    return 0;
}

bool server_layers_off(const struct config *config, uint32_t *ret_off, struct err *err)
{
    const char *text = config_text(config, "EIDER_TEST_LAYERS_OFF");
    struct str rest = str_of(text == NULL ? "" : text);
    struct str name;
    *ret_off = 0;
    while (rest.len > 0 && str_next_part(&rest, ',', &name)) {
        uint32_t bit = find_layer(name);
        if (bit == 0) {
            return err_set(err, ERR_INVALID, "EIDER_TEST_LAYERS_OFF: '%.*s' is no layer",
                           STR_ARG(name));
        }
        *ret_off |= bit;
    }
    LOG(LOG_WARN, "server.test_build", LOG_TEXT("layers_off", str_of(text == NULL ? "" : text)),
        LOG_TEXT("note", STR("TEST BUILD: layers around SQL can be switched off. Not for use.")));
    return true;
}
#endif
