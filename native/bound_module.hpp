// The tensor operators in the Python module.
#pragma once

#include <nanobind/nanobind.h>

namespace openkpu {

void add_tensor_operators(nanobind::module_& m);

}  // namespace openkpu
