#include <optional>

#include "arrays.hpp"
#include "bind.hpp"
#include "ccma/head.hpp"

namespace ccma::bindings {
namespace {

HeadTraining make_training(const py::array& x, const py::array& labels, const py::array& start, double epsilon,
                           double momentum, double kept, std::int64_t below) {
    if (x.ndim() != 2 || x.size() == 0) throw py::type_error("x must be a matrix, not empty");
    const std::int64_t n = x.shape(0), d = x.shape(1), classes = start.size() / (d + 1);
    const std::int64_t* of_rows = exact<std::int64_t>(labels, {n}, "labels");
    const float* parameters = exact<float>(start, {classes * (d + 1)}, "start");
    for (std::int64_t i = 0; i < n; ++i) {
        if (of_rows[i] < 0 || of_rows[i] >= classes) throw py::value_error("labels must name classes");
    }
    if (n < 2 || !(kept > 0.0 && kept <= 1.0) || below < 0 || below > 1 << 16) {
        throw py::value_error("there must be two rows, and dropout must leave some values");
    }
    return HeadTraining(exact<float>(x, {n, d}, "x"), of_rows, n, d, classes, parameters, {epsilon, momentum},
                        {kept, static_cast<std::uint32_t>(below)});
}

double step(HeadTraining& training, const std::optional<py::array>& chosen, const py::array& streams, float rate,
            float spread, float decay) {
    const std::int64_t count = chosen ? chosen->size() : training.count();
    const std::int64_t* rows = chosen ? exact<std::int64_t>(*chosen, {count}, "chosen") : nullptr;
    for (std::int64_t i = 0; rows && i < count; ++i) {
        if (rows[i] < 0 || rows[i] >= training.count()) throw py::value_error("chosen must name rows");
    }
    const std::int64_t n_streams = streams.ndim() == 2 ? streams.shape(0) : 0;
    const std::uint64_t* words = exact<std::uint64_t>(streams, {n_streams, 4}, "streams");
    if (count < 2 || n_streams < 1) throw py::value_error("there must be two rows and a stream");
    std::vector<DropoutStream> of_pieces;
    for (std::int64_t i = 0; i < n_streams; ++i, words += 4)
        of_pieces.push_back({words[0], words[1], words[2], words[3]});
    const AdamW factors{rate, spread, decay};
    return without_lock(
        [&] { return training.step(rows, count, of_pieces.data(), n_streams, factors, signal_poll()); });
}

py::tuple kept(const HeadTraining& training) {
    py::array_t<float> parameters(training.classes() * (training.dimensions() + 1));
    py::array_t<double> moments({std::int64_t{2}, training.dimensions()});
    training.kept(parameters.mutable_data(), moments.mutable_data());
    return py::make_tuple(parameters, moments);
}

}  // namespace

void bind_head(py::module_& module) {
    py::class_<HeadTraining>(module, "HeadTraining", "A linear layer under batch normalisation, dropout and AdamW.")
        .def(py::init(&make_training), py::arg("x"), py::arg("labels"), py::arg("start"), py::kw_only(),
             py::arg("epsilon"), py::arg("momentum"), py::arg("kept"), py::arg("below"), py::keep_alive<1, 2>(),
             py::keep_alive<1, 3>())
        .def("step", &step, py::arg("chosen"), py::arg("streams"), py::arg("rate"), py::arg("spread"), py::arg("decay"),
             "a step by rows, by all where None; returns the sum of their losses before it")
        .def("keep", &HeadTraining::keep, "remembers the parameters and the running moments as they are")
        .def("kept", &kept, "(parameters, running means and variances) as they were remembered");
}

}  // namespace ccma::bindings
