#pragma once

#include <pybind11/pybind11.h>

namespace ccma::bindings {

namespace py = pybind11;

void bind_score(py::module_& module);
void bind_regression(py::module_& module);
void bind_head(py::module_& module);
void bind_threshold(py::module_& module);
void bind_kmeans(py::module_& module);
void bind_coverage(py::module_& module);
void bind_exact_sum(py::module_& module);
void bind_mapped(py::module_& module);

}  // namespace ccma::bindings
