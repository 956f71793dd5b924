"""The trainings of a run, and what they read."""

from dataclasses import dataclass
from pathlib import Path

from captchabench.cells.cell import Cell
from captchabench.own.plan import PARTS, Plan
from captchabench.own.preparing import Prepared
from captchabench.own.trial import Spec


@dataclass(frozen=True)
class Run:
    """A set that is learned by a plan. folder: of all outputs, laid out like the benchmark's data folder.

    folds: those that are held out, one after the other. The first one's model is kept; the others only measure.
    """

    prepared: Prepared
    plan: Plan
    folds: tuple[int, ...]

    @property
    def folder(self) -> Path:
        """Where everything is written."""
        return self.prepared.folder

    @property
    def cell(self) -> Cell:
        """The name of the model that is kept."""
        return Cell(self.prepared.found.name, self.plan.model, self.folds[0])

    @property
    def weights(self) -> Path:
        """The folder of the model that is kept."""
        return self.folder / "models" / str(self.cell)

    def predictions(self, cell: Cell) -> Path:
        """What a model of this run read of its held-out fold."""
        return self.folder / "predictions" / f"{cell}.parquet"

    def cells(self) -> list[Cell]:
        """The models that are measured, then the baseline's, by fold."""
        names = [self.plan.model, *([self.plan.baseline] if self.plan.baseline else [])]
        return [Cell(self.prepared.found.name, name, fold) for name in names for fold in self.folds]


def specs_of(run: Run) -> list[Spec]:
    """All trials, the longest first: with the models of a run, those on parts of the images, and the baseline."""
    plan, first = run.plan, run.folds[0]

    def schedules(rounds: tuple[int, ...]) -> dict[str, object]:
        parameters = tuple(plan.with_steps(steps) for steps in rounds or (0,))
        return {"parameters": parameters, "seconds": tuple(map(float, rounds or (1,)))}

    def spec(name: str, model: str, **rest: object) -> Spec:
        where = {"folder": str(run.folder), "dataset": run.prepared.found.name}
        return Spec(name=name, model=model, **where, **{"fold": first, **rest})  # type: ignore[arg-type]

    specs = [
        spec(str(cell), plan.model, fold=cell.fold, weights=_weights(run, cell), **schedules(plan.rounds))
        for cell in run.cells()
        if cell.model == plan.model
    ]
    specs += [spec(name, plan.model, share=share, **schedules(plan.rounds_of(share))) for name, share in PARTS.items()]
    specs += [
        spec(
            str(cell),
            plan.baseline,
            parameters=(plan.baseline_parameters or {},),
            seconds=(1.0,),
            fold=cell.fold,
            weights=_weights(run, cell),
        )
        for cell in run.cells()
        if cell.model == plan.baseline
    ]
    return specs


def _weights(run: Run, cell: Cell) -> str:
    """Where a trial saves its model: only that of the first fold is kept."""
    return str(run.folder / "models" / str(cell)) if cell.fold == run.folds[0] else ""
