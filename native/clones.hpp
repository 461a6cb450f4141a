#pragma once

// One source for two instruction sets, chosen when the module is loaded. Nothing here depends on the width of vectors: sums
// have kLanes parts whatever the machine has, and no products are fused with sums.
#if defined(OPENKPU_X86) && defined(__GNUC__) && !defined(__clang__) && defined(__GLIBC__)
#define OPENKPU_CLONES __attribute__((target_clones("avx2", "default")))
#define OPENKPU_INLINE inline __attribute__((always_inline))
#else
#define OPENKPU_CLONES
#define OPENKPU_INLINE inline
#endif
#if defined(_MSC_VER)
#define OPENKPU_ALONE __restrict
#else
#define OPENKPU_ALONE __restrict__
#endif
