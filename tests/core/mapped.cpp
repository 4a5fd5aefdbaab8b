// Files that shrink while they are read.
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>
#include <vector>

#include "ccma/mapped.hpp"
#include "ccma/parallel.hpp"
#include "checks.hpp"

namespace ccma::tests {
namespace {

// A file of so many pages, each byte of which is its page's number + 1, mapped.
struct MappedFile {
    explicit MappedFile(std::size_t n_pages)
        : page(static_cast<std::size_t>(sysconf(_SC_PAGESIZE))), size(n_pages * page), file(std::tmpfile()) {
        for (std::size_t i = 0; i < size; ++i) std::fputc(static_cast<int>(i / page + 1), file);
        std::fflush(file);
        data = static_cast<unsigned char*>(mmap(nullptr, size, PROT_READ, MAP_SHARED, fileno(file), 0));
    }
    ~MappedFile() {
        munmap(data, size);
        std::fclose(file);
    }
    MappedFile(const MappedFile&) = delete;
    MappedFile& operator=(const MappedFile&) = delete;

    void cut(std::size_t n_pages) { check(ftruncate(fileno(file), static_cast<off_t>(n_pages * page)) == 0, "cut"); }
    std::uintptr_t address() const { return reinterpret_cast<std::uintptr_t>(data); }
    unsigned at(std::size_t page_number) const {
        return *static_cast<volatile unsigned char*>(data + page_number * page);
    }

    std::size_t page, size;
    std::FILE* file;
    unsigned char* data;
};

// How a child process ends.
template <class Body>
int status_of(const Body& body) {
    const pid_t child = fork();
    if (child == 0) {
        body();
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return status;
}

void before_ours(int) { _exit(42); }

}  // namespace

void test_mapped() {
    {
        MappedFile file(8), other(4);
        const MappedRange whole(file.address(), file.size), half(file.address(), 4 * file.page);
        const MappedRange end(file.address() + 6 * file.page, 2 * file.page), untouched(other.address(), other.size);
        file.cut(3);
        begin_reading();
        check(file.at(2) == 3 && !whole.is_broken(), "what the file still has is read");
        set_num_threads(3);
        parallel_for(8, [&](std::int64_t i) { file.at(static_cast<std::size_t>(i)); }, {});
        check(file.at(5) == 0 && file.at(2) == 3, "the rest is zeros");
        end_reading();
        check(whole.is_broken() && half.is_broken() && end.is_broken(), "every range knows of it");
        check(!untouched.is_broken() && other.at(3) == 4, "others do not");
        check(!MappedRange(other.address(), other.size).is_broken(), "nor does one that takes the place of another");
    }
    {
        std::vector<std::unique_ptr<MappedRange>> many;
        MappedFile file(2);
        for (int i = 0; i < 1000; ++i) many.push_back(std::make_unique<MappedRange>(file.address(), file.size));
        many.erase(many.begin(), many.begin() + 900);
        file.cut(1);
        begin_reading();
        check(file.at(1) == 0 && many.back()->is_broken(), "there is room for many");
        end_reading();
    }
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) {
        threads.emplace_back([] {
            for (int i = 0; i < 200; ++i) {
                MappedFile file(2);
                const MappedRange range(file.address(), file.size);
                if (i % 10 == 0) file.cut(1);
                begin_reading();
                const unsigned found = file.at(1);
                end_reading();
                if (range.is_broken() != (found == 0)) std::abort();
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    // What is none of ours goes where it would have gone.
    MappedFile file(2), other(2);
    const MappedRange range(file.address(), file.size);
    file.cut(1);
    other.cut(1);
    const auto install = [] { signal(SIGBUS, before_ours); };
    int status = status_of([&] {
        install();
        begin_reading();
        other.at(1);
    });
    check(WIFEXITED(status) && WEXITSTATUS(status) == 42, "a fault elsewhere");
    status = status_of([&] {
        install();
        begin_reading();
        end_reading();
        file.at(1);
    });
    check(WIFEXITED(status) && WEXITSTATUS(status) == 42, "a fault while nobody reads");
    status = status_of([&] {
        install();
        begin_reading();
        raise(SIGBUS);
    });
    check(WIFEXITED(status) && WEXITSTATUS(status) == 42, "a signal that was sent");
    status = status_of([&] {
        install();
        begin_reading();
        if (file.at(1) != 0 || !range.is_broken()) _exit(1);
    });
    check(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a fault of ours, in a child, over another handler");
    status = status_of([&] {
        signal(SIGBUS, SIG_DFL);
        begin_reading();
        other.at(1);
    });
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS, "a fault that nobody takes");
}

}  // namespace ccma::tests
