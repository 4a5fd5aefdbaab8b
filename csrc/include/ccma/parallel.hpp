// Threads over fixed chunks of work.
//
// The chunks of a job do not depend on the number of threads, every chunk writes to places of its own, and whatever is
// reduced over chunks is reduced in their order: results are bit-identical at any thread count. Threads live for one
// call only, so a process may fork at any time.
#pragma once

#include <cstdint>
#include <functional>
#include <stdexcept>

namespace ccma {

// Thrown by parallel_for when the caller's poll asks for a stop.
struct Interrupted : std::runtime_error {
    Interrupted() : std::runtime_error("interrupted") {}
};

// Asked about twenty times a second from the calling thread; true stops the work after the chunks in flight.
using Poll = std::function<bool()>;

int num_threads();
void set_num_threads(int n);  // at least 1

// body(chunk) for every chunk of [0, n_chunks), in any order, on up to num_threads() threads, the caller's among them.
// The first exception of a body is rethrown once all threads have stopped.
void parallel_for(std::int64_t n_chunks, const std::function<void(std::int64_t)>& body, const Poll& poll);

// The same over the ranges [begin, end) of at most `size` items that cover [0, n).
void parallel_ranges(std::int64_t n, std::int64_t size, const std::function<void(std::int64_t, std::int64_t)>& body,
                     const Poll& poll);

}  // namespace ccma
