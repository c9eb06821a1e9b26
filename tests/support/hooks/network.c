// Loaded before libc (LD_PRELOAD): notes which hosts a process asks for and which files it opens.
// No name is resolved and no connection is made.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int log_fd = -1;

// Called by the test once everything is imported; before it, nothing is noted or refused.
void hooks_start(int fd) { log_fd = fd; }

static void note(const char *what, const char *name) {
    char line[4400];
    int size = snprintf(line, sizeof line, "%s %.4300s\n", what, name ? name : "");
    if (log_fd >= 0 && size > 0 && write(log_fd, line, (size_t)size) < 0)
        log_fd = -1;
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **found) {
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
        (int (*)(const char *, const char *, const struct addrinfo *, struct addrinfo **))dlsym(
            RTLD_NEXT, "getaddrinfo");
    if (log_fd < 0)
        return real(node, service, hints, found);
    note("resolve", node);
    struct addrinfo numeric = {0};
    if (hints)
        numeric = *hints;
    numeric.ai_flags |= AI_NUMERICHOST;
    return real(node, service, &numeric, found);
}

int connect(int fd, const struct sockaddr *address, socklen_t size) {
    int (*real)(int, const struct sockaddr *, socklen_t) =
        (int (*)(int, const struct sockaddr *, socklen_t))dlsym(RTLD_NEXT, "connect");
    if (log_fd < 0 || (address->sa_family != AF_INET && address->sa_family != AF_INET6))
        return real(fd, address, size);
    char host[NI_MAXHOST] = "?";
    getnameinfo(address, size, host, sizeof host, NULL, 0, NI_NUMERICHOST);
    note("connect", host);
    errno = ECONNREFUSED;
    return -1;
}

#define OPEN(name)                                                                                 \
    int name(const char *path, int flags, ...) {                                                   \
        int (*real)(const char *, int, ...) =                                                      \
            (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #name);                              \
        va_list arguments;                                                                         \
        va_start(arguments, flags);                                                                \
        mode_t mode = (flags & O_CREAT) ? va_arg(arguments, mode_t) : 0;                           \
        va_end(arguments);                                                                         \
        note("open", path);                                                                        \
        return real(path, flags, mode);                                                            \
    }
OPEN(open)
OPEN(open64)
