// What the Glibc module does not show to Swift, each with its reason.
//
// Declarations only, and no system header: Swift imports Glibc without _GNU_SOURCE, and a header that defines it gives
// shared types such as fd_set a second shape that Swift refuses. The definitions are in CLinux.c.
#pragma once

// MARK: - Namespaces

// Declared by Glibc only under _GNU_SOURCE.
int fairlead_setns(int fd, int kind);
int fairlead_unshare(int kind);
extern const int fairlead_CLONE_NEWNET;
extern const int fairlead_UMOUNT_NOFOLLOW;

// Whether a descriptor is one of nsfs; <sys/vfs.h> is not part of the Glibc module. -1 with errno on failure.
int fairlead_is_namespace(int fd);

// A namespace's kind (NS_GET_NSTYPE): ioctl is variadic, and variadic functions do not exist in Swift.
int fairlead_namespace_kind(int fd);

// MARK: - Files

// Declared by Glibc only under _GNU_SOURCE.
extern const int fairlead_O_TMPFILE;
long fairlead_getdents64(int fd, void *buffer, unsigned long size);
// Closed on exec.
int fairlead_memfd_create(const char *name);
// Both ends closed on exec.
int fairlead_pipe(int *ends);
// flock with an end: -1 with ETIMEDOUT where another has had the lock for so long. Timers of one thread (SIGEV_THREAD_ID)
// and signals of more than 31 are macros that Swift does not see.
int fairlead_flock(int fd, int operation, long milliseconds);

// MARK: - Sockets and events

// Closed on exec and never making its user wait. Several modules include <sys/socket.h>, and which of them Swift takes
// for the owner of SOCK_STREAM changes with what is imported where.
int fairlead_socket(int family, int is_datagram, int protocol);
// The same of a connection that waits at a socket; accept4 is declared only under _GNU_SOURCE.
int fairlead_accept(int fd, void *address, unsigned *length);
// Whether a link leaves the checksums of what it transmits to the hardware (SIOCETHTOOL, ETHTOOL_GTXCSUM): ioctl is
// variadic. 0, 1, or -1 with errno.
int fairlead_transmit_checksum(int fd, const char *link);
// The same, set (ETHTOOL_STXCSUM).
int fairlead_set_transmit_checksum(int fd, const char *link, int on);
// <sys/eventfd.h> and <sys/signalfd.h> are not part of the Glibc module. `signals` is a sigset_t.
int fairlead_eventfd(void);
void fairlead_eventfd_write(int fd);
int fairlead_signalfd(const void *signals);

// MARK: - Processes

// Declared by Glibc only under _GNU_SOURCE.
extern const int fairlead_POSIX_SPAWN_SETSID;
// `actions` is a posix_spawn_file_actions_t.
int fairlead_spawn_close_from(void *actions, int first);
// Its own environment; SwiftPM's test bundles bring a second `environ`, and Swift finds the name ambiguous.
char **fairlead_environment(void);

// <sys/pidfd.h> is not part of the Glibc module.
int fairlead_pidfd_open(int pid);
int fairlead_pidfd_send_signal(int fd, int signal);

// MARK: - Memory

// <malloc.h> is not part of the Glibc module.
void fairlead_malloc_one_arena(void);
void fairlead_malloc_trim(void);
