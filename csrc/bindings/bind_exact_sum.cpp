#include "arrays.hpp"
#include "bind.hpp"
#include "ccma/exact_sum.hpp"

namespace ccma::bindings {
namespace {

py::array_t<std::int64_t> exact_sum(const py::array& w, const py::array& x) {
    const py::ssize_t n = w.size();
    const float* factors = exact<float>(w, {n}, "w");
    const float* values = exact<float>(x, {n}, "x");
    py::array_t<std::int64_t> limbs(exact_sum_limbs);
    std::int64_t* data = limbs.mutable_data();
    without_lock([&] { ccma::exact_sum(factors, values, n, data, signal_poll()); });
    return limbs;
}

}  // namespace

void bind_exact_sum(py::module_& module) {
    module.def("exact_sum", &exact_sum, py::arg("w"), py::arg("x"),
               "Sum of w * x, not negative, as whole numbers: sum_i limbs[i] * 2^(32 i - 352) over all but the last "
               "limb, which counts what is not finite");
}

}  // namespace ccma::bindings
