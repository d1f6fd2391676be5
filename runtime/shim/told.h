/*
 * What a launcher says of its container, as bytes: STATE's payload and the exit record (protocol.md).
 */
#ifndef TSSWARM_TOLD_H
#define TSSWARM_TOLD_H

#include "util.h"

#define STATE_BYTES 28u

enum phase { STARTING = 0, RUNNING = 1, EXITED = 2, CREATED = 3 };

struct exit_record {
	int exit_code, exit_signal, oom_killed;
	uint64_t started_ns, finished_ns; /* started 0: it was never executed */
	const char *error;                /* "" when it was */
};

struct first_process {
	pid_t pid;
	uint64_t ticks; /* when it was cloned, as /proc tells it: with the pid it names it for ever */
};

void told_state(uint8_t state[STATE_BYTES], enum phase phase, struct first_process process,
		uint64_t started_ns, int is_frozen);
/* The size; the error is cut to the room there is. */
size_t told_exit(uint8_t *record, size_t room, const struct exit_record *exit);

#endif
