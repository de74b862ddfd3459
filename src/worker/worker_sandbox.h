/* worker_sandbox.h - takes away everything a worker does not need, for good.
 * Promise   after sandbox_shut() the calling thread, and every thread it makes, can open no file,
 *           make no socket, start no program, signal nobody but itself, and cannot gain anything
 *           back. Must be called while the process has one thread (a thread made before would keep
 *           its rights: seen in 20 of 20 runs). What depends on the job are three limits
 *           and its niceness (sandbox_limit): the process sets them before it shuts itself, or its
 *           zygote sets them afterwards, from outside, before the process gets the job's socket.
 * Errors    ERR_UNAVAILABLE when the kernel refuses; the worker must then end. */
#pragma once

#include "worker_job.h"

#include <sys/types.h>

/* 0 when the kernel has no Landlock. */
unsigned sandbox_landlock_abi(void);

/* Makes the filter that workers enter; once, before sandbox_shut(), which a fork may call. */
bool sandbox_prepare(struct err *err) MUST_CHECK;

/* A job's limits for the process `pid`, which is the caller (0) or was forked by it and has as much
 * address space as it. */
bool sandbox_limit(pid_t pid, const struct worker_limits *limits, struct err *err) MUST_CHECK;
/* Of the calling process, whoever has set them. */
bool sandbox_is_limited(const struct worker_limits *limits);

/* Landlock, seccomp, and the limits that are the same for every job. */
bool sandbox_shut(struct err *err) MUST_CHECK;

/* sandbox_limit() and sandbox_shut() of the caller. */
bool sandbox_enter(const struct worker_limits *limits, struct err *err) MUST_CHECK;

/* For a zygote started as root: becomes the unprivileged user before the engine is opened. */
bool sandbox_drop_root(struct err *err) MUST_CHECK;
