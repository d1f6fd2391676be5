/*
 * The file system of a container that does not run, in a mount namespace of this process, until
 * `socket` ends. One byte there says that it is mounted; anything else is the reason why not.
 */
#ifndef TSSWARM_HOLD_H
#define TSSWARM_HOLD_H

#include "spec.h"

/* The process's exit code. */
int hold_run(const struct spec *spec, int socket);

#endif
