#include "arrays.hpp"
#include "bind.hpp"
#include "ccma/softmax.hpp"

namespace ccma::bindings {
namespace {

py::array_t<double> softmax_residual(py::array& logits, const py::array& labels, const py::array& soft,
                                     const py::array& weights) {
    if (logits.ndim() != 2 || logits.shape(0) == 0) throw py::type_error("logits must be a matrix of classes");
    const std::int64_t classes = logits.shape(0), rows = logits.shape(1), n = labels.size();
    if (n > rows) throw py::value_error("there must be no more labels than columns");
    float* z = writable<float>(logits, {classes, rows}, "logits");
    const Targets targets{exact<std::int64_t>(labels, {n}, "labels"), n,
                          exact<float>(soft, {classes, rows - n}, "soft")};
    const float* w = exact<float>(weights, {rows}, "weights");
    for (std::int64_t i = 0; i < n; ++i) {
        if (targets.labels[i] < 0 || targets.labels[i] >= classes) throw py::value_error("labels must name classes");
    }
    py::array_t<double> losses(rows);
    double* data = losses.mutable_data();
    without_lock([&] { ccma::softmax_residual(z, classes, rows, targets, w, data, signal_poll()); });
    return losses;
}

}  // namespace

void bind_softmax(py::module_& module) {
    module.def("softmax_residual", &softmax_residual, py::arg("logits"), py::arg("labels"), py::arg("soft"),
               py::arg("weights"),
               "the weighted losses of columns of logits; their derivatives take the logits' place");
}

}  // namespace ccma::bindings
