#include <pybind11/stl.h>

#include "arrays.hpp"
#include "bind.hpp"
#include "ccma/score.hpp"

namespace ccma::bindings {
namespace {

py::tuple score(const py::array& student, const py::object& teacher, const py::object& q_student,
                const py::object& q_teacher) {
    ScoreTask task;
    task.student = matrix(student, "student");
    task.q_student = threshold(q_student, task.student.rows, "q_student");
    task.q_teacher = threshold(q_teacher, task.student.rows, "q_teacher");
    if (!teacher.is_none()) {
        task.teacher = matrix(teacher.cast<py::array>(), "teacher");
        if (task.teacher.rows != task.student.rows || task.teacher.cols != task.student.cols) {
            throw py::value_error("student and teacher differ in shape");
        }
    }
    const py::ssize_t rows = task.student.rows;
    py::array_t<float> delta(rows), divergence(rows), margin(rows), confidence(rows);
    py::array_t<std::int32_t> student_top1(rows), teacher_top1(rows), student_size(rows), teacher_size(rows),
        overlap(rows);
    const ScoreResult result{delta.mutable_data(),        divergence.mutable_data(),   margin.mutable_data(),
                             confidence.mutable_data(),   student_top1.mutable_data(), teacher_top1.mutable_data(),
                             student_size.mutable_data(), teacher_size.mutable_data(), overlap.mutable_data()};
    const BadRow bad = without_lock([&] { return ccma::score(task, result, signal_poll()); });
    return py::make_tuple(delta, divergence, margin, confidence, student_top1, teacher_top1, student_size, teacher_size,
                          overlap, bad.row, bad.in_teacher);
}

py::tuple log_normalizers(const py::array& logits) {
    const Matrix z = matrix(logits, "logits");
    py::array_t<double> out(z.rows);
    double* data = out.mutable_data();
    const std::int64_t bad = without_lock([&] { return ccma::log_normalizers(z, data, signal_poll()); });
    return py::make_tuple(out, bad);
}

py::tuple prediction_sets(const py::array& logits, const py::object& q) {
    const Matrix z = matrix(logits, "logits");
    const Threshold of_rows = threshold(q, z.rows, "q");
    py::array_t<bool> sets({z.rows, z.cols});
    auto* data = reinterpret_cast<std::uint8_t*>(sets.mutable_data());
    const std::int64_t bad = without_lock([&] { return ccma::prediction_sets(z, of_rows, data, signal_poll()); });
    return py::make_tuple(sets, bad);
}

}  // namespace

void bind_score(py::module_& module) {
    module.def("score", &score, py::arg("student"), py::arg("teacher"), py::arg("q_student"), py::arg("q_teacher"),
               "(delta, divergence, margin, confidence, student_top1, teacher_top1, student_size, teacher_size, "
               "overlap, first "
               "bad row or -1, it is the teacher's)");
    module.def("log_normalizers", &log_normalizers, py::arg("logits"), "(ln sum exp(z - max z), first bad row or -1)");
    module.def("prediction_sets", &prediction_sets, py::arg("logits"), py::arg("q"), "(sets, first bad row or -1)");
}

}  // namespace ccma::bindings
