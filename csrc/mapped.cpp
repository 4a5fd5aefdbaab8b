#include "ccma/mapped.hpp"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <mutex>

namespace ccma {

// Read by the handler without a lock; `end` is written last, and is 0 where the slot is free.
struct MappedRange::Slot {
    std::atomic<std::uintptr_t> begin{0}, end{0};
    std::atomic<bool> broken{false};
    bool taken = false;  // under the lock
};

namespace {

constexpr std::size_t slots_of_block = 256, most_handlers = 8;

// Blocks are never freed: the handler may look at them at any time.
struct Block {
    std::array<MappedRange::Slot, slots_of_block> slots;
    std::atomic<Block*> next{nullptr};
};

Block first_block;
std::atomic<int> n_readers{0};
std::atomic<bool> has_ranges{false};
std::uintptr_t page_size = 0;

// Zeros from a file of that name are told from other memory in the list of what is mapped.
std::atomic<int> zeros{-1};

// What stood before this handler each time that it was put in place. One that was put over it meanwhile may come back
// to it when its own work is done, as Python's faulthandler does, and is not asked a second time then.
std::array<struct sigaction, most_handlers> before{};
std::atomic<std::size_t> n_before{0};

std::mutex& lock() {
    static std::mutex mutex;
    // A child of a process that forks while a thread of it holds the lock could never take it.
    static const int at_fork = pthread_atfork([] { lock().lock(); }, [] { lock().unlock(); }, [] { lock().unlock(); });
    static_cast<void>(at_fork);
    return mutex;
}

// The first range that ends behind `begin` and begins before `end` for which `wanted` says so.
template <class Wanted>
MappedRange::Slot* range_among(std::uintptr_t begin, std::uintptr_t end, const Wanted& wanted) {
    for (Block* block = &first_block; block != nullptr; block = block->next.load(std::memory_order_acquire)) {
        for (MappedRange::Slot& slot : block->slots) {
            const std::uintptr_t its_end = slot.end.load(std::memory_order_acquire);
            const bool meets = begin < its_end && slot.begin.load(std::memory_order_acquire) < end;
            if (meets && slot.end.load() == its_end && wanted(slot)) return &slot;
        }
    }
    return nullptr;
}

// Zeros from the page of an address to the end of a range, for all who know some of it: what lies behind is cut off
// too.
bool put_zeros(std::uintptr_t address, const MappedRange::Slot& range) {
    const std::uintptr_t page = address - address % page_size;
    const std::size_t rest = (range.end.load() - page + page_size - 1) / page_size * page_size;
    range_among(page, page + rest, [](MappedRange::Slot& slot) {
        slot.broken.store(true);
        return false;
    });
    const int fd = zeros.load(), flags = MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE | (fd < 0 ? MAP_ANONYMOUS : 0);
    return mmap(reinterpret_cast<void*>(page), rest, PROT_READ | PROT_WRITE, flags, fd, 0) != MAP_FAILED;
}

// A fault comes again once the handler returns, and goes to the one before then; what was sent does not.
void hand_on(int signal_number, const siginfo_t* info) {
    struct sigaction action{};
    action.sa_handler = SIG_DFL;
    const std::size_t n = n_before.load();
    if (n > 0) {
        action = before[n - 1];
        n_before.store(n - 1);
    }
    sigaction(signal_number, &action, nullptr);
    if (info->si_code <= 0) raise(signal_number);
}

void on_bus_error(int signal_number, siginfo_t* info, void*) {
    const int error = errno;
    const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
    const MappedRange::Slot* range = nullptr;
    if (info->si_code > 0 && n_readers.load() > 0) {
        range = range_among(address, address + 1, [](const MappedRange::Slot&) { return true; });
    }
    if (range == nullptr || !put_zeros(address, *range)) hand_on(signal_number, info);
    errno = error;
}

bool is_ours(const struct sigaction& action) {
    return (action.sa_flags & SA_SIGINFO) != 0 && action.sa_sigaction == on_bus_error;
}

bool same(const struct sigaction& a, const struct sigaction& b) {
    if ((a.sa_flags & SA_SIGINFO) != (b.sa_flags & SA_SIGINFO)) return false;
    return (a.sa_flags & SA_SIGINFO) != 0 ? a.sa_sigaction == b.sa_sigaction : a.sa_handler == b.sa_handler;
}

void put_in_place() {
    struct sigaction current{};
    if (sigaction(SIGBUS, nullptr, &current) != 0 || is_ours(current)) return;
    const std::lock_guard<std::mutex> guard(lock());
    if (sigaction(SIGBUS, nullptr, &current) != 0 || is_ours(current)) return;
    std::size_t n = n_before.load();
    while (n > 0 && (n == most_handlers || same(before[n - 1], current))) --n;
    before[n] = current;
    struct sigaction action{};
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    n_before.store(n + 1);
    sigaction(SIGBUS, &action, nullptr);
}

MappedRange::Slot* free_slot() {
    const std::lock_guard<std::mutex> guard(lock());
    if (page_size == 0) {
        page_size = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
        zeros.store(open("/dev/zero", O_RDONLY | O_CLOEXEC));
    }
    for (Block* block = &first_block;; block = block->next.load()) {
        for (MappedRange::Slot& slot : block->slots) {
            if (slot.taken) continue;
            slot.taken = true;
            return &slot;
        }
        if (block->next.load() == nullptr) block->next.store(new Block(), std::memory_order_release);
    }
}

}  // namespace

MappedRange::MappedRange(std::uintptr_t address, std::size_t size) : slot_(free_slot()) {
    slot_->broken.store(false);
    slot_->begin.store(address);
    slot_->end.store(address + size, std::memory_order_release);
    has_ranges.store(true);
    put_in_place();
}

MappedRange::~MappedRange() {
    const std::lock_guard<std::mutex> guard(lock());
    slot_->end.store(0);
    slot_->taken = false;
}

bool MappedRange::is_broken() const { return slot_->broken.load(); }

void begin_reading() {
    n_readers.fetch_add(1);
    if (has_ranges.load()) put_in_place();
}

void end_reading() { n_readers.fetch_sub(1); }

}  // namespace ccma
