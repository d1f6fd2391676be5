/*
 * The control socket's reader: bytes and descriptors in pieces of any size, from a client that may
 * be of another version or of none. Nothing is read beyond a message, every request is answered
 * once, and no descriptor stays open when the connection and what was held are let go.
 */
#include "fuzz.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../../runtime/shim/control.c"

#define PIECES_MAX 64
#define FDS_TRIED 24

static volatile uint8_t seen;

static void look(uint8_t byte)
{
	seen = byte;
}

static int open_descriptors(void)
{
	int count = 0;
	DIR *dir = opendir("/proc/self/fd");
	MUST(dir != NULL);
	while (readdir(dir) != NULL)
		count++;
	closedir(dir);
	return count;
}

struct heard {
	unsigned messages;
	int streams[3];
};

static int handle(void *context, const struct message *message)
{
	struct heard *heard = context;
	heard->messages++;
	MUST(message->size <= CONTROL_PAYLOAD_MAX && message->fd_count <= CONTROL_FDS_MAX);
	for (size_t i = 0; i < message->size; i++)
		look(message->payload[i]);
	if (message->type != MESSAGE_ATTACH && message->type != MESSAGE_EXEC)
		return EOPNOTSUPP;
	size_t first = message->type == MESSAGE_EXEC ? 1 : 0;
	if (message->fd_count < first)
		return EINVAL;
	int code = control_take_streams(message, first, heard->streams);
	for (int i = 0; code == 0 && i < 3; i++) {
		MUST(heard->streams[i] == -1 || fcntl(heard->streams[i], F_GETFD) >= 0);
		close_fd(&heard->streams[i]);
	}
	return code;
}

static void send_piece(int socket, struct input *input, size_t size, size_t fd_count)
{
	int fds[FDS_TRIED];
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int) * FDS_TRIED)];
	} space = {0};
	struct iovec part = {(void *)(uintptr_t)input->at, size};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	for (size_t i = 0; i < fd_count; i++)
		fds[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (fd_count > 0) {
		message.msg_control = &space;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
		struct cmsghdr *header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
		memcpy(CMSG_DATA(header), fds, sizeof(int) * fd_count);
	}
	(void)sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	for (size_t i = 0; i < fd_count; i++)
		close(fds[i]);
	input->at += size;
	input->left -= size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct control control;
	static int before = -1;
	struct input input = {data, size};
	struct heard heard = {0, {-1, -1, -1}};
	int ends[2];
	if (before < 0)
		before = open_descriptors();
	memset(&control, 0, sizeof control);
	control_open(&control, -1);
	MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
	struct client *client = &control.clients[take(&input, 1) % CONTROL_CLIENTS_MAX];
	client->fd = ends[0];
	for (int piece = 0; piece < PIECES_MAX && control_is_open(client); piece++) {
		size_t wanted = take(&input, 2) % 1200, fd_count = take(&input, 1);
		fd_count = fd_count < 200 ? 0 : fd_count % FDS_TRIED;
		if (input.left == 0)
			break;
		send_piece(ends[1], &input, wanted < input.left ? wanted + 1 : input.left, fd_count);
		for (int turn = 0; turn < 4 && control_is_open(client); turn++)
			control_read(&control, client, handle, &heard);
		MUST(client->used <= sizeof client->data && client->fd_count <= CONTROL_FDS_MAX);
	}
	control_broadcast(&control, MESSAGE_STATE, "state", 5);
	/* Whole answers only: each is a message of this version. */
	uint8_t answers[8192];
	ssize_t got = recv(ends[1], answers, sizeof answers, MSG_DONTWAIT);
	for (ssize_t at = 0; got > 0 && at < got;) {
		MUST(got - at >= (ssize_t)HEADER_BYTES && answers[at + 4] == VERSION);
		at += (ssize_t)(LENGTH_BYTES + get_u32(answers + at));
		MUST(at <= got || got == (ssize_t)sizeof answers);
	}
	control_drop(client);
	for (int i = 0; i < HELD_MAX; i++)
		close_all(control.held[i].fds, &control.held[i].count);
	close(ends[1]);
	MUST(open_descriptors() == before);
	return 0;
}
