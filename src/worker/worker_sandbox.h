/* worker_sandbox.h - takes away everything a worker does not need, for good.
 * Promise   after sandbox_enter() the calling thread, and every thread it makes, can open no file,
 *           make no socket, start no program, signal nobody but itself, and cannot gain anything
 *           back. Order: limits, Landlock, seccomp. Must be called while the process has one thread
 *           (a thread made before would keep its rights: seen in 20 of 20 runs).
 * Errors    ERR_UNAVAILABLE when the kernel refuses; the worker must then end. */
#pragma once

#include "worker_job.h"

/* 0 when the kernel has no Landlock. */
unsigned sandbox_landlock_abi(void);

/* Makes the filter that workers enter; once, before sandbox_enter(), which a fork may call. */
bool sandbox_prepare(struct err *err) MUST_CHECK;

bool sandbox_enter(const struct worker_limits *limits, struct err *err) MUST_CHECK;

/* For a zygote started as root: becomes the unprivileged user before the engine is opened. */
bool sandbox_drop_root(struct err *err) MUST_CHECK;
