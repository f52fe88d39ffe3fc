// xstate: preloaded to a User-Mode-Linux kernel, so that it runs on processors whose extended state is larger than it knows.
//
// Linux takes a tracee's extended state only whole (ptrace(2), PTRACE_SETREGSET with NT_X86_XSTATE): where the processor has AMX
// that is 11,008 bytes, and the kernel of Linux 6.1 gives the 2,696 it has room for, is refused, and panics at its first process.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

typedef long (*trace)(enum __ptrace_request, pid_t, void *, void *);
static trace next;

__attribute__((constructor)) static void find(void) { next = (trace)dlsym(RTLD_NEXT, "ptrace"); }

// Not on the stack: the kernel's own are of 16 KiB. Only one thread of it traces.
static unsigned char state[1 << 16];

long ptrace(enum __ptrace_request request, ...) {
    va_list arguments;
    va_start(arguments, request);
    pid_t process = va_arg(arguments, pid_t);
    void *address = va_arg(arguments, void *);
    void *data = va_arg(arguments, void *);
    va_end(arguments);
    if (request == PTRACE_SETREGSET && address == (void *)NT_X86_XSTATE) {
        const struct iovec *given = data;
        struct iovec whole = {state, sizeof state};
        if (next(PTRACE_GETREGSET, process, address, &whole) == 0 && whole.iov_len > given->iov_len) {
            memcpy(state, given->iov_base, given->iov_len);
            return next(request, process, address, &whole);
        }
    }
    return next(request, process, address, data);
}
