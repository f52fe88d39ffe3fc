/* What Linux offers and Swift's Glibc module does not show: macros, variadic calls, GNU extensions. */
#ifndef CLINKER_LINUX_SHIM_H
#define CLINKER_LINUX_SHIM_H

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <malloc.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

extern int fallocate(int, int, off_t, off_t);
extern int dup3(int, int, int);
extern int memfd_create(const char *, unsigned int);
extern int pipe2(int *, int);
extern int sem_clockwait(sem_t *, clockid_t, const struct timespec *);

/* A file of no file system, which goes with its last descriptor; MFD_CLOEXEC is 1. */
static inline int clinker_memory_file(const char *name) { return memfd_create(name, 1); }
static inline int clinker_set_thread_name(const char *name) { return prctl(PR_SET_NAME, name, 0, 0, 0); }
/* How long the calling thread wishes to run at a time, 0: as others do; sched_setattr(2). A shorter wish is granted sooner, from
 * Linux 6.12 on, and threads that it starts wish the same. */
static inline int clinker_set_slice(uint64_t nanoseconds) {
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } wish = {.size = sizeof wish, .nice = getpriority(PRIO_PROCESS, 0), .runtime = nanoseconds};
    return (int)syscall(SYS_sched_setattr, 0, &wish, 0);
}
/* Orphans of the process's descendants become its children, so that it can reap them. */
static inline int clinker_become_subreaper(void) { return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); }
static inline int clinker_clone_file(int destination, int source) { return ioctl(destination, FICLONE, source); }
static inline int clinker_punch_hole(int fd, off_t offset, off_t length) {
    return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
}
static inline int clinker_zero_range(int fd, off_t offset, off_t length) {
    return fallocate(fd, FALLOC_FL_ZERO_RANGE, offset, length);
}
enum { CLINKER_SEEK_DATA = 3, CLINKER_SEEK_HOLE = 4 };

/* Of block devices. */
static inline int clinker_device_zero(int fd, uint64_t offset, uint64_t length) {
    uint64_t range[2] = {offset, length};
    return ioctl(fd, BLKZEROOUT, range);
}
static inline int clinker_device_discard(int fd, uint64_t offset, uint64_t length) {
    uint64_t range[2] = {offset, length};
    return ioctl(fd, BLKDISCARD, range);
}
static inline int clinker_device_size(int fd, uint64_t *size) { return ioctl(fd, BLKGETSIZE64, size); }
static inline int clinker_device_block(int fd, int *size) { return ioctl(fd, BLKSSZGET, size); }
enum { CLINKER_O_DIRECT = __O_DIRECT };

static inline void clinker_release_free_memory(void) { malloc_trim(0); }
/* What is freed stays with the process: neither the heap shrinks, nor do large pieces come from the system one by one. */
static inline void clinker_keep_freed_memory(void) {
    mallopt(M_TRIM_THRESHOLD, 256 << 20);
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
}
/* Threads share so many arenas; for those that are created afterwards. */
static inline void clinker_limit_arenas(int count) { mallopt(M_ARENA_MAX, count); }
/* Bytes that the program has allocated, and bytes that the allocator keeps besides, in all its arenas. */
static inline void clinker_heap(size_t *used, size_t *unused) {
    struct mallinfo2 info = mallinfo2();
    *used = info.uordblks + info.hblkhd;
    *unused = info.fordblks;
}
/* Begins to write the range to the device, without waiting for it. */
static inline int clinker_start_writeback(int file, off_t offset, off_t length) {
    return sync_file_range(file, offset, length, SYNC_FILE_RANGE_WRITE);
}
/* What filesystem the file lies in, as in linux/magic.h; -1 with errno. */
static inline int64_t clinker_filesystem_type(int file) {
    struct statfs info;
    return fstatfs(file, &info) ? -1 : (int64_t)info.f_type;
}

#endif
