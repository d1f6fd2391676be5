/*
 * The last fork of a container's first process that is to belong to a pid namespace of somebody
 * else's. Those who are there may trace it from its first moment on, so it is born when all is done
 * that needs the host: in its own root, with its own user, capabilities and filter, and with nothing
 * of the host's open. Who gives birth stays outside, and ends.
 */
#ifndef TSSWARM_BIRTH_H
#define TSSWARM_BIRTH_H

#include <sys/types.h>

#include "util.h"

struct birth {
	int pids;    /* the namespace; -1 once this process's children come there */
	int tell;    /* what failed; the shim's (stage.h) */
	pid_t *born; /* shared with it: who was born; 0: nobody */
};

/* The children of this process come into the namespace from now on: there must be but one. */
int birth_choose(struct birth *birth, struct failure *failure);
/* Goes on in the newborn, the shim's child as this process is, which ends. -1: nobody was born. */
int birth_give(struct birth *birth, struct failure *failure);

#endif
