/* Small things every file here uses; see util.h for the error convention. */
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int fail(struct failure *failure, int error, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	int used = vsnprintf(failure->text, sizeof failure->text, format, args);
	va_end(args);
	if (failure->exit_code == 0)
		failure->exit_code = EXIT_NOT_STARTED;
	if (error != 0 && used >= 0 && (size_t)used < sizeof failure->text)
		snprintf(failure->text + used, sizeof failure->text - (size_t)used, ": %s",
			 strerror(error));
	return -1;
}

int write_all(int fd, const void *data, size_t length)
{
	const char *at = data;
	while (length > 0) {
		ssize_t wrote = write(fd, at, length);
		if (wrote < 0) {
			if (errno == EINTR)
				continue;
			return -1;
		}
		at += wrote;
		length -= (size_t)wrote;
	}
	return 0;
}

int write_file_at(int dir, const char *path, const char *value)
{
	int fd = openat(dir, path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	/* One write: cgroup and sysctl files take a value whole. */
	ssize_t wrote = write(fd, value, strlen(value));
	int error = errno;
	close(fd);
	errno = error;
	return wrote < 0 ? -1 : 0;
}

ssize_t read_file_at(int dir, const char *path, char *buffer, size_t size)
{
	int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ssize_t got = read(fd, buffer, size - 1);
	int error = errno;
	close(fd);
	errno = error;
	if (got >= 0)
		buffer[got] = 0;
	return got;
}

void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;
	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

uint64_t realtime_ns(void)
{
	return clock_ns(CLOCK_REALTIME);
}

uint64_t monotonic_ms(void)
{
	return clock_ns(CLOCK_MONOTONIC) / 1000000;
}

/* Little-endian, whatever the host is. */
void put_u32(uint8_t *at, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		at[i] = (uint8_t)(value >> (8 * i));
}

void put_u64(uint8_t *at, uint64_t value)
{
	for (int i = 0; i < 8; i++)
		at[i] = (uint8_t)(value >> (8 * i));
}

uint32_t get_u32(const uint8_t *at)
{
	uint32_t value = 0;
	for (int i = 0; i < 4; i++)
		value |= (uint32_t)at[i] << (8 * i);
	return value;
}

uint64_t get_u64(const uint8_t *at)
{
	return get_u32(at) | (uint64_t)get_u32(at + 4) << 32;
}
