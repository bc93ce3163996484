/* A layer between a program and its disk and sockets, for tests: preloaded, it kills the process at
 * a named call, lets calls fail, or makes them slow. What it does is read from the file PTN_FAULTS,
 * which the test may change at any time; what it did is appended to the file PTN_FAULTS.hits.
 *
 * The file begins with a number of 8 bytes that changes with its content; then one rule a line:
 *   label TAB call TAB path TAB text TAB when TAB nth TAB times TAB action TAB value
 * call:   open write read sync rename link unlink truncate lock mkdir connect send recv, and reply:
 *         what is read from a socket after the text was sent over it
 * path:   part of the file's path; with $ at the end its end; of renames and links "from>to"
 * text:   part of what is written or read; of a sync: of what the last write to that path wrote
 * when:   before, half (of a write), after
 * nth:    from which call on that fits, counted from 1
 * times:  for how many calls; 0 for all from there on
 * action: kill, error (value is the errno), delay (value in microseconds)
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define PLAN_BYTES 16384
#define MOST_RULES 48
#define MOST_BYTES 65536
enum { BEFORE, HALF, AFTER };
enum { KILL, ERROR, DELAY };
enum { HALF_DIE = -1, HALF_FAIL = -2 };

struct rule {
    char label[128], call[16], path[192], text[160], asked[64];
    int when, action, armed, failing;
    long nth, times, value, seen;
};

static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static struct rule rules[MOST_RULES];
static atomic_int n_rules;
static uint64_t known;
static const volatile uint64_t *plan;
static char hits[512];

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("PTN_FAULTS");
    if (!path) return;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0) return;
    void *map = mmap(NULL, PLAN_BYTES, PROT_READ, MAP_SHARED, fd, 0);
    syscall(SYS_close, fd);
    if (map == MAP_FAILED) return;
    snprintf(hits, sizeof hits, "%s.hits", path);
    plan = map;
}

static void copy(char *to, size_t room, const char *from) { snprintf(to, room, "%s", from); }

static void parse(void) {
    static char text[PLAN_BYTES];
    memcpy(text, (const char *)plan + 8, PLAN_BYTES - 8);
    text[PLAN_BYTES - 9] = 0;
    int n = 0;
    char *lines = text, *line;
    while ((line = strsep(&lines, "\n")) && n < MOST_RULES) {
        char *field[9] = {0}, *rest = line;
        int fields = 0;
        while (fields < 9 && (field[fields] = strsep(&rest, "\t"))) fields++;
        if (fields < 9) continue;
        struct rule *r = &rules[n++];
        memset(r, 0, sizeof *r);
        copy(r->label, sizeof r->label, field[0]);
        copy(r->call, sizeof r->call, field[1]);
        copy(r->path, sizeof r->path, field[2]);
        copy(r->text, sizeof r->text, field[3]);
        r->when = field[4][0] == 'b' ? BEFORE : field[4][0] == 'h' ? HALF : AFTER;
        r->nth = atol(field[5]);
        r->times = atol(field[6]);
        r->action = field[7][0] == 'k' ? KILL : field[7][0] == 'e' ? ERROR : DELAY;
        r->value = atol(field[8]);
    }
    atomic_store(&n_rules, n);
}

static int fits_path(const struct rule *r, const char *path) {
    size_t want = strlen(r->path), have = strlen(path);
    if (want && r->path[want - 1] == '$')
        return have >= want - 1 && !memcmp(path + have - (want - 1), r->path, want - 1);
    return strstr(path, r->path) != NULL;
}

static int fits_text(const struct rule *r, const void *bytes, size_t n) {
    return !r->text[0] || (bytes && memmem(bytes, n, r->text, strlen(r->text)));
}

/* Told before it acts, so that a hit is a hit even when the process is gone. */
static void tell(const struct rule *r) {
    int fd = (int)syscall(SYS_openat, AT_FDCWD, hits, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) return;
    char line[160];
    int n = snprintf(line, sizeof line, "%s\n", r->label);
    syscall(SYS_write, fd, line, (size_t)n);
    syscall(SYS_close, fd);
}

static void die(void) {
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;) pause();
}

static int busy(void) {
    if (!plan) return 0;
    if (*plan != known) {
        pthread_mutex_lock(&guard);
        uint64_t now = *plan;
        if (now != known) {
            parse();
            known = now;
        }
        pthread_mutex_unlock(&guard);
    }
    return atomic_load(&n_rules) > 0;
}

/* What is to be done at this point of a call: 0, or an errno, or HALF_DIE or HALF_FAIL for half a
 * write. Does not return when the process is to die here. */
