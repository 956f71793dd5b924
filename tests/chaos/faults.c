/* A disk that fails, for LD_PRELOAD. Of all calls that need disk space below a folder, the k-th fails, or all from the
   k-th on. The calls of all processes are counted together in a shared file.

   CHAOS_FOLDER: the folder, an absolute path without symbolic links. CHAOS_STATE: the file, in the layout of faults.py.
   Not intercepted: calls inside glibc (stdio, except fopen and fwrite) and writes through memory mappings. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define RECORDS 65536

struct record {
    char call[16];
    char path[160];
    char command[80];
};

struct state {
    _Atomic uint64_t count;  /* calls so far */
    _Atomic uint64_t failed; /* of them, those that were made to fail */
    uint64_t at;             /* the first to fail, from 1; 0 for none */
    uint32_t on;             /* 1: all later calls fail as well */
    uint32_t error;          /* errno */
    struct record records[RECORDS];
};

static struct state *state;
static char folder[PATH_MAX];
static size_t folder_length;
static char command[80];

__attribute__((constructor)) static void begin(void) {
    const char *where = getenv("CHAOS_FOLDER"), *file = getenv("CHAOS_STATE");
    if (!where || !file) return;
    snprintf(folder, sizeof folder, "%s/", where);
    folder_length = strlen(folder);
    int handle = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    char line[4096];
    ssize_t length = handle < 0 ? 0 : read(handle, line, sizeof line - 1);
    if (handle >= 0) close(handle);
    /* Keep the end of the command line, which says most. */
    while (length > 0 && !line[length - 1]) length--;
    ssize_t from = length > (ssize_t)sizeof command - 1 ? length - (ssize_t)sizeof command + 1 : 0;
    for (ssize_t i = from; i < length; i++) command[i - from] = line[i] ? line[i] : ' ';
    handle = open(file, O_RDWR | O_CLOEXEC);
    if (handle < 0) return;
    void *mapped = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED, handle, 0);
    close(handle);
    if (mapped != MAP_FAILED) state = mapped;
}

/* Counts a call on a path. Returns whether it must fail; if so, errno is set. */
static int fails(const char *call, const char *path) {
    if (strncmp(path, folder, folder_length)) return 0;
    uint64_t number = atomic_fetch_add(&state->count, 1) + 1;
    int hit = state->at && (number == state->at || (state->on && number > state->at));
    if (number <= RECORDS) {
        struct record *record = &state->records[number - 1];
        snprintf(record->call, sizeof record->call, "%s", call);
        snprintf(record->path, sizeof record->path, "%s", path + folder_length);
        memcpy(record->command, command, sizeof command);
    }
    if (hit) {
        atomic_fetch_add(&state->failed, 1);
        errno = (int)state->error;
    }
    return hit;
}

static int fails_at(const char *call, int handle) {
    if (!state) return 0;
    char link[64], path[PATH_MAX];
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = before;
    if (length <= 0) return 0;
    path[length] = 0;
    return fails(call, path);
}

