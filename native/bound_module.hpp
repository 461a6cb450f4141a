// The bound tensor operators in the Python module.
#pragma once

#include <nanobind/nanobind.h>

namespace openkpu {

void add_bound_operators(nanobind::module_& m);

}  // namespace openkpu
