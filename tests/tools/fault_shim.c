// Loaded into the program by LD_PRELOAD: kills it at one call, or makes that call fail.
//
//   FAULT_CALLS   change | read | memory: which calls are counted
//   FAULT_AT      the number of the call, from 1, over all threads
//   FAULT_DO      count | kill-before | kill-after | fail | fail-on (from that call on) | short
//   FAULT_ERRNO   the error of a call that fails
//   FAULT_LOG     a file that gets a line with the name of each call that is counted
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

enum calls { kNone, kChange, kRead, kMemory };
enum deed { kCount, kKillBefore, kKillAfter, kFail, kFailOn, kShort };

static struct {
  enum calls calls;
  enum deed deed;
  long at;
  int error;
  int log;
} plan = {kNone, kCount, 0, EIO, -1};
static atomic_long seen;

static int choice(const char* name, const char* const* words) {
  const char* text = getenv(name);
  for (int i = 0; text && words[i]; ++i)
    if (strcmp(text, words[i]) == 0) return i;
  return 0;
}

__attribute__((constructor)) static void begin(void) {
  static const char* const calls[] = {"none", "change", "read", "memory", NULL};
  static const char* const deeds[] = {"count",   "kill-before", "kill-after", "fail",
                                      "fail-on", "short",       NULL};
  const char *at = getenv("FAULT_AT"), *error = getenv("FAULT_ERRNO"), *log = getenv("FAULT_LOG");
  plan.deed = choice("FAULT_DO", deeds);
  plan.at = at ? atol(at) : 0;
  plan.error = error ? atoi(error) : EIO;
  plan.log = log ? (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND, 0666) : -1;
  plan.calls = choice("FAULT_CALLS", calls);
}

static void die(void) {
  syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
  for (;;) pause();
}

// The call's number, or 0 where it is not counted. Kills before it.
static long count(enum calls calls, const char* name) {
  if (plan.calls != calls) return 0;
  const long number = atomic_fetch_add(&seen, 1) + 1;
  if (plan.log >= 0) {
    char line[64];
    const size_t length = strnlen(name, sizeof line - 1);
    memcpy(line, name, length);
    line[length] = '\n';
    syscall(SYS_write, plan.log, line, length + 1);
  }
  if (plan.deed == kKillBefore && number == plan.at) die();
  return number;
}

static int fails(long number) {
  const int now = (plan.deed == kFail && number == plan.at) ||
                  (plan.deed == kFailOn && number >= plan.at && number > 0);
  if (now) errno = plan.error;
  return now;
}

static size_t shortened(long number, size_t size) {
  return plan.deed == kShort && number == plan.at && size > 1 ? size / 2 : size;
}

static void after(long number) {
  if (plan.deed == kKillAfter && number == plan.at && number > 0) die();
}

#define REAL(name) ((__typeof__(&name))real_##name())
#define FIND(name)                                    \
  static void* real_##name(void) {                    \
    static void* found;                               \
    if (!found) found = dlsym(RTLD_NEXT, #name);      \
    return found;                                     \
  }

