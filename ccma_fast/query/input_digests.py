"""What a query was asked about, as plain values: shapes, manifests and digests, without another pass over the rows."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from ..pool.rows import Rows
from ..steps.teacher_rows import TeacherRows
from .inputs import Inputs

__all__ = ["input_digests"]


def input_digests(inputs: Inputs) -> dict[str, Any]:
    """Pool, labels, teacher and student logits of a query; what was not given is None.

    Of rows without a manifest the shape is all that is told: who wants to know whether they are the same reads the
    digests of the picked rows.
    """
    labels = None
    if inputs.has_labels:
        labelled = np.stack([inputs.labelled, inputs.classes], axis=1).astype("<i8")
        labels = {"n_labelled": inputs.labelled.size, "sha256": hashlib.sha256(labelled.tobytes()).hexdigest()}
    given = inputs.student_logits
    return {
        "features": _rows(inputs.pool),
        "labels": labels,
        "n_vanished": inputs.rows.n_vanished,
        "n_excluded": inputs.rows.n_excluded,
        "pending": {
            "n_pending": inputs.rows.pending.size,
            "sha256": hashlib.sha256(inputs.rows.pending.astype("<i8").tobytes()).hexdigest(),
        },
        "teacher": None if inputs.teacher is None else _teacher(inputs.teacher),
        "student_logits": None if given is None else _rows(given),
    }


def _teacher(teacher: TeacherRows) -> dict[str, Any]:
    directions = teacher.class_directions
    classes = None if directions is None else np.ascontiguousarray(directions, "<f4").tobytes()
    return {
        "kind": "logits" if classes is None else "image features",
        **_rows(teacher.source),
        "temperature": teacher.temperature,
        "class_features_sha256": None if classes is None else hashlib.sha256(classes).hexdigest(),
    }


def _rows(rows: Rows) -> dict[str, Any]:
    """Shape of a matrix and, where its storage has a manifest, the encoder and the digests of images and shards."""
    manifest = rows.manifest
    if manifest is None:
        return {"shape": [rows.n_rows, rows.n_columns], "manifest": None}
    shards = "\n".join(shard.sha256 for shard in manifest.shards)
    return {
        "shape": [rows.n_rows, rows.n_columns],
        "manifest": {
            "encoder": dict(manifest.encoder),
            "ids_sha256": manifest.rows_sha256,
            "shards_sha256": hashlib.sha256(shards.encode()).hexdigest(),
        },
    }
