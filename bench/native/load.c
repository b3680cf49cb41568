// The load: HTTP/1.1 GETs over a fixed number of kept connections, closed loop (rate 0: the next request follows the
// answer) or open loop (so many a second, latency counted from the intended time of sending, waiting for a free connection
// included). Usage: load PORT CONNECTIONS SECONDS RATE. Prints one line of JSON; latencies in microseconds.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#define MAX_CONNECTIONS 4096
#define HEAD_ROOM 16384
#define SUB 64  // buckets to each power of two: 1.6 % of resolution

typedef struct {
  int fd;
  int64_t intended;  // when the request now in flight was due, ns
  size_t have;
  long body_left;  // bytes of the body still to come; -1 inside the head
  char head[HEAD_ROOM];
} Connection;

static const char request[] = "GET /api/items/42 HTTP/1.1\r\nhost: backend.default\r\nuser-agent: bench/1\r\naccept: */*\r\n\r\n";
static Connection connections[MAX_CONNECTIONS];
static int idle[MAX_CONNECTIONS], idle_count;
static uint64_t buckets[64 * SUB], done, errors;
static int64_t worst;
static int port, loop;

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void count(int64_t ns) {
  if (ns < SUB) ns = SUB;
  if (ns > worst) worst = ns;
  int power = 63 - __builtin_clzll(ns), shift = power - 6;
  buckets[power * SUB + ((ns >> shift) & (SUB - 1))]++;
}

static double percentile(double share) {
  uint64_t wanted = share * done, seen = 0;
  for (int i = 0; i < 64 * SUB; i++) {
    seen += buckets[i];
    if (seen > wanted) return (double)((uint64_t)(SUB + i % SUB) << (i / SUB - 6)) / 1000.0;
  }
  return worst / 1000.0;
}

static void open_connection(Connection *c) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int on = 1;
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (connect(c->fd, (struct sockaddr *)&to, sizeof to)) {
    perror("load: connect");
    exit(1);
  }
  c->have = 0;
  c->body_left = -1;
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
  epoll_ctl(loop, EPOLL_CTL_ADD, c->fd, &event);
}

static void failed(Connection *c) {
  errors++;
  close(c->fd);
  open_connection(c);
}

static void send_request(Connection *c, int64_t intended) {
  c->intended = intended;
  if (write(c->fd, request, sizeof request - 1) != sizeof request - 1) {
    failed(c);
    idle[idle_count++] = c - connections;
  }
}

// 1 when a response is complete, 0 when more is to come, -1 for what is no good answer.
static int take_in(Connection *c) {
  ssize_t size = recv(c->fd, c->head + c->have, HEAD_ROOM - 1 - c->have, MSG_DONTWAIT);
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
  if (size <= 0) return -1;
  c->have += size;
  if (c->body_left < 0) {
    c->head[c->have] = 0;
    char *end = strstr(c->head, "\r\n\r\n");
    if (!end) return c->have < HEAD_ROOM - 1 ? 0 : -1;
    char *length = strcasestr(c->head, "\ncontent-length:");
    if (strncmp(c->head, "HTTP/1.1 200", 12) || !length || length > end) return -1;
    c->body_left = atol(length + 16) - (long)(c->have - (end + 4 - c->head));
  } else {
    c->body_left -= size;
  }
  c->have = c->body_left < 0 ? c->have : 0;
  if (c->body_left) return 0;
  c->body_left = -1;
  c->have = 0;
  return 1;
}

static void arm(int timer, int64_t at) {
  struct itimerspec when = {.it_value = {at / 1000000000LL, at % 1000000000LL}};
  timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

int main(int argc, char **argv) {
  if (argc != 5) return fprintf(stderr, "usage: load PORT CONNECTIONS SECONDS RATE\n"), 2;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  signal(SIGPIPE, SIG_IGN);
  port = atoi(argv[1]);
  int many = atoi(argv[2]), timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  double rate = atof(argv[4]);
  if (many < 1 || many > MAX_CONNECTIONS) return fprintf(stderr, "load: 1 to %d connections\n", MAX_CONNECTIONS), 2;
  loop = epoll_create1(EPOLL_CLOEXEC);
  for (int i = 0; i < many; i++) open_connection(&connections[i]);
  for (int i = many; i-- > 0;) idle[idle_count++] = i;
  int64_t start = now(), stop = start + (int64_t)(atof(argv[3]) * 1e9), next = start;
  int64_t step = rate > 0 ? (int64_t)(1e9 / rate) : 0;
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}, events[256];
  epoll_ctl(loop, EPOLL_CTL_ADD, timer, &event);
  int64_t time = start;
  while (time < stop) {
    while (idle_count > 0 && (!step || next <= time)) {
      send_request(&connections[idle[--idle_count]], step ? next : time);
      next += step;
    }
    arm(timer, step && idle_count > 0 && next < stop ? next : stop);
    int ready = epoll_wait(loop, events, 256, -1);
    time = now();
    for (int i = 0; i < ready; i++) {
      Connection *c = events[i].data.ptr;
      if (!c) {
        uint64_t expirations;
        if (read(timer, &expirations, sizeof expirations) < 0) continue;
        continue;
      }
      int result = take_in(c);
      if (!result) continue;
      if (result < 0) failed(c);
      else done++, count(time - c->intended);
      if (step) idle[idle_count++] = c - connections;
      else send_request(c, time);
    }
  }
  printf("{\"requests\": %lu, \"errors\": %lu, \"seconds\": %.3f, \"p50\": %.1f, \"p90\": %.1f, \"p99\": %.1f, \"p999\": %.1f, \"max\": %.1f}\n",
         done, errors, (time - start) / 1e9, percentile(0.5), percentile(0.9), percentile(0.99), percentile(0.999), worst / 1000.0);
  return 0;
}
