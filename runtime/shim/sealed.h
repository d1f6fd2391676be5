/*
 * That this process was executed from a sealed memory file: then no container can reach, through
 * /proc/<pid>/exe, what the next one is started with. Anything else is not worth the risk.
 */
#ifndef TSSWARM_SEALED_H
#define TSSWARM_SEALED_H

#include "util.h"

int sealed_check(struct failure *failure);

#endif
