/* A caller who keeps N connections busy and counts everything: answers, tokens, lost ones, and how long each thing took.
 *
 * Decides: when an answer is whole (status 200, its framing ended, and for a stream every token in order and [DONE]) and
 * what is measured. Leaves to others: what is asked (a file of whole HTTP requests, each after its length on a line) and
 * what the figures mean (judge.py).
 *
 * Closed loop: a connection asks again when its answer is complete. After SECONDS, or REQUESTS when that is not 0, nobody
 * asks again and what is in flight is waited for, so that CPU time over the run belongs to whole answers.
 *
 * usage: load unix:PATH|tcp:PORT CONNECTIONS SECONDS REQUESTS TOKENS FILE      TOKENS: per answer; 0 no stream; -1 any
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define GIVE_UP_NS 60000000000LL

enum part { IDLE, HEAD, BY_LENGTH, SIZE, DATA, DATA_END, LAST_LINE };
enum mark { NO_MARK, NUMBER, STAMP };

struct conn {
    int fd, status, finished, close_after, head_len, kept;
    enum part part;
    size_t left, out, line;
    char head[32768];
    long long asked, first, stamp, delay, spent;
    long number, expected, matched_done, matched_spent;
    enum mark mark;
    int reading_spent;
};

struct series {
    double *values;
    size_t count, room;
};

static struct series whole, first, gap, delay;
static struct conn *conns;
static char **requests;
static size_t *sizes, kinds, turn;
static long tokens_wanted, limit, sent, answers, faults, refused, lost, tokens, spent, reconnects;
static long long stop, bytes;
static int ep, running;
static struct sockaddr_storage target;
static socklen_t target_size;

static long long now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void keep(struct series *s, double value) {
    if (s->count == s->room) {
        s->room = s->room ? s->room * 2 : 4096;
        if (!(s->values = realloc(s->values, s->room * sizeof *s->values))) die("realloc");
    }
    s->values[s->count++] = value;
}

static void reach(struct conn *c) {
    int one = 1;
    c->fd = socket(target.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&target, target_size) < 0) die("connect");
    if (target.ss_family == AF_INET) setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e) < 0) die("epoll_ctl");
}

static void ask(struct conn *c) {
    long long now = now_ns();
    if (now >= stop || (limit && sent >= limit)) {
        c->part = IDLE;
        running--;
        return;
    }
    size_t which = turn++ % kinds, done = 0;
    int fd = c->fd;
    memset(c, 0, sizeof *c);
    c->fd = fd;
    c->part = HEAD;
    c->asked = now;
    sent++;
    while (done < sizes[which]) {
        ssize_t n = write(fd, requests[which] + done, sizes[which] - done);
        if (n < 0) break; /* seen as an end when it is read */
        done += (size_t)n;
    }
}

static void again(struct conn *c) {
    close(c->fd);
    reconnects++;
    reach(c);
}

static void finish(struct conn *c, int broken) {
    long long now = now_ns();
    int bad = broken || c->status != 200;
    if (!bad && tokens_wanted) bad = !c->finished;
    if (tokens_wanted > 0 && c->status == 200) lost += tokens_wanted - c->expected;
    answers++;
    faults += bad;
    refused += c->status >= 400;
    spent += c->spent;
    if (!bad) {
        keep(&whole, (double)(now - c->asked) / 1000);
        keep(&first, (double)(c->first - c->asked) / 1000);
    }
    if (broken || c->close_after) again(c);
    ask(c);
}

/* A token arrived: "~number:stamp". A number that is not the next one was lost, repeated or moved. */
static void token(struct conn *c, long long now) {
    long long took = now - c->stamp;
    if (c->number != c->expected) lost++;
    else {
        if (c->expected) keep(&gap, (double)(took - c->delay) / 1000);
        keep(&delay, (double)took / 1000);
        c->expected++;
        tokens++;
    }
    c->delay = took;
}

static void body(struct conn *c, const char *data, size_t size, long long now) {
    static const char end[] = "[DONE]", count[] = "\"completion_tokens\":";
    if (!c->first) c->first = now;
    bytes += (long long)size;
    for (size_t i = 0; i < size; i++) {
        char byte = data[i];
        int digit = byte >= '0' && byte <= '9';
        if (c->mark == NUMBER) {
            if (digit) c->number = c->number * 10 + byte - '0';
            else c->mark = byte == ':' ? STAMP : NO_MARK, c->stamp = 0;
        } else if (c->mark == STAMP) {
            if (digit) c->stamp = c->stamp * 10 + byte - '0';
            else token(c, now), c->mark = NO_MARK;
        } else if (byte == '~') c->mark = NUMBER, c->number = 0;
        c->matched_done = byte == end[c->matched_done] ? c->matched_done + 1 : byte == '[';
        if (c->matched_done == 6) c->finished = 1, c->matched_done = 0;
        if (c->reading_spent) {
            if (digit) c->spent = c->spent * 10 + byte - '0';
            else if (byte != ' ') c->reading_spent = 0;
        }
        c->matched_spent = byte == count[c->matched_spent] ? c->matched_spent + 1 : byte == '"';
        if (c->matched_spent == (long)sizeof count - 1) c->matched_spent = 0, c->reading_spent = 1, c->spent = 0;
    }
}

static char *header(struct conn *c, const char *name) {
    char *at = strcasestr(c->head, name);
    return at ? at + strlen(name) : NULL;
}

