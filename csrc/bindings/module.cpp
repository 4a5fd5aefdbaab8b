#include "bind.hpp"
#include "ccma/parallel.hpp"
#include "ccma/simd.hpp"

namespace py = pybind11;

PYBIND11_MODULE(_core, module) {
    module.doc() = "The C++ core of ccma_fast. Private: use the package's public names.";
    ccma::bindings::bind_score(module);
    ccma::bindings::bind_threshold(module);
    ccma::bindings::bind_kmeans(module);
    ccma::bindings::bind_exact_sum(module);
    ccma::bindings::bind_mapped(module);
    ccma::bindings::bind_regression(module);
    ccma::bindings::bind_coverage(module);
    ccma::bindings::bind_head(module);

    module.def("num_threads", &ccma::num_threads);
    module.def("set_num_threads", &ccma::set_num_threads, py::arg("n"));
    module.def("simd_level", [] { return ccma::name(ccma::simd_level()); });
    module.def("detected_simd_level", [] { return ccma::name(ccma::detected_simd_level()); });
    module.def(
        "set_simd_level",
        [](const std::string& wanted) {
            for (const auto level : {ccma::SimdLevel::scalar, ccma::SimdLevel::avx2, ccma::SimdLevel::avx512,
                                     ccma::SimdLevel::avx512_vnni}) {
                if (wanted == ccma::name(level)) return ccma::set_simd_level(level);
            }
            throw py::value_error("expected 'scalar', 'avx2', 'avx512' or 'avx512_vnni', got '" + wanted + "'");
        },
        py::arg("level"));
}
