/* Serves the control socket and keeps descriptors over a restart of the daemon; see control.h. */
#include "control.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define VERSION 1
#define LENGTH_BYTES 4u
#define DEAF_MS 100 /* who connects waits meanwhile */
#define HEADER_BYTES 8u /* length, version, type, request */

struct credentials {
	int pid;
	unsigned uid, gid;
};

void control_open(struct control *control, int listener)
{
	control->listener = listener;
}

static void close_all(int *fds, size_t *count)
{
	for (size_t i = 0; i < *count; i++)
		close_fd(&fds[i]);
	*count = 0;
}

void control_drop(struct client *client)
{
	close_all(client->fds, &client->fd_count);
	close_fd(&client->fd);
	client->used = 0;
}

void control_move(struct client *to, struct client *from)
{
	*to = *from;
	to->used = to->fd_count = 0;
	from->fd = -1;
	from->used = from->fd_count = 0;
}

int control_take_streams(const struct message *message, size_t first, int streams[3])
{
	if (message->size != 4)
		return EINVAL;
	uint32_t flags = get_u32(message->payload);
	size_t wanted = first;
	for (int i = 0; i < 3; i++)
		wanted += flags >> i & 1;
	if (flags > 7 || message->fd_count != wanted)
		return EINVAL;
	for (int i = 0; i < 3; i++) {
		streams[i] = flags >> i & 1 ? message->fds[first] : -1;
		if (streams[i] >= 0)
			message->fds[first++] = -1;
	}
	return 0;
}

int control_deaf_ms(const struct control *control)
{
	uint64_t now = control->deaf_until_ms == 0 ? 0 : monotonic_ms();
	return now < control->deaf_until_ms ? (int)(control->deaf_until_ms - now) : 0;
}

int control_listens(const struct control *control)
{
	if (control_deaf_ms(control) > 0)
		return 0;
	for (int i = 0; i < CONTROL_CLIENTS_MAX; i++)
		if (!control_is_open(&control->clients[i]))
			return 1;
	return 0;
}

struct client *control_accept(struct control *control)
{
	int fd = accept4(control->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			control->deaf_until_ms = monotonic_ms() + DEAF_MS;
		return NULL;
	}
	struct credentials peer;
	socklen_t size = sizeof peer;
	int is_root = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == 0;
	for (int i = 0; is_root && i < CONTROL_CLIENTS_MAX; i++) {
		struct client *client = &control->clients[i];
		if (control_is_open(client))
			continue;
		client->fd = fd;
		client->used = client->fd_count = 0;
		return client;
	}
	close(fd);
	return NULL;
}

static int send_message(int fd, const uint8_t *data, size_t size, const int *fds, size_t count)
{
	struct iovec part = {(void *)(uintptr_t)data, size};
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int) * CONTROL_FDS_MAX)];
	} control = {0};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	if (count > 0) {
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
		struct cmsghdr *header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof(int) * count);
		memcpy(CMSG_DATA(header), fds, sizeof(int) * count);
	}
	return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)size ? 0 : -1;
}

static void send_with_fds(struct client *client, unsigned type, unsigned request,
			  const void *payload, size_t size, const int *fds, size_t count)
{
	uint8_t data[HEADER_BYTES + CONTROL_PAYLOAD_MAX];
	if (!control_is_open(client) || size > CONTROL_PAYLOAD_MAX)
		return;
	put_u32(data, (uint32_t)(HEADER_BYTES - LENGTH_BYTES + size));
	data[4] = VERSION;
	data[5] = (uint8_t)type;
	data[6] = (uint8_t)request;
	data[7] = (uint8_t)(request >> 8);
	memcpy(data + HEADER_BYTES, payload, size);
	if (send_message(client->fd, data, HEADER_BYTES + size, fds, count) < 0)
		control_drop(client);
}

void control_send(struct client *client, unsigned type, unsigned request, const void *payload,
		  size_t size)
{
	send_with_fds(client, type, request, payload, size, NULL, 0);
}

