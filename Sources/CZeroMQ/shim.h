// What the reactor needs and Swift cannot import by itself: libzmq's header, and eventfd and thread names, which the Glibc
// module leaves out; and epoll, for the tests' swarm of workers.
#ifndef ONEBYTE_CZEROMQ_SHIM_H
#define ONEBYTE_CZEROMQ_SHIM_H

#include <zmq.h>
#include <errno.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

static inline int onebyte_eventfd(void) { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }

static inline void onebyte_name_this_thread(const char *name) { prctl(PR_SET_NAME, name, 0, 0, 0); }

#endif
