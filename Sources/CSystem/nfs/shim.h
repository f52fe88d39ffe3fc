#ifndef CLINKER_NFS_SHIM_H
#define CLINKER_NFS_SHIM_H

/* libnfs.h uses their types without including them. */
#include <sys/types.h>
#include <sys/time.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <nfsc/libnfs.h>

#endif
