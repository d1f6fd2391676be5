/*
 * The web server of the project's image: HTTP/1.1 with keep-alive, and a UDP echo on the same port
 * number. One process, poll(2); it never blocks on a caller and never forks. On SIGTERM it takes no
 * new connection, finishes the answers under way (at most DRAIN_MS) and returns 0.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "web.h"

enum {
  BACKLOG = 512,
  MAX_CONNECTIONS = 1024, /* accepted at a time; more wait in the backlog */
  REQUEST_BYTES = 4096,   /* of one request's head; longer ones get 431 */
  RESPONSE_BYTES = 1024,
  IDLE_MS = 60000,        /* a silent keep-alive connection is closed */
  DRAIN_MS = 8000,        /* after SIGTERM, what still runs is cut */
};

static volatile sig_atomic_t stopping;

static void on_stop(int signal_number) { (void)signal_number; stopping = 1; }

static const char *env_or(const char *name, const char *otherwise) {
  const char *value = getenv(name);
  return value != NULL && value[0] != 0 ? value : otherwise;
}

static const char *task_name(void) {
  return env_or("TASK_NAME", env_or("TSSWARM_TASK_NAME", hostname_text()));
}

/* '10.0.1.7:4312' or '[fd00::7]:4312'; IPv4 seen through an IPv6 socket is written as IPv4. */
static void address_text(const struct sockaddr_storage *address, char *out, size_t size) {
  char host[INET6_ADDRSTRLEN] = "?";
  if (address->ss_family == AF_INET) {
    const struct sockaddr_in *v4 = (const void *)address;
    inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
    snprintf(out, size, "%s:%u", host, ntohs(v4->sin_port));
    return;
  }
  const struct sockaddr_in6 *v6 = (const void *)address;
  if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) {
    inet_ntop(AF_INET, &v6->sin6_addr.s6_addr[12], host, sizeof host);
    snprintf(out, size, "%s:%u", host, ntohs(v6->sin6_port));
  } else {
    inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
    snprintf(out, size, "[%s]:%u", host, ntohs(v6->sin6_port));
  }
}

struct connection {
  int fd;
  int64_t active_ms; /* when bytes last moved */
  int64_t answer_ms; /* a /slow answer waits until then; 0 = none waits */
  size_t in_length, out_length, out_sent;
  int closes;        /* after the answer is out */
  char client[INET6_ADDRSTRLEN + 16];
  char in[REQUEST_BYTES];
  char out[RESPONSE_BYTES];
};

static struct connection *connections[MAX_CONNECTIONS];
static struct pollfd polled[MAX_CONNECTIONS + 2]; /* connections, TCP listener, UDP echo */
static int connection_count;

static int listen_on(int port, int type) {
  int on = 1, off = 0;
  int fd = socket(AF_INET6, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd >= 0) {
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (void *)&any, sizeof any) == 0) {
      if (type != SOCK_STREAM || listen(fd, BACKLOG) == 0) return fd;
    }
    close(fd);
  }
  fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); /* no IPv6 in this kernel */
  if (fd < 0) return -1;
  struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(port)};
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, (void *)&any, sizeof any) < 0) goto failed;
  if (type == SOCK_STREAM && listen(fd, BACKLOG) < 0) goto failed;
  return fd;
failed:
  close(fd);
  return -1;
}

static void drop_connection(int at) {
  close(connections[at]->fd);
  free(connections[at]);
  connections[at] = connections[--connection_count];
}

