/* Calls of the C library that fail with EIO, while the file SWITCH exists: the call CALL, for paths that contain WHERE. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int fails(const char *call, const char *path)
{
    const char *chosen = getenv("CALL"), *where = getenv("WHERE"), *file = getenv("SWITCH");
    if (!chosen || !where || !file || strcmp(call, chosen) || !strstr(path, where) || access(file, F_OK))
        return 0;
    errno = EIO;
    return 1;
}

static int fails_for(const char *call, int descriptor)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return fails(call, path);
}

#define REAL(name) ((__typeof__(name) *)dlsym(RTLD_NEXT, #name))

ssize_t write(int descriptor, const void *content, size_t size)
{
    return fails_for("write", descriptor) ? -1 : REAL(write)(descriptor, content, size);
}

ssize_t read(int descriptor, void *content, size_t size)
{
    return fails_for("read", descriptor) ? -1 : REAL(read)(descriptor, content, size);
}

int fsync(int descriptor) { return fails_for("fsync", descriptor) ? -1 : REAL(fsync)(descriptor); }

int rename(const char *from, const char *to) { return fails("rename", to) ? -1 : REAL(rename)(from, to); }

int mkdir(const char *path, mode_t mode) { return fails("mkdir", path) ? -1 : REAL(mkdir)(path, mode); }

int unlink(const char *path) { return fails("unlink", path) ? -1 : REAL(unlink)(path); }

int open64(const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    mode_t mode = va_arg(more, mode_t);
    va_end(more);
    return fails("open", path) ? -1 : REAL(open64)(path, flags, mode);
}

int open(const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    mode_t mode = va_arg(more, mode_t);
    va_end(more);
    return fails("open", path) ? -1 : REAL(open)(path, flags, mode);
}
