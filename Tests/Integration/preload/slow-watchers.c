// slow-watchers: before librbd lists who has an image open, 200 ms go by, in which others may remove the image. Preloaded into a process
// that has librbd open.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <rbd/librbd.h>
#include <unistd.h>

int rbd_watchers_list(rbd_image_t image, rbd_image_watcher_t *watchers, size_t *count) {
    static int (*real)(rbd_image_t, rbd_image_watcher_t *, size_t *);
    if (!real) real = (int (*)(rbd_image_t, rbd_image_watcher_t *, size_t *))dlsym(RTLD_NEXT, "rbd_watchers_list");
    usleep(200000);
    return real(image, watchers, count);
}
