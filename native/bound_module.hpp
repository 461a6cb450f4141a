// The bound tensor operators in the Python module.
#pragma once

#include <nanobind/nanobind.h>

#include <functional>
#include <vector>

namespace openkpu {

// An operator with its arguments: made once, run often.
struct Operator {
    std::function<void()> body;
    std::vector<nanobind::object> keep;  // what owns the memory that body works on

    void run() const {
        nanobind::gil_scoped_release release;
        body();
    }
};

void add_bound_operators(nanobind::module_& m);

}  // namespace openkpu
