/*
 * The launch specification's decoder: whatever is behind the descriptor, it is refused or every
 * record of every tag can be walked, within the mapping; and nothing stays mapped afterwards.
 */
#include "fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

static size_t mapped;

static void *count_map(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
	void *memory = mmap(at, size, protection, flags, fd, offset);
	mapped += memory != MAP_FAILED;
	return memory;
}

static int count_unmap(void *at, size_t size)
{
	mapped--;
	return munmap(at, size);
}

#define mmap count_map
#define munmap count_unmap
#include "../../../runtime/shim/spec.c"
#undef mmap
#undef munmap

#define TAGS_BEYOND 8
#define OFFSETS_MAX 96

static volatile uint64_t sink;

static void look_at(const struct record *record)
{
	size_t near = record->size < OFFSETS_MAX ? record->size : OFFSETS_MAX;
	for (size_t offset = 0; offset <= near + 9; offset++) {
		sink += record_u32(record, offset) + record_u64(record, offset);
		const char *text = record_string(record, offset, 0);
		if (text != NULL)
			sink += strlen(text);
	}
	for (size_t offset = 0; offset <= 64 && offset <= record->size; offset += 4) {
		const char *text;
		for (unsigned i = 0; i < 64 && (text = record_string(record, offset, i)); i++) {
			MUST((const uint8_t *)text >= record->data + offset);
			MUST((const uint8_t *)text + strlen(text) < record->data + record->size);
		}
	}
	for (size_t i = 0; i < record->size; i++)
		sink += record->data[i];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int fd = -1;
	struct spec spec = {.data = NULL};
	struct failure failure = {0};
	if (fd < 0)
		fd = memfd_create("fuzz-spec", MFD_CLOEXEC);
	MUST(fd >= 0 && ftruncate(fd, 0) == 0 && ftruncate(fd, (off_t)size) == 0);
	MUST(size == 0 || pwrite(fd, data, size, 0) == (ssize_t)size);
	if (spec_open(&spec, fd, &failure) == 0) {
		size_t counted = 0, all = spec_count(&spec, 0);
		for (unsigned tag = 1; tag <= TAG_LAST + TAGS_BEYOND; tag++) {
			struct record record;
			size_t own = 0;
			for (size_t at = 0; spec_next(&spec, &at, tag, &record); own++) {
				MUST(record.tag == tag && record.data >= spec.data &&
				     record.data + record.size <= spec.data + spec.size);
				look_at(&record);
			}
			MUST(own == spec_count(&spec, tag));
			MUST(own > 0 || spec_string(&spec, tag, NULL) == NULL);
			sink += spec_u32(&spec, tag, 0);
			counted += own;
		}
		MUST(counted == all);
	} else {
		MUST(failure.text[0] != 0 && memchr(failure.text, 0, sizeof failure.text) != NULL);
	}
	spec_close(&spec);
	MUST(mapped == 0);
	MUST(spec_count(&spec, 0) == 0);
	return 0;
}
