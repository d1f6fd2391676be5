/*
 * What a program's process tells its launcher until it is executed, over a SOCK_SEQPACKET pair: the
 * socket's end without a failure means "executed". One message, one report.
 */
#ifndef TSSWARM_STATUS_H
#define TSSWARM_STATUS_H

#include "util.h"

enum report {
	REPORT_NOTHING = 0, /* not yet; never sent */
	REPORT_END,         /* the socket has ended; never sent */
	REPORT_FAILURE,     /* the last one: why it will not be executed */
	REPORT_TERMINAL,    /* with the master's descriptor */
	REPORT_NOTE,        /* something was clamped or left out; text only */
	REPORT_GATE,        /* made, and waiting for its gate to be opened */
};

/* -1 when the launcher is gone. */
int status_tell(int socket, enum report kind, const struct failure *text);
void status_note(int socket, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* -1 and errno on failure. */
int status_send_terminal(int socket, int master);
/* `text` for a failure or a note, *fd (else -1) for a terminal. Does not wait. */
enum report status_read(int socket, struct failure *text, int *fd);
/* Any descriptor with `text` as its data; -1 and errno on failure. */
int send_descriptor(int socket, int fd, const void *data, size_t size);

#endif
