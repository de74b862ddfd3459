/* worker_layers.h - the layers that hold a statement, and the test build in which each of them can
 * be left out, so that the others are tested alone.
 * Promise   in every build but one (EIDER_TEST_LAYERS, the preset `layers`) all layers are on: the
 *           condition below is a constant, and neither the setting nor the code behind it is
 *           compiled.
 * Not here  the unprivileged user, the deadline, and the server's refusal to hand over an object
 *           that the job did not declare: no build leaves those out. */
#pragma once

enum worker_layer {
    WORKER_LAYER_GUARD = 1 << 0,    /* what a statement may be: worker_guard, statement types */
    WORKER_LAYER_SETTINGS = 1 << 1, /* the engine's settings: files shut, memory, the lock */
    WORKER_LAYER_OS = 1 << 2,       /* the process: limits, Landlock, seccomp */
};

#ifdef EIDER_TEST_LAYERS
#define WORKER_LAYER_ON(limits, layer) (((limits)->layers_off & (uint32_t)(layer)) == 0)
#else
#define WORKER_LAYER_ON(limits, layer) true
#endif
