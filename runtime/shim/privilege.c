/* Drops privileges in the one order that works; see privilege.h. */
#include "privilege.h"

#include <errno.h>
#include <grp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SECCOMP_MODE_FILTER_OPERATION 1
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

static int load_seccomp(const struct spec *spec, struct failure *failure)
{
	struct record record;
	for (size_t at = 0; spec_next(spec, &at, TAG_SECCOMP, &record);) {
		/* A part of a profile, which a count of 16 bits could make of it, protects nobody. */
		if (record.size % SECCOMP_INSTRUCTION_BYTES != 0 ||
		    record.size / SECCOMP_INSTRUCTION_BYTES > SECCOMP_INSTRUCTIONS_MAX)
			return fail(failure, 0, "the seccomp profile has %zu bytes: it must be whole "
						"instructions, at most %u", record.size,
				    SECCOMP_INSTRUCTIONS_MAX);
		struct filter_program program = {
			(unsigned short)(record.size / SECCOMP_INSTRUCTION_BYTES),
			take_memory(record.size)};
		if (program.instructions == NULL)
			return fail(failure, ENOMEM, "cannot load the seccomp profile");
		memcpy(program.instructions, record.data, record.size);
		long result = syscall(SYS_seccomp, SECCOMP_MODE_FILTER_OPERATION, 0, &program);
		int error = errno;
		give_memory(program.instructions, record.size);
		if (result < 0)
			return fail(failure, error, "cannot load the seccomp profile");
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

int privilege_drop(const struct spec *spec, const struct user *user, struct failure *failure)
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
	} else if (load_seccomp(spec, failure) < 0) {
		return -1; /* needs CAP_SYS_ADMIN, so before it is given up */
	}
	if (limit_bounding(sets[BOUNDING], &host, failure) < 0)
		return -1;
	for (int i = 0; i < SETS; i++)
		sets[i] &= host;
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
		return fail(failure, errno, "cannot keep capabilities over the change of user");
	if (setgroups(user->group_count, user->groups) < 0)
		return fail(failure, errno, "cannot set the groups");
	if (setresgid(user->gid, user->gid, user->gid) < 0)
		return fail(failure, errno, "cannot become group %u", user->gid);
	if (setresuid(user->uid, user->uid, user->uid) < 0)
		return fail(failure, errno, "cannot become user %u", user->uid);
	if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0)
		return fail(failure, errno, "cannot clear keep-capabilities");
	return set_capabilities(sets, failure);
}

int privilege_finish(const struct spec *spec, struct failure *failure)
{
	if (spec_u32(spec, TAG_FLAGS, 0) & SPEC_NO_NEW_PRIVILEGES)
		return load_seccomp(spec, failure);
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
