/*
 * The gate between a container that is made and its program: a fifo. The container's first process
 * holds both its ends from before anyone hears of it until it executes, so whoever opens it to read
 * finds either its page of zeros or, at once, the end: nobody waits here.
 *
 * It fills the fifo, then writes one byte more, which waits until somebody has read the page: that
 * opens the gate. Nothing but write(2) is called here, under whatever filter and user there is by
 * then. A failure after it follows as one byte 'E', i32 exit code, text; the end without: executed.
 */
#ifndef TSSWARM_GATE_H
#define TSSWARM_GATE_H

#include "spec.h"

/* By the launcher, outside: *gate is the descriptor, or -1 where there is no gate. */
int gate_open(const struct spec *spec, int *gate, struct failure *failure);
/* Tells `status` that the container is made, and waits. */
int gate_wait(int gate, int status, struct failure *failure);
void gate_tell_failure(int gate, const struct failure *failure);

#endif
