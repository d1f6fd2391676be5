/*
 * A launch without a supervisor, as OCI runtimes do it: the container (or a further program in one)
 * is made, the caller is told on descriptor 4, one end of a stream socket pair, with the messages of
 * the control socket, and this process ends: the program then belongs to the caller's nearest
 * subreaper. What could not be made leaves nothing behind.
 */
#ifndef TSSWARM_DETACHED_H
#define TSSWARM_DETACHED_H

#include "spec.h"

/* The process's exit code. */
int detached_run(const struct spec *spec);
/* With TAG_EXEC_TARGET; without flag 8192 it waits for the program, and ends as that ends. */
int detached_exec(const struct spec *spec);
/* Says why nothing was made; the process's exit code. */
int detached_fail(const struct failure *failure);

#endif
