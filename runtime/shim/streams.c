/* Moves bytes between a program and its clients; rules in streams.h. */
#include "streams.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static void set_nonblocking(int fd)
{
	int flags = fd < 0 ? -1 : fcntl(fd, F_GETFL);
	if (flags >= 0)
		(void)fcntl(fd, F_SETFL, flags | O_NONBLOCK); /* cannot fail on an open one */
}

static int is_passing(void)
{
	return errno == EAGAIN || errno == EINTR;
}

void streams_init(struct streams *streams, struct stream_client *clients, size_t count,
		  struct log *log)
{
	streams->source[LOG_STDOUT] = streams->source[LOG_STDERR] = -1;
	streams->input = streams->terminal = -1;
	streams->log = log;
	streams->clients = clients;
	streams->client_count = count;
	for (size_t i = 0; i < count; i++)
		clients[i].in = clients[i].out[LOG_STDOUT] = clients[i].out[LOG_STDERR] = -1;
}

/* So that whoever writes to them sees at once that nobody reads. */
static void close_client_inputs(struct streams *streams)
{
	for (size_t i = 0; i < streams->client_count; i++)
		close_fd(&streams->clients[i].in);
}

void streams_open(struct streams *streams, int out, int err, int input)
{
	streams->source[LOG_STDOUT] = out;
	streams->source[LOG_STDERR] = err;
	streams->input = input;
	streams->is_open = 1;
	set_nonblocking(out);
	set_nonblocking(err);
	set_nonblocking(input);
	if (input < 0)
		close_client_inputs(streams);
}

void streams_open_terminal(struct streams *streams, int master, int input)
{
	streams_open(streams, master, -1, input ? master : -1);
	streams->terminal = master;
}

static int is_free(const struct stream_client *client)
{
	return client->in < 0 && client->out[LOG_STDOUT] < 0 && client->out[LOG_STDERR] < 0;
}

int streams_attach(struct streams *streams, int in, int out, int err)
{
	for (size_t i = 0; i < streams->client_count; i++) {
		struct stream_client *client = &streams->clients[i];
		if (!is_free(client))
			continue;
		*client = (struct stream_client){in, {out, err}, {0, 0}};
		set_nonblocking(in);
		for (int stream = 0; stream < LOG_STREAMS; stream++) {
			set_nonblocking(client->out[stream]);
			client->sent[stream] = streams->filled[stream];
			if (streams->is_open && streams->source[stream] < 0)
				close_fd(&client->out[stream]);
		}
		if (streams->is_open && streams->input < 0)
			close_fd(&client->in);
		return 0;
	}
	return EAGAIN;
}

void streams_widen(const struct streams *streams)
{
	for (size_t i = 0; i < streams->client_count; i++)
		for (int stream = 0; stream < LOG_STREAMS; stream++)
			if (streams->clients[i].out[stream] >= 0)
				/* Where the host allows less, a slow client loses the last bytes. */
				(void)fcntl(streams->clients[i].out[stream], F_SETPIPE_SZ,
					    STREAM_PIPE_BYTES);
}

static int is_pending(const struct streams *streams, const struct stream_client *client, int stream)
{
	return client->out[stream] >= 0 && client->sent[stream] < streams->filled[stream];
}

static int is_blocked(const struct streams *streams, int stream)
{
	for (size_t i = 0; i < streams->client_count; i++)
		if (is_pending(streams, &streams->clients[i], stream))
			return 1;
	return 0;
}

int streams_blocked(const struct streams *streams)
{
	return is_blocked(streams, LOG_STDOUT) || is_blocked(streams, LOG_STDERR);
}

int streams_busy(const struct streams *streams)
{
	return streams->source[LOG_STDOUT] >= 0 || streams->source[LOG_STDERR] >= 0 ||
	       streams_blocked(streams);
}

size_t streams_poll(const struct streams *streams, struct pollfd *polls)
{
	size_t count = 0;
	for (int i = 0; i < LOG_STREAMS; i++) {
		int fd = is_blocked(streams, i) ? -1 : streams->source[i];
		polls[count++] = (struct pollfd){fd, POLLIN, 0};
	}
	int has_input = streams->input_at < streams->input_used;
	/* A pipe nobody reads any more tells so by itself; a terminal is watched as a source. */
	int watched = has_input || streams->terminal < 0 ? streams->input : -1;
	polls[count++] = (struct pollfd){watched, (short)(has_input ? POLLOUT : 0), 0};
	for (size_t i = 0; i < streams->client_count; i++) {
		const struct stream_client *client = &streams->clients[i];
		int is_read = !has_input && streams->input >= 0;
		polls[count++] = (struct pollfd){is_read ? client->in : -1, POLLIN, 0};
		for (int stream = 0; stream < LOG_STREAMS; stream++) {
			short wanted = is_pending(streams, client, stream) ? POLLOUT : 0;
			polls[count++] = (struct pollfd){client->out[stream], wanted, 0};
		}
	}
	return count;
}

