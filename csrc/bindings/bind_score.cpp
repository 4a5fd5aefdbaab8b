#include <pybind11/stl.h>

#include "arrays.hpp"
#include "bind.hpp"
#include "ccma/score.hpp"

namespace ccma::bindings {
namespace {

py::tuple score(const py::array& student, const py::object& teacher, double q_student, double q_teacher) {
    ScoreTask task{matrix(student, "student"), {}, q_student, q_teacher};
    if (!teacher.is_none()) {
        task.teacher = matrix(teacher.cast<py::array>(), "teacher");
        if (task.teacher.rows != task.student.rows || task.teacher.cols != task.student.cols) {
            throw py::value_error("student and teacher differ in shape");
        }
    }
    const py::ssize_t rows = task.student.rows;
    py::array_t<float> delta(rows);
    py::array_t<std::int32_t> student_size(rows), teacher_size(rows), overlap(rows);
    py::array_t<bool> differs(rows);
    const ScoreResult result{delta.mutable_data(), student_size.mutable_data(), teacher_size.mutable_data(),
                             overlap.mutable_data(), reinterpret_cast<std::uint8_t*>(differs.mutable_data())};
    const BadRow bad = without_lock([&] { return ccma::score(task, result, signal_poll()); });
    return py::make_tuple(delta, student_size, teacher_size, overlap, differs, bad.row, bad.in_teacher);
}

py::tuple log_normalizers(const py::array& logits) {
    const Matrix z = matrix(logits, "logits");
    py::array_t<double> out(z.rows);
    double* data = out.mutable_data();
    const std::int64_t bad = without_lock([&] { return ccma::log_normalizers(z, data, signal_poll()); });
    return py::make_tuple(out, bad);
}

py::tuple prediction_sets(const py::array& logits, double q) {
    const Matrix z = matrix(logits, "logits");
    py::array_t<bool> sets({z.rows, z.cols});
    auto* data = reinterpret_cast<std::uint8_t*>(sets.mutable_data());
    const std::int64_t bad = without_lock([&] { return ccma::prediction_sets(z, q, data, signal_poll()); });
    return py::make_tuple(sets, bad);
}

}  // namespace

void bind_score(py::module_& module) {
    module.def("score", &score, py::arg("student"), py::arg("teacher"), py::arg("q_student"), py::arg("q_teacher"),
               "(delta, student_size, teacher_size, overlap, top1_differs, first bad row or -1, it is the teacher's)");
    module.def("log_normalizers", &log_normalizers, py::arg("logits"), "(ln sum exp(z - max z), first bad row or -1)");
    module.def("prediction_sets", &prediction_sets, py::arg("logits"), py::arg("q"), "(sets, first bad row or -1)");
}

}  // namespace ccma::bindings