static int point(int phase, const char *call, const char *path, const void *bytes, size_t n) {
    long sleep_us = 0;
    int result = 0;
    pthread_mutex_lock(&guard);
    for (int i = 0; i < atomic_load(&n_rules); i++) {
        struct rule *r = &rules[i];
        if (phase == AFTER && !strcmp(r->call, "sync") && r->text[0] && !strcmp(call, "write")
            && fits_path(r, path))
            r->armed = fits_text(r, bytes, n);
        if (phase == AFTER && !strcmp(r->call, "reply")) {
            if (!strcmp(call, "send") && fits_text(r, bytes, n))
                copy(r->asked, sizeof r->asked, path);
            if (strcmp(call, "recv") || strcmp(r->asked, path)) continue;
            r->asked[0] = 0;
            if (++r->seen < r->nth) continue;
            tell(r);
            die();
        }
        if (strcmp(r->call, call) || (phase == AFTER) != (r->when == AFTER) || !fits_path(r, path))
            continue;
        if (r->failing) {
            r->failing = 0;
            result = (int)r->value;
            break;
        }
        int sync = !strcmp(call, "sync");
        if (sync && r->text[0] ? !r->armed : !fits_text(r, bytes, n)) continue;
        r->seen++;
        if (r->seen < r->nth || (r->times && r->seen >= r->nth + r->times)) continue;
        tell(r);
        if (r->action == DELAY) {
            sleep_us += r->value;
            continue;
        }
        if (r->when == HALF) {
            r->failing = r->action == ERROR;
            result = r->failing ? HALF_FAIL : HALF_DIE;
            break;
        }
        if (r->action == KILL) die();
        result = (int)r->value;
        break;
    }
    pthread_mutex_unlock(&guard);
    if (sleep_us) {
        struct timespec t = {sleep_us / 1000000, sleep_us % 1000000 * 1000};
        nanosleep(&t, NULL);
    }
    return result;
}

static void name_of(int fd, char *name, size_t room) {
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = syscall(SYS_readlinkat, AT_FDCWD, link, name, room - 1);
    name[n < 0 ? 0 : n] = 0;
}

static int is_socket(const char *name) { return !strncmp(name, "socket:", 7); }

/* Wraps one writing call: `all` writes everything, `some` the first bytes. */
#define WRITE(fd, bytes, n, all, some) \
    char name[512]; \
    name_of(fd, name, sizeof name); \
    const char *call = is_socket(name) ? "send" : "write"; \
    int act = point(BEFORE, call, name, bytes, n); \
    if (act > 0) { errno = act; return -1; } \
    if (act < 0) { \
        /* Never up to the end of a line: half of a record is what is asked for. */ \
        size_t part = (n) / 2; \
        while (part > 1 && ((const char *)(bytes))[part - 1] == '\n') part--; \
        ssize_t done = some; \
        /* The rule decides, not what it is by now: the plan may have changed. */ \
        if (act == HALF_DIE) die(); \
        return done; \
    } \
    ssize_t done = all; \
    if (done >= 0) { \
        int after = point(AFTER, call, name, bytes, (size_t)done); \
        if (after > 0) { errno = after; return -1; } \
    } \
    return done

ssize_t write(int fd, const void *bytes, size_t n) {
    REAL(write);
    if (!busy()) return real(fd, bytes, n);
    WRITE(fd, bytes, n, real(fd, bytes, n), real(fd, bytes, part));
}

ssize_t pwrite64(int fd, const void *bytes, size_t n, off64_t at) {
    REAL(pwrite64);
    if (!busy()) return real(fd, bytes, n, at);
    WRITE(fd, bytes, n, real(fd, bytes, n, at), real(fd, bytes, part, at));
}

static size_t flat(const struct iovec *parts, int count, char *to) {
    size_t n = 0;
    for (int i = 0; i < count && n < MOST_BYTES; i++) {
        size_t take = parts[i].iov_len < MOST_BYTES - n ? parts[i].iov_len : MOST_BYTES - n;
        memcpy(to + n, parts[i].iov_base, take);
        n += take;
    }
    return n;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(writev);
    if (!busy()) return real(fd, parts, count);
    char bytes[MOST_BYTES];
    size_t n = flat(parts, count, bytes);
    WRITE(fd, bytes, n, real(fd, parts, count), syscall(SYS_write, fd, bytes, part));
}

ssize_t send(int fd, const void *bytes, size_t n, int flags) {
    REAL(send);
    if (!busy()) return real(fd, bytes, n, flags);
    WRITE(fd, bytes, n, real(fd, bytes, n, flags), real(fd, bytes, part, flags));
}

