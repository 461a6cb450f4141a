// The primitives for any machine.
#include "kernels_plain.hpp"

namespace openkpu {

const Kernels kernels_portable = {
    .name = "portable",
    .lanes = 8,
    .oc_block = 8,
    .weight_bytes = 1,
    .signed_x = false,
    .supported = [] { return true; },
    .interleave = plain_interleave,
    .gemm = plain_gemm,
    .depthwise = plain_depthwise,
    .depthwise_lines = nullptr,
    .interleave_line = nullptr,
    .add_scaled = plain_add_scaled,
    .ramp = plain_ramp,
    .table = plain_table,
    .pool = plain_pool,
    .decimate = plain_decimate,
};

}  // namespace openkpu
