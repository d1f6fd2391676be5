/*
 * The log writer: whatever a program writes, in pieces of any size on two streams, the files hold
 * whole records of it in order, no more files than asked for, none beyond its limit unless one
 * record is. It also goes on in a file that somebody else left.
 */
#include "fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../../runtime/shim/log.c"

#define ATTRIBUTES "{\"label\":\"value\"}"
#define LOOKED_BACK 12 /* more than files are ever kept */
#define PIECES_MAX 48
#define FED_MAX (1u << 20)
#define FEED_MAX (3 * LOG_LINE_BYTES)
#define FILE_MAX (8u << 20)

static uint8_t fed[LOG_STREAMS][FED_MAX], read_back[LOG_STREAMS][FED_MAX], file[FILE_MAX];
static size_t fed_bytes[LOG_STREAMS], read_bytes[LOG_STREAMS];
static size_t newest_record;
/* Of what was fed; what JSON makes of bytes that are no character is json.c's matter. */
static int is_ascii;

static const char *directory(void)
{
	static char path[64];
	if (path[0] == 0) {
		strcpy(path, "/dev/shm/tsswarm-fuzz-log-XXXXXX");
		MUST(mkdtemp(path) != NULL);
	}
	return path;
}

static void leave(void)
{
	rmdir(directory());
}

static void read_frames(size_t size)
{
	newest_record = 0;
	for (size_t at = 0; at < size;) {
		MUST(size - at >= LOG_FRAME_EXTRA_BYTES);
		uint32_t length = get_u32(file + at);
		size_t whole = length + LOG_FRAME_EXTRA_BYTES;
		unsigned stream = file[at + 5] - 1u;
		MUST(length <= LOG_LINE_BYTES && whole <= size - at);
		MUST(file[at + 4] == FRAME_VERSION && stream < LOG_STREAMS);
		MUST(get_u32(file + at + whole - 4) == length);
		memcpy(read_back[stream] + read_bytes[stream], file + at + LOG_FRAME_HEADER_BYTES,
		       length);
		read_bytes[stream] += length;
		if (!(file[at + 6] & FRAME_PARTIAL))
			read_back[stream][read_bytes[stream]++] = '\n';
		newest_record = whole;
		at += whole;
	}
}

/* What the escapes at `at` stand for; moves behind them. Only of texts that are ASCII. */
static uint8_t unescaped(const uint8_t **at)
{
	uint8_t byte = *(*at)++;
	if (byte != '\\')
		return byte;
	byte = *(*at)++;
	if (byte != 'u')
		return byte == 'n' ? '\n' : byte == 'r' ? '\r' : byte == 't' ? '\t' : byte;
	char digits[5] = {0};
	memcpy(digits, *at, 4);
	*at += 4;
	return (uint8_t)strtoul(digits, NULL, 16);
}

static void read_text(const uint8_t *at)
{
	uint8_t text[LOG_LINE_BYTES + 1];
	size_t bytes = 0;
	while (*at != '"') {
		MUST(bytes < sizeof text);
		text[bytes++] = unescaped(&at);
	}
	MUST(memcmp(at, "\",\"stream\":\"std", 15) == 0);
	int stream = at[15] == 'e' ? LOG_STDERR : LOG_STDOUT;
	memcpy(read_back[stream] + read_bytes[stream], text, bytes);
	read_bytes[stream] += bytes;
}

static void read_lines(size_t size)
{
	newest_record = 0;
	for (size_t at = 0; at < size;) {
		const uint8_t *end = memchr(file + at, '\n', size - at);
		MUST(end != NULL && memcmp(file + at, "{\"log\":\"", 8) == 0);
		if (is_ascii)
			read_text(file + at + 8);
		newest_record = (size_t)(end + 1 - (file + at));
		MUST(end[-1] == '}' && newest_record <= JSON_RECORD_MAX(LOG_LINE_BYTES) + sizeof ATTRIBUTES);
		at += newest_record;
	}
}

