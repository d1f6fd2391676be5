/* Waiting for descriptors, also in a process that holds more than its limit allows by now. */
#ifndef TSSWARM_READY_H
#define TSSWARM_READY_H

#include <poll.h>
#include <stddef.h>

/*
 * As poll(2), which refuses more entries than RLIMIT_NOFILE: whoever lowers that of a process has
 * it otherwise turn for ever. What then cannot be told exactly is told as POLLIN or POLLOUT.
 */
int ready_wait(struct pollfd *polls, size_t count, int timeout_ms);

#endif
