// Measures the cost of this process's matrix products, and its allocations.
#ifndef GEMM_METER_H
#define GEMM_METER_H
/// Seconds of processor time (so that other work on the machine counts little) and floating-point operations of all products since the last
/// reset, summed over threads.
double gemm_meter_seconds(void);
double gemm_meter_operations(void);
void gemm_meter_reset(void);

/// Number of allocations of this process and their bytes, including freed ones.
double allocation_meter_count(void);
double allocation_meter_bytes(void);
#endif
