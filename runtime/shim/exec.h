/*
 * Further programs in the running container. Each has a connection of its own (the daemon's, on
 * which it asked for it), its specification, and its streams.
 *
 * Life: asked for -> child cloned --executed--> running --reaped--> ended --streams drained--> told
 *                        `----------failed, reaped------------------^
 * What the daemon's end of the connection does not live to hear is dropped; the program runs on,
 * its output read and dropped, as long as the container does.
 */
#ifndef TSSWARM_EXEC_H
#define TSSWARM_EXEC_H

#include "cgroup.h"
#include "control.h"
#include "streams.h"

/* At the same time. A bound on the shim's memory: each takes about 10 kB, more while it talks. */
#define EXECS_MAX 128
#define EXEC_POLLS (3 + STREAM_POLLS(1))

struct execs;

/* What an exec needs to know of its container. */
struct exec_host {
	struct control *control;
	struct cgroups *groups;
	int pidfd; /* of the container's first process */
	uint32_t drain_ms;
};

/* All of them; starts as zeros. */
struct execs {
	struct exec *all[EXECS_MAX];
	size_t count;
};

/* Takes over the message's connection and descriptors; errno or 0. */
int execs_start(struct execs *execs, const struct exec_host *host, const struct message *message);
/* Adds at most EXEC_POLLS entries for each; returns how many. */
size_t execs_poll(struct execs *execs, struct pollfd *polls);
/* Does what the entries filled before call for. */
void execs_turn(struct execs *execs, const struct exec_host *host, const struct pollfd *polls);
/* Until the first drain ends; -1 when none is drained. */
int execs_timeout_ms(const struct execs *execs);
/* The container has ended: tells all, closes all. */
void execs_finish(struct execs *execs);

#endif
