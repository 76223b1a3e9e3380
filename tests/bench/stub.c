/* An engine that costs almost nothing: vLLM's chat wire on a unix socket and a TCP port, one thread, no tokens thought up.
 *
 * Decides: what an answer looks like on the wire, as vLLM 0.32 writes it with continuous usage (inference/engines/vllm.py
 * reads the same): a role chunk, one chunk per token, the last one with its reason, a usage chunk, [DONE].
 * Leaves to others: who asks (load.c) and what it is compared with (gateway.py).
 *
 * A request says itself how it is answered, in fields that every gateway passes on: max_tokens is the number of token
 * events, seed the pause between them in milliseconds (0: all at once), stream as usual. Every token carries its number
 * and the moment it was sent, "~7:123456789", so that whoever reads it can tell a lost one and the time it took.
 *
 * usage: stub SOCKET PORT
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MOST_FDS 8192
#define IN_SIZE (2 << 20)
#define EVENT_SIZE 1024

struct conn {
    char *in, *out;
    size_t in_len, out_len, out_cap;
    long tokens, sent;
    long long pause_ns, due;
    int open, active, close_after, waits_for_room;
};

static struct conn conns[MOST_FDS];
static int active[MOST_FDS], actives, ep;

static long long now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void hang_up(int fd) {
    struct conn *c = &conns[fd];
    if (c->active)
        for (int i = 0; i < actives; i++)
            if (active[i] == fd) {
                active[i] = active[--actives];
                break;
            }
    free(c->in);
    free(c->out);
    memset(c, 0, sizeof *c);
    close(fd);
}

static void want(int fd, int room) {
    struct epoll_event e = {.events = EPOLLIN | (room ? EPOLLOUT : 0), .data.fd = fd};
    if (conns[fd].waits_for_room != room && epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e) < 0) die("epoll_ctl");
    conns[fd].waits_for_room = room;
}

/* One write per event, as a server that streams does it; what the socket does not take is kept. */
static int put(int fd, const char *data, size_t size) {
    struct conn *c = &conns[fd];
    if (!c->out_len) {
        ssize_t n = write(fd, data, size);
        if (n < 0 && errno != EAGAIN) return -1;
        if (n > 0) data += n, size -= (size_t)n;
    }
    if (!size) return 0;
    if (c->out_len + size > c->out_cap) {
        c->out_cap = (c->out_len + size) * 2;
        if (!(c->out = realloc(c->out, c->out_cap))) die("realloc");
    }
    memcpy(c->out + c->out_len, data, size);
    c->out_len += size;
    want(fd, 1);
    return 0;
}

static int flush(int fd) {
    struct conn *c = &conns[fd];
    ssize_t n = write(fd, c->out, c->out_len);
    if (n < 0) return errno == EAGAIN ? 0 : -1;
    memmove(c->out, c->out + n, c->out_len - (size_t)n);
    c->out_len -= (size_t)n;
    if (!c->out_len) want(fd, 0);
    return 0;
}

__attribute__((format(printf, 2, 3))) static int event(int fd, const char *form, ...) {
    char data[EVENT_SIZE], chunk[EVENT_SIZE + 64];
    va_list arguments;
    va_start(arguments, form);
    int n = vsnprintf(data, sizeof data, form, arguments);
    va_end(arguments);
    int m = snprintf(chunk, sizeof chunk, "%x\r\ndata: %s\n\n\r\n", n + 8, data);
    return put(fd, chunk, (size_t)m);
}

#define HEAD "\"id\":\"chatcmpl-0123456789abcdef0123456789abcdef\",\"object\":\"chat.completion.chunk\",\"created\":1790000000,\"model\":\"stub\""
#define USAGE "\"usage\":{\"prompt_tokens\":57,\"total_tokens\":%ld,\"completion_tokens\":%ld}"

static int done(int fd) {
    struct conn *c = &conns[fd];
    if (event(fd, "{" HEAD ",\"choices\":[]," USAGE "}", 57 + c->tokens, c->tokens) || event(fd, "[DONE]") ||
        put(fd, "0\r\n\r\n", 5))
        return -1;
    for (int i = 0; i < actives; i++)
        if (active[i] == fd) {
            active[i] = active[--actives];
            break;
        }
    c->active = 0;
    return c->close_after && !c->out_len ? -1 : 0;
}

static int token(int fd) {
    struct conn *c = &conns[fd];
    long number = c->sent++;
    return event(fd,
                 "{" HEAD ",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" ~%ld:%lld\"},\"logprobs\":null,"
                 "\"finish_reason\":%s,\"token_ids\":null}]," USAGE "}",
                 number, now_ns(), c->sent == c->tokens ? "\"length\"" : "null", 57 + c->sent, c->sent);
}

static int begin(int fd) {
    static const char head[] = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
                               "transfer-encoding: chunked\r\n\r\n";
    struct conn *c = &conns[fd];
    if (put(fd, head, sizeof head - 1) ||
        event(fd,
              "{" HEAD ",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,"
              "\"finish_reason\":null}]," USAGE "}",
              57L, 0L))
        return -1;
    c->sent = 0;
    c->active = 1;
    active[actives++] = fd;
    c->due = now_ns() + c->pause_ns;
    if (c->pause_ns) return 0;
    while (c->sent < c->tokens)
        if (token(fd)) return -1;
    return done(fd);
}

