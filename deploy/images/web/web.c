/*
 * The project's own offline image: one static program that is a small web server and, by its
 * sub-commands, the tool that tests and demonstrations run inside containers (see usage()).
 * One thread, poll(2), no dependency but libc. It never writes a file and never needs privileges
 * beyond binding its port.
 *
 * Errors: a function that can fail returns -1 with errno set; only main and the sub-commands print
 * and exit. Exit codes: 0 done, 1 failed, 2 wrong use, 143 ended by SIGTERM (serve: 0).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "web.h"

enum {
  DEFAULT_PORT = 80,
  GET_TIMEOUT_MS = 5000,
  GET_BODY_BYTES = 1 << 20,
};

static void on_stop_exit(int signal_number) { _exit(128 + signal_number); }

void handle(int signal_number, void (*handler)(int)) {
  struct sigaction action = {0};
  action.sa_handler = handler;
  sigaction(signal_number, &action, NULL);
}

int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void sleep_ms(int64_t ms) {
  struct timespec span = {ms / 1000, (ms % 1000) * 1000000};
  while (nanosleep(&span, &span) < 0 && errno == EINTR) continue;
}

const char *hostname_text(void) {
  static char name[256];
  if (name[0] == 0 && gethostname(name, sizeof name - 1) < 0) strcpy(name, "unknown");
  return name;
}

/* ---- the client --------------------------------------------------------------------------- */

static int wait_for(int fd, short events, int64_t deadline_ms) {
  struct pollfd one = {fd, events, 0};
  for (;;) {
    int64_t left = deadline_ms - now_ms();
    if (left <= 0) {
      errno = ETIMEDOUT;
      return -1;
    }
    int ready = poll(&one, 1, (int)left);
    if (ready > 0) return 0;
    if (ready < 0 && errno != EINTR) return -1;
  }
}

static int connect_to(const struct addrinfo *address, int64_t deadline_ms) {
  int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  int error = 0;
  socklen_t length = sizeof error;
  if (connect(fd, address->ai_addr, address->ai_addrlen) < 0) {
    if (errno != EINPROGRESS || wait_for(fd, POLLOUT, deadline_ms) < 0) goto failed;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error != 0) {
      errno = error;
      goto failed;
    }
  }
  return fd;
failed:
  error = errno;
  close(fd);
  errno = error;
  return -1;
}

/* One GET over a connection of its own; prints the body. Returns 0 only for a 2xx answer. */
static int get_once(const char *url, int64_t timeout_ms) {
  static char reply[GET_BODY_BYTES];
  char host[256] = "", port[8] = "80";
  int64_t deadline_ms = now_ms() + timeout_ms;
  const char *rest = strncmp(url, "http://", 7) == 0 ? url + 7 : url;
  size_t authority = strcspn(rest, "/");
  const char *path = rest[authority] != 0 ? rest + authority : "/";
  if (authority == 0 || authority >= sizeof host) {
    fprintf(stderr, "web: \"%s\" is no URL: write http://host[:port]/path\n", url);
    return 2;
  }
  memcpy(host, rest, authority);
  char *name = host, *colon = strrchr(host, ':');
  if (host[0] == '[' && strchr(host, ']') != NULL) {
    name = host + 1;
    char *end = strchr(host, ']');
    *end = 0;
    colon = end[1] == ':' ? end + 1 : NULL;
  }
  if (colon != NULL) {
    snprintf(port, sizeof port, "%s", colon + 1);
    *colon = 0;
  }
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
  int code = getaddrinfo(name, port, &hints, &found);
  if (code != 0) {
    fprintf(stderr, "web: cannot resolve %s: %s\n", name, gai_strerror(code));
    return 1;
  }
  int fd = -1;
  for (struct addrinfo *at = found; at != NULL && fd < 0; at = at->ai_next) {
    fd = connect_to(at, deadline_ms);
  }
  freeaddrinfo(found);
  if (fd < 0) goto failed;
  char request[1024];
  int length = snprintf(request, sizeof request,
                        "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", path, name);
  if (send(fd, request, length, MSG_NOSIGNAL) != length) goto failed;
  size_t filled = 0;
  while (filled < sizeof reply - 1) {
    if (wait_for(fd, POLLIN, deadline_ms) < 0) goto failed;
    ssize_t got = recv(fd, reply + filled, sizeof reply - 1 - filled, 0);
    if (got < 0 && errno != EAGAIN) goto failed;
    if (got == 0) break;
    if (got > 0) filled += got;
  }
  close(fd);
  reply[filled] = 0;
  char *body = strstr(reply, "\r\n\r\n");
  int status = 0;
  if (body == NULL || sscanf(reply, "HTTP/1.%*d %d", &status) != 1) {
    fprintf(stderr, "web: %s: the answer was cut off\n", url);
    return 1;
  }
  fputs(body + 4, stdout);
  fflush(stdout);
  return status >= 200 && status < 300 ? 0 : 1;
failed:
  fprintf(stderr, "web: %s: %s\n", url, strerror(errno));
  if (fd >= 0) close(fd);
  return 1;
}

