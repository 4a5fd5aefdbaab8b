// Memory of one thread's work on one chunk, aligned for the kernels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace ccma {

template <class T>
class Scratch {
  public:
    explicit Scratch(std::int64_t n)
        : data_(static_cast<T*>(::operator new(static_cast<std::size_t>(n) * sizeof(T), alignment))) {}

    T* get() const { return data_.get(); }

  private:
    static constexpr std::align_val_t alignment{64};
    struct Release {
        void operator()(T* p) const { ::operator delete(p, alignment); }
    };
    std::unique_ptr<T, Release> data_;
};

}  // namespace ccma
