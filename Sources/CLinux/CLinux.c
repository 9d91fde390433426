#define _GNU_SOURCE
#include "CLinux.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/vfs.h>
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

const int fairlead_POSIX_SPAWN_SETSID = POSIX_SPAWN_SETSID;
int fairlead_spawn_close_from(void *actions, int first) {
    return posix_spawn_file_actions_addclosefrom_np(actions, first);
}
char **fairlead_environment(void) { return environ; }
int fairlead_pidfd_open(int pid) { return pidfd_open(pid, 0); }
int fairlead_pidfd_send_signal(int fd, int signal) { return pidfd_send_signal(fd, signal, 0, 0); }
