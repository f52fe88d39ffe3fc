/* nfs URL FILE BYTES: writes so many bytes to a new file by libnfs, 4 MiB a call, and commits them; prints seconds.
 *     cc -O2 -o bench-nfs nfs.c -lnfs */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>

#include <nfsc/libnfs.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

int main(int count, char **words) {
    enum { PIECE = 4 << 20 };
    if (count != 4) return 2;
    struct nfs_context *nfs = nfs_init_context();
    struct nfs_url *url = nfs_parse_url_dir(nfs, words[1]);
    struct nfsfh *file;
    char *piece = malloc(PIECE);
    if (!url || nfs_mount(nfs, url->server, url->path) || nfs_open2(nfs, words[2], O_CREAT | O_RDWR | O_TRUNC, 0600, &file)) {
        fprintf(stderr, "%s\n", nfs_get_error(nfs));
        return 1;
    }
    for (int i = 0; i < PIECE; i++) piece[i] = (char)(rand() >> 7);
    long long total = atoll(words[3]);
    double start = now();
    for (long long done = 0; done < total; done += PIECE)
        if (nfs_pwrite(nfs, file, (uint64_t)done, PIECE, piece) != PIECE) {
            fprintf(stderr, "%s\n", nfs_get_error(nfs));
            return 1;
        }
    if (nfs_fsync(nfs, file)) return 1;
    printf("%.3f\n", now() - start);
    nfs_close(nfs, file);
    return 0;
}