#define READ(fd, bytes, all) \
    char name[512]; \
    name_of(fd, name, sizeof name); \
    const char *call = is_socket(name) ? "recv" : "read"; \
    int act = point(BEFORE, call, name, NULL, 0); \
    if (act > 0) { errno = act; return -1; } \
    ssize_t done = all; \
    if (done > 0) { \
        int after = point(AFTER, call, name, bytes, (size_t)done); \
        if (after > 0) { errno = after; return -1; } \
    } \
    return done

ssize_t recv(int fd, void *bytes, size_t n, int flags) {
    REAL(recv);
    if (!busy()) return real(fd, bytes, n, flags);
    READ(fd, bytes, real(fd, bytes, n, flags));
}

ssize_t read(int fd, void *bytes, size_t n) {
    REAL(read);
    if (!busy()) return real(fd, bytes, n);
    READ(fd, bytes, real(fd, bytes, n));
}

ssize_t pread64(int fd, void *bytes, size_t n, off64_t at) {
    REAL(pread64);
    if (!busy()) return real(fd, bytes, n, at);
    READ(fd, bytes, real(fd, bytes, n, at));
}

/* Wraps a call that either happens or does not. */
#define CALL(kind, path, all) \
    int act = point(BEFORE, kind, path, NULL, 0); \
    if (act > 0) { errno = act; return -1; } \
    int done = all; \
    if (done >= 0) { \
        int after = point(AFTER, kind, path, NULL, 0); \
        if (after > 0) { errno = after; return -1; } \
    } \
    return done

int fdatasync(int fd) {
    REAL(fdatasync);
    if (!busy()) return real(fd);
    char name[512];
    name_of(fd, name, sizeof name);
    CALL("sync", name, real(fd));
}

int fsync(int fd) {
    REAL(fsync);
    if (!busy()) return real(fd);
    char name[512];
    name_of(fd, name, sizeof name);
    CALL("sync", name, real(fd));
}

int flock(int fd, int operation) {
    REAL(flock);
    /* Giving a lock back is no step. */
    if (!busy() || (operation & 8)) return real(fd, operation);
    char name[512];
    name_of(fd, name, sizeof name);
    CALL("lock", name, real(fd, operation));
}

int ftruncate64(int fd, off64_t length) {
    REAL(ftruncate64);
    if (!busy()) return real(fd, length);
    char name[512];
    name_of(fd, name, sizeof name);
    CALL("truncate", name, real(fd, length));
}

static void both(char *to, size_t room, const char *a, const char *b) { snprintf(to, room, "%s>%s", a, b); }

int rename(const char *from, const char *to) {
    REAL(rename);
    if (!busy()) return real(from, to);
    char name[1100];
    both(name, sizeof name, from, to);
    CALL("rename", name, real(from, to));
}

int linkat(int a, const char *from, int b, const char *to, int flags) {
    REAL(linkat);
    if (!busy()) return real(a, from, b, to, flags);
    char name[1100];
    both(name, sizeof name, from, to);
    CALL("link", name, real(a, from, b, to, flags));
}

int link(const char *from, const char *to) {
    REAL(link);
    if (!busy()) return real(from, to);
    char name[1100];
    both(name, sizeof name, from, to);
    CALL("link", name, real(from, to));
}

int unlink(const char *path) {
    REAL(unlink);
    if (!busy()) return real(path);
    CALL("unlink", path, real(path));
}

int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    if (!busy()) return real(path, mode);
    CALL("mkdir", path, real(path, mode));
}

int open64(const char *path, int flags, ...) {
    REAL(open64);
    va_list more;
    va_start(more, flags);
    mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(more, mode_t) : 0;
    va_end(more);
    if (!busy()) return real(path, flags, mode);
    /* Opening to read only is no change of the disk. */
    const char *kind = (flags & O_ACCMODE) == O_RDONLY ? "look" : "open";
    CALL(kind, path, real(path, flags, mode));
}

int connect(int fd, const struct sockaddr *to, socklen_t length) {
    REAL(connect);
    if (!busy()) return real(fd, to, length);
    char name[64] = "socket:";
    if (to->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)to;
        snprintf(name, sizeof name, "socket:%d", ntohs(in->sin_port));
    }
    int act = point(BEFORE, "connect", name, NULL, 0);
    if (act > 0) { errno = act; return -1; }
    int done = real(fd, to, length), kept = errno;
    /* Sockets that do not block are still connecting here. */
    int after = point(AFTER, "connect", name, NULL, 0);
    errno = after > 0 ? after : kept;
    return after > 0 ? -1 : done;
}
