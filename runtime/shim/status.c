/* The status socket's messages; see status.h. */
#include "status.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>

#include "control.h"

struct message_out {
	uint32_t kind;
	struct failure text;
};

int send_descriptor(int socket, int fd, const void *data, size_t size)
{
	struct iovec part = {(void *)(uintptr_t)data, size};
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct msghdr message = {.msg_iov = &part,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof control.space};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &fd, sizeof fd);
	return sendmsg(socket, &message, MSG_NOSIGNAL) == (ssize_t)size ? 0 : -1;
}

int status_tell(int socket, enum report kind, const struct failure *text)
{
	struct message_out message = {kind, {0}};
	if (text != NULL)
		message.text = *text;
	return send(socket, &message, sizeof message, MSG_NOSIGNAL) < 0 ? -1 : 0;
}

void status_note(int socket, const char *format, ...)
{
	struct failure note = {0};
	va_list args;
	va_start(args, format);
	format_list(note.text, sizeof note.text, format, args);
	va_end(args);
	(void)status_tell(socket, REPORT_NOTE, &note); /* without a launcher nobody reads it */
}

int status_send_terminal(int socket, int master)
{
	struct message_out message = {REPORT_TERMINAL, {0}};
	return send_descriptor(socket, master, &message, sizeof message);
}

enum report status_read(int socket, struct failure *text, int *fd)
{
	int fds[CONTROL_FDS_MAX];
	size_t fd_count = 0;
	struct message_out message = {0};
	*fd = -1;
	ssize_t got = receive_with_fds(socket, &message, sizeof message, fds, &fd_count);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return REPORT_NOTHING;
	if (got != (ssize_t)sizeof message)
		return REPORT_END;
	if (fd_count > 0)
		*fd = fds[0];
	*text = message.text;
	text->text[sizeof text->text - 1] = 0;
	return (enum report)message.kind;
}
