/*
 * What a program writes and reads, the container's own or that of an exec: its output goes to the
 * log (the container's only) and to every attached client, what clients send goes to its input.
 * Clients are pipes given by the daemon. Output is read only when every client has taken what came
 * before, as Docker has it: a slow client has its pipe's capacity, then the program waits. A client
 * that is gone is let go at once, and output nobody listens to is read and dropped.
 */
#ifndef TSSWARM_STREAMS_H
#define TSSWARM_STREAMS_H

#include <poll.h>

#include "log.h"

#define STREAM_CHUNK_BYTES (64u << 10)
/* A client's pipe at the end; made by the daemon with half of it. */
#define STREAM_PIPE_BYTES (1 << 20)
#define STREAM_INPUT_BYTES 4096u
/* Attached to the container at the same time. */
#define STREAM_CLIENTS_MAX 16
#define STREAM_POLLS(clients) (LOG_STREAMS + 1 + (clients) * (LOG_STREAMS + 1))

struct stream_client {
	int in, out[LOG_STREAMS];  /* -1: not wanted or gone */
	size_t sent[LOG_STREAMS];  /* of the chunk */
};

struct streams {
	int source[LOG_STREAMS];   /* what the program writes to; -1: ended */
	int input;                 /* what it reads from; -1: nothing or closed */
	int terminal;              /* the same as source[LOG_STDOUT] while there is one */
	int is_open;               /* the sources are there or were */
	int close_input;           /* when a client's input ends; never a terminal's */
	struct log *log;           /* NULL for an exec */
	size_t client_count;
	struct stream_client *clients;
	size_t filled[LOG_STREAMS];
	size_t input_used, input_at;
	uint8_t input_data[STREAM_INPUT_BYTES];
	uint8_t chunk[LOG_STREAMS][STREAM_CHUNK_BYTES];
};

void streams_init(struct streams *streams, struct stream_client *clients, size_t count,
		  struct log *log);
/* The program's ends are there; each is made non-blocking. */
void streams_open(struct streams *streams, int out, int err, int input);
/* A terminal in the place of all three; `input`: clients may write to it. */
void streams_open_terminal(struct streams *streams, int master, int input);
/* Adds a client, taking over its descriptors; errno or 0. */
int streams_attach(struct streams *streams, int in, int out, int err);
/* Fills STREAM_POLLS(client_count) entries. */
size_t streams_poll(const struct streams *streams, struct pollfd *polls);
/* Does what the entries filled before call for. */
void streams_turn(struct streams *streams, const struct pollfd *polls);
/*
 * The program has ended: clients get room for what is left of its output, so that the end waits for
 * no slow one and none loses the last of it.
 */
void streams_widen(const struct streams *streams);
/* Output may still come, or a client has not taken all of it. */
int streams_busy(const struct streams *streams);
/* A client is the reason why output is not read. */
int streams_blocked(const struct streams *streams);
void streams_close(struct streams *streams);
int streams_resize(const struct streams *streams, unsigned rows, unsigned columns);

#endif
