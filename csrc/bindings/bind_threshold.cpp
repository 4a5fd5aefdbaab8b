#include "arrays.hpp"
#include "bind.hpp"
#include "ccma/threshold.hpp"

namespace ccma::bindings {
namespace {

template <class T>
py::array_t<T> copied(const std::vector<T>& values) {
    return py::array_t<T>(static_cast<py::ssize_t>(values.size()), values.data());
}

py::tuple scores_between(const py::array& logits, double low, double high, std::int64_t capacity) {
    const Matrix z = matrix(logits, "logits");
    const ScoresBetween found =
        without_lock([&] { return ccma::scores_between(z, low, high, capacity, signal_poll()); });
    return py::make_tuple(found.at_most_low, found.between, copied(found.values), found.bad_row);
}

py::array_t<std::int64_t> top_m(const py::array& values, std::int64_t m) {
    const float* data = exact<float>(values, {values.size()}, "values");
    const std::int64_t n = values.size();
    return copied(without_lock([&] { return ccma::top_m(data, n, m); }));
}

}  // namespace

void bind_threshold(py::module_& module) {
    module.def("scores_between", &scores_between, py::arg("logits"), py::arg("low"), py::arg("high"),
               py::arg("capacity"), "(count of scores <= low, count in (low, high], those or a sample, bad row or -1)");
    module.def("top_m", &top_m, py::arg("values"), py::arg("m"), "positions of the m largest, ties to the lower");
}

}  // namespace ccma::bindings
