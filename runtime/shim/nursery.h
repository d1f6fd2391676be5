/*
 * Where a daemon's shims come from: one small process outside the daemon's groups that forks one for
 * each request. A fork of it costs a fraction of what it costs to spawn, execute and move a process.
 * It ends with its daemon; its shims do not.
 *
 * A request on descriptor 4 is the first 12 digits of an id, with the specification's descriptor and
 * that of the listening control socket, in this order. There is no answer: the shim speaks on the
 * control socket, and where none can be made its nursery says so there, as EXITED.
 */
#ifndef TSSWARM_NURSERY_H
#define TSSWARM_NURSERY_H

#include "spec.h"

/* Whether this process is to be one. */
int nursery_wanted(int count, char **args);
/* Returns only in shims, with their descriptors and arguments in place; `spec` is closed there. */
void nursery_run(struct spec *spec, char **args);

#endif
