// Loaded into every program of a host: its clock is SKEW seconds off, and the times of its files with it.
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
  int code = syscall(SYS_clock_gettime, clock, now);
  if (!code && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += SKEW;
  return code;
}
int gettimeofday(struct timeval *now, void *zone) {
  int code = syscall(SYS_gettimeofday, now, zone);
  if (!code) now->tv_sec += SKEW;
  return code;
}
time_t time(time_t *now) {
  struct timespec exact;
  clock_gettime(CLOCK_REALTIME, &exact);
  if (now) *now = exact.tv_sec;
  return exact.tv_sec;
}
int fstatat(int folder, const char *path, struct stat *status, int flags) {
  int code = syscall(SYS_newfstatat, folder, path, status, flags);
  if (!code) {
    status->st_atim.tv_sec += SKEW;
    status->st_mtim.tv_sec += SKEW;
    status->st_ctim.tv_sec += SKEW;
  }
  return code;
}
int stat(const char *path, struct stat *status) { return fstatat(AT_FDCWD, path, status, 0); }
int lstat(const char *path, struct stat *status) { return fstatat(AT_FDCWD, path, status, AT_SYMLINK_NOFOLLOW); }
int fstat(int fd, struct stat *status) { return fstatat(fd, "", status, AT_EMPTY_PATH); }