/* Reads and removes the files, oldest first. Returns how many there were. */
static unsigned check_files(enum log_format format, uint64_t max_bytes, uint64_t last)
{
	unsigned found = 0;
	for (uint64_t number = last > LOOKED_BACK ? last - LOOKED_BACK : 1; number <= last;
	     number++) {
		char path[128];
		snprintf(path, sizeof path, "%s/%08llu.log", directory(),
			 (unsigned long long)number);
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		ssize_t size = read(fd, file, sizeof file);
		close(fd);
		unlink(path);
		MUST(size >= 0);
		found++;
		if (format == LOG_JSON)
			read_lines((size_t)size);
		else
			read_frames((size_t)size);
		MUST((uint64_t)size <= max_bytes || (size_t)size == newest_record);
	}
	return found;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int is_ready;
	struct input input = {data, size};
	struct log log = {.fd = -1, .dir = -1, .writer = -1};
	struct failure failure = {0};
	if (!is_ready++)
		atexit(leave);
	unsigned how = take(&input, 1);
	uint64_t max_bytes = take(&input, 2) * (how & 4 ? 64 : 1);
	uint32_t max_files = take(&input, 1) % 8, number = 1 + take(&input, 1) % 3;
	uint64_t first = number;
	MUST(log_attributes(how & 8 ? ATTRIBUTES : "", &failure) == 0);
	log.format = how & 1 ? LOG_JSON : LOG_FRAMES;
	is_ascii = 1;
	memset(fed_bytes, 0, sizeof fed_bytes);
	memset(read_bytes, 0, sizeof read_bytes);
	if (how & 2) {
		/* Somebody else's file, or a torn one: what follows is beside it. */
		char path[128];
		size_t length = take(&input, 1) % 64;
		length = length < input.left ? length : input.left;
		snprintf(path, sizeof path, "%s/%08llu.log", directory(),
			 (unsigned long long)number);
		int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		MUST(fd >= 0 && write(fd, input.at, length) == (ssize_t)length);
		close(fd);
		input.at += length;
		input.left -= length;
		MUST(log_open(&log, directory(), max_bytes, max_files, number, &failure) == 0);
		if (log.number == number)
			MUST(ftruncate(log.fd, 0) == 0); /* held to be whole: not ours to read */
		else
			unlink(path);
		log.file_bytes = 0;
		first = log.number;
	} else {
		MUST(log_open(&log, directory(), max_bytes, max_files, number, &failure) == 0);
	}
	for (int piece = 0; piece < PIECES_MAX && input.left > 0; piece++) {
		enum log_stream stream = (enum log_stream)(take(&input, 1) % LOG_STREAMS);
		size_t wanted = take(&input, 1), turns = 1;
		if (wanted > 128)
			turns = 1 + (wanted & 127) * 4; /* long lines from short inputs */
		wanted = wanted < input.left ? wanted : input.left;
		if (fed_bytes[stream] + wanted * turns > FEED_MAX)
			break;
		uint8_t *bytes = malloc(wanted * turns + 1);
		for (size_t i = 0; i < turns; i++)
			memcpy(bytes + i * wanted, input.at, wanted);
		uint8_t *exact = copy_of(bytes, wanted * turns);
		log_feed(&log, stream, exact, wanted * turns);
		for (size_t i = 0; i < wanted; i++)
			is_ascii &= input.at[i] < 0x80;
		memcpy(fed[stream] + fed_bytes[stream], bytes, wanted * turns);
		fed_bytes[stream] += wanted * turns;
		free(exact);
		free(bytes);
		input.at += wanted;
		input.left -= wanted;
	}
	for (int i = 0; i < LOG_STREAMS; i++) {
		log_end(&log, (enum log_stream)i);
		if (log.format == LOG_FRAMES && fed_bytes[i] > 0 &&
		    fed[i][fed_bytes[i] - 1] != '\n')
			fed[i][fed_bytes[i]++] = '\n'; /* a frame cannot tell that it is missing */
	}
	int is_rotated = log.number != first;
	MUST(log.number >= first);
	close_fd(&log.fd);
	close_fd(&log.dir);
	MUST(log.dropped_frames == 0);
	unsigned files = check_files(log.format, max_bytes, log.number);
	MUST(files >= 1 && files <= (max_files < 1 ? 1 : max_files));
	if (log.format == LOG_JSON && !is_ascii)
		return 0;
	for (int i = 0; i < LOG_STREAMS; i++) {
		/* What is left is the end of what was fed; all of it unless files were dropped. */
		MUST(is_rotated || read_bytes[i] == fed_bytes[i]);
		MUST(read_bytes[i] <= fed_bytes[i] &&
		     memcmp(read_back[i], fed[i] + fed_bytes[i] - read_bytes[i],
			    read_bytes[i]) == 0);
	}
	return 0;
}