static int headed(struct conn *c) {
    char *length = header(c, "\r\ncontent-length:"), *coding = header(c, "\r\ntransfer-encoding:");
    c->status = atoi(c->head + 9);
    c->close_after = header(c, "\r\nconnection: close") != NULL;
    if (coding) c->part = SIZE, c->left = 0;
    else if (length) c->part = BY_LENGTH, c->left = strtoul(length, NULL, 10);
    else return -1;
    return 0;
}

static int hex(char byte) {
    if (byte >= '0' && byte <= '9') return byte - '0';
    byte |= 32;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/* Bytes of one answer. 1: it ended; -1: it is not HTTP. */
static int take(struct conn *c, const char *data, size_t size, long long now) {
    for (size_t at = 0; at < size;) {
        size_t n = size - at;
        switch (c->part) {
        case IDLE: return -1;
        case HEAD:
            if (c->head_len == sizeof c->head - 1) return -1;
            c->head[c->head_len++] = data[at++];
            if (c->head_len >= 4 && !memcmp(c->head + c->head_len - 4, "\r\n\r\n", 4) && headed(c)) return -1;
            if (c->part == BY_LENGTH && !c->left) return 1;
            break;
        case BY_LENGTH:
        case DATA:
            if (n > c->left) n = c->left;
            body(c, data + at, n, now);
            at += n, c->left -= n;
            if (!c->left && c->part == BY_LENGTH) return 1;
            if (!c->left) c->part = DATA_END;
            break;
        case SIZE:
            if (hex(data[at]) >= 0) c->left = c->left * 16 + (size_t)hex(data[at]);
            if (data[at++] == '\n') c->part = c->left ? DATA : LAST_LINE, c->line = 0;
            break;
        case DATA_END:
            if (data[at++] == '\n') c->part = SIZE, c->left = 0;
            break;
        case LAST_LINE:
            if (data[at++] == '\n') return 1;
            break;
        }
    }
    return 0;
}

static void readable(struct conn *c) {
    static char data[1 << 18];
    ssize_t n = read(c->fd, data, sizeof data);
    long long now = now_ns();
    if (n <= 0) {
        if (c->part == IDLE) epoll_ctl(ep, EPOLL_CTL_DEL, c->fd, NULL);
        else finish(c, 1);
        return;
    }
    int end = take(c, data, (size_t)n, now);
    if (end) finish(c, end < 0);
}

static void read_requests(const char *path) {
    FILE *file = fopen(path, "rb");
    size_t size;
    if (!file) die(path);
    while (fscanf(file, "%zu", &size) == 1) {
        fgetc(file);
        requests = realloc(requests, (kinds + 1) * sizeof *requests);
        sizes = realloc(sizes, (kinds + 1) * sizeof *sizes);
        requests[kinds] = malloc(size);
        sizes[kinds] = size;
        if (fread(requests[kinds++], 1, size, file) != size) die("a request is cut off");
    }
    fclose(file);
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void show(const char *name, struct series *s, const char *after) {
    qsort(s->values, s->count, sizeof *s->values, by_size);
    printf("\"%s\": {\"n\": %zu", name, s->count);
    static const double shares[] = {0.5, 0.9, 0.95, 0.99, 0.999, 1};
    static const char *names[] = {"p50", "p90", "p95", "p99", "p999", "max"};
    for (size_t i = 0; i < 6 && s->count; i++) {
        size_t at = (size_t)(shares[i] * (double)s->count);
        printf(", \"%s\": %.1f", names[i], s->values[at < s->count ? at : s->count - 1]);
    }
    printf("}%s", after);
}

static void aim(char *where) {
    if (!strncmp(where, "unix:", 5)) {
        struct sockaddr_un *path = (struct sockaddr_un *)&target;
        path->sun_family = AF_UNIX;
        strncpy(path->sun_path, where + 5, sizeof path->sun_path - 1);
        target_size = sizeof *path;
    } else {
        struct sockaddr_in *port = (struct sockaddr_in *)&target;
        port->sin_family = AF_INET;
        port->sin_port = htons((unsigned short)atoi(where + 4));
        port->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        target_size = sizeof *port;
    }
}

int main(int argc, char **argv) {
    if (argc != 7) return 2;
    signal(SIGPIPE, SIG_IGN);
    running = atoi(argv[2]);
    limit = atol(argv[4]);
    tokens_wanted = atol(argv[5]);
    aim(argv[1]);
    read_requests(argv[6]);
    ep = epoll_create1(EPOLL_CLOEXEC);
    int most = running;
    if (!(conns = calloc((size_t)most, sizeof *conns)) || !kinds) die("nothing to ask");
    for (int i = 0; i < most; i++) reach(&conns[i]);
    long long began = now_ns();
    stop = began + (long long)(atof(argv[3]) * 1e9);
    for (int i = 0; i < most; i++) ask(&conns[i]);
    struct epoll_event events[256];
    while (running > 0) {
        int n = epoll_wait(ep, events, 256, 1000);
        for (int i = 0; i < n; i++) readable(events[i].data.ptr);
        if (now_ns() > stop + GIVE_UP_NS) die("answers did not end");
    }
    double seconds = (double)(now_ns() - began) / 1e9;
    printf("{\"answers\": %ld, \"faults\": %ld, \"refused\": %ld, \"reconnects\": %ld, \"seconds\": %.3f, ", answers, faults, refused, reconnects, seconds);
    printf("\"tokens\": %ld, \"lost\": %ld, \"spent\": %ld, \"bytes\": %lld, ", tokens, lost, spent, bytes);
    show("whole_us", &whole, ", ");
    show("first_us", &first, ", ");
    show("delay_us", &delay, ", ");
    show("gap_us", &gap, "}\n");
    return 0;
}
