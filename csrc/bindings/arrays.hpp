// Python arrays as views, checked and never converted: a copy is Python's visible decision.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "ccma/parallel.hpp"
#include "ccma/types.hpp"

namespace ccma::bindings {

namespace py = pybind11;

// Stored rows: C-contiguous float32, float16, or uint16 that holds the bits of bfloat16.
inline Matrix matrix(const py::array& array, const char* name) {
    if (array.ndim() != 2 || !(array.flags() & py::array::c_style)) {
        throw py::type_error(std::string(name) + " must be a C-contiguous matrix");
    }
    Matrix view;
    const py::dtype dtype = array.dtype();
    if (dtype.kind() == 'f' && dtype.itemsize() == 4) {
        view.dtype = Dtype::f32;
    } else if (dtype.kind() == 'f' && dtype.itemsize() == 2) {
        view.dtype = Dtype::f16;
    } else if (dtype.kind() == 'u' && dtype.itemsize() == 2) {
        view.dtype = Dtype::bf16;
    } else {
        throw py::type_error(std::string(name) + " must be float32, float16 or uint16 (bfloat16 bits), got " +
                             std::string(py::str(py::handle(dtype))));
    }
    view.data = array.data();
    view.rows = array.shape(0);
    view.cols = array.shape(1);
    return view;
}

// A C-contiguous array of exactly T and exactly this shape.
template <class T>
T* exact(const py::array& array, std::initializer_list<py::ssize_t> shape, const char* name) {
    bool fits = py::isinstance<py::array_t<T, py::array::c_style>>(array) &&
                array.ndim() == static_cast<py::ssize_t>(shape.size());
    py::ssize_t axis = 0;
    for (const py::ssize_t extent : shape) fits = fits && array.shape(axis++) == extent;
    if (!fits) throw py::type_error(std::string(name) + " has the wrong dtype, shape or layout");
    return const_cast<T*>(static_cast<const T*>(array.data()));
}

template <class T>
T* writable(py::array& array, std::initializer_list<py::ssize_t> shape, const char* name) {
    T* data = exact<T>(array, shape, name);
    if (!array.writeable()) throw py::type_error(std::string(name) + " must be writable");
    return data;
}

template <class T>
py::array_t<T> copied(const std::vector<T>& values) {
    return py::array_t<T>(static_cast<py::ssize_t>(values.size()), values.data());
}

// One float for all rows, or a C-contiguous float64 array of (rows,).
inline Threshold threshold(const py::object& q, std::int64_t rows, const char* name) {
    if (!py::isinstance<py::array>(q)) return q.cast<double>();
    return Threshold(exact<double>(q.cast<py::array>(), {rows}, name));
}

// Lets Ctrl-C through while C++ runs without the interpreter lock.
inline Poll signal_poll() {
    return [] {
        const py::gil_scoped_acquire lock;
        return PyErr_CheckSignals() != 0;
    };
}

// Runs `work` without the lock. An interrupt leaves as the Python exception that the signal's handler raised.
template <class Work>
auto without_lock(const Work& work) {
    try {
        const py::gil_scoped_release release;
        return work();
    } catch (const Interrupted&) {
        throw py::error_already_set();
    }
}

}  // namespace ccma::bindings
