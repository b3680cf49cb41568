// The application behind the proxies: answers every HTTP/1.1 request head with one fixed response, as cheaply as epoll can.
// Usage: origin PORT BODY_BYTES. Requests have no body. One thread; ends with its parent.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_FD 65536
#define MAX_BATCH 64

static unsigned char matched[MAX_FD];  // how much of "\r\n\r\n" each connection's last bytes are
static char *response;
static size_t response_size;

static int listen_on(int port) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 4096)) {
    perror("origin: listen");
    exit(1);
  }
  return fd;
}

static int heads_in(int fd, const char *data, ssize_t size) {
  int heads = 0;
  unsigned char state = matched[fd];
  for (ssize_t i = 0; i < size; i++) {
    if (data[i] == (state % 2 ? '\n' : '\r')) state++;
    else state = data[i] == '\r';
    if (state == 4) heads++, state = 0;
  }
  matched[fd] = state;
  return heads;
}

static void answer(int fd) {
  static char data[1 << 16];
  ssize_t size = read(fd, data, sizeof data);
  if (size <= 0) {
    if (size == 0 || (errno != EAGAIN && errno != EINTR)) close(fd);
    return;
  }
  for (int heads = heads_in(fd, data, size); heads > 0; heads -= MAX_BATCH) {
    size_t wanted = response_size * (heads < MAX_BATCH ? heads : MAX_BATCH);
    if (write(fd, response, wanted) != (ssize_t)wanted) {
      close(fd);  // A peer that does not read its answers is not what is measured.
      return;
    }
  }
}

int main(int argc, char **argv) {
  if (argc != 3) return fprintf(stderr, "usage: origin PORT BODY_BYTES\n"), 2;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  signal(SIGPIPE, SIG_IGN);
  int body = atoi(argv[2]);
  char head[128];
  int head_size = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n", body);
  response_size = head_size + body;
  response = malloc(response_size * MAX_BATCH);
  for (int i = 0; i < MAX_BATCH; i++) {
    memcpy(response + i * response_size, head, head_size);
    memset(response + i * response_size + head_size, 'x', body);
  }
  int listener = listen_on(atoi(argv[1])), loop = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[256];
  epoll_ctl(loop, EPOLL_CTL_ADD, listener, &event);
  for (;;) {
    int count = epoll_wait(loop, events, 256, -1);
    for (int i = 0; i < count; i++) {
      if (events[i].data.fd != listener) {
        answer(events[i].data.fd);
        continue;
      }
      int on = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd < 0) continue;
      if (fd >= MAX_FD) { close(fd); continue; }
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      matched[fd] = 0;
      struct epoll_event added = {.events = EPOLLIN, .data.fd = fd};
      epoll_ctl(loop, EPOLL_CTL_ADD, fd, &added);
    }
  }
}
