#include <memory>
#include <optional>

#include "arrays.hpp"
#include "bind.hpp"
#include "ccma/coverage.hpp"

namespace ccma::bindings {
namespace {

// Rows are numbered by std::int32_t.
constexpr std::int64_t most_rows = (std::int64_t{1} << 31) - 1;

NearerPairs make_pairs(const py::array& near, std::int64_t most) {
    const std::int64_t n = near.size();
    if (n == 0 || n > most_rows) throw py::value_error("there must be rows, fewer than 2^31");
    return NearerPairs(exact<float>(near, {n}, "near"), n, most);
}

bool add(NearerPairs& pairs, const Panels& others, std::int64_t first_other, const py::array& x, const py::array& scale,
         std::int64_t first) {
    constexpr std::int64_t square = NearerPairs::square;
    const Matrix rows = matrix(x, "x");
    if (rows.cols != others.dimensions()) throw py::value_error("x has another number of columns");
    const bool fits = 0 <= first_other && first_other <= first && first_other % square == 0 && first % square == 0 &&
                      others.count() <= square && first_other + others.count() <= pairs.rows() &&
                      first + rows.rows <= pairs.rows();
    if (!fits || !pairs.is_open()) throw py::value_error("these are no rows to be looked at");
    const float* scales = exact<float>(scale, {rows.rows}, "scale");
    return without_lock([&] { return pairs.add(others, first_other, rows, scales, first, signal_poll()); });
}

py::list complete(const py::object& self) {
    NearerPairs& pairs = self.cast<NearerPairs&>();
    if (!pairs.is_open()) throw py::value_error("these pairs are complete, or too many");
    without_lock([&] { pairs.complete(); });
    py::list values;
    for (std::int64_t number = 0; number < pairs.squares(); ++number) {
        std::vector<float>& part = pairs.values(number);
        values.append(py::array_t<float>(static_cast<py::ssize_t>(part.size()), part.data(), self));
    }
    return values;
}

std::unique_ptr<ListedCoverage> make_coverage(const NearerPairs& pairs, const py::array& covered,
                                              const py::array& weights, const py::array& open, std::int64_t sum_rows) {
    if (!pairs.is_complete()) throw py::value_error("pairs must be complete");
    if (sum_rows < 1) throw py::value_error("sum_rows must be positive");
    const std::int64_t n = pairs.rows();
    const float *of_rows = exact<float>(covered, {n}, "covered"), *factors = exact<float>(weights, {n}, "weights");
    const bool* choice = exact<bool>(open, {n}, "open");
    return without_lock([&] { return std::make_unique<ListedCoverage>(pairs, of_rows, factors, choice, sum_rows); });
}

void check_row(const NearerPairs& pairs, std::int64_t row) {
    if (row < 0 || row >= pairs.rows()) throw py::index_error("there is no such row");
}

double gain(const ListedCoverage& coverage, std::int64_t row) {
    check_row(coverage.pairs(), row);
    return coverage.gain(row);
}

std::int64_t take(ListedCoverage& coverage, const std::optional<py::array>& closed) {
    return coverage.take(closed ? exact<bool>(*closed, {coverage.pairs().rows()}, "closed") : nullptr);
}

void cover(ListedCoverage& coverage, std::int64_t row) {
    check_row(coverage.pairs(), row);
    coverage.cover(row);
}

}  // namespace

void bind_coverage(py::module_& module) {
    py::class_<NearerPairs>(module, "NearerPairs", "The pairs of rows in which one is nearer than any selected row.")
        .def(py::init(&make_pairs), py::arg("near"), py::arg("most"))
        .def_property_readonly_static("SQUARE", [](const py::object&) { return NearerPairs::square; })
        .def("add", &add, py::arg("others"), py::arg("first_other"), py::arg("x"), py::arg("scale"), py::arg("first"),
             "whether the pairs of these rows are listed, not too many")
        .def("complete", &complete,
             "the similarities of all pairs, in parts, in whose place a function of them may be put");
    py::class_<ListedCoverage>(module, "ListedCoverage", "The greedy choice by listed pairs.")
        .def(py::init(&make_coverage), py::arg("pairs"), py::arg("covered"), py::arg("weights"), py::arg("open"),
             py::arg("sum_rows"), py::keep_alive<1, 2>())
        .def("gain", &gain, py::arg("row"), "what a row gains")
        .def("take", &take, py::arg("closed") = py::none(), "the open row of largest gain, once; -1 where none is left")
        .def("cover", &cover, py::arg("row"), "has a row cover others");
}

}  // namespace ccma::bindings