static int fails_on(const char *call, int base, const char *name) {
    if (!state || !name) return 0;
    char path[2 * PATH_MAX];
    int before = errno;
    if (name[0] == '/') {
        snprintf(path, sizeof path, "%s", name);
    } else {
        char link[64];
        if (base == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
        else snprintf(link, sizeof link, "/proc/self/fd/%d", base);
        ssize_t length = readlink(link, path, PATH_MAX - 1);
        if (length <= 0) return 0;
        snprintf(path + length, sizeof path - (size_t)length, "/%s", name);
    }
    errno = before;
    return fails(call, path);
}

static int creates(int base, const char *name, int flags) {
    int before = errno, there = faccessat(base, name, F_OK, 0);
    errno = before;
    return (flags & O_CREAT) && there;
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

#define ON_HANDLE(type, name, handle, parameters, types, arguments) \
    type name parameters { \
        static type (*real) types; \
        if (!real) real = (type(*) types)dlsym(RTLD_NEXT, #name); \
        if (fails_at(#name, handle)) return -1; \
        return real arguments; \
    }

#define ON_PATH(name, base, path, parameters, types, arguments) \
    int name parameters { \
        static int (*real) types; \
        if (!real) real = (int(*) types)dlsym(RTLD_NEXT, #name); \
        if (fails_on(#name, base, path)) return -1; \
        return real arguments; \
    }

ON_HANDLE(ssize_t, write, h, (int h, const void *b, size_t n), (int, const void *, size_t), (h, b, n))
ON_HANDLE(ssize_t, pwrite, h, (int h, const void *b, size_t n, off_t o), (int, const void *, size_t, off_t), (h, b, n, o))
ON_HANDLE(ssize_t, pwrite64, h, (int h, const void *b, size_t n, off64_t o), (int, const void *, size_t, off64_t), (h, b, n, o))
ON_HANDLE(ssize_t, writev, h, (int h, const struct iovec *v, int n), (int, const struct iovec *, int), (h, v, n))
ON_HANDLE(ssize_t, pwritev, h, (int h, const struct iovec *v, int n, off_t o), (int, const struct iovec *, int, off_t), (h, v, n, o))
ON_HANDLE(ssize_t, pwritev64, h, (int h, const struct iovec *v, int n, off64_t o), (int, const struct iovec *, int, off64_t), (h, v, n, o))
ON_HANDLE(int, ftruncate, h, (int h, off_t n), (int, off_t), (h, n))
ON_HANDLE(int, ftruncate64, h, (int h, off64_t n), (int, off64_t), (h, n))
ON_HANDLE(int, fallocate, h, (int h, int m, off_t o, off_t n), (int, int, off_t, off_t), (h, m, o, n))
ON_HANDLE(int, fallocate64, h, (int h, int m, off64_t o, off64_t n), (int, int, off64_t, off64_t), (h, m, o, n))
ON_HANDLE(int, fsync, h, (int h), (int), (h))
ON_HANDLE(int, fdatasync, h, (int h), (int), (h))
ON_HANDLE(ssize_t, sendfile, to, (int to, int from, off_t *o, size_t n), (int, int, off_t *, size_t), (to, from, o, n))
ON_HANDLE(ssize_t, sendfile64, to, (int to, int from, off64_t *o, size_t n), (int, int, off64_t *, size_t), (to, from, o, n))
ON_HANDLE(ssize_t, copy_file_range, to, (int from, off64_t *f, int to, off64_t *t, size_t n, unsigned m),
          (int, off64_t *, int, off64_t *, size_t, unsigned), (from, f, to, t, n, m))

ON_PATH(mkdir, AT_FDCWD, p, (const char *p, mode_t m), (const char *, mode_t), (p, m))
ON_PATH(mkdirat, d, p, (int d, const char *p, mode_t m), (int, const char *, mode_t), (d, p, m))
ON_PATH(rename, AT_FDCWD, q, (const char *p, const char *q), (const char *, const char *), (p, q))
ON_PATH(renameat, e, q, (int d, const char *p, int e, const char *q), (int, const char *, int, const char *), (d, p, e, q))
ON_PATH(renameat2, e, q, (int d, const char *p, int e, const char *q, unsigned f),
        (int, const char *, int, const char *, unsigned), (d, p, e, q, f))
ON_PATH(link, AT_FDCWD, q, (const char *p, const char *q), (const char *, const char *), (p, q))
ON_PATH(linkat, e, q, (int d, const char *p, int e, const char *q, int f), (int, const char *, int, const char *, int), (d, p, e, q, f))
ON_PATH(symlink, AT_FDCWD, q, (const char *p, const char *q), (const char *, const char *), (p, q))
ON_PATH(symlinkat, e, q, (const char *p, int e, const char *q), (const char *, int, const char *), (p, e, q))

/* These functions return the error number. */
int posix_fallocate(int handle, off_t offset, off_t length) {
    REAL(int, posix_fallocate, int, off_t, off_t);
    return fails_at("posix_fallocate", handle) ? errno : real(handle, offset, length);
}

int posix_fallocate64(int handle, off64_t offset, off64_t length) {
    REAL(int, posix_fallocate64, int, off64_t, off64_t);
    return fails_at("posix_fallocate64", handle) ? errno : real(handle, offset, length);
}

#define OPENS(name) \
    int name(const char *path, int flags, ...) { \
        REAL(int, name, const char *, int, ...); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        if (creates(AT_FDCWD, path, flags) && fails_on(#name, AT_FDCWD, path)) return -1; \
        return real(path, flags, mode); \
    }

#define OPENS_AT(name) \
    int name(int base, const char *path, int flags, ...) { \
        REAL(int, name, int, const char *, int, ...); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        if (creates(base, path, flags) && fails_on(#name, base, path)) return -1; \
        return real(base, path, flags, mode); \
    }

OPENS(open)
OPENS(open64)
OPENS_AT(openat)
OPENS_AT(openat64)

#define FILE_OPENS(name) \
    FILE *name(const char *path, const char *mode) { \
        REAL(FILE *, name, const char *, const char *); \
        int flags = strchr(mode, 'w') || strchr(mode, 'a') ? O_CREAT : 0; \
        if (creates(AT_FDCWD, path, flags) && fails_on(#name, AT_FDCWD, path)) return NULL; \
        return real(path, mode); \
    }

FILE_OPENS(fopen)
FILE_OPENS(fopen64)

size_t fwrite(const void *bytes, size_t size, size_t count, FILE *stream) {
    REAL(size_t, fwrite, const void *, size_t, size_t, FILE *);
    return fails_at("fwrite", fileno(stream)) ? 0 : real(bytes, size, count, stream);
}

int ioctl(int handle, unsigned long request, ...) {
    REAL(int, ioctl, int, unsigned long, ...);
    va_list rest;
    va_start(rest, request);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    if (request == FICLONE && fails_at("ioctl FICLONE", handle)) return -1;
    return real(handle, request, argument);
}
