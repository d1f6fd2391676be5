/* Writes the container's log; format and rules in log.h. */
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "json.h"
#include "kernel.h"

#define FRAME_VERSION 1
#define FRAME_PARTIAL 1
#define LOG_FILE_MODE 0640
#define NAME_BYTES 32
/* Of one message to the process that writes: more is hard for the kernel to find in one piece. */
#define MESSAGE_BYTES (64u << 10)

static uint8_t lines[LOG_STREAMS][LOG_LINE_BYTES];
static uint8_t out[LOG_OUT_BYTES];
static char attributes[LOG_ATTRIBUTES_MAX];
static size_t attribute_bytes;
/* Of the records of JSON that are being written: they share stream and time. */
static uint8_t tail_of_all[JSON_TAIL_MAX + LOG_ATTRIBUTES_MAX];
static size_t tail_of_all_bytes;

static void file_name(char name[NAME_BYTES], uint64_t number)
{
	format_text(name, NAME_BYTES, "%08llu.log", (unsigned long long)number);
}

static int open_file(struct log *log)
{
	char name[NAME_BYTES];
	file_name(name, log->number);
	log->file_bytes = 0;
	log->fd = openat(log->dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC,
			 LOG_FILE_MODE);
	return log->fd < 0 ? -1 : 0;
}

/* Whether the file ends with a whole record: after a power failure it may not. */
static int ends_whole(int fd, enum log_format format, uint64_t size)
{
	if (format == LOG_JSON) {
		char last;
		return pread(fd, &last, 1, (off_t)(size - 1)) == 1 && last == '\n';
	}
	uint8_t header[LOG_FRAME_HEADER_BYTES], trailer[4];
	if (size < LOG_FRAME_EXTRA_BYTES ||
	    pread(fd, trailer, sizeof trailer, (off_t)(size - sizeof trailer)) != sizeof trailer)
		return 0;
	uint64_t frame = (uint64_t)get_u32(trailer) + LOG_FRAME_EXTRA_BYTES;
	return frame <= size &&
	       pread(fd, header, sizeof header, (off_t)(size - frame)) == sizeof header &&
	       get_u32(header) == get_u32(trailer) && header[4] == FRAME_VERSION;
}

/* Goes on in the file an earlier run of the container left, or, if that is damaged, after it. */
static int open_first(struct log *log)
{
	char name[NAME_BYTES];
	struct stat status;
	file_name(name, log->number);
	log->fd = openat(log->dir, name, O_RDWR | O_APPEND | O_CLOEXEC);
	if (log->fd < 0)
		return open_file(log);
	if (fstat(log->fd, &status) == 0 &&
	    (status.st_size == 0 || ends_whole(log->fd, log->format, (uint64_t)status.st_size))) {
		log->file_bytes = (uint64_t)status.st_size;
		return 0;
	}
	close_fd(&log->fd);
	log->number++;
	return open_file(log);
}

int log_open(struct log *log, const char *dir, uint64_t max_bytes, uint32_t max_files,
	     uint32_t number, struct failure *failure)
{
	log->max_bytes = max_bytes;
	log->max_files = max_files < 1 ? 1 : max_files;
	log->number = number;
	log->writer = -1;
	log->dir = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (log->dir < 0)
		return fail(failure, errno, "cannot open the log directory %s", dir);
	if (open_first(log) < 0)
		return fail(failure, errno, "cannot create a log file in %s", dir);
	return 0;
}