static int get(int count, char **arguments) {
  const char *url = NULL;
  long times = 1;
  int64_t timeout_ms = GET_TIMEOUT_MS, interval_ms = 0;
  for (int at = 0; at < count; at += 1) {
    if (strcmp(arguments[at], "--timeout") == 0 && at + 1 < count) {
      timeout_ms = atoll(arguments[++at]);
    } else if (strcmp(arguments[at], "--interval") == 0 && at + 1 < count) {
      interval_ms = atoll(arguments[++at]);
    } else if (url == NULL) {
      url = arguments[at];
    } else {
      times = atol(arguments[at]);
    }
  }
  if (url == NULL) return 2;
  int result = 0;
  for (long at = 0; at < times; at += 1) {
    if (at > 0 && interval_ms > 0) sleep_ms(interval_ms);
    int one = get_once(url, timeout_ms);
    if (one != 0) result = one;
  }
  return result;
}

static int dns(const char *name) {
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
  int code = getaddrinfo(name, NULL, &hints, &found);
  if (code != 0) {
    fprintf(stderr, "web: cannot resolve %s: %s\n", name, gai_strerror(code));
    return 1;
  }
  for (struct addrinfo *at = found; at != NULL; at = at->ai_next) {
    char text[INET6_ADDRSTRLEN] = "?";
    const void *raw = at->ai_family == AF_INET
                          ? (const void *)&((struct sockaddr_in *)at->ai_addr)->sin_addr
                          : (const void *)&((struct sockaddr_in6 *)at->ai_addr)->sin6_addr;
    puts(inet_ntop(at->ai_family, raw, text, sizeof text));
  }
  freeaddrinfo(found);
  return 0;
}

