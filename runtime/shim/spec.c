/* Reads the launch specification (spec.h). Every length is checked once, when it is opened. */
#include "spec.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define SPEC_MAGIC 0x50535354u /* "TSSP" */
#define SPEC_VERSION 1u
#define HEADER_BYTES 16u
#define RECORD_HEADER_BYTES 8u
#define SPEC_MAX_BYTES (8u << 20)

static int has_record(const struct spec *spec, size_t at)
{
	return at + RECORD_HEADER_BYTES <= spec->size &&
	       get_u32(spec->data + at + 4) <= spec->size - at - RECORD_HEADER_BYTES;
}

static int check(struct spec *spec, struct failure *failure)
{
	const uint8_t *data = spec->data;
	if (get_u32(data) != SPEC_MAGIC || get_u32(data + 4) != SPEC_VERSION ||
	    get_u32(data + 8) != spec->size)
		return fail(failure, 0, "the launch specification is not of version %u",
			    SPEC_VERSION);
	for (size_t at = HEADER_BYTES; at < spec->size;) {
		if (!has_record(spec, at))
			return fail(failure, 0, "the launch specification is cut short");
		uint32_t tag = get_u32(data + at);
		if (tag == 0 || tag > TAG_LAST)
			return fail(failure, 0, "the launch specification has a record %u", tag);
		if (spec->first[tag] == 0)
			spec->first[tag] = (uint32_t)at;
		at += RECORD_HEADER_BYTES + get_u32(data + at + 4);
		spec->end[tag] = (uint32_t)at;
	}
	return 0;
}

int spec_open(struct spec *spec, int fd, struct failure *failure)
{
	struct stat status;
	if (fstat(fd, &status) < 0)
		return fail(failure, errno, "cannot read the launch specification");
	size_t size = (size_t)status.st_size;
	if (size < HEADER_BYTES || size > SPEC_MAX_BYTES)
		return fail(failure, 0, "the launch specification has %zu bytes", size);
	const uint8_t *data = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (data == MAP_FAILED)
		return fail(failure, errno, "cannot map the launch specification");
	*spec = (struct spec){.data = data, .size = size};
	if (check(spec, failure) == 0)
		return 0;
	spec_close(spec); /* the shim lives on after an exec's that it refused */
	return -1;
}

void spec_close(struct spec *spec)
{
	if (spec->data != NULL)
		munmap((void *)(uintptr_t)spec->data, spec->size);
	*spec = (struct spec){.data = NULL};
}

int spec_next(const struct spec *spec, size_t *at, unsigned tag, struct record *record)
{
	size_t where = *at, end = tag == 0 ? spec->size : tag <= TAG_LAST ? spec->end[tag] : 0;
	if (where == 0)
		where = tag == 0 ? HEADER_BYTES : tag <= TAG_LAST ? spec->first[tag] : 0;
	while (where < end) {
		record->tag = get_u32(spec->data + where);
		record->size = get_u32(spec->data + where + 4);
		record->data = spec->data + where + RECORD_HEADER_BYTES;
		where += RECORD_HEADER_BYTES + record->size;
		if (tag == 0 || record->tag == tag) {
			*at = where;
			return 1;
		}
	}
	*at = where;
	return 0;
}

int spec_last(const struct spec *spec, unsigned tag, struct record *last)
{
	struct record record;
	int found = 0;
	for (size_t at = 0; spec_next(spec, &at, tag, &record); found = 1)
		*last = record;
	return found;
}

const char *record_string(const struct record *record, size_t offset, unsigned index)
{
	while (offset < record->size) {
		const char *start = (const char *)record->data + offset;
		const char *end = memchr(start, 0, record->size - offset);
		if (end == NULL)
			return NULL;
		if (index-- == 0)
			return start;
		offset += (size_t)(end - start) + 1;
	}
	return NULL;
}

uint32_t record_u32(const struct record *record, size_t offset)
{
	return offset + 4 <= record->size ? get_u32(record->data + offset) : 0;
}

uint64_t record_u64(const struct record *record, size_t offset)
{
	return offset + 8 <= record->size ? get_u64(record->data + offset) : 0;
}

const char *spec_string(const struct spec *spec, unsigned tag, const char *absent)
{
	struct record record;
	for (size_t at = 0; spec_next(spec, &at, tag, &record);) {
		const char *text = record_string(&record, 0, 0);
		if (text != NULL)
			absent = text;
	}
	return absent;
}

uint32_t spec_u32(const struct spec *spec, unsigned tag, uint32_t absent)
{
	struct record record;
	for (size_t at = 0; spec_next(spec, &at, tag, &record);)
		absent = record_u32(&record, 0);
	return absent;
}

size_t spec_count(const struct spec *spec, unsigned tag)
{
	struct record record;
	size_t count = 0;
	for (size_t at = 0; spec_next(spec, &at, tag, &record);)
		count++;
	return count;
}