// A call with its parameters, its arguments, and what it returns when it fails.
#define WRAP(calls, type, bad, name, parameters, ...) \
  FIND(name)                                          \
  type name parameters {                              \
    const long number = count(calls, #name);          \
    if (fails(number)) return bad;                    \
    type const result = REAL(name)(__VA_ARGS__);      \
    const int error = errno;                          \
    after(number);                                    \
    errno = error;                                    \
    return result;                                    \
  }

#define WRAP_TRANSFER(calls, name, parameters, rest) \
  FIND(name)                                                   \
  ssize_t name parameters {                                    \
    const long number = count(calls, #name);                   \
    if (fails(number)) return -1;                              \
    const ssize_t result = REAL(name)(fd, data, shortened(number, size) rest); \
    const int error = errno;                                   \
    after(number);                                             \
    errno = error;                                             \
    return result;                                             \
  }

#define COMMA ,
WRAP_TRANSFER(kChange, pwrite, (int fd, const void* data, size_t size, off_t at), COMMA at)
WRAP_TRANSFER(kChange, pwrite64, (int fd, const void* data, size_t size, off64_t at), COMMA at)
WRAP_TRANSFER(kRead, pread, (int fd, void* data, size_t size, off_t at), COMMA at)
WRAP_TRANSFER(kRead, pread64, (int fd, void* data, size_t size, off64_t at), COMMA at)
WRAP_TRANSFER(kRead, read, (int fd, void* data, size_t size), )

// What is printed is no change.
FIND(write)
ssize_t write(int fd, const void* data, size_t size) {
  const long number = fd > 2 ? count(kChange, "write") : 0;
  if (fails(number)) return -1;
  const ssize_t result = REAL(write)(fd, data, shortened(number, size));
  const int error = errno;
  after(number);
  errno = error;
  return result;
}

WRAP(kChange, int, -1, ftruncate, (int fd, off_t size), fd, size)
WRAP(kChange, int, -1, ftruncate64, (int fd, off64_t size), fd, size)
WRAP(kChange, int, -1, fallocate, (int fd, int mode, off_t at, off_t size), fd, mode, at, size)
WRAP(kChange, int, -1, fsync, (int fd), fd)
WRAP(kChange, int, -1, fdatasync, (int fd), fd)
WRAP(kChange, int, -1, rename, (const char* from, const char* to), from, to)
WRAP(kChange, int, -1, renameat, (int a, const char* from, int b, const char* to), a, from, b, to)
WRAP(kChange, int, -1, renameat2,
     (int a, const char* from, int b, const char* to, unsigned flags), a, from, b, to, flags)
WRAP(kChange, int, -1, mkdir, (const char* path, mode_t mode), path, mode)
WRAP(kChange, int, -1, mkdirat, (int at, const char* path, mode_t mode), at, path, mode)
WRAP(kChange, int, -1, unlink, (const char* path), path)
WRAP(kChange, int, -1, unlinkat, (int at, const char* path, int flags), at, path, flags)
WRAP(kChange, int, -1, rmdir, (const char* path), path)
WRAP(kChange, int, -1, remove, (const char* path), path)
WRAP(kChange, int, -1, link, (const char* from, const char* to), from, to)
WRAP(kChange, int, -1, linkat, (int a, const char* from, int b, const char* to, int flags), a, from,
     b, to, flags)
WRAP(kChange, int, -1, symlink, (const char* to, const char* path), to, path)
WRAP(kChange, int, -1, chmod, (const char* path, mode_t mode), path, mode)
WRAP(kChange, int, -1, fchmod, (int fd, mode_t mode), fd, mode)
WRAP(kChange, int, -1, fchmodat, (int at, const char* path, mode_t mode, int flags), at, path, mode,
     flags)

WRAP(kRead, int, -1, stat, (const char* path, struct stat* info), path, info)
WRAP(kRead, int, -1, stat64, (const char* path, struct stat64* info), path, info)
WRAP(kRead, int, -1, lstat, (const char* path, struct stat* info), path, info)
WRAP(kRead, int, -1, lstat64, (const char* path, struct stat64* info), path, info)
WRAP(kRead, int, -1, fstat, (int fd, struct stat* info), fd, info)
WRAP(kRead, int, -1, fstat64, (int fd, struct stat64* info), fd, info)
WRAP(kRead, int, -1, fstatat, (int at, const char* path, struct stat* info, int flags), at, path,
     info, flags)
WRAP(kRead, int, -1, fstatat64, (int at, const char* path, struct stat64* info, int flags), at, path,
     info, flags)
WRAP(kRead, DIR*, NULL, opendir, (const char* path), path)
WRAP(kRead, DIR*, NULL, fdopendir, (int fd), fd)
WRAP(kRead, struct dirent*, NULL, readdir, (DIR * stream), stream)
WRAP(kRead, struct dirent64*, NULL, readdir64, (DIR * stream), stream)

// A file that is opened to be written is a change, if only of its size.
static int opens_to_write(int flags) { return (flags & (O_CREAT | O_TRUNC)) != 0; }

#define WRAP_OPEN(name, parameters, ...)                                          \
  FIND(name)                                                                      \
  int name parameters {                                                           \
    va_list rest;                                                                 \
    va_start(rest, flags);                                                        \
    const mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;               \
    va_end(rest);                                                                 \
    const long number = count(opens_to_write(flags) ? kChange : kRead,            \
                              opens_to_write(flags) ? #name "-new" : #name);      \
    if (fails(number)) return -1;                                                 \
    const int result = REAL(name)(__VA_ARGS__, flags, mode);                      \
    const int error = errno;                                                      \
    after(number);                                                                \
    errno = error;                                                                \
    return result;                                                                \
  }
WRAP_OPEN(open, (const char* path, int flags, ...), path)
WRAP_OPEN(open64, (const char* path, int flags, ...), path)
WRAP_OPEN(openat, (int at, const char* path, int flags, ...), at, path)
WRAP_OPEN(openat64, (int at, const char* path, int flags, ...), at, path)

// Closing a descriptor is neither here nor there: an error of it is one of a write before.
FIND(close)
int close(int fd) {
  const long number = fd > 2 && (fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDONLY ? count(kChange, "close") : 0;
  const int result = REAL(close)(fd);
  const int error = errno;
  after(number);
  errno = error;
  return fails(number) ? -1 : result;  // closed all the same
}

void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* old, size_t size);
void* __libc_memalign(size_t alignment, size_t size);

void* malloc(size_t size) { return fails(count(kMemory, "malloc")) ? NULL : __libc_malloc(size); }
void* calloc(size_t number, size_t size) {
  return fails(count(kMemory, "calloc")) ? NULL : __libc_calloc(number, size);
}
void* realloc(void* old, size_t size) {
  return fails(count(kMemory, "realloc")) ? NULL : __libc_realloc(old, size);
}
void* aligned_alloc(size_t alignment, size_t size) {
  return fails(count(kMemory, "aligned_alloc")) ? NULL : __libc_memalign(alignment, size);
}