/* Sends `text` to HOST PORT by UDP and prints the echo. */
static int udp(const char *host, const char *port, const char *text) {
  struct addrinfo hints = {.ai_socktype = SOCK_DGRAM}, *found = NULL;
  int code = getaddrinfo(host, port, &hints, &found);
  if (code != 0) {
    fprintf(stderr, "web: cannot resolve %s: %s\n", host, gai_strerror(code));
    return 1;
  }
  char buffer[2048];
  int fd = socket(found->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  ssize_t got = -1;
  if (fd >= 0 && connect(fd, found->ai_addr, found->ai_addrlen) == 0 &&
      send(fd, text, strlen(text), 0) >= 0 && wait_for(fd, POLLIN, now_ms() + 2000) == 0) {
    got = recv(fd, buffer, sizeof buffer, 0);
  }
  freeaddrinfo(found);
  if (got < 0) {
    fprintf(stderr, "web: %s port %s: %s\n", host, port, strerror(errno));
    return 1;
  }
  printf("%.*s\n", (int)got, buffer);
  return 0;
}

static int alloc(const char *amount) {
  char *end = NULL;
  unsigned long long bytes = strtoull(amount, &end, 10);
  if (*end == 'k') bytes <<= 10;
  if (*end == 'm') bytes <<= 20;
  if (*end == 'g') bytes <<= 30;
  for (unsigned long long done = 0; done < bytes; done += 1 << 20) {
    size_t part = bytes - done < 1 << 20 ? bytes - done : 1 << 20;
    char *memory = malloc(part);
    if (memory == NULL) {
      fprintf(stderr, "web: no memory after %llu bytes\n", done);
      return 1;
    }
    memset(memory, 1, part); /* touched, so that it counts */
  }
  printf("web: holds %llu bytes\n", bytes);
  fflush(stdout);
  for (;;) pause();
}

static int usage(FILE *out) {
  fputs("usage: web COMMAND\n"
        "  serve [PORT]              HTTP server (default port 80, also echoes UDP); GET / tells\n"
        "                            task, host, container and client; /health; /slow/MS;\n"
        "                            /exit/CODE\n"
        "  get URL [COUNT] [--timeout MS] [--interval MS]   fetch and print; fails unless 2xx\n"
        "  dns NAME                  print the addresses of NAME, one a line\n"
        "  udp HOST PORT TEXT        send a datagram, print the echo\n"
        "  sleep SECONDS             wait, then exit 0\n"
        "  tick [MS]                 print a numbered line every MS (1000)\n"
        "  stubborn                  ignore SIGTERM and wait\n"
        "  fail CODE [AFTER-MS]      exit with CODE\n"
        "  crash [AFTER-MS]          end by SIGILL\n"
        "  burn                      keep one processor busy\n"
        "  alloc BYTES[k|m|g]        hold and touch that much memory\n"
        "  echo TEXT...              print\n"
        "  env                       print the environment\n"
        "  id                        print uid, gid, hostname, working directory\n"
        "  cat FILE...               print files\n",
        out);
  return out == stdout ? 0 : 2;
}

static int cat(int count, char **files) {
  for (int at = 0; at < count; at += 1) {
    char buffer[4096];
    ssize_t got;
    int fd = open(files[at], O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
      fprintf(stderr, "web: %s: %s\n", files[at], strerror(errno));
      return 1;
    }
    while ((got = read(fd, buffer, sizeof buffer)) > 0) fwrite(buffer, 1, got, stdout);
    close(fd);
  }
  return 0;
}

int main(int count, char **arguments) {
  const char *command = count > 1 ? arguments[1] : "serve";
  const char *first = count > 2 ? arguments[2] : NULL;
  if (strcmp(command, "serve") == 0) return serve(first != NULL ? atoi(first) : DEFAULT_PORT);
  handle(SIGTERM, on_stop_exit); /* as process 1 it would be ignored without a handler */
  handle(SIGINT, on_stop_exit);
  if (strcmp(command, "get") == 0) {
    int result = get(count - 2, arguments + 2);
    return result == 2 && first == NULL ? usage(stderr) : result;
  }
  if (strcmp(command, "dns") == 0 && first != NULL) return dns(first);
  if (strcmp(command, "udp") == 0 && count == 5) return udp(first, arguments[3], arguments[4]);
  if (strcmp(command, "sleep") == 0 && first != NULL) {
    sleep_ms((int64_t)(atof(first) * 1000));
    return 0;
  }
  if (strcmp(command, "tick") == 0) {
    for (unsigned long at = 1;; at += 1) {
      printf("tick %lu\n", at);
      fflush(stdout);
      sleep_ms(first != NULL ? atoll(first) : 1000);
    }
  }
  if (strcmp(command, "stubborn") == 0) {
    handle(SIGTERM, SIG_IGN);
    puts("web: ignores SIGTERM");
    fflush(stdout);
    for (;;) pause();
  }
  if (strcmp(command, "fail") == 0 && first != NULL) {
    if (count > 3) sleep_ms(atoll(arguments[3]));
    fprintf(stderr, "web: fails with %s as told\n", first);
    return atoi(first);
  }
  if (strcmp(command, "crash") == 0) {
    if (first != NULL) sleep_ms(atoll(first));
    __builtin_trap(); /* a real fault: process 1 of a namespace ignores raise(3) */
  }
  if (strcmp(command, "burn") == 0) {
    for (volatile unsigned long at = 0;; at += 1) continue;
  }
  if (strcmp(command, "alloc") == 0 && first != NULL) return alloc(first);
  if (strcmp(command, "echo") == 0) {
    for (int at = 2; at < count; at += 1) printf("%s%s", at > 2 ? " " : "", arguments[at]);
    putchar('\n');
    return 0;
  }
  if (strcmp(command, "env") == 0) {
    for (char **at = environ; *at != NULL; at += 1) puts(*at);
    return 0;
  }
  if (strcmp(command, "id") == 0) {
    char directory[4096];
    if (getcwd(directory, sizeof directory) == NULL) strcpy(directory, "?");
    printf("uid=%d gid=%d hostname=%s cwd=%s\n", getuid(), getgid(), hostname_text(), directory);
    return 0;
  }
  if (strcmp(command, "cat") == 0) return cat(count - 2, arguments + 2);
  if (strcmp(command, "help") == 0 || strcmp(command, "--help") == 0) return usage(stdout);
  fprintf(stderr, "web: unknown command \"%s\"\n", command);
  return usage(stderr);
}
