#include <pybind11/stl.h>

#include "arrays.hpp"
#include "bind.hpp"
#include "ccma/score.hpp"
#include "ccma/temperature.hpp"

namespace ccma::bindings {
namespace {

// The arrays of a result, in the order of ccma_fast.reference.RowScores.
struct Columns {
    explicit Columns(py::ssize_t rows)
        : delta(rows),
          divergence(rows),
          margin(rows),
          confidence(rows),
          student_top1(rows),
          teacher_top1(rows),
          student_size(rows),
          teacher_size(rows),
          overlap(rows) {}

    ScoreResult result() {
        return {delta.mutable_data(),        divergence.mutable_data(),   margin.mutable_data(),
                confidence.mutable_data(),   student_top1.mutable_data(), teacher_top1.mutable_data(),
                student_size.mutable_data(), teacher_size.mutable_data(), overlap.mutable_data()};
    }
    py::tuple tuple() const {
        return py::make_tuple(delta, divergence, margin, confidence, student_top1, teacher_top1, student_size,
                              teacher_size, overlap);
    }

    py::array_t<float> delta, divergence, margin, confidence;
    py::array_t<std::int32_t> student_top1, teacher_top1, student_size, teacher_size, overlap;
};

Matrix teacher_of(const py::object& teacher, const Matrix& student) {
    if (teacher.is_none()) return {};
    const Matrix given = matrix(teacher.cast<py::array>(), "teacher");
    if (given.rows != student.rows || given.cols != student.cols) {
        throw py::value_error("student and teacher differ in shape");
    }
    return given;
}

py::tuple score(const py::array& student, const py::object& teacher, const py::object& q_student,
                const py::object& q_teacher) {
    ScoreTask task;
    task.student = matrix(student, "student");
    task.teacher = teacher_of(teacher, task.student);
    task.q_student = threshold(q_student, task.student.rows, "q_student");
    task.q_teacher = threshold(q_teacher, task.student.rows, "q_teacher");
    Columns columns(task.student.rows);
    const ScoreResult result = columns.result();
    const BadRow bad = without_lock([&] { return ccma::score(task, result, signal_poll()); });
    return py::make_tuple(columns.tuple(), bad.row, bad.in_teacher);
}

py::tuple counted(const ScoresBetween& found) {
    return py::make_tuple(found.at_most_low, found.between, copied(found.values));
}

py::tuple score_in_brackets(const py::array& student, const py::object& teacher,
                            const std::pair<double, double>& q_student, const std::pair<double, double>& q_teacher) {
    const Matrix of_student = matrix(student, "student"), of_teacher = teacher_of(teacher, of_student);
    const Bracket bracket_s{q_student.first, q_student.second}, bracket_t{q_teacher.first, q_teacher.second};
    Columns columns(of_student.rows);
    const ScoreResult result = columns.result();
    BracketedScores found = without_lock(
        [&] { return ccma::score_in_brackets(of_student, of_teacher, bracket_s, bracket_t, result, signal_poll()); });
    return py::make_tuple(columns.tuple(), counted(found.student), counted(found.teacher), std::move(found.open),
                          found.bad.row, found.bad.in_teacher);
}

py::tuple settle(const OpenRows& open, double q_student, double q_teacher) {
    Columns columns(open.size());
    py::array_t<std::int64_t> rows(open.size());
    std::int64_t* row_data = rows.mutable_data();
    const ScoreResult result = columns.result();
    without_lock([&] {
        ccma::settle(open, q_student, q_teacher, row_data, result, signal_poll());
        return 0;
    });
    return py::make_tuple(rows, columns.tuple());
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

py::tuple tempered(const py::array& s, double beta) {
    if (s.ndim() != 2 || s.shape(0) == 0) throw py::type_error("s must be a matrix of classes and rows");
    const std::int64_t classes = s.shape(0), rows = s.shape(1);
    const double* values = exact<double>(s, {classes, rows}, "s");
    const Tempered found = without_lock([&] { return ccma::tempered(values, rows, classes, beta, signal_poll()); });
    return py::make_tuple(found.mean, found.variance);
}

}  // namespace

void bind_score(py::module_& module) {
    module.def("tempered", &tempered, py::arg("s"), py::arg("beta"),
               "sums over rows of the mean and the variance of s (C, n), at most 0, under softmax(beta · s) of a row");
    module.def("score", &score, py::arg("student"), py::arg("teacher"), py::arg("q_student"), py::arg("q_teacher"),
               "((delta, divergence, margin, confidence, student_top1, teacher_top1, student_size, teacher_size, "
               "overlap), first bad row or -1, it is the teacher's)");
    py::class_<OpenRows>(module, "OpenRows")
        .def("__len__", &OpenRows::size)
        .def_property_readonly("nbytes", &OpenRows::bytes)
        .def("settle", &settle, py::arg("q_student"), py::arg("q_teacher"), "(rows of the pass, their scores)");
    module.def("score_in_brackets", &score_in_brackets, py::arg("student"), py::arg("teacher"), py::arg("q_student"),
               py::arg("q_teacher"),
               "(scores as of `score`, (count <= low, count in (low, high], those) of the student, of the teacher, "
               "open rows, first bad row or -1, it is the teacher's)");
    module.def("log_normalizers", &log_normalizers, py::arg("logits"), "(ln sum exp(z - max z), first bad row or -1)");
    module.def("prediction_sets", &prediction_sets, py::arg("logits"), py::arg("q"), "(sets, first bad row or -1)");
}

}  // namespace ccma::bindings
