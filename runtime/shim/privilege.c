/* Drops privileges in the one order that works; see privilege.h. */
#include "privilege.h"

#include <errno.h>
#include <grp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "attendant.h"

#define SECCOMP_MODE_FILTER_OPERATION 1
#define SECCOMP_NEW_LISTENER 8ul
#define SECCOMP_INSTRUCTION_BYTES 8
#define SECCOMP_INSTRUCTIONS_MAX 4096u /* BPF_MAXINSNS */
#define CAPABILITY_VERSION_3 0x20080522
#define CAPABILITIES_MAX 63
#define CAPABILITY_KILL 5

struct capability_header {
	uint32_t version;
	int pid;
};

struct capability_data {
	uint32_t effective, permitted, inheritable;
};

struct filter_program {
	unsigned short count;
	void *instructions;
};

enum { BOUNDING, EFFECTIVE, PERMITTED, INHERITABLE, AMBIENT, SETS };

/*
 * With a listener, nothing is called between the filter's loading and the listener's handing over:
 * it might wait for who has no listener yet.
 */
static int load_program(const struct record *record, unsigned long flags,
			struct failure *failure)
{
	/* A part of a profile, which a count of 16 bits could make of it, protects nobody. */
	if (record->size % SECCOMP_INSTRUCTION_BYTES != 0 ||
	    record->size / SECCOMP_INSTRUCTION_BYTES > SECCOMP_INSTRUCTIONS_MAX)
		return fail(failure, 0, "the seccomp profile has %zu bytes: it must be whole "
					"instructions, at most %u", record->size,
			    SECCOMP_INSTRUCTIONS_MAX);
	struct filter_program program = {
		(unsigned short)(record->size / SECCOMP_INSTRUCTION_BYTES),
		take_memory(record->size)};
	if (program.instructions == NULL)
		return fail(failure, ENOMEM, "cannot load the seccomp profile");
	memcpy(program.instructions, record->data, record->size);
	long result = syscall(SYS_seccomp, SECCOMP_MODE_FILTER_OPERATION, flags, &program);
	int error = errno;
	if (result > 0 && (flags & SECCOMP_NEW_LISTENER))
		attendant_give_listener((int)result);
	give_memory(program.instructions, record->size);
	if (result > 0)
		close((int)result);
	return result < 0 ? fail(failure, error, "cannot load the seccomp profile") : 0;
}

static int load_seccomp(const struct spec *spec, int attendant, struct failure *failure)
{
	struct record record, listener;
	size_t left = spec_count(spec, TAG_SECCOMP);
	int is_told = spec_last(spec, TAG_LISTENER, &listener);
	const char *path = is_told ? record_string(&listener, 4, 0) : NULL;
	for (size_t at = 0; spec_next(spec, &at, TAG_SECCOMP, &record);) {
		unsigned long flags = is_told ? record_u32(&listener, 0) : 0;
		/* A process has one listener: the last filter's, which is asked first. */
		if (--left == 0 && path != NULL && path[0] != 0) {
			flags |= SECCOMP_NEW_LISTENER;
			if (attendant_expect_listener(attendant, failure) < 0)
				return -1;
		}
		if (load_program(&record, flags, failure) < 0)
			return -1;
	}
	return 0;
}

/* The host's bounding set; also drops from it what is not in `keep`. */
static int limit_bounding(uint64_t keep, uint64_t *host, struct failure *failure)
{
	*host = 0;
	for (int i = 0; i < CAPABILITIES_MAX; i++) {
		int has = prctl(PR_CAPBSET_READ, i, 0, 0, 0);
		if (has < 0)
			break; /* past the kernel's last capability */
		if (has == 0)
			continue;
		*host |= 1ULL << i;
		if (!(keep >> i & 1) && prctl(PR_CAPBSET_DROP, i, 0, 0, 0) < 0)
			return fail(failure, errno, "cannot drop capability %d", i);
	}
	return 0;
}

static int set_capabilities(const uint64_t sets[SETS], struct failure *failure)
{
	struct capability_header header = {CAPABILITY_VERSION_3, 0};
	struct capability_data data[2];
	for (int i = 0; i < 2; i++) {
		data[i].effective = (uint32_t)(sets[EFFECTIVE] >> (32 * i));
		data[i].permitted = (uint32_t)(sets[PERMITTED] >> (32 * i));
		data[i].inheritable = (uint32_t)(sets[INHERITABLE] >> (32 * i));
	}
	if (syscall(SYS_capset, &header, data) < 0)
		return fail(failure, errno, "cannot set the container's capabilities");
	for (unsigned long i = 0; i < CAPABILITIES_MAX; i++)
		if ((sets[AMBIENT] >> i & 1) &&
		    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, i, 0, 0) < 0)
			return fail(failure, errno, "cannot raise ambient capability %lu", i);
	return 0;
}

int privilege_drop(const struct spec *spec, const struct user *user, int attendant,
		   struct failure *failure)
{
	uint32_t flags = spec_u32(spec, TAG_FLAGS, 0);
	uint64_t sets[SETS] = {0}, host;
	struct record record;
	for (size_t at = 0; spec_next(spec, &at, TAG_CAPS, &record);)
		for (int i = 0; i < SETS; i++)
			sets[i] = record_u64(&record, (size_t)i * 8);
	if (flags & SPEC_NO_NEW_PRIVILEGES) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
			return fail(failure, errno, "cannot set no_new_privs");
	} else if (load_seccomp(spec, attendant, failure) < 0) {
		return -1; /* needs CAP_SYS_ADMIN, so before it is given up */
	}
	if (limit_bounding(sets[BOUNDING], &host, failure) < 0)
		return -1;
	for (int i = 0; i < SETS; i++)
		sets[i] &= host;
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
		return fail(failure, errno, "cannot keep capabilities over the change of user");
	/* Where the user namespace's maker may not change groups, there are none to change. */
	if (setgroups(user->group_count, user->groups) < 0 &&
	    !(errno == EPERM && user->group_count == 0))
		return fail(failure, errno, "cannot set the groups");
	if (setresgid(user->gid, user->gid, user->gid) < 0)
		return fail(failure, errno, "cannot become group %u", user->gid);
	if (setresuid(user->uid, user->uid, user->uid) < 0)
		return fail(failure, errno, "cannot become user %u", user->uid);
	if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0)
		return fail(failure, errno, "cannot clear keep-capabilities");
	return set_capabilities(sets, failure);
}

int privilege_finish(const struct spec *spec, int attendant, struct failure *failure)
{
	if (spec_u32(spec, TAG_FLAGS, 0) & SPEC_NO_NEW_PRIVILEGES)
		return load_seccomp(spec, attendant, failure);
	return 0;
}

int privilege_leave(void)
{
	struct capability_header header = {CAPABILITY_VERSION_3, 0};
	struct capability_data data[2] = {0};
	if (syscall(SYS_capget, &header, data) < 0)
		return -1;
	/* As after an execve: a user other than root has none. */
	uint32_t keep = geteuid() == 0 ? data[0].permitted & 1u << CAPABILITY_KILL : 0;
	struct capability_data rest[2] = {{keep, keep, 0}, {0}};
	return syscall(SYS_capset, &header, rest) < 0 ? -1 : 0;
}
