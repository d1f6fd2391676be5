/*
 * The container's first process, and those of execs, from clone3 to execve. Whatever fails is told
 * to the shim through the status socket (status.h); a closed one without a failure means: executed.
 */
#ifndef TSSWARM_CHILD_H
#define TSSWARM_CHILD_H

#include "birth.h"
#include "cgroup.h"
#include "namespaces.h"
#include "spec.h"

struct child_io {
	int status;        /* SOCK_SEQPACKET, close-on-exec */
	int in, out, err;  /* the program's ends; -1 with a terminal, or for /dev/null */
	const struct namespaces *namespaces; /* the container's; NULL for an exec */
	int is_staged;     /* a process before it has joined groups and namespaces (stage.h) */
	int init;          /* an exec: the container's first process, whose namespaces it joins */
	int late;          /* and which of them it still has to */
	int gate;          /* the fifo it waits at before it executes; -1: it does not wait */
	int attendant;     /* who runs hooks outside for it; -1: there are none */
	struct birth *birth; /* the program's process is still to be born; NULL: it is this one */
	int is_filtered;   /* what privilege_finish does was done early */
};

/* Never returns. */
void child_run(const struct spec *spec, const struct cgroups *groups, struct child_io *io)
	__attribute__((noreturn));
/*
 * A further program of a running container; cloned into its v2 group and namespaces, but for those
 * in which it may do less.
 */
void child_exec(const struct spec *spec, const struct cgroups *groups, struct child_io *io)
	__attribute__((noreturn));

/* The streams become the container's root's, as it may not take what is another's on the host. */
int child_give_streams(const struct child_io *io, uid_t uid, gid_t gid, struct failure *failure);

#endif