static void flush(struct log *log, uint32_t frames)
{
	if (log->out_used == 0)
		return;
	if (log->writer >= 0) {
		if (send(log->writer, out, log->out_used, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			log->dropped_frames += frames;
	} else if (log->fd < 0 && open_file(log) < 0) {
		log->dropped_frames += frames; /* e.g. disk full; tried again with the next frame */
	} else if (write_all(log->fd, out, log->out_used) == 0) {
		log->file_bytes += log->out_used;
	} else {
		log->dropped_frames += frames;
		/* No torn frame may stay. If even this fails, readers stop at the torn one. */
		if (ftruncate(log->fd, (off_t)log->file_bytes) < 0)
			close_fd(&log->fd);
	}
	log->out_used = 0;
}

static void rotate(struct log *log)
{
	char name[NAME_BYTES];
	close_fd(&log->fd);
	log->number++;
	/* A failure leaves fd at -1; flush tries again. */
	(void)open_file(log);
	if (log->number > log->max_files) {
		file_name(name, log->number - log->max_files);
		unlinkat(log->dir, name, 0); /* gone already is as good */
		strcat(name, ".gz");
		unlinkat(log->dir, name, 0);
	}
}

int log_attributes(const char *json, struct failure *failure)
{
	attribute_bytes = strlen(json);
	if (attribute_bytes >= sizeof attributes)
		return fail(failure, E2BIG, "the attributes of the log are too long");
	memcpy(attributes, json, attribute_bytes + 1);
	return 0;
}

/* Descriptors 0-2 and these stay: others' ends must not be held open by this process. */
static void keep_only(int one, int two, int three)
{
	int kept[] = {2, one, two, three};
	for (int round = 0; round < 3; round++)
		for (int i = 1; i < 3; i++)
			if (kept[i] > kept[i + 1]) {
				int lower = kept[i + 1];
				kept[i + 1] = kept[i];
				kept[i] = lower;
			}
	for (int i = 0; i < 3; i++)
		if (kept[i + 1] > kept[i] + 1)
			k_close_range((unsigned)kept[i] + 1, (unsigned)kept[i + 1] - 1);
	k_close_range((unsigned)kept[3] + 1, ~0U);
}

/* Each message is whole records. */
static _Noreturn void write_files(struct log *log, int socket)
{
	for (;;) {
		ssize_t got = recv(socket, out, sizeof out, 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			_exit(0);
		if (log->file_bytes > 0 && log->file_bytes + (uint64_t)got > log->max_bytes)
			rotate(log);
		log->out_used = (size_t)got;
		flush(log, 1);
	}
}

int log_detach(struct log *log, uint64_t bytes, struct failure *failure)
{
	int ends[2], room = bytes < LOG_OUT_BYTES ? (int)LOG_OUT_BYTES : (int)bytes;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return fail(failure, errno, "cannot make a socket for the log");
	/* The kernel counts what it needs beside; without the right to it, its own bound holds. */
	if (setsockopt(ends[0], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room) < 0)
		(void)setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
	log->writer_pid = fork();
	if (log->writer_pid == 0) {
		prctl(PR_SET_NAME, "tsswarm-log", 0, 0, 0);
		keep_only(ends[1], log->dir, log->fd);
		write_files(log, ends[1]);
	}
	int error = errno;
	close(ends[1]);
	if (log->writer_pid < 0) {
		close(ends[0]);
		return fail(failure, error, "cannot start a process for the log");
	}
	log->writer = ends[0];
	close_fd(&log->fd);
	log->file_bytes = 0; /* the other process's business */
	return 0;
}

void log_close(struct log *log)
{
	if (log->writer < 0)
		return;
	shutdown(log->writer, SHUT_WR); /* copies in processes that are just made do not matter */
	while (waitpid(log->writer_pid, NULL, 0) < 0 && errno == EINTR)
		continue;
	close_fd(&log->writer);
}

static size_t put_frame(uint8_t *at, enum log_stream stream, uint64_t now, int partial,
			const uint8_t *head, size_t head_bytes, const uint8_t *tail,
			size_t tail_bytes)
{
	uint32_t length = (uint32_t)(head_bytes + tail_bytes);
	put_u32(at, length);
	at[4] = FRAME_VERSION;
	at[5] = (uint8_t)(stream + 1);
	at[6] = partial ? FRAME_PARTIAL : 0;
	at[7] = 0;
	put_u64(at + 8, now);
	memcpy(at + LOG_FRAME_HEADER_BYTES, head, head_bytes);
	memcpy(at + LOG_FRAME_HEADER_BYTES + head_bytes, tail, tail_bytes);
	put_u32(at + LOG_FRAME_HEADER_BYTES + length, length);
	return length + LOG_FRAME_EXTRA_BYTES;
}

/* What is in the stream's line buffer, then `tail`: one record. */
static void put_record(struct log *log, enum log_stream stream, uint64_t now, int partial,
		       const uint8_t *tail, size_t tail_bytes)
{
	uint8_t *line = lines[stream];
	size_t head_bytes = log->line_used[stream], length = head_bytes + tail_bytes, size;
	size_t most = log->format == LOG_JSON ? JSON_RECORD_MAX(length) + attribute_bytes
					      : length + LOG_FRAME_EXTRA_BYTES;
	if (log->out_used + most > (log->writer < 0 ? sizeof out : MESSAGE_BYTES))
		flush(log, 1);
	uint64_t filled = log->file_bytes + log->out_used;
	uint8_t *at = out + log->out_used;
	if (log->format == LOG_JSON) {
		/* In one piece: a character may lie across. */
		if (head_bytes > 0)
			memcpy(line + head_bytes, tail, tail_bytes);
		size = json_record(at, partial, head_bytes > 0 ? line : tail, length, tail_of_all,
				   tail_of_all_bytes);
	} else {
		size = put_frame(at, stream, now, partial, line, head_bytes, tail, tail_bytes);
	}
	log->line_used[stream] = 0;
	if (filled > 0 && filled + size > log->max_bytes) {
		flush(log, 1);
		if (log->writer < 0)
			rotate(log);
		memmove(out, at, size);
	}
	log->out_used += size;
}

/* What is logged from here on was read now. */
static uint64_t begin(const struct log *log, enum log_stream stream)
{
	uint64_t now = realtime_ns();
	if (log->format == LOG_JSON)
		tail_of_all_bytes = json_tail(tail_of_all, stream == LOG_STDOUT ? "stdout" : "stderr",
					      now, attributes);
	return now;
}

void log_feed(struct log *log, enum log_stream stream, const uint8_t *data, size_t length)
{
	uint64_t now = begin(log, stream);
	uint8_t *line = lines[stream];
	size_t *used = &log->line_used[stream];
	while (length > 0) {
		size_t room = LOG_LINE_BYTES - *used;
		size_t look = length < room ? length : room;
		const uint8_t *newline = memchr(data, '\n', look);
		if (newline != NULL) {
			size_t part = (size_t)(newline - data);
			put_record(log, stream, now, 0, data, part);
			data += part + 1;
			length -= part + 1;
		} else if (look == room && length > room) {
			/* The line is longer than the buffer; a newline right after it ends it. */
			int goes_on = data[room] != '\n';
			put_record(log, stream, now, goes_on, data, room);
			data += room + (goes_on ? 0 : 1);
			length -= room + (goes_on ? 0 : 1);
		} else {
			memcpy(line + *used, data, look);
			*used += look;
			data += look;
			length -= look;
		}
	}
	flush(log, 1);
}

void log_end(struct log *log, enum log_stream stream)
{
	if (log->line_used[stream] == 0)
		return;
	uint64_t now = begin(log, stream);
	/* JSON tells that the newline is missing; a frame has no way to. */
	put_record(log, stream, now, log->format == LOG_JSON, (const uint8_t *)"", 0);
	flush(log, 1);
}
