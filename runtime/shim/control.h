/*
 * The shim's unix stream socket. Messages are u32 length of what follows, u8 version, u8 type,
 * u16 request, payload (protocol.md); little-endian. The listening socket is made by the daemon and
 * inherited, so that a connection made before the shim is up simply waits. Only root is heard.
 * A client that does not read is dropped, never waited for.
 */
#ifndef TSSWARM_CONTROL_H
#define TSSWARM_CONTROL_H

#include "util.h"

#define CONTROL_CLIENTS_MAX 8
#define CONTROL_PAYLOAD_MAX 1024
#define CONTROL_FDS_MAX 16
#define HELD_MAX 16
#define HELD_KEY_MAX 64

enum message_type {
	MESSAGE_KILL = 1,    /* i32 signal, u32 1 = every process */
	MESSAGE_FREEZE = 2,  /* u32 1 freeze, 0 thaw */
	MESSAGE_RESIZE = 3,  /* u32 rows, u32 columns */
	MESSAGE_HOLD = 4,    /* key; descriptors by SCM_RIGHTS; replaces what the key held */
	MESSAGE_TAKE = 5,    /* key; the reply carries copies of the descriptors */
	MESSAGE_RELEASE = 6, /* key; closes them */
	MESSAGE_ATTACH = 7,  /* u32 1 input, 2 output, 4 errors; a descriptor for each */
	MESSAGE_EXEC = 8,    /* the same; before them the specification's descriptor */
	MESSAGE_REPLY = 128, /* i32 errno, 0 done */
	MESSAGE_STATE = 129, /* u32 phase, u32 pid, u64 started (Unix ns), u32 1 = frozen */
	MESSAGE_EXITED = 130, /* the exit record */
	MESSAGE_EXEC_STARTED = 131, /* u32 pid */
	MESSAGE_EXEC_EXITED = 132,  /* i32 exit code, text of a failure */
	MESSAGE_NOTE = 133,         /* text: what was clamped or left out */
	MESSAGE_CLEARED = 134       /* after EXITED: the container's groups are gone */
};

#define STREAM_INPUT 1
#define STREAM_OUTPUT 2
#define STREAM_ERRORS 4

struct message {
	unsigned type, request;
	const uint8_t *payload;
	size_t size;
	int *fds;
	size_t fd_count;
	struct client *client;
};

struct client {
	int fd; /* none: -1, or 0, so that places never used are pages never touched */
	size_t used, fd_count;
	int fds[CONTROL_FDS_MAX];
	uint8_t data[CONTROL_PAYLOAD_MAX];
};

struct held {
	char key[HELD_KEY_MAX]; /* empty: free */
	size_t count;
	int fds[CONTROL_FDS_MAX];
};

struct control {
	int listener;
	uint64_t deaf_until_ms;
	struct client clients[CONTROL_CLIENTS_MAX];
	struct held held[HELD_MAX];
};

/* `control` is all zeros. */
void control_open(struct control *control, int listener);
/* While there is none, connections wait. */
int control_listens(const struct control *control);
/* For how long accepting one is no use: there were no descriptors. 0: it is. */
int control_deaf_ms(const struct control *control);
/* Accepts one connection; NULL when there was none to take. */
struct client *control_accept(struct control *control);
/* Reads what has come and calls `handle` (returning errno or 0) for each message, then replies. */
void control_read(struct control *control, struct client *client,
		  int (*handle)(void *context, const struct message *message), void *context);
static inline int control_is_open(const struct client *client)
{
	return client->fd > 0;
}
void control_send(struct client *client, unsigned type, unsigned request, const void *payload,
		  size_t size);
/* Takes the message's descriptors: what STREAM_* flags ask for, -1 for the others. errno or 0. */
int control_take_streams(const struct message *message, size_t first, int streams[3]);
/* Lets go of the connection and of what came with it. */
void control_drop(struct client *client);
/* Moves the connection out of the control socket's clients. */
void control_move(struct client *to, struct client *from);
void control_broadcast(struct control *control, unsigned type, const void *payload, size_t size);
/* Like recv without waiting, with the descriptors that came along. */
ssize_t receive_with_fds(int socket, void *data, size_t size, int *fds, size_t *fd_count);

#endif
