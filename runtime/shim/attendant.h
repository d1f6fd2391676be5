/*
 * A process beside the launcher that does, in the launcher's namespaces, what a container's first
 * process asks for while it is made: runs hooks, hands a seccomp listener on. There is one only
 * where there is such work; the launcher goes on serving meanwhile. It ends when that process needs
 * it no more, or is gone.
 */
#ifndef TSSWARM_ATTENDANT_H
#define TSSWARM_ATTENDANT_H

#include "spec.h"

/* Whether `spec` has work for one. */
int attendant_wanted(const struct spec *spec);
/* What both processes see; before the container's is cloned. */
int attendant_prepare(struct failure *failure);
struct attendant {
	pid_t pid; /* 0: there is none */
	int pidfd;
};

/*
 * Forks it off; it serves `socket` for `pid` and, having served, tells what failed to `status`.
 * 0, or -1.
 */
int attendant_start(struct attendant *attendant, const struct spec *spec, int socket, int status,
		    pid_t pid, int pidfd, struct failure *failure);
/* Waits for its end, which has come or is just coming. */
void attendant_reap(struct attendant *attendant);
/* It has ended: whether the process it served waits for it in vain, and has to be killed. */
int attendant_is_missed(void);

/* By the container's process, over its end of the socket: done, or the failure. */
int attendant_run_hooks(int socket, struct failure *failure);
/* The agent is there: a listener may be made. */
int attendant_expect_listener(int socket, struct failure *failure);
/*
 * Waits until the attendant has sent the listener on, calling nothing: any system call might be one
 * that waits for who listens. If that fails, this process is killed, and the reason told.
 */
void attendant_give_listener(int listener);

#endif
