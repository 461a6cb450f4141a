#include "threads.hpp"

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#if !defined(_WIN32)
#include <unistd.h>
#endif

namespace openkpu {
namespace {

long process_id() {
#if defined(_WIN32)
    return 0;
#else
    return static_cast<long>(getpid());
#endif
}

// Waits a few tens of microseconds for what mostly comes soon (the next layer, the last worker) before sleeping.
template <typename Ready>
bool spin(Ready ready) {
    for (int i = 0; i < 2000; ++i) {
        if (ready()) return true;
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }
    return false;
}

class Pool {
  public:
    void run(size_t jobs, size_t threads, const std::function<void(size_t)>& job) {
        while (workers_.size() + 1 < threads) workers_.emplace_back([this, id = workers_.size()] { loop(id); });
        {
            std::lock_guard lock(mutex_);
            job_ = &job;
            jobs_ = jobs;
            next_.store(0);
            invited_ = threads - 1;
            busy_.store(invited_);
            round_.fetch_add(1);
        }
        start_.notify_all();
        take();
        if (spin([this] { return busy_.load() == 0; })) return;
        std::unique_lock lock(mutex_);
        done_.wait(lock, [this] { return busy_.load() == 0; });
    }

  private:
    void take() {
        for (size_t i; (i = next_.fetch_add(1)) < jobs_;) (*job_)(i);
    }

    void loop(size_t id) {
        uint64_t seen = 0;
        for (;;) {
            spin([&] { return round_.load() != seen; });
            {
                std::unique_lock lock(mutex_);
                start_.wait(lock, [&] { return round_.load() != seen; });
                seen = round_.load();
                if (id >= invited_) continue;
            }
            take();
            std::lock_guard lock(mutex_);
            if (busy_.fetch_sub(1) == 1) done_.notify_one();
        }
    }

    std::vector<std::thread> workers_;
    std::mutex mutex_;
    std::condition_variable start_, done_;
    const std::function<void(size_t)>* job_ = nullptr;
    size_t jobs_ = 0, invited_ = 0;
    std::atomic<size_t> next_{0}, busy_{0};
    std::atomic<uint64_t> round_{0};
};

}  // namespace

void parallel_for(size_t jobs, size_t threads, const std::function<void(size_t)>& job) {
    threads = threads < jobs ? threads : jobs;
    static std::mutex turn;
    if (threads > 1 && turn.try_lock()) {
        std::lock_guard lock(turn, std::adopt_lock);
        // Never destroyed: its threads wait until the process ends. A forked child has no copy of the threads, so it
        // gets a pool of its own.
        static Pool* pool = nullptr;
        static long owner = -1;
        if (owner != process_id()) {
            pool = new Pool;
            owner = process_id();
        }
        pool->run(jobs, threads, job);
        return;
    }
    for (size_t i = 0; i < jobs; ++i) job(i);
}

}  // namespace openkpu
