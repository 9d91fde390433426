#define _GNU_SOURCE
#include "CLinux.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

int fairlead_setns(int fd, int kind) { return setns(fd, kind); }
int fairlead_unshare(int kind) { return unshare(kind); }
const int fairlead_CLONE_NEWNET = CLONE_NEWNET;
const int fairlead_UMOUNT_NOFOLLOW = UMOUNT_NOFOLLOW;

int fairlead_is_namespace(int fd) {
    struct statfs filesystem;
    return fstatfs(fd, &filesystem) == 0 ? filesystem.f_type == NSFS_MAGIC : -1;
}

int fairlead_namespace_kind(int fd) { return ioctl(fd, NS_GET_NSTYPE); }

const int fairlead_O_TMPFILE = O_TMPFILE;
long fairlead_getdents64(int fd, void *buffer, unsigned long size) { return getdents64(fd, buffer, size); }
int fairlead_memfd_create(const char *name) { return memfd_create(name, MFD_CLOEXEC); }
int fairlead_pipe(int *ends) { return pipe2(ends, O_CLOEXEC); }

static long milliseconds_since_boot(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void only_interrupt(int signal) { (void)signal; }

// Waiting in the kernel, where the next in turn goes on in the moment that the lock is free; who looks again and again
// finds it free some milliseconds later, a dozen times in a crowd. A signal of this thread's own ends the wait.
int fairlead_flock(int fd, int operation, long milliseconds) {
    if (flock(fd, operation | LOCK_NB) == 0) return 0;
    if (errno != EWOULDBLOCK && errno != EINTR) return -1;
    const int number = SIGRTMAX - 2;
    sigset_t own;
    sigemptyset(&own);
    sigaddset(&own, number);
    struct sigaction interrupt = {.sa_handler = only_interrupt};
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = number};
    event._sigev_un._tid = gettid();
    timer_t timer;
    if (milliseconds <= 0) return errno = ETIMEDOUT, -1;
    if (sigaction(number, &interrupt, NULL) || pthread_sigmask(SIG_UNBLOCK, &own, NULL)) return -1;
    if (timer_create(CLOCK_MONOTONIC, &event, &timer)) return -1;
    // Again and again: the first may come before the wait has begun.
    struct itimerspec times = {
        .it_value = {milliseconds / 1000, milliseconds % 1000 * 1000000}, .it_interval = {0, 10000000}};
    timer_settime(timer, 0, &times, NULL);
    long deadline = milliseconds_since_boot() + milliseconds;
    int result = flock(fd, operation);
    while (result != 0 && errno == EINTR && milliseconds_since_boot() < deadline) result = flock(fd, operation);
    int code = errno == EINTR ? ETIMEDOUT : errno;
    timer_delete(timer);
    errno = code;
    return result;
}

static int transmit_checksum(int fd, const char *link, struct ethtool_value *value) {
    struct ifreq request = {0};
    strncpy(request.ifr_name, link, IFNAMSIZ - 1);
    request.ifr_data = (void *)value;
    return ioctl(fd, SIOCETHTOOL, &request);
}

int fairlead_transmit_checksum(int fd, const char *link) {
    struct ethtool_value value = {.cmd = ETHTOOL_GTXCSUM};
    return transmit_checksum(fd, link, &value) == 0 ? value.data != 0 : -1;
}

int fairlead_set_transmit_checksum(int fd, const char *link, int on) {
    struct ethtool_value value = {.cmd = ETHTOOL_STXCSUM, .data = (unsigned)on};
    return transmit_checksum(fd, link, &value);
}

int fairlead_socket(int family, int is_datagram, int protocol) {
    return socket(family, (is_datagram ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
}
int fairlead_accept(int fd, void *address, unsigned *length) {
    return accept4(fd, address, length, SOCK_CLOEXEC | SOCK_NONBLOCK);
}
int fairlead_eventfd(void) { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }
void fairlead_eventfd_write(int fd) { eventfd_write(fd, 1); }
int fairlead_signalfd(const void *signals) { return signalfd(-1, signals, SFD_CLOEXEC | SFD_NONBLOCK); }

const int fairlead_POSIX_SPAWN_SETSID = POSIX_SPAWN_SETSID;
int fairlead_spawn_close_from(void *actions, int first) {
    return posix_spawn_file_actions_addclosefrom_np(actions, first);
}
char **fairlead_environment(void) { return environ; }
int fairlead_pidfd_open(int pid) { return pidfd_open(pid, 0); }
int fairlead_pidfd_send_signal(int fd, int signal) { return pidfd_send_signal(fd, signal, 0, 0); }

void fairlead_malloc_one_arena(void) { mallopt(M_ARENA_MAX, 1); }
void fairlead_malloc_trim(void) { malloc_trim(0); }
