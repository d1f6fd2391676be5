/*
 * A line of JSON from any bytes: within the room that its macro promises, one line, only plain
 * characters and escapes; and texts of the shim's own printf against the C library's.
 */
#include "fuzz.h"

#include "../../../runtime/shim/json.c"

static void check_format(struct input input)
{
	char ours[64], theirs[64], text[40];
	size_t size = 1 + take(&input, 1) % sizeof ours;
	unsigned one = take(&input, 4);
	unsigned long long two = take(&input, 4) | (unsigned long long)take(&input, 4) << 32;
	size_t length = take(&input, 1) % sizeof text;
	memset(text, 0, sizeof text);
	for (size_t i = 0; i < length; i++)
		text[i] = (char)take(&input, 1);
	size_t used = format_text(ours, size, "%s|%d %u%zu<%lu>%llu%08llu", text, (int)one, one,
				  (size_t)two, (unsigned long)two, two, two % 100000000);
	snprintf(theirs, size, "%s|%d %u%zu<%lu>%llu%08llu", text, (int)one, one, (size_t)two,
		 (unsigned long)two, two, two % 100000000);
	MUST(strcmp(ours, theirs) == 0 && used == strlen(ours));
	struct failure failure = {0};
	MUST(fail(&failure, (int)(one % 200), "%s %s %s", text, text, theirs) == -1);
	MUST(memchr(failure.text, 0, sizeof failure.text) != NULL);
}

/* The text as Docker's encoder writes it, a character at a time. */
static size_t put_slowly(uint8_t *line, const uint8_t *text, size_t bytes)
{
	uint8_t *at = line;
	for (size_t i = 0; i < bytes;) {
		size_t size = character(text + i, bytes - i);
		if (size == 0)
			at = put_text(at, "\\ufffd");
		else if (size == 1 && (text[i] < 0x20 || strchr("\"\\<>&", text[i]) != NULL))
			at = put_escaped(at, text[i]);
		else
			at = put_bytes(at, text + i, size);
		i += size == 0 ? 1 : size;
	}
	return (size_t)(at - line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	int partial = (int)(take(&input, 1) & 1);
	uint64_t now = take(&input, 4) | (uint64_t)take(&input, 4) << 32;
	uint8_t *text = copy_of(input.at, input.left);
	const char *attributes = input.left % 3 == 0 ? "{\"a\":\"b\"}" : "";
	size_t room = JSON_RECORD_MAX(input.left) + strlen(attributes);
	uint8_t *line = malloc(room), *slow = malloc(input.left * 6 + 1);
	uint8_t *tail = malloc(JSON_TAIL_MAX + strlen(attributes));
	MUST(line != NULL && slow != NULL && tail != NULL);
	size_t tail_bytes = json_tail(tail, partial ? "stderr" : "stdout", now, attributes);
	MUST(tail_bytes <= JSON_TAIL_MAX + strlen(attributes));
	size_t used = json_record(line, partial, text, input.left, tail, tail_bytes);
	size_t slow_bytes = put_slowly(slow, text, input.left);
	MUST(used == strlen("{\"log\":\"") + slow_bytes + (partial ? 0 : 2) + tail_bytes);
	MUST(memcmp(line + strlen("{\"log\":\""), slow, slow_bytes) == 0);
	free(slow);
	free(tail);
	MUST(used <= room && memcmp(line + used - 3, "\"}\n", 3) == 0);
	for (size_t i = 0; i < used - 1; i++) {
		MUST(line[i] >= 0x20);
		if (line[i] != '\\')
			continue;
		MUST(strchr("\"\\nrtu", line[i + 1]) != NULL);
		i++;
	}
	free(text);
	free(line);
	check_format((struct input){data, size});
	return 0;
}
