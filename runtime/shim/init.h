/*
 * Docker's --init: the container's first process stays as a small reaper, its program is its child.
 * It hands every signal on, reaps what is left to it, and ends as the program ends. It runs with
 * the container's own privileges and system calls.
 */
#ifndef TSSWARM_INIT_H
#define TSSWARM_INIT_H

#include "util.h"

/* Returns 0 in the program's process, -1 when there is none; the reaper itself never returns. */
int init_run(int status, int gate, struct failure *failure);

#endif
