// What the matrix products of this process cost, and what it allocates.
#ifndef GEMM_METER_H
#define GEMM_METER_H
/// Seconds of processor time (so that other work on the machine counts little) and floating-point operations of all products since the last reset, all threads together.
double gemm_meter_seconds(void);
double gemm_meter_operations(void);
void gemm_meter_reset(void);

/// Allocations of this process, and their bytes, freed ones among them.
double allocation_meter_count(void);
double allocation_meter_bytes(void);
#endif
