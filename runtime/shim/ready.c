/* poll(2), and select(2) where it is refused; see ready.h. */
#include "ready.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NUMBERS_MAX 4096 /* descriptors above are looked at from time to time */
#define TICK_MS 200
#define WORD_BITS (sizeof(unsigned long) * CHAR_BIT)

struct numbers {
	unsigned long words[NUMBERS_MAX / WORD_BITS];
};

static void add(struct numbers *numbers, int fd)
{
	numbers->words[(size_t)fd / WORD_BITS] |= 1ul << (size_t)fd % WORD_BITS;
}

static int has(const struct numbers *numbers, int fd)
{
	return (int)(numbers->words[(size_t)fd / WORD_BITS] >> (size_t)fd % WORD_BITS & 1);
}

/* Looked at from time to time: select(2) cannot tell the end of what is not to be read. */
static int is_ticking(const struct pollfd *poll)
{
	return poll->fd >= NUMBERS_MAX || (poll->fd >= 0 && poll->events == 0);
}

int ready_wait(struct pollfd *polls, size_t count, int timeout_ms)
{
	int found = poll(polls, count, timeout_ms);
	if (found >= 0 || errno != EINVAL)
		return found;
	struct numbers in = {{0}}, out = {{0}};
	for (size_t i = 0; i < count; i++) {
		polls[i].revents = 0;
		if (is_ticking(&polls[i])) {
			if (timeout_ms < 0 || timeout_ms > TICK_MS)
				timeout_ms = TICK_MS;
			continue;
		}
		if (polls[i].fd >= 0 && (polls[i].events & POLLIN))
			add(&in, polls[i].fd);
		if (polls[i].fd >= 0 && (polls[i].events & POLLOUT))
			add(&out, polls[i].fd);
	}
	struct timespec left = {timeout_ms / 1000, timeout_ms % 1000 * 1000000L};
	if (syscall(SYS_pselect6, NUMBERS_MAX, &in, &out, NULL, timeout_ms < 0 ? NULL : &left,
		    NULL) < 0)
		return -1;
	found = 0;
	for (size_t i = 0; i < count; i++) {
		struct pollfd *one = &polls[i];
		if (is_ticking(one))
			(void)poll(one, 1, 0); /* refused, too: then its end is seen later */
		else if (one->fd >= 0)
			one->revents = (short)((has(&in, one->fd) ? POLLIN : 0) |
					       (has(&out, one->fd) ? POLLOUT : 0));
		found += one->revents != 0;
	}
	return found;
}
