/*
 * What every file here uses. Error convention: a function that can fail for an operating reason
 * takes a `struct failure *` and returns 0 or a descriptor on success, -1 on failure with the
 * failure filled in by fail(). Functions close what they opened on every way out. What has no
 * failure argument cannot fail, or its failure does not matter and a comment says why.
 */
#ifndef TSSWARM_UTIL_H
#define TSSWARM_UTIL_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define FAILURE_TEXT_MAX 400

/* Why a container could not start; travels from the child to the shim as it is. */
struct failure {
	int exit_code; /* 126, 127 or 128 */
	char text[FAILURE_TEXT_MAX];
};

#define EXIT_NOT_STARTED 128
#define EXIT_NOT_FOUND 127

/* Fills `failure`: the formatted text, then ": " and the text of `error` unless 0. Returns -1. */
int fail(struct failure *failure, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * The parts of the C library's printf and malloc that are needed here; the shim stays small for
 * it. Formats %s, %d, %u, %zu, %lu, %llu and %08llu; truncates, ends with NUL; returns the length.
 */
size_t format_text(char *buffer, size_t size, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
size_t format_list(char *buffer, size_t size, const char *format, va_list args);
/* Zeroed memory straight from the kernel, or NULL. What the child takes goes with execve. */
void *take_memory(size_t size);
void give_memory(void *memory, size_t size);
/* The digits at *at, moving it behind them; 0 when there is none or the number is too big. */
int read_number(const char **at, uint64_t *number);

/* Writes all; -1 and errno on failure. */
int write_all(int fd, const void *data, size_t length);
/* open, write, close of an existing file below `dir`; -1 and errno on failure. */
int write_file_at(int dir, const char *path, const char *value);
/* The first bytes of a small file as a string; its length, or -1 and errno. */
ssize_t read_file_at(int dir, const char *path, char *buffer, size_t size);
/* Closes *fd unless it is -1, and sets it to -1. */
void close_fd(int *fd);
uint64_t realtime_ns(void);
uint64_t monotonic_ms(void);

void put_u32(uint8_t *at, uint32_t value);
void put_u64(uint8_t *at, uint64_t value);
static inline uint32_t get_u32(const uint8_t *at)
{
	return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 |
	       (uint32_t)at[3] << 24;
}

static inline uint64_t get_u64(const uint8_t *at)
{
	return get_u32(at) | (uint64_t)get_u32(at + 4) << 32;
}

#endif
