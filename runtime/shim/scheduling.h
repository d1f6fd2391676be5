/*
 * How the kernel schedules and places a program: policy, I/O priority, memory nodes, processors,
 * personality. What it refuses fails the start by name: nothing is left out silently.
 */
#ifndef TSSWARM_SCHEDULING_H
#define TSSWARM_SCHEDULING_H

#include "spec.h"

enum affinity {
	AFFINITY_INITIAL = 0, /* while the program's process is made */
	AFFINITY_FINAL = 1,   /* the program's own */
};

/* Of this process, where the specification has one. */
int scheduling_place(const struct spec *spec, enum affinity which, struct failure *failure);
/* All the rest, and the final affinity; while it still has its privileges. */
int scheduling_set(const struct spec *spec, struct failure *failure);

#endif
