// What the Glibc module does not show to Swift, each `static inline` with its reason.
#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

// setns and unshare are declared only under _GNU_SOURCE, which Swift's importer does not define for Glibc.
static inline int fairlead_setns(int fd, int kind) { return setns(fd, kind); }
static inline int fairlead_unshare(int kind) { return unshare(kind); }

// CLONE_* are macros over casts that the importer skips.
static const int fairlead_CLONE_NEWNET = CLONE_NEWNET;
