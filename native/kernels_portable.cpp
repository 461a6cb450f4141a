// The primitives for any machine.
#include "kernels_plain.hpp"

namespace openkpu {

const Kernels kernels_portable = {
    .name = "portable",
    .lanes = 8,
    .oc_block = 8,
    .weight_bytes = 1,
    .fused = false,
    .signed_x = false,
    .supported = [] { return true; },
    .interleave = plain_interleave,
    .interleave_lines = nullptr,
    .gemm = plain_gemm,
    .depthwise = plain_depthwise,
    .depthwise_lines = nullptr,
    .store_lines = nullptr,
    .copy_rows = plain_copy_rows,
    .move_rows = plain_move_rows,
    .add_scaled = plain_add_scaled,
    .ramp = plain_ramp,
    .table = plain_table,
    .quick_table = nullptr,
    .pool = plain_pool,
};

}  // namespace openkpu
