/* Closes, keeps and moves descriptors; see descriptors.h. */
#include "descriptors.h"

#include <fcntl.h>
#include <errno.h>
#include <unistd.h>

#include "kernel.h"
#include "terminal.h"

#define FIRST_FOREIGN_FD 3u /* after standard input, output and errors */

int descriptors_inherit(const struct spec *spec, struct failure *failure)
{
	unsigned count = spec_u32(spec, TAG_PRESERVED, 0);
	int has_console = spec_count(spec, TAG_CONSOLE) > 0;
	if (count > PRESERVED_MAX)
		return fail(failure, 0, "%u preserved descriptors: at most %u are possible", count,
			    PRESERVED_MAX);
	if (has_console && spec_u32(spec, TAG_CONSOLE, 0) != CONSOLE_FD)
		return fail(failure, 0, "the console socket must be descriptor %d", CONSOLE_FD);
	k_close_range(PRESERVED_FD + count, ~0U);
	if (has_console)
		fcntl(CONSOLE_FD, F_SETFD, FD_CLOEXEC);
	else
		close(CONSOLE_FD);
	for (unsigned i = 0; i < count; i++)
		if (fcntl((int)(PRESERVED_FD + i), F_SETFD, FD_CLOEXEC) < 0)
			return fail(failure, errno, "cannot preserve descriptor %u",
				    FIRST_FOREIGN_FD + i);
	return 0;
}

void descriptors_release(const struct spec *spec)
{
	unsigned count = spec_u32(spec, TAG_PRESERVED, 0);
	if (spec_count(spec, TAG_CONSOLE) > 0)
		close(CONSOLE_FD);
	if (count > 0)
		k_close_range(PRESERVED_FD, PRESERVED_FD + count - 1);
}

/* Nothing of the launcher's may lie where the program's descriptors go or come from. */
static int move_up(int *fd, unsigned least)
{
	if (*fd < 0 || (unsigned)*fd >= least)
		return 0;
	int moved = fcntl(*fd, F_DUPFD_CLOEXEC, (int)least);
	if (moved < 0)
		return -1;
	close(*fd);
	*fd = moved;
	return 0;
}

/* The lowest of `kept` from `from` on; -1 when there is none. */
static int lowest(int *const kept[], size_t count, unsigned from)
{
	int found = -1;
	for (size_t i = 0; i < count; i++)
		if (*kept[i] >= (int)from && (found < 0 || *kept[i] < found))
			found = *kept[i];
	return found;
}

int descriptors_close_others(unsigned from, int *const kept[], size_t count)
{
	for (;;) {
		int next = lowest(kept, count, from);
		unsigned last = next < 0 ? ~0U : (unsigned)next - 1;
		if (last >= from && k_close_range(from, last) < 0)
			return -1;
		if (next < 0)
			return 0;
		from = (unsigned)next + 1;
	}
}

static int is_kept(int *const kept[], size_t count, unsigned fd)
{
	for (size_t i = 0; i < count; i++)
		if (*kept[i] == (int)fd)
			return 1;
	return 0;
}

int descriptors_keep(const struct spec *spec, int *const kept[], size_t count)
{
	unsigned preserved = spec_u32(spec, TAG_PRESERVED, 0);
	int has_console = spec_count(spec, TAG_CONSOLE) > 0;
	for (unsigned fd = FIRST_FOREIGN_FD; fd < PRESERVED_FD; fd++)
		if (!(fd == CONSOLE_FD && has_console) && !is_kept(kept, count, fd))
			(void)close((int)fd); /* or it was not open */
	return descriptors_close_others(PRESERVED_FD + preserved, kept, count);
}

int descriptors_settle(const struct spec *spec, int *kept[], size_t count,
		       struct failure *failure)
{
	unsigned preserved = spec_u32(spec, TAG_PRESERVED, 0);
	for (size_t i = 0; preserved > 0 && i < count; i++)
		if (move_up(kept[i], PRESERVED_FD + preserved) < 0)
			return fail(failure, errno, "cannot move a descriptor");
	/* Upwards, so that each is copied before it is overwritten. */
	for (unsigned i = 0; i < preserved; i++)
		if (dup2((int)(PRESERVED_FD + i), (int)(FIRST_FOREIGN_FD + i)) < 0)
			return fail(failure, errno, "cannot hand over descriptor %u",
				    FIRST_FOREIGN_FD + i);
	if (descriptors_close_others(FIRST_FOREIGN_FD + preserved, kept, count) < 0)
		return fail(failure, errno, "cannot close the shim's descriptors");
	return 0;
}
