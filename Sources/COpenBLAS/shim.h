// OpenBLAS's C interface, and the LAPACK routines that making a basis needs (their C interface, LAPACKE, is a package of its own).
#ifndef ONEBYTE_COPENBLAS_SHIM_H
#define ONEBYTE_COPENBLAS_SHIM_H

#include <cblas.h>

char *openblas_get_corename(void);
char *openblas_get_config(void);

/* Eigenvalues and eigenvectors of a real symmetric matrix, divide and conquer (LAPACK). Column-major, w ascending. */
void dsyevd_(const char *jobz, const char *uplo, const int *n, double *a, const int *lda, double *w,
             double *work, const int *lwork, int *iwork, const int *liwork, int *info);

/* The Cholesky factor of a symmetric positive definite matrix (LAPACK), in place of the triangle `uplo`. Column-major. */
void dpotrf_(const char *uplo, const int *n, double *a, const int *lda, int *info);

#endif
