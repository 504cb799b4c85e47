// libsodium, for Ed25519 and the system's random bytes. libzmq brings it along, since CURVE is made of it.
#ifndef ONEBYTE_CSODIUM_SHIM_H
#define ONEBYTE_CSODIUM_SHIM_H

#include <sodium.h>

#endif
