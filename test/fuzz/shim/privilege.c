/*
 * What of a specification goes to the kernel as privileges: capabilities and the seccomp program,
 * with the kernel's calls played. A program is handed over whole or refused; nothing is read beyond
 * a record.
 */
#include "fuzz.h"

#include <errno.h>
#include <grp.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

struct program {
	unsigned short count;
	const uint8_t *instructions;
};

static volatile uint8_t seen;
static size_t loaded_bytes;
static int refuse_one_in;
static unsigned calls;

static int answer(void)
{
	calls++;
	if (refuse_one_in == 0 || calls % (unsigned)refuse_one_in != 0)
		return 0;
	errno = EPERM;
	return -1;
}

static long play_syscall(long number, ...)
{
	va_list args;
	va_start(args, number);
	if (number == SYS_seccomp) {
		(void)va_arg(args, int);
		(void)va_arg(args, long);
		const struct program *program = va_arg(args, const struct program *);
		for (size_t i = 0; i < program->count * 8u; i++)
			seen = program->instructions[i];
		loaded_bytes += program->count * 8u;
	}
	va_end(args);
	return answer();
}

static int play_prctl(int option, unsigned long value)
{
	if (option == PR_CAPBSET_READ)
		return value > 40 ? -1 : value != 24;
	return answer();
}

static int play(void)
{
	return answer();
}

#define syscall play_syscall
#define prctl(option, value, ...) play_prctl(option, (unsigned long)(value))
#define setgroups(count, groups) play()
#define setresgid(one, two, three) play()
#define setresuid(one, two, three) play()
#include "../../../runtime/shim/privilege.c"

int attendant_expect_listener(int socket, struct failure *failure)
{
	return socket == 0 || answer() == 0 ? 0 : fail(failure, EPERM, "no attendant");
}

void attendant_give_listener(int listener)
{
	MUST(listener > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int fd = -1;
	struct spec spec = {.data = NULL};
	struct failure failure = {0};
	struct user user = {.uid = 1, .gid = 1, .group_count = 1, .groups = {1}};
	if (fd < 0)
		fd = memfd_create("fuzz-spec", MFD_CLOEXEC);
	MUST(fd >= 0 && ftruncate(fd, 0) == 0);
	MUST(size == 0 || pwrite(fd, data, size, 0) == (ssize_t)size);
	if (spec_open(&spec, fd, &failure) < 0) {
		spec_close(&spec);
		return 0;
	}
	refuse_one_in = size % 7 == 0 ? (int)(size % 13) : 0;
	calls = 0;
	loaded_bytes = 0;
	int result = privilege_drop(&spec, &user, -1, &failure);
	if (result == 0)
		result = privilege_finish(&spec, -1, &failure);
	struct record record;
	size_t wanted_bytes = 0;
	for (size_t at = 0; spec_next(&spec, &at, TAG_SECCOMP, &record);)
		wanted_bytes += record.size;
	/* All of it, or the container does not start: never a part of the profile. */
	MUST(result < 0 || loaded_bytes == wanted_bytes);
	MUST(result == 0 || failure.text[0] != 0);
	(void)privilege_leave();
	spec_close(&spec);
	return 0;
}
