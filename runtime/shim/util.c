/* Small things every file here uses; see util.h for the error convention. */
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

struct text {
	char *at, *end; /* end: where the final NUL must fit */
};

static void put_text(struct text *text, const char *string)
{
	while (*string != 0 && text->at < text->end)
		*text->at++ = *string++;
}

static void put_number(struct text *text, unsigned long long number, int least_digits)
{
	char digits[24], *first = digits + sizeof digits - 1;
	*first = 0;
	while (number > 0 || least_digits > 0) {
		*--first = (char)('0' + number % 10);
		number /= 10;
		least_digits--;
	}
	put_text(text, first);
}

static void put_signed(struct text *text, int number)
{
	if (number < 0)
		put_text(text, "-");
	unsigned long long value = (unsigned long long)number;
	put_number(text, number < 0 ? 0ULL - value : value, 1);
}

size_t format_list(char *buffer, size_t size, const char *format, va_list args)
{
	struct text text = {buffer, buffer + size - 1};
	for (; *format != 0; format++) {
		char one[2] = {*format, 0};
		int least_digits = 1, longs = 0;
		if (*format != '%') {
			put_text(&text, one);
			continue;
		}
		for (format++; *format == '0' || *format == '8'; format++)
			least_digits = 8;
		for (; *format == 'l' || *format == 'z'; format++)
			longs++;
		if (*format == 's')
			put_text(&text, va_arg(args, const char *));
		else if (*format == 'd')
			put_signed(&text, va_arg(args, int));
		else if (longs == 0)
			put_number(&text, va_arg(args, unsigned), least_digits);
		else
			put_number(&text, longs == 1 ? va_arg(args, unsigned long)
						     : va_arg(args, unsigned long long),
				   least_digits);
	}
	*text.at = 0;
	return (size_t)(text.at - buffer);
}

size_t format_text(char *buffer, size_t size, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	size_t used = format_list(buffer, size, format, args);
	va_end(args);
	return used;
}

int fail(struct failure *failure, int error, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	size_t used = format_list(failure->text, sizeof failure->text, format, args);
	va_end(args);
	if (failure->exit_code == 0)
		failure->exit_code = EXIT_NOT_STARTED;
	if (error != 0)
		format_text(failure->text + used, sizeof failure->text - used, ": %s",
			    strerror(error));
	return -1;
}

void *take_memory(size_t size)
{
	void *memory = mmap(NULL, size > 0 ? size : 1, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return memory == MAP_FAILED ? NULL : memory;
}

void give_memory(void *memory, size_t size)
{
	if (memory != NULL)
		munmap(memory, size > 0 ? size : 1);
}

int read_number(const char **at, uint64_t *number)
{
	const char *start = *at;
	*number = 0;
	for (; **at >= '0' && **at <= '9'; (*at)++) {
		if (*number > (UINT64_MAX - 9) / 10)
			return 0;
		*number = *number * 10 + (uint64_t)(**at - '0');
	}
	return *at > start;
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
