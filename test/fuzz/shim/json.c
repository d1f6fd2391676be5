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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	int partial = (int)(take(&input, 1) & 1);
	uint64_t now = take(&input, 4) | (uint64_t)take(&input, 4) << 32;
	uint8_t *text = copy_of(input.at, input.left);
	const char *attributes = input.left % 3 == 0 ? "{\"a\":\"b\"}" : "";
	size_t room = JSON_RECORD_MAX(input.left) + strlen(attributes);
	uint8_t *line = malloc(room);
	MUST(line != NULL);
	size_t used = json_record(line, partial ? "stderr" : "stdout", now, partial, attributes,
				  text, input.left);
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