void control_broadcast(struct control *control, unsigned type, const void *payload, size_t size)
{
	for (int i = 0; i < CONTROL_CLIENTS_MAX; i++)
		control_send(&control->clients[i], type, 0, payload, size);
}

ssize_t receive_with_fds(int socket, void *data, size_t size, int *fds, size_t *fd_count)
{
	struct iovec part = {data, size};
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int) * CONTROL_FDS_MAX)];
	} control;
	struct msghdr message = {.msg_iov = &part,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof control.space};
	ssize_t got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	if (got < 0)
		return got;
	for (struct cmsghdr *h = CMSG_FIRSTHDR(&message); h != NULL; h = CMSG_NXTHDR(&message, h)) {
		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		size_t count = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(h) + i * sizeof fd, sizeof fd);
			if (*fd_count < CONTROL_FDS_MAX)
				fds[(*fd_count)++] = fd;
			else
				close(fd);
		}
	}
	return got;
}

static struct held *find_held(struct control *control, const char *key)
{
	for (int i = 0; i < HELD_MAX; i++)
		if (strcmp(control->held[i].key, key) == 0)
			return &control->held[i];
	return NULL;
}

/* Hold, take and release; errno or 0. Takes over the message's descriptors when holding. */
static int handle_held(struct control *control, struct client *client,
		       const struct message *message, int *replied)
{
	char key[HELD_KEY_MAX] = {0};
	if (message->size == 0 || message->size >= HELD_KEY_MAX)
		return EINVAL;
	memcpy(key, message->payload, message->size);
	struct held *held = find_held(control, key);
	if (message->type == MESSAGE_HOLD) {
		if (held == NULL)
			held = find_held(control, "");
		if (held == NULL)
			return ENOSPC;
		close_all(held->fds, &held->count);
		memcpy(held->key, key, sizeof key);
		held->count = client->fd_count;
		memcpy(held->fds, client->fds, sizeof held->fds);
		client->fd_count = 0;
		return 0;
	}
	if (held == NULL || held->key[0] == 0)
		return ENOENT;
	if (message->type == MESSAGE_TAKE) {
		uint8_t done[4] = {0};
		*replied = 1;
		send_with_fds(client, MESSAGE_REPLY, message->request, done, sizeof done,
			      held->fds, held->count);
		return 0;
	}
	close_all(held->fds, &held->count);
	held->key[0] = 0;
	return 0;
}

static void dispatch(struct control *control, struct client *client,
		     const struct message *message,
		     int (*handle)(void *context, const struct message *message), void *context)
{
	int replied = 0, code;
	if (message->type >= MESSAGE_HOLD && message->type <= MESSAGE_RELEASE)
		code = handle_held(control, client, message, &replied);
	else
		code = handle(context, message);
	uint8_t reply[4];
	put_u32(reply, (uint32_t)code);
	if (!replied)
		control_send(client, MESSAGE_REPLY, message->request, reply, sizeof reply);
	close_all(client->fds, &client->fd_count);
}

void control_read(struct control *control, struct client *client,
		  int (*handle)(void *context, const struct message *message), void *context)
{
	ssize_t got = receive_with_fds(client->fd, client->data + client->used,
				       sizeof client->data - client->used, client->fds,
				       &client->fd_count);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		control_drop(client);
		return;
	}
	client->used += (size_t)got;
	while (control_is_open(client) && client->used >= HEADER_BYTES) {
		size_t whole = LENGTH_BYTES + get_u32(client->data);
		if (whole < HEADER_BYTES || whole > sizeof client->data ||
		    client->data[4] != VERSION) {
			control_drop(client); /* not one of ours, or newer than this shim */
			return;
		}
		if (client->used < whole)
			return;
		struct message message = {
			.type = client->data[5],
			.request = client->data[6] | (unsigned)client->data[7] << 8,
			.payload = client->data + HEADER_BYTES,
			.size = whole - HEADER_BYTES,
			.fds = client->fds,
			.fd_count = client->fd_count,
			.client = client,
		};
		dispatch(control, client, &message, handle, context);
		if (!control_is_open(client))
			return;
		client->used -= whole;
		memmove(client->data, client->data + whole, client->used);
	}
}
