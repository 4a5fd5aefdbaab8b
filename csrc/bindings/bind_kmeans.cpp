#include <pybind11/stl.h>

#include <optional>

#include "arrays.hpp"
#include "bind.hpp"
#include "ccma/kmeans.hpp"
#include "ccma/nearest.hpp"

namespace ccma::bindings {
namespace {

using OptionalArray = std::optional<py::array>;

// A SketchedRow is a row of a float32 matrix to Python.
constexpr std::int64_t floats_of_row = sizeof(SketchedRow) / sizeof(float);
static_assert(floats_of_row == 3);

const float* scale_of(const OptionalArray& scale, std::int64_t rows) {
    return scale ? exact<float>(*scale, {rows}, "scale") : nullptr;
}

const float* float_matrix(const py::array& array, const char* name) {
    const Matrix view = matrix(array, name);
    if (view.dtype != Dtype::f32 || view.rows == 0 || view.cols == 0) {
        throw py::type_error(std::string(name) + " must be float32 and not empty");
    }
    return static_cast<const float*>(view.data);
}

Panels make_panels(const py::array& matrix_) {
    const float* values = float_matrix(matrix_, "matrix");
    const std::int64_t k = matrix_.shape(0), d = matrix_.shape(1);
    return without_lock([&] { return Panels(values, k, d); });
}

template <class Packed>
Matrix rows_for(const Packed& packed, const py::array& x) {
    const Matrix rows = matrix(x, "x");
    if (rows.cols != packed.dimensions()) throw py::value_error("x has another number of columns");
    return rows;
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

Sketch make_sketch(const py::array& directions, const py::array& origin) {
    const float* data = float_matrix(directions, "directions");
    return Sketch(data, directions.shape(0), directions.shape(1),
                  exact<float>(origin, {directions.shape(1)}, "origin"));
}

py::tuple project(const Sketch& sketch, const py::array& x, const OptionalArray& scale) {
    const Matrix rows = rows_for(sketch, x);
    const float* scales = scale_of(scale, rows.rows);
    py::array_t<std::int8_t> bytes({rows.rows, sketch.width()});
    py::array_t<float> of_rows({rows.rows, floats_of_row});
    const Sketched out{bytes.mutable_data(), reinterpret_cast<SketchedRow*>(of_rows.mutable_data())};
    without_lock([&] { sketch.project(rows, scales, out, signal_poll()); });
    return py::make_tuple(bytes, of_rows);
}

Search make_search(const py::array& centroids, const py::array& origin, const Sketch* sketch, std::int64_t width,
                   const OptionalArray& moved) {
    const float* data = float_matrix(centroids, "centroids");
    const std::int64_t k = centroids.shape(0), d = centroids.shape(1);
    if (sketch && sketch->dimensions() != d) throw py::value_error("centroids and sketch differ in their columns");
    const float* zero = sketch ? sketch->origin() : exact<float>(origin, {d}, "origin");
    const bool* of_moved = moved ? exact<bool>(*moved, {k}, "moved") : nullptr;
    return without_lock([&] { return Search(data, k, d, zero, sketch, width, of_moved); });
}

py::tuple nearest(const Search& search, const py::array& x, const OptionalArray& scale,
                  const std::optional<py::tuple>& sketched, const OptionalArray& hints, const OptionalArray& before,
                  const OptionalArray& within) {
    const Matrix rows = rows_for(search, x);
    const float* scales = scale_of(scale, rows.rows);
    if (hints && within) throw py::value_error("give hints or within, not both");
    if (before && !hints) throw py::value_error("what was before goes with hints");
    if (sketched.has_value() != (search.sketch() != nullptr)) {
        throw py::value_error("sketched rows go with a sketch");
    }
    Sketched seen{};
    if (sketched) {
        const py::array bytes = (*sketched)[0], of_rows = (*sketched)[1];
        seen = {exact<std::int8_t>(bytes, {rows.rows, search.sketch()->width()}, "sketched bytes"),
                reinterpret_cast<SketchedRow*>(exact<float>(of_rows, {rows.rows, floats_of_row}, "sketched rows"))};
    }
    const Hints known{hints ? exact<std::int32_t>(*hints, {rows.rows}, "hints") : nullptr,
                      before ? exact<float>(*before, {rows.rows}, "before") : nullptr};
    const float* limit = within ? exact<float>(*within, {rows.rows}, "within") : nullptr;
    for (std::int64_t i = 0; known.labels && i < rows.rows; ++i) {
        if (known.labels[i] < 0 || known.labels[i] >= search.count())
            throw py::value_error("hints must name centroids");
    }
    py::array_t<std::int32_t> labels(rows.rows);
    py::array_t<float> squared(rows.rows);
    std::int32_t* labels_data = labels.mutable_data();
    float* squared_data = squared.mutable_data();
    without_lock([&] { search.nearest(rows, scales, seen, known, limit, labels_data, squared_data, signal_poll()); });
    return py::make_tuple(labels, squared);
}

void accumulate(const py::array& x, const OptionalArray& scale, const py::array& labels, const py::array& weights,
                py::array& sums, double sums_scale, py::array& mass, double mass_scale, double step) {
    const Matrix rows = matrix(x, "x");
    const float* scales = scale_of(scale, rows.rows);
    const std::int32_t* clusters = exact<std::int32_t>(labels, {rows.rows}, "labels");
    const float* w = exact<float>(weights, {rows.rows}, "weights");
    if (sums.ndim() != 3 || mass.ndim() != 2 || sums.shape(0) == 0 || mass.shape(0) == 0) {
        throw py::type_error("sums must be (limbs, K, D) and mass (limbs, K)");
    }
    const std::int64_t k = mass.shape(1);
    const ClusterSums out{writable<std::int64_t>(sums, {sums.shape(0), k, rows.cols}, "sums"),
                          writable<std::int64_t>(mass, {mass.shape(0), k}, "mass"),
                          {sums.shape(0), sums_scale, step},
                          {mass.shape(0), mass_scale, step}};
    for (std::int64_t i = 0; i < rows.rows; ++i) {
        if (clusters[i] < 0 || clusters[i] >= k) throw py::value_error("labels must name clusters");
    }
    without_lock([&] { ccma::accumulate(rows, scales, clusters, w, k, out, signal_poll()); });
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
        .def(py::init(&make_panels), py::arg("matrix"))
        .def("multiply", &multiply, py::arg("x"), py::arg("scale") = py::none(), py::arg("bias") = py::none(),
             "x matrix^T + bias");
    py::class_<Sketch>(module, "Sketch", "Orthonormal directions along which rows are compared first.")
        .def(py::init(&make_sketch), py::arg("directions"), py::arg("origin"))
        .def("project", &project, py::arg("x"), py::arg("scale") = py::none(),
             "(bytes along the directions; the rows' scales, bounds on what lies off the directions and on the bytes' "
             "errors)");
    py::class_<Search>(module, "Search", "Centroids, packed for the exact nearest one of many chunks of rows.")
        .def(py::init(&make_search), py::arg("centroids"), py::arg("origin"), py::arg("sketch") = py::none(),
             py::arg("width") = 0, py::arg("moved") = py::none(), py::keep_alive<1, 4>())
        .def("nearest", &nearest, py::arg("x"), py::arg("scale") = py::none(), py::kw_only(),
             py::arg("sketched") = py::none(), py::arg("hints") = py::none(), py::arg("before") = py::none(),
             py::arg("within") = py::none(), "(labels, squared distances)");
    module.def("accumulate", &accumulate, py::arg("x"), py::arg("scale"), py::arg("labels"), py::arg("weights"),
               py::arg("sums"), py::arg("sums_scale"), py::arg("mass"), py::arg("mass_scale"), py::arg("step"),
               "sums[label] += weight * row and mass[label] += weight, in limbs of fixed point");
    module.def("row_lengths", &row_lengths, py::arg("x"), "Euclidean length of each row");
}

}  // namespace ccma::bindings
