/* libnfs beside which a server lies, in the one way that $CLINKER_NFS_LIE names: what the conformance suite for stores must find
 * through the NFS store. To be preloaded into `clinker driver check`, with libnfs behind it: the plugin that needs it comes later. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/stat.h>
#include <nfsc/libnfs.h>

static int lies(const char *name) {
    const char *told = getenv("CLINKER_NFS_LIE");
    return told && !strcmp(told, name);
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* Written, it says, and has not the last byte. */
int nfs_pwrite(struct nfs_context *nfs, struct nfsfh *file, uint64_t offset, uint64_t count, const void *bytes) {
    if (!lies("write_lost") || count < 2) return NEXT(nfs_pwrite)(nfs, file, offset, count, bytes);
    int result = NEXT(nfs_pwrite)(nfs, file, offset, count - 1, bytes);
    return result < 0 ? result : (int)count;
}

/* The first byte is another. */
int nfs_pread(struct nfs_context *nfs, struct nfsfh *file, uint64_t offset, uint64_t count, void *bytes) {
    int result = NEXT(nfs_pread)(nfs, file, offset, count, bytes);
    if (result > 0 && lies("read_altered")) *(unsigned char *)bytes ^= 1;
    return result;
}

/* Gone, it says. */
int nfs_unlink(struct nfs_context *nfs, const char *path) { return lies("removal_lost") ? 0 : NEXT(nfs_unlink)(nfs, path); }

/* It has the name, it says. */
int nfs_rename(struct nfs_context *nfs, const char *old, const char *new) {
    return lies("rename_lost") ? 0 : NEXT(nfs_rename)(nfs, old, new);
}

/* One byte less than there are. */
int nfs_lstat64(struct nfs_context *nfs, const char *path, struct nfs_stat_64 *info) {
    int result = NEXT(nfs_lstat64)(nfs, path, info);
    if (!result && lies("size_short") && S_ISREG(info->nfs_mode) && info->nfs_size > 0) info->nfs_size--;
    return result;
}

/* The share's root is no folder. */
int nfs_opendir(struct nfs_context *nfs, const char *path, struct nfsdir **listing) {
    return lies("root_no_folder") && !strcmp(path, "/") ? -ENOTDIR : NEXT(nfs_opendir)(nfs, path, listing);
}

/* A listing leaves out the first of its files, and every second one behind it. */
struct nfsdirent *nfs_readdir(struct nfs_context *nfs, struct nfsdir *listing) {
    static _Thread_local struct nfsdir *last;
    static _Thread_local int files;
    if (listing != last) last = listing, files = 0;
    struct nfsdirent *entry;
    do entry = NEXT(nfs_readdir)(nfs, listing);
    while (entry && lies("list_short") && entry->type == 1 /* NF3REG */ && files++ % 2 == 0);
    if (!entry) last = NULL;
    return entry;
}
