#ifndef CLINKER_RBD_SHIM_H
#define CLINKER_RBD_SHIM_H

#include <rados/librados.h>
#include <rbd/librbd.h>

#endif
