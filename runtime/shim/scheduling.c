/* Sets policy, priorities and places; see scheduling.h. */
#include "scheduling.h"

#include <errno.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PLACES_MAX 8192 /* processors or memory nodes: as many as Linux can have */
#define WORD_BITS 64u
#define IO_WHO_PROCESS 1

/* As sched_setattr takes it, without what came after the first version. */
struct attributes {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

struct places {
	uint64_t words[PLACES_MAX / WORD_BITS];
};

/* "0-3,7" */
static int parse_places(const char *text, struct places *places)
{
	memset(places, 0, sizeof *places);
	while (*text != 0) {
		uint64_t first, last;
		if (!read_number(&text, &first))
			return -1;
		last = first;
		if (*text == '-') {
			text++;
			if (!read_number(&text, &last))
				return -1;
		}
		if (last < first || last >= PLACES_MAX || (*text != 0 && *text != ','))
			return -1;
		for (uint64_t i = first; i <= last; i++)
			places->words[i / WORD_BITS] |= 1ULL << i % WORD_BITS;
		text += *text == ',';
	}
	return 0;
}

int scheduling_place(const struct spec *spec, enum affinity which, struct failure *failure)
{
	struct record record;
	struct places places;
	for (size_t at = 0; spec_next(spec, &at, TAG_CPU_AFFINITY, &record);) {
		const char *list = record_string(&record, 4, 0);
		if (record_u32(&record, 0) != which)
			continue;
		if (list == NULL || parse_places(list, &places) < 0)
			return fail(failure, 0, "a list of processors is malformed");
		if (syscall(SYS_sched_setaffinity, 0, sizeof places, &places) < 0)
			return fail(failure, errno, "cannot run on the processors %s", list);
	}
	return 0;
}

static int set_scheduler(const struct record *record, struct failure *failure)
{
	struct attributes attributes = {
		.size = sizeof attributes,
		.policy = record_u32(record, 0),
		.flags = record_u64(record, 4),
		.nice = (int32_t)record_u32(record, 12),
		.priority = record_u32(record, 16),
		.runtime = record_u64(record, 20),
		.deadline = record_u64(record, 28),
		.period = record_u64(record, 36),
	};
	if (syscall(SYS_sched_setattr, 0, &attributes, 0) < 0)
		return fail(failure, errno, "cannot set the scheduling policy %u",
			    attributes.policy);
	return 0;
}

static int set_memory_policy(const struct record *record, struct failure *failure)
{
	struct places nodes;
	uint32_t mode = record_u32(record, 0) | record_u32(record, 4);
	const char *list = record_string(record, 8, 0);
	if (list == NULL || parse_places(list, &nodes) < 0)
		return fail(failure, 0, "a list of memory nodes is malformed");
	/* The kernel takes no mask wider than its own, but for zeros; and counts one bit too many. */
	size_t words = sizeof nodes.words / sizeof *nodes.words;
	while (words > 1 && nodes.words[words - 1] == 0)
		words--;
	const void *mask = list[0] == 0 ? NULL : nodes.words;
	if (syscall(SYS_set_mempolicy, mode, mask, mask == NULL ? 0 : words * WORD_BITS + 1) < 0)
		return fail(failure, errno, "cannot set the memory policy %u of nodes \"%s\"",
			    record_u32(record, 0), list);
	return 0;
}

int scheduling_set(const struct spec *spec, struct failure *failure)
{
	struct record record;
	if (scheduling_place(spec, AFFINITY_FINAL, failure) < 0 ||
	    (spec_last(spec, TAG_MEMORY_POLICY, &record) &&
	     set_memory_policy(&record, failure) < 0))
		return -1;
	if (spec_last(spec, TAG_IO_PRIORITY, &record) &&
	    syscall(SYS_ioprio_set, IO_WHO_PROCESS, 0, record_u32(&record, 0)) < 0)
		return fail(failure, errno, "cannot set the I/O priority %u",
			    record_u32(&record, 0));
	if (spec_last(spec, TAG_PERSONALITY, &record) &&
	    personality((unsigned long)record_u64(&record, 0)) < 0)
		return fail(failure, errno, "cannot set the personality %llu",
			    (unsigned long long)record_u64(&record, 0));
	return spec_last(spec, TAG_SCHEDULER, &record) ? set_scheduler(&record, failure) : 0;
}
