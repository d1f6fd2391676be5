/*
 * The shim's decoder as a filter, for the encoder's fuzz target: specifications from standard input
 * (u32 bytes, the bytes), and for each what the shim finds in it: u32 records, or 0xffffffff when it
 * is refused, then per record u32 tag, u32 bytes, the payload.
 */
#include "fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

#include "../../../runtime/shim/spec.h"

#define SIZE_MAX_BYTES (16u << 20)

static void put(uint32_t value)
{
	uint8_t bytes[4];
	put_u32(bytes, value);
	MUST(fwrite(bytes, 1, sizeof bytes, stdout) == sizeof bytes);
}

int main(void)
{
	uint8_t head[4];
	int fd = memfd_create("decode", MFD_CLOEXEC);
	MUST(fd >= 0);
	while (fread(head, 1, sizeof head, stdin) == sizeof head) {
		size_t size = get_u32(head);
		struct spec spec = {.data = NULL};
		struct failure failure = {0};
		struct record record;
		MUST(size <= SIZE_MAX_BYTES);
		uint8_t *bytes = malloc(size + 1);
		MUST(bytes != NULL && fread(bytes, 1, size, stdin) == size);
		MUST(ftruncate(fd, 0) == 0 && pwrite(fd, bytes, size, 0) == (ssize_t)size);
		free(bytes);
		int is_refused = spec_open(&spec, fd, &failure) < 0;
		put(is_refused ? 0xffffffffu : (uint32_t)spec_count(&spec, 0));
		for (size_t at = 0; !is_refused && spec_next(&spec, &at, 0, &record);) {
			put(record.tag);
			put((uint32_t)record.size);
			MUST(fwrite(record.data, 1, record.size, stdout) == record.size);
		}
		spec_close(&spec);
		fflush(stdout);
	}
	return 0;
}
