/* The fifo a made container waits at; see gate.h. */
#include "gate.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "status.h"

#define ONE_PAGE 4096 /* asked for; the kernel gives one of its own pages */
#define CLOSED_GATE '0'
#define FAILED 'E'

int gate_open(const struct spec *spec, int *gate, struct failure *failure)
{
	const char *path = spec_string(spec, TAG_GATE, NULL);
	struct stat status;
	*gate = -1;
	if (path == NULL)
		return 0;
	*gate = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	int result = 0;
	if (*gate < 0 || fstat(*gate, &status) < 0)
		result = fail(failure, errno, "cannot open the gate %s", path);
	else if (!S_ISFIFO(status.st_mode))
		result = fail(failure, 0, "the gate %s is not a fifo", path);
	else if (fcntl(*gate, F_SETPIPE_SZ, ONE_PAGE) < 0)
		result = fail(failure, errno, "cannot size the gate %s", path);
	if (result < 0)
		close_fd(gate);
	return result;
}

int gate_wait(int gate, int status, struct failure *failure)
{
	char zeros[1024];
	memset(zeros, CLOSED_GATE, sizeof zeros);
	int size = fcntl(gate, F_GETPIPE_SZ);
	for (int filled = 0; filled < size; filled += (int)sizeof zeros)
		if (write_all(gate, zeros, sizeof zeros) < 0)
			return fail(failure, errno, "cannot close the gate");
	/* Nobody knows of a container whose launcher was killed, so nobody would ever open it. */
	if (status_tell(status, REPORT_GATE, NULL) < 0)
		return fail(failure, 0, "the launcher has ended");
	if (size <= 0 || write_all(gate, zeros, 1) < 0)
		return fail(failure, errno, "cannot wait at the gate");
	return 0;
}

void gate_tell_failure(int gate, const struct failure *failure)
{
	uint8_t data[1 + 4 + FAILURE_TEXT_MAX];
	size_t text = strlen(failure->text);
	data[0] = FAILED;
	put_u32(data + 1, (uint32_t)failure->exit_code);
	memcpy(data + 5, failure->text, text);
	/* It fits the page once that was read; before, nobody waits for it, nor does this. */
	if (fcntl(gate, F_SETFL, O_NONBLOCK) == 0)
		(void)write_all(gate, data, 5 + text);
}
