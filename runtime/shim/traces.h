/*
 * The small files that a shim leaves in its container's run-time directory for whoever looks when
 * it is gone. Nothing is read here, and nobody is told.
 */
#ifndef TSSWARM_TRACES_H
#define TSSWARM_TRACES_H

#include "util.h"

/* For people, and for the time of start should the shim be killed. */
void trace_start(int exec_dir, pid_t pid, uint64_t started_ns);
/* Whole or not at all, and durable. Without a record the daemon says "supervisor lost". */
void trace_exit(int exec_dir, const uint8_t *record, size_t size);

#endif
