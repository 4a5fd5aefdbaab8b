#include <pybind11/stl.h>

#include <optional>

#include "arrays.hpp"
#include "bind.hpp"
#include "ccma/kmeans.hpp"

namespace ccma::bindings {
namespace {

using OptionalArray = std::optional<py::array>;

const float* scale_of(const OptionalArray& scale, std::int64_t rows) {
    return scale ? exact<float>(*scale, {rows}, "scale") : nullptr;
}

Panels make_panels(const py::array& matrix_, bool centred) {
    const Matrix view = matrix(matrix_, "matrix");
    if (view.dtype != Dtype::f32 || view.rows == 0) throw py::type_error("matrix must be float32 and not empty");
    return Panels(static_cast<const float*>(view.data), view.rows, view.cols, centred);
}

Matrix rows_for(const Panels& panels, const py::array& x) {
    const Matrix rows = matrix(x, "x");
    if (rows.cols != panels.dimensions()) throw py::value_error("x and the panels differ in their columns");
    return rows;
}

py::tuple nearest(const Panels& panels, const py::array& x, const OptionalArray& scale) {
    const Matrix rows = rows_for(panels, x);
    const float* scales = scale_of(scale, rows.rows);
    py::array_t<std::int32_t> labels(rows.rows);
    py::array_t<float> squared(rows.rows);
    std::int32_t* labels_data = labels.mutable_data();
    float* squared_data = squared.mutable_data();
    without_lock([&] { panels.nearest(rows, scales, labels_data, squared_data, signal_poll()); });
    return py::make_tuple(labels, squared);
}

py::array_t<float> multiply(const Panels& panels, const py::array& x, const OptionalArray& scale,
                            const OptionalArray& bias) {
    const Matrix rows = rows_for(panels, x);
    const float* scales = scale_of(scale, rows.rows);
    const float* offsets = bias ? exact<float>(*bias, {panels.count()}, "bias") : nullptr;
    py::array_t<float> out({rows.rows, panels.count()});
    float* data = out.mutable_data();
    without_lock([&] { panels.multiply(rows, scales, offsets, data, signal_poll()); });
    return out;
}

void accumulate(const py::array& x, const OptionalArray& scale, const py::array& labels, const py::array& weights,
                py::array& sums, py::array& mass) {
    const Matrix rows = matrix(x, "x");
    const float* scales = scale_of(scale, rows.rows);
    const std::int32_t* clusters = exact<std::int32_t>(labels, {rows.rows}, "labels");
    const float* w = exact<float>(weights, {rows.rows}, "weights");
    const std::int64_t k = mass.size();
    double* mass_data = writable<double>(mass, {k}, "mass");
    double* sums_data = writable<double>(sums, {k, rows.cols}, "sums");
    for (std::int64_t i = 0; i < rows.rows; ++i) {
        if (clusters[i] < 0 || clusters[i] >= k) throw py::value_error("labels must name clusters");
    }
    without_lock([&] { ccma::accumulate(rows, scales, clusters, w, k, sums_data, mass_data, signal_poll()); });
}

py::array_t<double> row_lengths(const py::array& x) {
    const Matrix rows = matrix(x, "x");
    py::array_t<double> out(rows.rows);
    double* data = out.mutable_data();
    without_lock([&] { ccma::row_lengths(rows, data, signal_poll()); });
    return out;
}

}  // namespace

void bind_kmeans(py::module_& module) {
    py::class_<Panels>(module, "Panels", "Rows of a float32 matrix, packed for products with many chunks of rows.")
        .def(py::init(&make_panels), py::arg("matrix"), py::kw_only(), py::arg("centred"))
        .def("nearest", &nearest, py::arg("x"), py::arg("scale") = py::none(), "(labels, squared distances)")
        .def("multiply", &multiply, py::arg("x"), py::arg("scale") = py::none(), py::arg("bias") = py::none(),
             "x matrix^T + bias");
    module.def("accumulate", &accumulate, py::arg("x"), py::arg("scale"), py::arg("labels"), py::arg("weights"),
               py::arg("sums"), py::arg("mass"), "sums[label] += weight * row and mass[label] += weight, in row order");
    module.def("row_lengths", &row_lengths, py::arg("x"), "Euclidean length of each row");
}

}  // namespace ccma::bindings
