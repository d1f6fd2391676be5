/* Leaves files for later; see traces.h. */
#include "traces.h"

#include <fcntl.h>
#include <stdio.h> /* renameat */
#include <unistd.h>

void trace_start(int exec_dir, pid_t pid, uint64_t started_ns)
{
	char text[64];
	int fd = openat(exec_dir, "pid", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	size_t length = format_text(text, sizeof text, "%d %llu\n", (int)pid,
				    (unsigned long long)started_ns);
	if (fd >= 0)
		(void)write_all(fd, text, length);
	close_fd(&fd);
}

void trace_exit(int exec_dir, const uint8_t *record, size_t size)
{
	int fd = openat(exec_dir, "exit.tmp", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	int written = write_all(fd, record, size) == 0 && fdatasync(fd) == 0;
	close(fd);
	if (written)
		(void)renameat(exec_dir, "exit.tmp", exec_dir, "exit");
}
