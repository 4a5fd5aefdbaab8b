#include <optional>

#include "arrays.hpp"
#include "bind.hpp"
#include "ccma/regression.hpp"

namespace ccma::bindings {
namespace {

RegressionRows make_rows(const py::array& x) {
    if (x.ndim() != 2 || x.size() == 0) throw py::type_error("x must be a matrix, not empty");
    const std::int64_t m = x.shape(0), d = x.shape(1);
    const float* values = exact<float>(x, {m, d}, "x");
    return without_lock([&] { return RegressionRows(values, m, d); });
}

Targets make_targets(const py::array& labels, const py::array& soft, const std::optional<py::array>& offset) {
    if (soft.ndim() != 2 || soft.shape(1) == 0) throw py::type_error("soft must be a matrix of rows and classes");
    const std::int64_t n = labels.size(), m = n + soft.shape(0), classes = soft.shape(1);
    const std::int64_t* of_rows = exact<std::int64_t>(labels, {n}, "labels");
    for (std::int64_t i = 0; i < n; ++i) {
        if (of_rows[i] < 0 || of_rows[i] >= classes) throw py::value_error("labels must name classes");
    }
    const float* of_soft = exact<float>(soft, {m - n, classes}, "soft");
    const float* fixed = offset ? exact<float>(*offset, {m, classes}, "offset") : nullptr;
    return without_lock([&] { return Targets(of_rows, n, of_soft, fixed, m, classes); });
}

py::tuple gradient(const RegressionRows& rows, const Targets& targets, const py::array& coef,
                   const py::array& weights) {
    if (targets.count() != rows.count()) throw py::value_error("there must be a target for each row");
    const float* w = exact<float>(coef, {targets.classes(), rows.dimensions()}, "coef");
    const float* of_rows = exact<float>(weights, {rows.count()}, "weights");
    py::array_t<float> out({targets.classes(), rows.dimensions()});
    float* data = out.mutable_data();
    const double loss = without_lock([&] { return rows.gradient(targets, w, of_rows, data, signal_poll()); });
    return py::make_tuple(loss, out);
}

// A stack of vectors, (count, ...) float32, of the shape of one of them.
std::int64_t vector_size(const py::array& stack) {
    if (stack.ndim() < 1 || stack.shape(0) == 0 || stack.size() == 0) throw py::type_error("stack must not be empty");
    return stack.size() / stack.shape(0);
}

const float* contiguous(const py::array& array, const char* name) {
    if (!py::isinstance<py::array_t<float>>(array) || !(array.flags() & py::array::c_style)) {
        throw py::type_error(std::string(name) + " must be C-contiguous float32");
    }
    return static_cast<const float*>(array.data());
}

py::array_t<double> dots(const py::array& stack, const py::array& vector) {
    const std::int64_t n = vector_size(stack), count = stack.shape(0);
    if (vector.size() != n) throw py::type_error("vector must have the shape of those of the stack");
    const float *vectors = contiguous(stack, "stack"), *other = contiguous(vector, "vector");
    py::array_t<double> out(count);
    double* data = out.mutable_data();
    without_lock([&] { ccma::dots(vectors, count, other, n, data, signal_poll()); });
    return out;
}

py::array_t<float> combination(const py::array& stack, const py::array& factors) {
    const std::int64_t n = vector_size(stack), count = stack.shape(0);
    const float *vectors = contiguous(stack, "stack"), *of_vectors = exact<float>(factors, {count}, "factors");
    py::array_t<float> out(std::vector<py::ssize_t>(stack.shape() + 1, stack.shape() + stack.ndim()));
    float* data = out.mutable_data();
    without_lock([&] { ccma::combination(vectors, count, of_vectors, n, data, signal_poll()); });
    return out;
}

py::array_t<float> inverse_factor(const py::array& matrix, float least) {
    if (matrix.ndim() != 2 || matrix.size() == 0) throw py::type_error("matrix must be square, not empty");
    const std::int64_t n = matrix.shape(0);
    const float* values = exact<float>(matrix, {n, n}, "matrix");
    py::array_t<float> out({n, n});
    float* data = out.mutable_data();
    without_lock([&] { ccma::inverse_factor(values, n, least, data, signal_poll()); });
    return out;
}

}  // namespace

void bind_regression(py::module_& module) {
    py::class_<Targets>(module, "Targets", "What rows are to be, packed for many gradients.")
        .def(py::init(&make_targets), py::arg("labels"), py::arg("soft"), py::arg("offset") = py::none());
    py::class_<RegressionRows>(module, "RegressionRows", "Rows of a softmax regression, packed for many gradients.")
        .def(py::init(&make_rows), py::arg("x"))
        .def("gradient", &gradient, py::arg("targets"), py::arg("coef"), py::arg("weights"),
             "(weighted loss, its gradient by the coefficients)");
    module.def("dots", &dots, py::arg("stack"), py::arg("vector"), "the products of vectors with one, in float64");
    module.def("combination", &combination, py::arg("stack"), py::arg("factors"), "the sum of vectors times factors");
    module.def("inverse_factor", &inverse_factor, py::arg("matrix"), py::arg("least"),
               "the inverse of the Cholesky factor of a matrix without eigenvalues below `least`");
}

}  // namespace ccma::bindings
