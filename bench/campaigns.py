"""Campaigns whose people are late, unsure or wrong, on the digits, beside one in which an oracle answers everything.

``python bench/campaigns.py`` runs them and prints a table: the accuracy of student and teacher together on the test
set against the answers that people had given. Every campaign is a real one, in a file, with the teacher of the demo.

==================  =================================================================================================
``oracle``          every image of a batch gets its label before the next query
``refused``         of a fifth of the images nobody can tell
``corrected``       a tenth of the labels is wrong, and corrected two rounds later
``late``            labels come two rounds after their batch was issued
``two people``      two people of 90 % accuracy answer about each image, a third where they disagree
``one person``      one person of 90 % accuracy, whom nobody corrects
==================  =================================================================================================
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import ccma_fast as cf
from ccma_fast.research.digits import N_CLASSES, class_prototypes, digits_teacher, load_digits

BUDGET, ROUNDS = 10, 20
NAMES = [str(c) for c in range(N_CLASSES)]
DIGITS = load_digits()
PROTOTYPES = class_prototypes()


class Trial:
    """One campaign, and what its people do after each batch."""

    def __init__(self, folder: Path, people: str, seed: int) -> None:
        self.people, self.rng = people, np.random.default_rng(seed)
        centre = DIGITS.images.mean(axis=0)
        teacher = digits_teacher(DIGITS.images, PROTOTYPES, centre=centre)
        self.test = digits_teacher(DIGITS.test_images, PROTOTYPES, centre=centre)
        n_people = 2 if people == "two people" else 1
        self.campaign = cf.Campaign.create(
            folder / "digits.campaign",
            DIGITS.images,
            teacher=teacher,
            class_names=NAMES,
            random_state=seed,
            labels_per_image=n_people,
        )
        self.later: list[Callable[[], None]] = []  # what is done in the rounds to come, the next first
        self.n_answers = 0

    def run(self) -> list[tuple[int, int, float]]:
        """Of each round: answers so far, labels that people agree on, and the accuracy on the test set."""
        found = []
        for _ in range(ROUNDS):
            images = self.campaign.next(BUDGET).batch.images
            self.answer(images)
            if self.later:
                self.later.pop(0)()
            found.append((self.n_answers, int((self.campaign.labels >= 0).sum()), self.accuracy()))
        return found

    def accuracy(self) -> float:
        p = self.campaign.learner().predict_proba(DIGITS.test_images, teacher=self.test)
        return float((p.argmax(axis=1) == DIGITS.test_labels).mean())

    def truth(self, images: Any, error: float = 0.0) -> list[str]:
        """The classes of images, some of them wrong."""
        codes = DIGITS.labels[[int(image) for image in images]]
        wrong = self.rng.random(len(codes)) < error
        other = (codes + self.rng.integers(1, N_CLASSES, len(codes))) % N_CLASSES
        return [NAMES[c] for c in np.where(wrong, other, codes)]

    def label(self, images: Any, classes: list[str], annotator: str = "ana") -> None:
        self.campaign.label(list(images), classes, annotator=annotator)
        self.n_answers += len(classes)

    def answer(self, images: tuple[str, ...]) -> None:
        if self.people == "oracle":
            self.label(images, self.truth(images))
        elif self.people == "refused":
            refused = [image for image in images if self.rng.random() < 0.2]
            if refused:
                self.campaign.refuse(refused, annotator="ana")
                self.n_answers += len(refused)
            known = [image for image in images if image not in refused]
            self.label(known, self.truth(known))
        elif self.people == "corrected":
            given = self.truth(images, error=0.1)
            self.label(images, given)
            wrong = [
                image for image, name, right in zip(images, given, self.truth(images), strict=True) if name != right
            ]
            self.in_two_rounds(lambda: self.correct(wrong))
        elif self.people == "late":
            self.in_two_rounds(lambda: self.label(images, self.truth(images)))
        elif self.people == "one person":
            self.label(images, self.truth(images, error=0.1))
        else:
            for annotator in ("ana", "ben", "cem", "dan", "eve"):
                asked = [image for image in images if image in self.campaign.pending()]
                if asked:
                    self.label(asked, self.truth(asked, error=0.1), annotator)

    def correct(self, images: list[str]) -> None:
        if images:
            self.campaign.correct(images, self.truth(images), annotator="lead")
            self.n_answers += len(images)

    def in_two_rounds(self, work: Callable[[], None]) -> None:
        self.later += [lambda: None] * (2 - len(self.later))
        self.later.append(work)


PEOPLE = ("oracle", "refused", "corrected", "late", "two people", "one person")


EFFORTS = (50, 100, 150, 200)


def row_of(people: str, n_seeds: int) -> list[str]:
    """A line of the table: means over the seeds, with their standard errors."""
    at_effort, after_all, answers, labels = [], [], [], []
    for seed in range(n_seeds):
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore", cf.TeacherWarning)
            rounds = Trial(Path(folder), people, seed).run()
        given = np.array([n for n, _, _ in rounds])
        accuracy = np.array([value for _, _, value in rounds])
        # Of each effort the last round that had taken no more.
        at_effort.append([accuracy[np.flatnonzero(given <= effort)[-1]] for effort in EFFORTS])
        after_all.append(accuracy[-1])
        answers.append(given[-1])
        labels.append(rounds[-1][1])
    cells = [_mean(column) for column in np.array(at_effort).T]
    return [people, *cells, _mean(np.array(after_all)), f"{np.mean(answers):.0f}", f"{np.mean(labels):.0f}"]


def _mean(values: np.ndarray) -> str:
    error = values.std(ddof=1) / np.sqrt(values.size) if values.size > 1 else np.nan
    return f"{values.mean():.3f} ± {error:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    n_seeds = parser.parse_args().seeds
    header = ["people", *(f"{effort} answers" for effort in EFFORTS), f"{ROUNDS} rounds", "answers", "labels"]
    print(f"| {' | '.join(header)} |\n{'|---' * len(header)}|")
    for people in PEOPLE:
        print(f"| {' | '.join(row_of(people, n_seeds))} |", flush=True)


if __name__ == "__main__":
    main()
