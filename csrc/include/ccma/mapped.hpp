// Memory in which files are mapped, whose end may be cut off while it is read.
//
// Reading a page that the file no longer has is SIGBUS, the death of the process. Where it is a page of a known range
// while somebody reads, the rest of that range becomes zeros instead, and the range is known as broken: whoever read
// it asks, and throws away what was computed of it. Any other SIGBUS goes to whoever would have had it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ccma {

// A range of memory, known while this lives. Any thread may make, ask and destroy one.
class MappedRange {
  public:
    MappedRange(std::uintptr_t address, std::size_t size);
    ~MappedRange();
    MappedRange(const MappedRange&) = delete;
    MappedRange& operator=(const MappedRange&) = delete;

    // Whether some of it could not be read since this was made; for good.
    bool is_broken() const;

    struct Slot;

  private:
    Slot* slot_;
};

// Ranges are read, from begin_reading until as many calls of end_reading: outside a fault in one is anybody's.
// The handler is put in place by the first that finds a range, and again where another has taken its place since.
void begin_reading();
void end_reading();

}  // namespace ccma
