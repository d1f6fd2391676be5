/* Encodes what is told of a container; see told.h. */
#include "told.h"

#include <string.h>

#define STATE_FROZEN 1u
#define EXIT_MAGIC 0x58455354u /* "TSEX" */
#define EXIT_VERSION 1u
#define EXIT_HEADER_BYTES 40u
#define EXIT_FLAG_OOM 1u
#define EXIT_FLAG_NOT_STARTED 2u

void told_state(uint8_t state[STATE_BYTES], enum phase phase, struct first_process process,
		uint64_t started_ns, int is_frozen)
{
	put_u32(state, phase);
	put_u32(state + 4, (uint32_t)(phase == EXITED ? 0 : process.pid));
	put_u64(state + 8, started_ns);
	put_u32(state + 16, is_frozen ? STATE_FROZEN : 0);
	put_u64(state + 20, process.ticks);
}

size_t told_exit(uint8_t *record, size_t room, const struct exit_record *exit)
{
	size_t text = strlen(exit->error);
	if (text > room - EXIT_HEADER_BYTES)
		text = room - EXIT_HEADER_BYTES;
	put_u32(record, EXIT_MAGIC);
	put_u32(record + 4, EXIT_VERSION);
	put_u32(record + 8, (uint32_t)exit->exit_code);
	put_u32(record + 12, (uint32_t)exit->exit_signal);
	put_u32(record + 16, (exit->oom_killed ? EXIT_FLAG_OOM : 0) |
				     (exit->started_ns == 0 ? EXIT_FLAG_NOT_STARTED : 0));
	put_u64(record + 20, exit->started_ns);
	put_u64(record + 28, exit->finished_ns);
	put_u32(record + 36, (uint32_t)text);
	memcpy(record + EXIT_HEADER_BYTES, exit->error, text);
	return EXIT_HEADER_BYTES + text;
}
