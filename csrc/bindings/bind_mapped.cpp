#include "bind.hpp"
#include "ccma/mapped.hpp"

namespace ccma::bindings {

void bind_mapped(py::module_& module) {
    py::class_<MappedRange>(module, "MappedRange", "Memory in which a file is mapped, known while this lives.")
        .def(py::init<std::uintptr_t, std::size_t>(), py::arg("address"), py::arg("size"))
        .def_property_readonly("is_broken", &MappedRange::is_broken);
    module.def("begin_reading", &begin_reading, "faults in mapped ranges are taken care of until end_reading");
    module.def("end_reading", &end_reading);
}

}  // namespace ccma::bindings