static void accept_all(int listener) {
  while (connection_count < MAX_CONNECTIONS) {
    struct sockaddr_storage peer;
    socklen_t length = sizeof peer;
    int on = 1;
    int fd = accept4(listener, (void *)&peer, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return; /* EAGAIN, or a caller that is gone already */
    struct connection *fresh = calloc(1, sizeof *fresh);
    if (fresh == NULL) {
      close(fd);
      return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fresh->fd = fd;
    fresh->active_ms = now_ms();
    address_text(&peer, fresh->client, sizeof fresh->client);
    connections[connection_count++] = fresh;
  }
}

static void respond(struct connection *c, const char *status, int head_only, const char *format,
                    ...) {
  char body[RESPONSE_BYTES / 2];
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(body, sizeof body, format, arguments);
  va_end(arguments);
  if (length >= (int)sizeof body) length = sizeof body - 1;
  int written = snprintf(c->out, sizeof c->out,
                         "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n"
                         "Connection: %s\r\n\r\n%.*s",
                         status, length, c->closes ? "close" : "keep-alive",
                         head_only ? 0 : length, body);
  c->out_length = written < (int)sizeof c->out ? (size_t)written : sizeof c->out - 1;
  c->out_sent = 0;
}

/* Answers the request whose head is the first `length` bytes of c->in. */
static void answer(struct connection *c, size_t length) {
  char method[8] = "", path[512] = "", version[16] = "";
  c->in[length - 1] = 0;
  int fields = sscanf(c->in, "%7s %511s %15s", method, path, version);
  const char *header = strcasestr(c->in, "\nconnection:");
  if (header != NULL) header += strlen("\nconnection:"), header += strspn(header, " ");
  c->closes = stopping || strcmp(version, "HTTP/1.1") != 0 ||
              (header != NULL && strncasecmp(header, "close", 5) == 0);
  int head_only = strcmp(method, "HEAD") == 0;
  if (fields != 3 || strncmp(version, "HTTP/1.", 7) != 0) {
    c->closes = 1;
    respond(c, "400 Bad Request", 0, "this is no HTTP request\n");
  } else if (!head_only && strcmp(method, "GET") != 0) {
    c->closes = 1; /* its body is not read */
    respond(c, "405 Method Not Allowed", 0, "only GET and HEAD are answered\n");
  } else if (strcmp(path, "/") == 0 || strncmp(path, "/?", 2) == 0) {
    respond(c, "200 OK", head_only, "task=%s host=%s container=%s client=%s\n", task_name(),
            env_or("NODE_HOSTNAME", "unknown"), hostname_text(), c->client);
  } else if (strcmp(path, "/health") == 0) {
    respond(c, "200 OK", head_only, "ok\n");
  } else if (strncmp(path, "/slow/", 6) == 0) {
    c->answer_ms = now_ms() + atoll(path + 6);
    respond(c, "200 OK", head_only, "slow task=%s\n", task_name());
  } else if (strncmp(path, "/exit/", 6) == 0) {
    _exit(atoi(path + 6));
  } else {
    respond(c, "404 Not Found", head_only, "no page %s: try /, /health, /slow/MS or /exit/CODE\n",
            path);
  }
}

/* Sends what waits, reads what came, answers whole requests. Returns -1 when c is to be dropped. */
static int serve_connection(struct connection *c) {
  for (;;) {
    if (c->answer_ms > now_ms()) return 0;
    c->answer_ms = 0;
    while (c->out_sent < c->out_length) {
      ssize_t sent = send(c->fd, c->out + c->out_sent, c->out_length - c->out_sent, MSG_NOSIGNAL);
      if (sent < 0) return errno == EAGAIN || errno == EINTR ? 0 : -1;
      c->out_sent += sent;
      c->active_ms = now_ms();
    }
    if (c->out_length > 0 && c->closes) {
      shutdown(c->fd, SHUT_WR);
      return -1;
    }
    c->out_length = c->out_sent = 0;
    char *end = memmem(c->in, c->in_length, "\r\n\r\n", 4);
    if (end != NULL) {
      size_t length = end + 4 - c->in;
      answer(c, length);
      memmove(c->in, c->in + length, c->in_length - length);
      c->in_length -= length;
      continue;
    }
    if (c->in_length == sizeof c->in) {
      c->closes = 1;
      c->in_length = 0;
      respond(c, "431 Request Header Fields Too Large", 0, "the request's head is too long\n");
      continue;
    }
    ssize_t got = recv(c->fd, c->in + c->in_length, sizeof c->in - c->in_length, 0);
    if (got == 0) return -1;
    if (got < 0) return errno == EAGAIN || errno == EINTR ? 0 : -1;
    c->in_length += got;
    c->active_ms = now_ms();
  }
}

static void echo_datagrams(int fd) {
  char buffer[2048];
  struct sockaddr_storage peer;
  socklen_t length = sizeof peer;
  for (int at = 0; at < 64; at += 1) {
    ssize_t got = recvfrom(fd, buffer, sizeof buffer, 0, (void *)&peer, &length);
    if (got < 0) return;
    sendto(fd, buffer, got, MSG_NOSIGNAL, (void *)&peer, length);
  }
}

int serve(int port) {
  int listener = listen_on(port, SOCK_STREAM);
  if (listener < 0) {
    fprintf(stderr, "web: cannot listen on port %d: %s\n", port, strerror(errno));
    return 1;
  }
  int datagrams = listen_on(port, SOCK_DGRAM); /* optional: without it, no UDP echo */
  handle(SIGTERM, on_stop);
  handle(SIGINT, on_stop);
  handle(SIGPIPE, SIG_IGN);
  printf("web: task %s serves on port %d\n", task_name(), port);
  fflush(stdout);
  int64_t stop_ms = 0;
  for (;;) {
    if (stopping && stop_ms == 0) {
      accept_all(listener); /* what the kernel accepted for us already is answered, not reset */
      close(listener);
      listener = -1;
      stop_ms = now_ms() + DRAIN_MS;
    }
    int64_t wake_ms = now_ms() + 1000;
    for (int at = connection_count - 1; at >= 0; at -= 1) {
      struct connection *c = connections[at];
      int idle = c->out_length == 0 && c->in_length == 0;
      int fresh = c->active_ms + 100 > now_ms(); /* its request may be on the way */
      if (serve_connection(c) < 0 || c->active_ms + IDLE_MS < now_ms() ||
          (stopping && idle && !fresh && c->out_length == 0)) {
        drop_connection(at);
      } else if (c->answer_ms > 0 && c->answer_ms < wake_ms) {
        wake_ms = c->answer_ms;
      }
    }
    if (stopping && (connection_count == 0 || now_ms() > stop_ms)) return 0;
    for (int at = 0; at < connection_count; at += 1) {
      struct connection *c = connections[at];
      int waits = c->answer_ms > 0;
      polled[at] = (struct pollfd){c->fd, waits ? 0 : c->out_length > 0 ? POLLOUT : POLLIN, 0};
    }
    int count = connection_count;
    polled[count] =
        (struct pollfd){connection_count < MAX_CONNECTIONS ? listener : -1, POLLIN, 0};
    polled[count + 1] = (struct pollfd){datagrams, POLLIN, 0};
    int64_t wait_ms = wake_ms - now_ms();
    if (stopping && wait_ms > 50) wait_ms = 50;
    if (poll(polled, count + 2, wait_ms < 0 ? 0 : (int)wait_ms) < 0 && errno != EINTR) return 1;
    if (polled[count].revents & POLLIN) accept_all(listener);
    if (polled[count + 1].revents & POLLIN) echo_datagrams(datagrams);
  }
}
