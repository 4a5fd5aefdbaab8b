#include "arrays.hpp"
#include "bind.hpp"
#include "ccma/threshold.hpp"

namespace ccma::bindings {
namespace {

// (penalty, k_reg, u or None), as ccma_fast.reference.Cumulative is.
Cumulative cumulative_of(const py::tuple& fields, std::int64_t rows) {
    if (fields.size() != 3) throw py::type_error("cumulative must be (penalty, k_reg, u)");
    Cumulative cumulative{fields[0].cast<double>(), fields[1].cast<std::int64_t>(), nullptr};
    if (!fields[2].is_none()) cumulative.u = exact<double>(fields[2].cast<py::array>(), {rows}, "u");
    return cumulative;
}

py::tuple row_thresholds(const py::array& logits, const py::object& q, const py::tuple& cumulative) {
    const Matrix z = matrix(logits, "logits");
    const Threshold of_rows = threshold(q, z.rows, "q");
    const Cumulative score = cumulative_of(cumulative, z.rows);
    py::array_t<double> out(z.rows);
    double* data = out.mutable_data();
    const std::int64_t bad = without_lock([&] { return ccma::row_thresholds(z, of_rows, score, data, signal_poll()); });
    return py::make_tuple(out, bad);
}

py::tuple least_scores(const py::array& logits, const py::tuple& cumulative) {
    const Matrix z = matrix(logits, "logits");
    const Cumulative score = cumulative_of(cumulative, z.rows);
    py::array_t<double> out(z.rows);
    double* data = out.mutable_data();
    const std::int64_t bad = without_lock([&] { return ccma::least_scores(z, score, data, signal_poll()); });
    return py::make_tuple(out, bad);
}

py::tuple scores_between(const py::array& logits, double low, double high, std::int64_t capacity,
                         const py::object& cumulative) {
    const Matrix z = matrix(logits, "logits");
    Cumulative score;
    if (!cumulative.is_none()) score = cumulative_of(cumulative.cast<py::tuple>(), z.rows);
    const Cumulative* given = cumulative.is_none() ? nullptr : &score;
    const ScoresBetween found =
        without_lock([&] { return ccma::scores_between(z, low, high, capacity, given, signal_poll()); });
    return py::make_tuple(found.at_most_low, found.between, copied(found.values), found.bad_row);
}

py::array_t<std::int64_t> top_m(const py::array& values, std::int64_t m) {
    const float* data = exact<float>(values, {values.size()}, "values");
    const std::int64_t n = values.size();
    return copied(without_lock([&] { return ccma::top_m(data, n, m); }));
}

}  // namespace

void bind_threshold(py::module_& module) {
    module.def("row_thresholds", &row_thresholds, py::arg("logits"), py::arg("q"), py::arg("cumulative"),
               "(thresholds on -ln p, first bad row or -1)");
    module.def("least_scores", &least_scores, py::arg("logits"), py::arg("cumulative"),
               "(smallest score of each row, first bad row or -1)");
    module.def("scores_between", &scores_between, py::arg("logits"), py::arg("low"), py::arg("high"),
               py::arg("capacity"), py::arg("cumulative") = py::none(),
               "(count of scores <= low, count in (low, high], those or a sample, bad row or -1)");
    module.def("top_m", &top_m, py::arg("values"), py::arg("m"), "positions of the m largest, ties to the lower");
}

}  // namespace ccma::bindings