static int whole(int fd) {
    struct conn *c = &conns[fd];
    char body[2048], answer[4096];
    int n = snprintf(body, sizeof body,
                     "{\"id\":\"chatcmpl-0123456789abcdef0123456789abcdef\",\"object\":\"chat.completion\",\"created\":1790000000,"
                     "\"model\":\"stub\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"The patient is "
                     "doing well on the present plan; no change today.\",\"refusal\":null,\"tool_calls\":[]},\"logprobs\":null,"
                     "\"finish_reason\":\"length\",\"stop_reason\":null}]," USAGE ",\"prompt_logprobs\":null}",
                     57 + c->tokens, c->tokens);
    int m = snprintf(answer, sizeof answer,
                     "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s", n, body);
    if (put(fd, answer, (size_t)m)) return -1;
    return c->close_after && !c->out_len ? -1 : 0;
}

/* A field of the body by its name. Inside a string its quotes would be escaped, so the first match is the field. */
static long field(const char *body, const char *name, long otherwise) {
    const char *at = strstr(body, name);
    if (!at) return otherwise;
    at += strlen(name);
    while (*at == ' ' || *at == ':') at++;
    return *at == 't' ? 1 : *at == 'f' || *at == 'n' ? 0 : strtol(at, NULL, 10);
}

static int asked(int fd) {
    struct conn *c = &conns[fd];
    while (c->in_len && !c->active) {
        c->in[c->in_len] = 0;
        char *end = strstr(c->in, "\r\n\r\n");
        if (!end) return 0;
        *end = 0;
        char *length = strcasestr(c->in, "\r\ncontent-length:");
        size_t size = length ? strtoul(length + 17, NULL, 10) : 0, head = (size_t)(end - c->in) + 4;
        c->close_after = strcasestr(c->in, "\r\nconnection: close") != NULL;
        *end = '\r';
        if (head + size > IN_SIZE - 1) return -1;
        if (c->in_len < head + size) return 0;
        char *body = c->in + head, kept = body[size];
        body[size] = 0;
        c->tokens = field(body, "\"max_tokens\"", 17);
        c->pause_ns = field(body, "\"seed\"", 0) * 1000000LL;
        int stream = (int)field(body, "\"stream\"", 0);
        body[size] = kept;
        c->in_len -= head + size;
        memmove(c->in, c->in + head + size, c->in_len);
        if (stream ? begin(fd) : whole(fd)) return -1;
    }
    return 0;
}

static int readable(int fd) {
    struct conn *c = &conns[fd];
    ssize_t n = read(fd, c->in + c->in_len, IN_SIZE - 1 - c->in_len);
    if (n == 0) return -1;
    if (n < 0) return errno == EAGAIN ? 0 : -1;
    c->in_len += (size_t)n;
    return asked(fd);
}

static void greet(int listener) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), one = 1;
    if (fd < 0) return;
    if (fd >= MOST_FDS) {
        close(fd);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* does nothing on a unix socket */
    memset(&conns[fd], 0, sizeof conns[fd]);
    conns[fd].open = 1;
    if (!(conns[fd].in = malloc(IN_SIZE))) die("malloc");
    struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e) < 0) die("epoll_ctl");
}

static void tick(void) {
    long long now = now_ns();
    for (int i = actives - 1; i >= 0; i--) {
        int fd = active[i];
        struct conn *c = &conns[fd];
        if (c->due > now) continue;
        c->due += c->pause_ns;
        if (token(fd) || (c->sent == c->tokens && (done(fd) || asked(fd)))) hang_up(fd);
    }
}

static long long next_due(void) {
    long long first = -1;
    for (int i = 0; i < actives; i++)
        if (first < 0 || conns[active[i]].due < first) first = conns[active[i]].due;
    return first;
}

static int listen_on(int family, const struct sockaddr *address, socklen_t size) {
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (fd < 0 || bind(fd, address, size) < 0 || listen(fd, 4096) < 0) die("listen");
    struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e) < 0) die("epoll_ctl");
    return fd;
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    signal(SIGPIPE, SIG_IGN);
    ep = epoll_create1(EPOLL_CLOEXEC);
    struct sockaddr_un path = {.sun_family = AF_UNIX};
    strncpy(path.sun_path, argv[1], sizeof path.sun_path - 1);
    unlink(argv[1]);
    struct sockaddr_in port = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[2])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on_path = listen_on(AF_UNIX, (struct sockaddr *)&path, sizeof path);
    int on_port = listen_on(AF_INET, (struct sockaddr *)&port, sizeof port);
    struct epoll_event events[256];
    for (;;) {
        long long due = next_due(), wait = due - now_ns();
        struct timespec limit = {.tv_sec = wait > 0 ? wait / 1000000000LL : 0, .tv_nsec = wait > 0 ? wait % 1000000000LL : 0};
        int n = epoll_pwait2(ep, events, 256, due < 0 ? NULL : &limit, NULL);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == on_path || fd == on_port) {
                greet(fd);
                continue;
            }
            if (!conns[fd].open) continue;
            int gone = 0;
            if (events[i].events & EPOLLOUT) gone = flush(fd) || (conns[fd].close_after && !conns[fd].active && !conns[fd].out_len);
            if (!gone && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) gone = readable(fd);
            if (gone) hang_up(fd);
        }
        tick();
    }
}
