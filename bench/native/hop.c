// The floor: the least that a hop can do. Copies bytes both ways between each client connection and one upstream connection
// of its own, without TLS and without reading HTTP, so that its cost is the kernel's. Usage: hop PORT UPSTREAM_PORT.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_FD 65536

static int other[MAX_FD];  // the connection at the other side of each one
static int loop;

static int tcp_socket(int flags) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0), on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

static struct sockaddr_in loopback(int port) {
  return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void watch(int fd) {
  struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
  epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event);
}

static void end(int fd) {
  close(other[fd]);
  close(fd);
}

static void copy(int fd) {
  static char data[1 << 16];
  ssize_t size = read(fd, data, sizeof data);
  if (size < 0 && (errno == EAGAIN || errno == EINTR || errno == EBADF)) return;
  if (size <= 0 || write(other[fd], data, size) != size) end(fd);
}

static void take(int listener, int upstream_port) {
  int on = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) return;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  struct sockaddr_in to = loopback(upstream_port);
  int up = tcp_socket(0);  // Blocking connect: loopback, and only while warming up.
  if (up < 0 || up >= MAX_FD || fd >= MAX_FD || connect(up, (struct sockaddr *)&to, sizeof to)) {
    close(fd);
    close(up);
    return;
  }
  fcntl(up, F_SETFL, O_NONBLOCK);  // An event may be of a connection that has ended since, and its number be taken again.
  other[fd] = up;
  other[up] = fd;
  watch(fd);
  watch(up);
}

int main(int argc, char **argv) {
  if (argc != 3) return fprintf(stderr, "usage: hop PORT UPSTREAM_PORT\n"), 2;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  signal(SIGPIPE, SIG_IGN);
  int listener = tcp_socket(SOCK_NONBLOCK), on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
  struct sockaddr_in at = loopback(atoi(argv[1]));
  if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 4096)) return perror("hop: listen"), 1;
  loop = epoll_create1(EPOLL_CLOEXEC);
  watch(listener);
  struct epoll_event events[256];
  for (;;) {
    int count = epoll_wait(loop, events, 256, -1);
    for (int i = 0; i < count; i++) {
      if (events[i].data.fd == listener) take(listener, atoi(argv[2]));
      else copy(events[i].data.fd);
    }
  }
}