static void push(struct streams *streams, struct stream_client *client, int stream)
{
	while (is_pending(streams, client, stream)) {
		ssize_t wrote = write(client->out[stream],
				      streams->chunk[stream] + client->sent[stream],
				      streams->filled[stream] - client->sent[stream]);
		if (wrote > 0)
			client->sent[stream] += (size_t)wrote;
		else if (wrote < 0 && is_passing())
			return;
		else
			close_fd(&client->out[stream]); /* it has gone */
	}
}

static void close_input(struct streams *streams)
{
	if (streams->terminal >= 0)
		streams->input = -1; /* the same descriptor as the source, closed with it */
	close_fd(&streams->input);
	streams->input_used = streams->input_at = 0;
	close_client_inputs(streams);
}

static void end_source(struct streams *streams, int stream)
{
	if (streams->log != NULL)
		log_end(streams->log, (enum log_stream)stream);
	if (streams->terminal >= 0) {
		close_input(streams);
		streams->terminal = -1;
	}
	close_fd(&streams->source[stream]);
}

static void read_source(struct streams *streams, int stream)
{
	ssize_t got = read(streams->source[stream], streams->chunk[stream], STREAM_CHUNK_BYTES);
	if (got > 0) {
		streams->filled[stream] = (size_t)got;
		if (streams->log != NULL)
			log_feed(streams->log, (enum log_stream)stream, streams->chunk[stream],
				 (size_t)got);
		for (size_t i = 0; i < streams->client_count; i++) {
			streams->clients[i].sent[stream] = 0;
			push(streams, &streams->clients[i], stream);
		}
	} else if (got == 0 || !is_passing()) {
		end_source(streams, stream); /* a terminal ends with EIO */
	}
}

static void push_input(struct streams *streams)
{
	while (streams->input >= 0 && streams->input_at < streams->input_used) {
		ssize_t wrote = write(streams->input, streams->input_data + streams->input_at,
				      streams->input_used - streams->input_at);
		if (wrote > 0)
			streams->input_at += (size_t)wrote;
		else if (wrote < 0 && is_passing())
			return;
		else
			close_input(streams); /* nobody reads it any more */
	}
}

static void read_client(struct streams *streams, struct stream_client *client)
{
	if (client->in < 0 || streams->input_at < streams->input_used)
		return; /* another client was first */
	ssize_t got = read(client->in, streams->input_data, STREAM_INPUT_BYTES);
	if (got > 0) {
		streams->input_at = 0;
		streams->input_used = (size_t)got;
		push_input(streams);
	} else if (got == 0 || !is_passing()) {
		close_fd(&client->in);
		if (streams->close_input && streams->terminal < 0)
			close_input(streams);
	}
}

void streams_turn(struct streams *streams, const struct pollfd *polls)
{
	for (int i = 0; i < LOG_STREAMS; i++)
		if (polls[i].revents != 0)
			read_source(streams, i);
	if (polls[LOG_STREAMS].revents & POLLOUT)
		push_input(streams);
	else if (polls[LOG_STREAMS].revents != 0)
		close_input(streams);
	const struct pollfd *poll = polls + LOG_STREAMS + 1;
	for (size_t i = 0; i < streams->client_count; i++, poll += LOG_STREAMS + 1) {
		struct stream_client *client = &streams->clients[i];
		if (poll[0].revents != 0)
			read_client(streams, client);
		for (int stream = 0; stream < LOG_STREAMS; stream++) {
			if (poll[1 + stream].revents & POLLOUT)
				push(streams, client, stream);
			else if (poll[1 + stream].revents != 0)
				close_fd(&client->out[stream]);
		}
	}
	for (int stream = 0; streams->is_open && stream < LOG_STREAMS; stream++) {
		if (streams->source[stream] >= 0 || is_blocked(streams, stream))
			continue;
		for (size_t i = 0; i < streams->client_count; i++)
			close_fd(&streams->clients[i].out[stream]);
	}
}

void streams_close(struct streams *streams)
{
	close_input(streams);
	for (int i = 0; i < LOG_STREAMS; i++) {
		if (streams->source[i] >= 0 || streams->log != NULL)
			end_source(streams, i);
		for (size_t client = 0; client < streams->client_count; client++)
			close_fd(&streams->clients[client].out[i]);
	}
}

int streams_resize(const struct streams *streams, unsigned rows, unsigned columns)
{
	struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)columns};
	if (streams->terminal < 0)
		return ENOTTY;
	return ioctl(streams->terminal, TIOCSWINSZ, &size) < 0 ? errno : 0;
}
