#include "ccma/parallel.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace ccma {
namespace {

std::atomic<int> configured_threads{static_cast<int>(std::max(1u, std::thread::hardware_concurrency()))};

constexpr std::chrono::milliseconds poll_interval{50};

}  // namespace

int num_threads() { return configured_threads.load(); }

void set_num_threads(int n) { configured_threads.store(std::max(1, n)); }

void parallel_for(std::int64_t n_chunks, const std::function<void(std::int64_t)>& body, const Poll& poll) {
    std::atomic<std::int64_t> next{0};
    std::atomic<bool> stop{false};
    std::exception_ptr failure;
    std::mutex failure_mutex;

    const auto fail = [&] {
        const std::lock_guard<std::mutex> lock(failure_mutex);
        if (!failure) failure = std::current_exception();
        stop.store(true);
    };
    const auto work = [&](bool polls) {
        auto last_poll = std::chrono::steady_clock::now();
        try {
            while (!stop.load(std::memory_order_relaxed)) {
                const std::int64_t chunk = next.fetch_add(1);
                if (chunk >= n_chunks) return;
                body(chunk);
                if (!polls) continue;
                const auto now = std::chrono::steady_clock::now();
                if (now - last_poll < poll_interval) continue;
                last_poll = now;
                if (poll && poll()) throw Interrupted();
            }
        } catch (...) {
            fail();
        }
    };

    const std::int64_t helpers = std::min<std::int64_t>(num_threads(), n_chunks) - 1;
    std::vector<std::thread> threads;
    try {
        for (std::int64_t i = 0; i < helpers; ++i) threads.emplace_back(work, false);
    } catch (const std::system_error&) {
        // No more threads to be had: those that started, and the caller, do the work.
    }
    work(true);
    for (std::thread& thread : threads) thread.join();
    if (failure) std::rethrow_exception(failure);
}

void parallel_ranges(std::int64_t n, std::int64_t size, const std::function<void(std::int64_t, std::int64_t)>& body,
                     const Poll& poll) {
    const std::int64_t n_chunks = (n + size - 1) / size;
    parallel_for(n_chunks, [&](std::int64_t chunk) { body(chunk * size, std::min(n, (chunk + 1) * size)); }, poll);
}

}  // namespace ccma
