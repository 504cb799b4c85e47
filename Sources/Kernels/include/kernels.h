// The integer kernels that decide the parameters, and the float kernels of the forward pass.
#ifndef ONEBYTE_KERNELS_H
#define ONEBYTE_KERNELS_H
#include <stddef.h>
#include <stdint.h>
#include "philox.h"
#include "update.h"
#include "orthogonal.h"
#include "hash.h"
#include "floats.h"
#include "products.h"
#include "dequantise.h"
#include "differences.h"
#include "quantised.h"
#endif
