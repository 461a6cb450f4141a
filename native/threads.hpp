// A small thread pool, created when somebody first asks for more than one thread.
#pragma once

#include <cstddef>
#include <functional>

namespace openkpu {

// Calls job(0) .. job(jobs - 1), on up to `threads` threads including the caller's; returns when all are done. A call
// made while another one uses the pool runs on its own thread alone. Jobs must not throw.
void parallel_for(size_t jobs, size_t threads, const std::function<void(size_t)>& job);

}  // namespace openkpu
