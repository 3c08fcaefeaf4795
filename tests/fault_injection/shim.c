/* Loaded before the C library (LD_PRELOAD): the n-th call that changes a file below a folder fails, or ends the process.

   fault_arm(folder, n, error, lasting): calls are counted from 1. Call n fails with the error (and, if lasting is not 0,
   every later one too); error 0 ends the process at once, after half of what was to be written. n = 0 only counts.
   fault_count() returns the number of calls since. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[PATH_MAX];
static long at, seen, lasting;
static int failure;

void fault_arm(const char *folder, long n, int error, int stays) {
    snprintf(root, sizeof root, "%s", folder);
    at = n, seen = 0, failure = error, lasting = stays;
}

long fault_count(void) { return seen; }

static int below(const char *path) {
    char full[PATH_MAX + 2];
    if (!root[0] || !path) return 0;
    if (path[0] != '/') {
        if (!getcwd(full, PATH_MAX / 2)) return 0;
        strncat(full, "/", 2);
        strncat(full, path, PATH_MAX / 2);
        path = full;
    }
    return !strncmp(path, root, strlen(root));
}

static int open_below(int file) {
    char link[64], path[PATH_MAX];
    if (!root[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return below(path);
}

/* 0: go on; 1: fail, errno is set; 2: end after half of the call */
static int fails(void) {
    seen++;
    if (!at || seen < at || (seen > at && !lasting)) return 0;
    if (!failure) return 2;
    errno = failure;
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define CALL(name, inside, parameters, ...)                                                                             \
    {                                                                                                                   \
        int what = (inside) ? fails() : 0;                                                                              \
        if (what == 2) _exit(99);                                                                                       \
        return what ? -1 : REAL(name)(__VA_ARGS__);                                                                     \
    }
#define WRITE(name, ...)                                                                                                \
    {                                                                                                                   \
        int what = open_below(file) ? fails() : 0;                                                                      \
        if (what == 2) {                                                                                                \
            size /= 2;                                                                                                  \
            REAL(name)(__VA_ARGS__);                                                                                    \
            _exit(99);                                                                                                  \
        }                                                                                                               \
        return what ? -1 : REAL(name)(__VA_ARGS__);                                                                     \
    }
#define OPEN(name, ...)                                                                                                 \
    {                                                                                                                   \
        mode_t mode = 0;                                                                                                \
        if (flags & O_CREAT) {                                                                                          \
            va_list rest;                                                                                               \
            va_start(rest, flags);                                                                                      \
            mode = va_arg(rest, mode_t);                                                                                \
            va_end(rest);                                                                                               \
        }                                                                                                               \
        CALL(name, (flags & (O_WRONLY | O_RDWR | O_CREAT)) && below(path), , __VA_ARGS__, mode)                         \
    }

ssize_t write(int file, const void *from, size_t size) WRITE(write, file, from, size)
ssize_t pwrite(int file, const void *from, size_t size, off_t place) WRITE(pwrite, file, from, size, place)
ssize_t pwrite64(int file, const void *from, size_t size, off64_t place) WRITE(pwrite64, file, from, size, place)
int fsync(int file) CALL(fsync, open_below(file), , file)
int fdatasync(int file) CALL(fdatasync, open_below(file), , file)
int ftruncate(int file, off_t size) CALL(ftruncate, open_below(file), , file, size)
int ftruncate64(int file, off64_t size) CALL(ftruncate64, open_below(file), , file, size)
int open(const char *path, int flags, ...) OPEN(open, path, flags)
int open64(const char *path, int flags, ...) OPEN(open64, path, flags)
int rename(const char *from, const char *to) CALL(rename, below(to), , from, to)
int renameat2(int one, const char *from, int other, const char *to, unsigned flags)
    CALL(renameat2, below(to), , one, from, other, to, flags)
int mkdir(const char *path, mode_t mode) CALL(mkdir, below(path), , path, mode)
int unlink(const char *path) CALL(unlink, below(path), , path)

size_t fwrite(const void *from, size_t each, size_t count, FILE *stream) {
    int what = open_below(fileno(stream)) ? fails() : 0;
    if (what == 2) {
        REAL(fwrite)(from, each, count / 2, stream);
        fflush(stream);
        _exit(99);
    }
    return what ? 0 : REAL(fwrite)(from, each, count, stream);
}
