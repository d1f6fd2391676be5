/*
 * A procfs of a pid namespace that is somebody else's. Only a process inside can ask the kernel for
 * one, and those who are there may trace it: so it is one that has nothing, may call nothing else,
 * and hands over no more than the wish, which this process then fulfils.
 */
#ifndef TSSWARM_FOREIGNPROC_H
#define TSSWARM_FOREIGNPROC_H

#include "util.h"

/*
 * The procfs of `pids` as fsopen gives it. `place`: a directory in a mount namespace of ours. The
 * caller looks at what was made of it: whoever traced the process may have sent another. -1, errno.
 */
int foreignproc_open(int pids, const char *place);

#endif
