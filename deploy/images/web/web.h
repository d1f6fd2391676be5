/* What web.c (main, client, small tools) and serve.c (the server) share. */
#pragma once
#include <stdint.h>

/* Runs the server on `port` until SIGTERM; returns the exit code. */
int serve(int port);

void handle(int signal_number, void (*handler)(int));
int64_t now_ms(void);
const char *hostname_text(void);
