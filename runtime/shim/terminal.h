/*
 * A program's terminal, of the container's own devpts. Its peer is asked for by descriptor, never
 * by a path; its master goes to the shim, or to whoever holds the console socket.
 */
#ifndef TSSWARM_TERMINAL_H
#define TSSWARM_TERMINAL_H

#include "spec.h"

/* The shim's descriptor of the console socket, where the specification has one. */
#define CONSOLE_FD 5

/* The peer. `is_console`: it is bound over /dev/console, too. */
int terminal_open(const struct spec *spec, int root, int status, int is_console,
		  struct failure *failure);

#endif
