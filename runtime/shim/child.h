/*
 * The container's first process, and those of execs, from clone3 to execve. Whatever fails is told
 * to the shim through the status socket, as a struct failure; a closed status socket without one
 * means: executed.
 */
#ifndef TSSWARM_CHILD_H
#define TSSWARM_CHILD_H

#include "cgroup.h"
#include "spec.h"

/* Precedes the terminal's descriptor on the status socket. */
#define STATUS_TERMINAL 'T'

struct child_io {
	int status;        /* SOCK_SEQPACKET, close-on-exec */
	int in, out, err;  /* the program's ends; -1 with a terminal, or for /dev/null */
	int netns;         /* to join; -1 for none */
	int init;          /* an exec: the container's first process, whose namespaces it joins */
};

/* Never returns. */
void child_run(const struct spec *spec, const struct cgroups *groups, const struct child_io *io)
	__attribute__((noreturn));
/* A further program of a running container; cloned into its pid namespace and v2 group already. */
void child_exec(const struct spec *spec, const struct cgroups *groups, const struct child_io *io)
	__attribute__((noreturn));

#endif
