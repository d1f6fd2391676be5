/* Sets resource limits and the OOM score; see limits.h. */
#include "limits.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "status.h"

static const char *const NAMES[] = {
	"RLIMIT_CPU",     "RLIMIT_FSIZE",      "RLIMIT_DATA",     "RLIMIT_STACK",
	"RLIMIT_CORE",    "RLIMIT_RSS",        "RLIMIT_NPROC",    "RLIMIT_NOFILE",
	"RLIMIT_MEMLOCK", "RLIMIT_AS",         "RLIMIT_LOCKS",    "RLIMIT_SIGPENDING",
	"RLIMIT_MSGQUEUE", "RLIMIT_NICE",      "RLIMIT_RTPRIO",   "RLIMIT_RTTIME",
};

static const char *name_of(unsigned which)
{
	return which < sizeof NAMES / sizeof *NAMES ? NAMES[which] : "unknown";
}

void limits_raise(const struct spec *spec, int status)
{
	struct record record;
	char number[16];
	for (size_t at = 0; spec_next(spec, &at, TAG_OOM_SCORE, &record);) {
		format_text(number, sizeof number, "%d", (int)record_u32(&record, 0));
		/* Lowering needs CAP_SYS_RESOURCE; without it the host's own score stays. */
		if (write_file_at(AT_FDCWD, "/proc/self/oom_score_adj", number) < 0)
			status_note(status, "OOM score %s is left out: this host may not lower its own",
				    number);
	}
	for (size_t at = 0; spec_next(spec, &at, TAG_RLIMIT, &record);) {
		struct rlimit limit;
		int which = (int)record_u32(&record, 0);
		uint64_t hard = record_u64(&record, 12);
		if (getrlimit(which, &limit) == 0 && limit.rlim_max < hard) {
			limit.rlim_max = hard;
			(void)setrlimit(which, &limit); /* else limits_set cuts and tells */
		}
	}
}

static uint64_t least(uint64_t one, uint64_t other)
{
	return one < other ? one : other;
}

static int set_one(const struct record *record, int status, struct failure *failure)
{
	unsigned which = record_u32(record, 0);
	struct rlimit wanted = {record_u64(record, 4), record_u64(record, 12)}, own, cut = {0};
	if (setrlimit((int)which, &wanted) == 0)
		return 0;
	/* Raising needs CAP_SYS_RESOURCE; without it the shim's own limit is the most. */
	if (errno != EPERM || getrlimit((int)which, &own) < 0)
		return fail(failure, errno, "cannot set %s", name_of(which));
	cut.rlim_max = least(wanted.rlim_max, own.rlim_max);
	cut.rlim_cur = least(wanted.rlim_cur, cut.rlim_max);
	if (setrlimit((int)which, &cut) < 0)
		return fail(failure, errno, "cannot set %s", name_of(which));
	status_note(status, "%s is cut to %llu:%llu: this host may not raise it further",
		    name_of(which), (unsigned long long)cut.rlim_cur,
		    (unsigned long long)cut.rlim_max);
	return 0;
}

static int set_those(const struct spec *spec, int are_files, int status, struct failure *failure)
{
	struct record record;
	for (size_t at = 0; spec_next(spec, &at, TAG_RLIMIT, &record);) {
		int is_files = record_u32(&record, 0) == RLIMIT_NOFILE;
		if (is_files == are_files && set_one(&record, status, failure) < 0)
			return -1;
	}
	return 0;
}

int limits_set(const struct spec *spec, int status, struct failure *failure)
{
	return set_those(spec, 0, status, failure);
}

int limits_set_files(const struct spec *spec, int status, struct failure *failure)
{
	return set_those(spec, 1, status, failure);
}
