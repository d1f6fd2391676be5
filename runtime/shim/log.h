/*
 * The container's log, written by the shim alone: numbered files of records in one directory, the
 * highest number being written. A record is a line of Docker's JSON (json-file, see json.h), or a
 * frame: u32 length, u8 version (1), u8 stream (1 stdout,
 * 2 stderr), u8 flags (1 = the line goes on), u8 0, u64 Unix nanoseconds, the data, u32 length
 * again; little-endian. A line without its newline is one frame, or several of 16 KiB. Files never
 * grow beyond the limit unless one record does, and only the newest few are kept. When the disk is
 * full, records are dropped, never torn, and the container runs on. Rotated files may be packed
 * (.log.gz) by the daemon.
 *
 * A disk that is slow holds the container up, unless the log drops instead: then a process of its
 * own writes the files, and records go there through a socket that has room for so many bytes;
 * what finds it full is dropped.
 */
#ifndef TSSWARM_LOG_H
#define TSSWARM_LOG_H

#include "util.h"

#define LOG_LINE_BYTES (16u << 10)
/* More than what is read at once, and than one line with every byte written as six. */
#define LOG_OUT_BYTES (176u << 10)
/* In every record of JSON. */
#define LOG_ATTRIBUTES_MAX (16u << 10)
#define LOG_FRAME_HEADER_BYTES 16u
#define LOG_FRAME_EXTRA_BYTES (LOG_FRAME_HEADER_BYTES + 4u)

enum log_format { LOG_FRAMES = 0, LOG_JSON = 1, LOG_NONE = 2 };

enum log_stream { LOG_STDOUT = 0, LOG_STDERR = 1, LOG_STREAMS = 2 };

/* There is one: its buffers are log.c's own, apart, so that pages not used are not there. */
struct log {
	int dir, fd;
	int writer; /* where another process writes the files; else -1 */
	pid_t writer_pid;
	enum log_format format;
	uint64_t number, file_bytes, max_bytes, dropped_frames;
	uint32_t max_files;
	size_t out_used, line_used[LOG_STREAMS];
};

/* Opens file `number` in `dir`, or goes on in it. `format` is set before. */
int log_open(struct log *log, const char *dir, uint64_t max_bytes, uint32_t max_files,
	     uint32_t number, struct failure *failure);
/* What every record of JSON says besides, as JSON; "" for none. */
int log_attributes(const char *json, struct failure *failure);
/* From now on another process writes; at most so many bytes wait for it. */
int log_detach(struct log *log, uint64_t bytes, struct failure *failure);
/* All that was logged is in the files when it returns, or was dropped. */
void log_close(struct log *log);
/* Logs what was read from a stream; whole lines are in the file when it returns. */
void log_feed(struct log *log, enum log_stream stream, const uint8_t *data, size_t length);
/* The stream ended: logs what is left without a newline. */
void log_end(struct log *log, enum log_stream stream);

#endif
